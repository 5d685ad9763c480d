"""Records of a journal, in the order they were committed, to one sorted file per partition.

Memory is bounded whatever the journal holds. Records are shredded straight into columns (`dataset.shreds`),
those that cannot be become Arrow a few thousand at a time; a partition is written in row groups while it
streams by. When many small partitions together exceed the budget, the largest are put off to another pass
over the journal: it is its own spill file, so nothing is written twice (SD cards wear). Records of a
partition arrive nearly sorted; where the clock was set back, what is written so far is a sorted run, and the
runs are merged at the end.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daedalus.dataset.bronze import batch, file_metadata, sort_column
from daedalus.dataset.chunk import CHUNK_BYTES, Chunk
from daedalus.dataset.durable import sync_file
from daedalus.dataset.layout import Partition
from daedalus.dataset.reading import Take
from daedalus.dataset.segment import (
    SUFFIX,
    Options,
    merge,
    open_parquet,
    row_count,
    sorted_by_time,
    write_ndjson,
)
from daedalus.dataset.shreds import Shreds
from daedalus.records import Flag

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

__all__ = ["Piece", "spread"]

Feed = Iterable[tuple[str, Sequence[Any], int]]  # source, records, their bytes
Read = Callable[[Take], Feed]  # what is taken on the way is not in the feed


class Piece:
    """One finished file: a partition of the journal."""

    def __init__(self, partition: Partition, path: Path, rows: int, *, backfilled: bool = False) -> None:
        self.partition = partition
        self.path = path
        self.rows = rows
        self.backfilled = backfilled
        self.late = False  # its stream, or with backfilled rows any, had a later hour before


class _Part:
    """A partition while it is being written."""

    def __init__(self, partition: Partition, stem: Path, options: Options, metadata: dict[str, str]) -> None:
        self.partition = partition
        self.rows = 0  # held as Arrow
        self.bytes = 0
        self.written = 0
        self._stem = stem
        self._options = options
        self._metadata = metadata
        self._held: list[pa.RecordBatch] = []
        self._runs: list[Path] = []
        self._writer: ParquetWriter | None = None
        self._last: int | None = None  # time of the last row in the current run, us
        self._in_order = True
        self._held_last: int | None = None
        self._backfilled = False

    def add(self, found: "pa.RecordBatch", *, in_order: bool = True) -> None:
        """Take a batch, and whether it is sorted in itself."""
        times = found.column(sort_column(self.partition.channel))
        if not in_order:
            self._in_order = False
        if self._held_last is not None and times[0].value < self._held_last:
            self._in_order = False
        self._held_last = times[-1].value
        self._backfilled = self._backfilled or _backfilled(found)
        self._held.append(found)
        self.rows += found.num_rows
        self.bytes += found.nbytes
        if self.rows >= self._options.row_group_rows:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one row group, in a new run if it begins before the last one ended."""
        import pyarrow as pa

        if not self._held:
            return
        channel = self.partition.channel
        table = pa.Table.from_batches(self._held)
        if not self._in_order:
            table = sorted_by_time(table, channel)
        times = table[sort_column(channel)]
        if self._writer is None or (self._last is not None and times[0].value < self._last):
            self._end_run()
            self._runs.append(self._stem.with_name(f"{self._stem.name}-{len(self._runs)}.tmp"))
            self._writer = open_parquet(self._runs[-1], channel, self._options)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._last = times[-1].value
        self.written += table.num_rows
        self.rows = self.bytes = 0
        self._held, self._in_order, self._held_last = [], True, None

    def _end_run(self) -> None:
        if self._writer is not None:
            self._writer.add_key_value_metadata(self._metadata)
            self._writer.close()
            self._writer = None

    def finish(self) -> Piece:
        """Write the rest; return the one file of the partition, durable and read back."""
        self.flush()
        self._end_run()
        path = self._runs[0]
        if len(self._runs) > 1:
            path = self._stem.with_name(f"{self._stem.name}-merged.tmp")
            merge(self._runs, path, self.partition.channel, self._options, self._metadata)
            for run in self._runs:
                run.unlink()
        if self._options.raw_format == "ndjson":
            lines = path.with_name(f"{self._stem.name}.tmp{SUFFIX['ndjson']}")
            write_ndjson(path, lines, self._options.compression_level)
            path.unlink()
            path = lines
        sync_file(path)
        found = row_count(path)
        if found != self.written:
            raise OSError(f"cannot seal {path}: {found} rows read back, {self.written} were written")
        return Piece(self.partition, path, self.written, backfilled=self._backfilled)

    def drop(self) -> None:
        """Forget what is held; nothing was written."""
        self._held = []


