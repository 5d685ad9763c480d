"""One segment file: how bronze is encoded in Parquet, merged from sorted runs, and read back.

Doubles without dictionary (88 to 75 bytes a row of 20 levels, measured), integers delta encoded, strings in
a dictionary. Row groups hold at least 4000 rows where there are as many.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from daedalus.dataset.bronze import schema, sort_column
from daedalus.dataset.columns import columns_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

__all__ = [
    "SUFFIX",
    "Options",
    "merge",
    "open_parquet",
    "read_ndjson",
    "row_count",
    "sorted_by_time",
    "write_ndjson",
]

SUFFIX = {"parquet": ".parquet", "ndjson": ".ndjson.zst"}
_INTEGER_WORDS = {"i32", "i64", "time"}
_PAGE_BYTES = 256 << 10  # uncompressed; bounds what one open file holds back
_MERGE_ROWS = 2048
_MERGE_ROWS_MIN = 128
_BLOCK_BYTES = 64 << 10


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How segments are written; defaults are those of `[writer]`."""

    raw_format: str = "parquet"  # parquet | ndjson
    compression: str = "zstd"
    compression_level: int = 3
    row_group_rows: int = 8192
    row_group_rows_min: int = 4000  # a group is cut shorter only to keep memory bounded, or at the end
    buffer_bytes: int = 40 << 20  # Arrow data held at once over all partitions
    chunk_rows: int = 10_240  # records held as Python objects at once


def open_parquet(path: Path, channel: str, options: Options) -> "ParquetWriter":
    """Return a writer for a segment of `channel` at `path`; each `write_table` is one row group."""
    from pyarrow.parquet import ParquetWriter

    words = dict(columns_of(channel))
    return ParquetWriter(
        path,
        schema(channel),
        compression=options.compression,
        compression_level=options.compression_level
        if options.compression in {"zstd", "gzip", "brotli"}
        else None,
        use_dictionary=[name for name, word in words.items() if word == "str"],
        column_encoding={
            name: "DELTA_BINARY_PACKED" for name, word in words.items() if word in _INTEGER_WORDS
        },
        write_statistics=[name for name, word in words.items() if word != "side"],
        data_page_size=_PAGE_BYTES,
        version="2.6",
    )


def sorted_by_time(table: "pa.Table", channel: str) -> "pa.Table":
    """Return the rows in order of capture; rows of one instant keep their order."""
    import pyarrow.compute as pc

    return table.take(pc.sort_indices(table, sort_keys=[(sort_column(channel), "ascending")]))


def row_count(path: Path) -> int:
    """Return the number of rows a file really opens with.

    Raises:
        OSError, ValueError: the file cannot be read.
    """
    if path.name.endswith(SUFFIX["ndjson"]):
        return sum(1 for _ in read_ndjson(path))
    from pyarrow.parquet import read_metadata

    return int(read_metadata(path).num_rows)


def merge(runs: list[Path], target: Path, channel: str, options: Options, metadata: dict[str, str]) -> None:
    """Merge files that are each sorted into one that is. Memory: one batch of each run."""
    import pyarrow as pa

    rows = max(_MERGE_ROWS_MIN, _MERGE_ROWS // len(runs))
    with open_parquet(target, channel, options) as writer:
        held: list[pa.Table] = []
        for part in _merged(runs, channel, rows):
            held.append(part)
            if sum(table.num_rows for table in held) >= options.row_group_rows:
                writer.write_table(pa.concat_tables(held))
                held.clear()
        if held:
            writer.write_table(pa.concat_tables(held))
        writer.add_key_value_metadata(metadata)


def _merged(runs: list[Path], channel: str, rows: int) -> Iterator["pa.Table"]:
    """Yield sorted tables: everything up to the earliest end of the batches at hand, again and again."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    column = sort_column(channel)
    files = [ParquetFile(run) for run in runs]
    readers = [file.iter_batches(batch_size=rows) for file in files]
    current: list[pa.Table | None] = [_next(reader) for reader in readers]
    while any(table is not None for table in current):
        ends = [table[column][-1].value for table in current if table is not None]
        limit = pa.scalar(min(ends), schema(channel).field(column).type)
        ready = []
        for index, table in enumerate(current):
            if table is None:
                continue
            taken = pc.sum(pc.less_equal(table[column], limit)).as_py()
            ready.append(table.slice(0, taken))
            current[index] = table.slice(taken) if taken < table.num_rows else _next(readers[index])
        yield sorted_by_time(pa.concat_tables(ready), channel)
    for file in files:
        file.close()


def _next(reader: Iterator["pa.RecordBatch"]) -> "pa.Table | None":
    import pyarrow as pa

    for found in reader:
        if found.num_rows:
            return pa.Table.from_batches([found])
    return None


def write_ndjson(source: Path, target: Path, level: int) -> None:
    """Rewrite a Parquet segment as zstd-compressed JSON lines: times as ISO text, levels as objects."""
    import zstandard
    from pyarrow.parquet import ParquetFile

    encoder = msgspec.json.Encoder()
    with (
        ParquetFile(source) as file,
        target.open("wb") as raw,
        zstandard.ZstdCompressor(level=level).stream_writer(raw) as out,
    ):
        for found in file.iter_batches(batch_size=_MERGE_ROWS):
            out.write(b"".join(encoder.encode(row) + b"\n" for row in found.to_pylist()))


def _lines(raw: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of one compressed frame, which must be whole: a reader of streams takes half a one."""
    import zstandard

    frame = zstandard.ZstdDecompressor().decompressobj()
    rest = b""
    while not frame.eof and (block := raw.read(_BLOCK_BYTES)):
        *lines, rest = (rest + frame.decompress(block)).split(b"\n")
        yield from lines
    if not frame.eof or rest:
        raise zstandard.ZstdError("the file is cut off")


def read_ndjson(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of compressed JSON lines, as they stand there.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or its end is missing (the message has the line).
    """
    import zstandard

    decoder = msgspec.json.Decoder(dict[str, Any])
    number = 0
    try:
        with path.open("rb") as raw:
            for line in _lines(raw):
                number += 1
                yield decoder.decode(line)
    except (zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} at line {number or 1}: {error}") from error
