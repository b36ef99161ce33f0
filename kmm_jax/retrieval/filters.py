"""Which rows may be found: conditions on their columns.

    {"color": "빨강"}                       equal
    {"type": ["신발", "가방"]}               one of
    {"price": {"gte": 10000, "lt": 50000}}  a range; gt, gte, lt, lte
    {"sold_out": {"ne": true}}              not equal; rows without a value pass
    {"title": {"exists": true}}             with or without a value

Several must all hold. Anything else is an expression of ``pyarrow.compute``, taken as it is.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kmm_jax.errors import UserError, nearest

Where: TypeAlias = "Mapping[str, Any] | pc.Expression"

_ROW = "__row__"
_COMPARE: dict[str, Callable[[Any, Any], pc.Expression]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    # Comparing with nothing gives nothing, and a row without a value is not what is excluded.
    "ne": lambda field, value: (field != value) | field.is_null(),
    "in": lambda field, values: field.isin(values),
    "exists": lambda field, wanted: field.is_valid() if wanted else field.is_null(),
}


def expression(where: Where) -> pc.Expression | None:
    """The condition as pyarrow has it; None where it holds for all rows.

    Raises:
        UserError: a comparison that does not exist.
    """
    if isinstance(where, pc.Expression):
        return where
    parts = [part for name, wanted in where.items() for part in _parts(name, wanted)]
    return functools.reduce(operator.and_, parts) if parts else None


def matching(columns: pa.Table, where: Where) -> np.ndarray:
    """The numbers of the rows (M,) int64 for which ``where`` holds, in order.

    Raises:
        UserError: a column that is not there, or values that do not compare with it.
    """
    import pyarrow.dataset as ds

    condition = expression(where)
    if condition is None:
        return np.arange(columns.num_rows)
    if isinstance(where, Mapping):
        for name in where:
            if name not in columns.column_names:
                raise UserError(
                    f"no column {name!r} to filter by{nearest(name, columns.column_names)}"
                )
    numbered = columns.append_column(_ROW, pa.array(np.arange(columns.num_rows)))
    try:
        found = ds.dataset(numbered).to_table(columns=[_ROW], filter=condition)
    except (pa.ArrowException, pa.ArrowTypeError) as error:
        raise UserError(f"the filter {where!r} does not fit the columns: {error}") from error
    return np.sort(found.column(_ROW).to_numpy())


def _parts(name: str, wanted: Any) -> list[pc.Expression]:
    field = pc.field(name)
    if isinstance(wanted, Mapping):
        for each in wanted:
            if each not in _COMPARE:
                raise UserError(
                    f"filter {name!r}: no comparison {each!r}{nearest(str(each), list(_COMPARE))}; "
                    f"there are {', '.join(_COMPARE)}"
                )
        return [_COMPARE[each](field, value) for each, value in wanted.items()]
    if isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes):
        return [field.isin(list(wanted))]
    return [field.is_null() if wanted is None else field == wanted]
