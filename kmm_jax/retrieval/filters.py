"""Which rows may be found: conditions on their columns.

    {"color": "빨강"}                       equal
    {"type": ["신발", "가방"]}               one of
    {"price": {"gte": 10000, "lt": 50000}}  a range; gt, gte, lt, lte
    {"sold_out": {"ne": true}}              not equal; rows without a value pass
    {"title": {"exists": true}}             with or without a value

    {"time": {"gte": "2026-11-30"}}         times written out; UTC where no zone is said

Several must all hold. A column of lists equals what stands in the list, and is none of what does
not. Anything else is an expression of ``pyarrow.compute``, taken as it is.
"""

from __future__ import annotations

import datetime
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
    if not isinstance(where, Mapping):
        return _matching(columns, where)
    for name in where:
        if name not in columns.column_names:
            raise UserError(f"no column {name!r} to filter by{nearest(name, columns.column_names)}")
    of_lists = {name for name in where if _holds_lists(columns.schema.field(name).type)}
    plain = {
        name: _dated(name, each) if _is_time(columns.schema.field(name).type) else each
        for name, each in where.items()
        if name not in of_lists
    }
    rows = _matching(columns, plain)
    for name in of_lists:
        rows = rows[_among(columns.column(name), name, where[name])[rows]]
    return rows


def _matching(columns: pa.Table, where: Where) -> np.ndarray:
    import pyarrow.dataset as ds

    numbered = columns.append_column(_ROW, pa.array(np.arange(columns.num_rows)))
    try:
        condition = expression(where)
        if condition is None:
            return np.arange(columns.num_rows)
        found = ds.dataset(numbered).to_table(columns=[_ROW], filter=condition)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"the filter {where!r} does not fit the columns: {error}") from error
    return np.sort(found.column(_ROW).to_numpy())


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind)


def _dated(name: str, wanted: Any) -> Any:
    """Times written out as such; those without a zone are UTC."""
    if isinstance(wanted, Mapping):
        return {each: _dated(name, value) for each, value in wanted.items()}
    if isinstance(wanted, str):
        try:
            found = datetime.datetime.fromisoformat(wanted)
        except ValueError as error:
            raise UserError(
                f"filter {name!r}: a time is like 2026-11-30T09:00:00+09:00, found {wanted!r}"
            ) from error
        return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    if isinstance(wanted, Sequence):
        return [_dated(name, each) for each in wanted]
    return wanted


def _holds_lists(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _among(column: pa.ChunkedArray, name: str, wanted: Any) -> np.ndarray:
    """Of each list (N,) bool, whether the condition holds for it."""
    if wanted is None:
        wanted = {"exists": False}
    elif not isinstance(wanted, Mapping):
        wanted = {
            "eq" if isinstance(wanted, str) or not isinstance(wanted, Sequence) else "in": wanted
        }
    holds = np.ones(len(column), bool)
    for each, value in wanted.items():
        if each == "exists":
            holds &= column.is_valid().to_numpy() == bool(value)
            continue
        if each not in ("eq", "ne", "in"):
            raise UserError(
                f"filter {name!r}: no comparison {each!r} of lists; there are eq, ne, in, exists"
            )
        found = _has_any(column, name, value if each == "in" else [value])
        holds &= ~found if each == "ne" else found
    return holds


def _has_any(column: pa.ChunkedArray, name: str, values: Sequence[Any]) -> np.ndarray:
    found = np.zeros(len(column), bool)
    start = 0
    for lists in column.chunks:
        items = pc.list_flatten(lists)
        try:
            hit = pc.is_in(items, value_set=pa.array(list(values), items.type))
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise UserError(f"the filter {name!r} does not fit the column: {error}") from error
        found[start + pc.list_parent_indices(lists).filter(hit).to_numpy()] = True
        start += len(lists)
    return found


def _parts(name: str, wanted: Any) -> list[pc.Expression]:
    field = pc.field(name)
    if isinstance(wanted, Mapping):
        for each, value in wanted.items():
            if each not in _COMPARE:
                raise UserError(
                    f"filter {name!r}: no comparison {each!r}{nearest(str(each), list(_COMPARE))}; "
                    f"there are {', '.join(_COMPARE)}"
                )
            if value is None:
                raise UserError(
                    f"filter {name!r}: {each!r} needs a value, found null; rows without one are "
                    'found by null alone or by {"exists": false}'
                )
            if each == "in" and (isinstance(value, str) or not isinstance(value, Sequence)):
                raise UserError(f"filter {name!r}: 'in' needs a list of values, found {value!r}")
        return [_COMPARE[each](field, value) for each, value in wanted.items()]
    if isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes):
        return [field.isin(list(wanted))]
    return [field.is_null() if wanted is None else field == wanted]