def _backfilled(found: "pa.RecordBatch") -> bool:
    """Whether one of the rows did not arrive live."""
    if "flags" not in found.schema.names:
        return False
    # Not by pyarrow.compute: to import it costs as much as the columns of thirty thousand rows.
    flags = found.column("flags")
    values = memoryview(flags.buffers()[1]).cast("B").cast("i")[flags.offset : flags.offset + len(flags)]
    return any(value & Flag.BACKFILLED for value in set(values))


def spread(read: Read, stem: Path, journal: str, options: Options) -> list[Piece]:
    """Write the records of a journal to temporary files, one per partition.

    Args:
        read: opens a new pass over the same records; is given what may take entries unread.
        stem: the files are `{stem}~…`; in the file system of `ready`.
        journal: the journal's name in their footers.
        options: how they are written.

    Returns:
        The files, sorted by partition, each durable and read back.
    """
    finished: dict[Partition, Piece] = {}
    late: set[Partition] | None = None
    made = count()

    def part_of(partition: Partition) -> _Part:
        metadata = file_metadata(partition.channel, journal)
        return _Part(partition, stem.with_name(f"{stem.name}~{next(made):05d}"), options, metadata)

    overtaken: set[Partition] = set()
    while late is None or late:
        found = _Pass(finished, late, part_of, options)
        found.run(read)
        late = found.late
        overtaken |= found.overtaken
        for partition in sorted(found.parts):
            finished[partition] = found.parts.pop(partition).finish()
    newest = max((partition.hour for partition in finished), default=0)
    for partition, piece in finished.items():
        piece.late = partition in overtaken or (piece.backfilled and partition.hour < newest)
    return [finished[partition] for partition in sorted(finished)]


class _Pass:
    """One pass over the journal: the partitions it had room for, and those it put off."""

    def __init__(
        self,
        finished: dict[Partition, Piece],
        wanted: set[Partition] | None,
        part_of: Callable[[Partition], _Part],
        options: Options,
    ) -> None:
        self.parts: dict[Partition, _Part] = {}
        self.late: set[Partition] = set()  # put off
        self.overtaken: set[Partition] = set()  # their stream had rows of a later hour before
        self._finished = finished
        self._wanted = wanted
        self._part_of = part_of
        self._options = options
        self._held = 0  # bytes in the parts
        self._shreds = Shreds(self._keep, options.row_group_rows)
        self._chunk = Chunk(options.chunk_rows)

    def run(self, read: Read) -> None:
        """Read everything once."""
        for source, records, nbytes in read(self._shreds.take):
            # What came first becomes columns first: rows of one instant keep their order.
            if records:
                self._add_shreds(self._shreds.all())
                self._chunk.add(source, records, nbytes)
            if self._chunk and (self._chunk.full() or not records):
                self._add_chunk()
            self._add_shreds(self._shreds.ripe())
            if self._crowded():
                self._add_shreds(self._shreds.all())
                self._relieve()
        self._add_chunk()
        self._add_shreds(self._shreds.all())
        self.overtaken.update(self._shreds.overtaken())

    def _keep(self, partition: Partition) -> bool:
        if partition in self.late or partition in self._finished:
            return False
        return self._wanted is None or partition in self._wanted

    def _add(self, partition: Partition, found: "pa.RecordBatch", *, in_order: bool) -> None:
        if partition in self.late:
            return  # put off while these were held: the next pass reads all of it
        part = self.parts.get(partition)
        if part is None:
            part = self.parts[partition] = self._part_of(partition)
        part.add(found, in_order=in_order)

    def _add_shreds(self, shreds: Iterable[tuple[Partition, "pa.RecordBatch", bool]]) -> None:
        for partition, found, in_order in shreds:
            self._add(partition, found, in_order=in_order)

    def _add_chunk(self) -> None:
        for partition, records in self._chunk.take():
            if self._shreds.stream(partition).meet(partition.hour):
                self.overtaken.add(partition)
            if self._keep(partition):
                self._add(partition, batch(partition, records), in_order=True)
        self._relieve()

    def _crowded(self) -> bool:
        """Whether the budget is exceeded; small change is not collected."""
        held, rows = self._shreds.bytes, self._shreds.rows
        enough = held >= CHUNK_BYTES or rows >= self._options.chunk_rows
        return enough and self._held + held > self._options.buffer_bytes

    def _relieve(self) -> None:
        """Bring what is held below the budget: full row groups first, then put off, then a short one."""
        options = self._options
        held = sum(part.bytes for part in self.parts.values())
        while held > options.buffer_bytes:
            part = max(
                self.parts.values(), key=lambda found: (found.rows >= options.row_group_rows_min, found.bytes)
            )
            held -= part.bytes
            if part.rows >= options.row_group_rows_min or part.written or len(self.parts) == 1:
                part.flush()
            else:
                part.drop()
                self.late.add(part.partition)
                self._shreds.drop(part.partition)
                del self.parts[part.partition]
        self._held = held
