"""Tables of what is known about rows, from files that people have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from kmm_jax.errors import DataError, UserError

_KEYS = ("id", "image_hash")
_ENDINGS = (".parquet", ".tsv", ".csv", ".jsonl", ".ndjson")


def read_columns(path: Path, ids: Sequence[str]) -> pa.Table:
    """What a table says of each id, in their order; of ids that it does not name, nulls.

    Args:
        path: a table in Parquet, TSV, CSV or JSON lines with a column ``id``, or ``image_hash``.

    Raises:
        UserError: no such file, or of another kind.
        DataError: it cannot be read, has no such column, or names an id twice.
    """
    table = _read(path, ids)
    key = next((name for name in _KEYS if name in table.column_names), None)
    if key is None:
        raise DataError(
            f"{path} has the columns {', '.join(table.column_names)}, and none of "
            f"{' or '.join(_KEYS)}, which says what row is what"
        )
    row_of: dict[str, int] = {}
    for row, each in enumerate(table.column(key).cast(pa.string()).to_pylist()):
        if each in row_of:
            raise DataError(f"{path}: {key} {each!r} stands in rows {row_of[each]} and {row}")
        row_of[each] = row
    rows = pa.array([row_of.get(each) for each in ids], pa.int64())
    return table.drop_columns([key]).take(rows)


def _read(path: Path, ids: Sequence[str]) -> pa.Table:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise UserError(f"{path}: a table ends in {', '.join(_ENDINGS)}")
    if not path.is_file():
        raise UserError(f"{path} is no file")
    try:
        if ending == ".parquet":
            return _rows_of(path, ids)
        if ending in (".jsonl", ".ndjson"):
            return pyarrow.json.read_json(path)
        tabs = ending == ".tsv"
        # As the library's own TSV files are written: tabs, and nothing quoted.
        options = pyarrow.csv.ParseOptions(
            delimiter="\t" if tabs else ",", quote_char=False if tabs else '"'
        )
        return pyarrow.csv.read_csv(path, parse_options=options)
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _rows_of(path: Path, ids: Sequence[str]) -> pa.Table:
    """Of a Parquet table only the rows of ``ids``, so that it may be larger than memory."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    key = next((name for name in _KEYS if name in schema.names), None)
    if key is None or not pa.types.is_string(schema.field(key).type):
        return pq.read_table(path)
    wanted = pa.array(list(ids), pa.string())
    return pq.read_table(path, filters=pc.field(key).isin(wanted))
