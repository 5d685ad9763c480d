"""JSON lines back to Parquet: what `raw_format = "ndjson"` wrote becomes the segment it would have been.

Value for value: integers and nulls are what they are, JSON numbers of msgspec give back each double bit by
bit, times are ISO text in microseconds, bytes are base64.
"""

import base64
import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daedalus.dataset.bronze import file_metadata, schema
from daedalus.dataset.columns import COLUMNS, GENERIC, columns_of
from daedalus.dataset.durable import make_directory, publish, sync_file
from daedalus.dataset.segment import SUFFIX, Options, open_parquet, read_ndjson, row_count

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["convert"]

_BATCH_ROWS = 2048

_PARSERS: dict[str, Callable[[str], Any]] = {
    "time": datetime.fromisoformat,
    "bytes": lambda text: base64.b64decode(text, validate=True),
}


def convert(path: Path, out: Path, options: Options | None = None) -> int:
    """Write the rows of a `.ndjson.zst` segment as a Parquet segment; return how many.

    Args:
        path: the segment. It stays.
        out: the file to make; never in place of another.
        options: how it is encoded; as a writer does by default.

    Raises:
        FileExistsError: there is such a file.
        OSError: a file cannot be read or written.
        ValueError: a line is no row of a bronze channel (message has file and line).
    """
    options = options or Options()
    make_directory(out.parent)
    draft = out.with_name(f".{out.name}.tmp")
    channel = _channel(path)
    metadata = {**file_metadata(channel, ""), "daedalus.converted": path.name}
    try:
        rows = 0
        with open_parquet(draft, channel, options) as writer:
            held: list[pa.RecordBatch] = []
            for found in _batches(path, channel):
                held.append(found)
                rows += found.num_rows
                if sum(each.num_rows for each in held) >= options.row_group_rows:
                    _write(writer, held)
            if held:
                _write(writer, held)
            writer.add_key_value_metadata(metadata)
        sync_file(draft)
        if row_count(draft) != rows:
            raise OSError(f"cannot convert {path}: {row_count(draft)} rows read back, {rows} were written")
        publish(draft, out)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    return rows


def _write(writer: Any, held: list["pa.RecordBatch"]) -> None:
    import pyarrow as pa

    table = pa.Table.from_batches(held)
    writer.write_table(table, row_group_size=table.num_rows)
    held.clear()


def _channel(path: Path) -> str:
    """The channel by the columns of the first row; its own name, where several share them, by the path."""
    first = next(_rows(path), None)
    spelled = next((parent.parent.name for parent in path.parents if parent.name.startswith("exchange=")), "")
    if first is None:
        return spelled or "trades"
    if list(first) == [name for name, _ in columns_of(spelled)]:
        return spelled
    for channel, columns in (*COLUMNS.items(), ("event", GENERIC)):
        if list(first) == [name for name, _ in columns]:
            return channel
    raise ValueError(f"cannot convert {path}: line 1 has the columns of no channel: {', '.join(first)[:200]}")


def _batches(path: Path, channel: str) -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa

    form = schema(channel)
    columns = columns_of(channel)
    parsers = [(name, _PARSERS[word]) for name, word in columns if word in _PARSERS]
    names = [name for name, _ in columns]
    rows: list[dict[str, Any]] = []
    number = 0

    def made() -> "pa.RecordBatch":
        found = pa.RecordBatch.from_pylist(rows, schema=form)
        rows.clear()
        return found

    for number, row in enumerate(_rows(path), 1):
        if list(row) != names:
            raise ValueError(f"cannot convert {path}: line {number}: its columns are not those of {channel}")
        try:
            for name, parse in parsers:
                if row[name] is not None:
                    row[name] = parse(row[name])
        except (ValueError, TypeError) as error:
            raise ValueError(f"cannot convert {path}: line {number}: {error}") from error
        rows.append(row)
        if len(rows) == _BATCH_ROWS:
            yield made()
    if rows:
        yield made()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.name.endswith(SUFFIX["ndjson"]):
        raise ValueError(f"cannot convert {path}: its name does not end in {SUFFIX['ndjson']}")
    return read_ndjson(path)
