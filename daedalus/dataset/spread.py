"""Records of a journal, in the order they were committed, to one sorted file per partition.

Memory is bounded whatever the journal holds. Records become Arrow a few thousand at a time; a partition is
written in row groups while it streams by. When many small partitions together exceed the budget, the
largest are put off to another pass over the journal: it is its own spill file, so nothing is written twice
(SD cards wear). Records of a partition arrive nearly sorted; where the clock was set back, what is written
so far is a sorted run, and the runs are merged at the end.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daedalus.dataset.bronze import batch, file_metadata, sort_column
from daedalus.dataset.durable import sync_file
from daedalus.dataset.layout import HOUR_NS, Partition
from daedalus.dataset.segment import (
    SUFFIX,
    Options,
    merge,
    open_parquet,
    row_count,
    sorted_by_time,
    write_ndjson,
)
from daedalus.records import Event, Flag, Gap, channel_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

__all__ = ["Piece", "spread"]

Feed = Iterable[tuple[str, list[Any], int]]  # source, records, their bytes
_Groups = defaultdict[tuple[Any, ...], list[Any]]  # (source, type or channel, exchange, symbol, hour)

_ts_recv, _started_at = attrgetter("ts_recv"), attrgetter("started_at")
_market = attrgetter("exchange", "symbol")
_SEPARATE = (Gap, Event)  # grouped by more than type, symbol and capture time
_SHARED_MIN = 4  # records of a frame
_GROUP_ROWS = 2048  # of a group: what a cache can hold is turned into columns at two thirds of the cost
_CHUNK_BYTES = 8 << 20  # of encoded records; as Python objects they are two to three times that


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

    def add(self, found: "pa.RecordBatch") -> None:
        """Take a batch that is sorted in itself."""
        times = found.column(sort_column(self.partition.channel))
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
    import pyarrow.compute as pc

    if "flags" not in found.schema.names:
        return False
    bits = pc.bit_wise_and(found.column("flags"), int(Flag.BACKFILLED))
    return bool(pc.max(bits).as_py())


def spread(read: Callable[[], Feed], stem: Path, journal: str, options: Options) -> list[Piece]:
    """Write the records of a journal to temporary files, one per partition.

    Args:
        read: opens a new pass over the same records.
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
        parts, late = _pass(read(), finished, late, part_of, options, overtaken)
        for partition in sorted(parts):
            finished[partition] = parts.pop(partition).finish()
    newest = max((partition.hour for partition in finished), default=0)
    for partition, piece in finished.items():
        piece.late = partition in overtaken or (piece.backfilled and partition.hour < newest)
    return [finished[partition] for partition in sorted(finished)]


def _pass(
    feed: Feed,
    finished: dict[Partition, Piece],
    wanted: set[Partition] | None,
    part_of: Callable[[Partition], _Part],
    options: Options,
    overtaken: set[Partition],
) -> tuple[dict[Partition, _Part], set[Partition]]:
    """One pass over the journal: the partitions it had room for, and those it put off.

    Hours in which a stream has rows after a later hour are added to `overtaken`.
    """
    parts: dict[Partition, _Part] = {}
    late: set[Partition] = set()
    newest: dict[str, int] = {}
    for groups in _chunks(feed, options):
        for partition, records in groups:
            stream = partition.stream
            if partition.hour < newest.setdefault(stream, partition.hour):
                overtaken.add(partition)
            else:
                newest[stream] = partition.hour
            if partition in late or partition in finished or not (wanted is None or partition in wanted):
                continue
            part = parts.get(partition)
            if part is None:
                part = parts[partition] = part_of(partition)
            part.add(batch(partition, records))
        _relieve(parts, late, options)
    return parts, late


def _relieve(parts: dict[Partition, _Part], late: set[Partition], options: Options) -> None:
    """Bring what is held below the budget: full row groups first, then put off, then a short row group."""
    held = sum(part.bytes for part in parts.values())
    while held > options.buffer_bytes:
        part = max(parts.values(), key=lambda found: (found.rows >= options.row_group_rows_min, found.bytes))
        held -= part.bytes
        if part.rows >= options.row_group_rows_min or part.written or len(parts) == 1:
            part.flush()
        else:
            part.drop()
            late.add(part.partition)
            del parts[part.partition]


def _chunks(feed: Feed, options: Options) -> Iterator[list[tuple[Partition, list[Any]]]]:
    """Gather some thousand records, grouped by partition and sorted by time."""
    groups: _Groups = defaultdict(list)
    rows = size = 0
    for source, records, nbytes in feed:
        shared = _shared(records)
        if shared is not None:
            groups[source, *shared].extend(records)
        else:
            _share_out(source, records, groups)
        rows += len(records)
        size += nbytes
        if groups and (rows >= min(options.chunk_rows, _GROUP_ROWS * len(groups)) or size >= _CHUNK_BYTES):
            yield _sorted(groups)
            groups.clear()
            rows = size = 0
    if groups:
        yield _sorted(groups)


def _shared(records: list[Any]) -> tuple[Any, ...] | None:
    """Return the type, exchange, symbol and hour that all these records have in common.

    None where they differ, or where nothing is gained by asking: a frame of one stream is sorted in at a
    fifth of the cost of its records one by one.
    """
    if len(records) < _SHARED_MIN:
        return None
    first, last = records[0], records[-1]
    kind = type(first)
    if kind in _SEPARATE or type(last) is not kind or first.symbol != last.symbol:
        return None
    if len(set(map(type, records))) > 1 or len(set(map(_market, records))) > 1:
        return None
    times = list(map(_ts_recv, records))
    hour = min(times) // HOUR_NS
    return (kind, first.exchange, first.symbol, hour) if max(times) // HOUR_NS == hour else None


def _share_out(source: str, records: list[Any], groups: _Groups) -> None:
    """Add each record to its group."""
    # Most records are of the stream and the hour of the one before: then no key is made (0.2 us).
    kind: Any = None
    exchange = symbol = ""
    begin = end = 0
    append: Callable[[Any], None] = [].append
    for record in records:
        if (
            type(record) is kind
            and begin <= record.ts_recv < end
            and record.symbol == symbol
            and record.exchange == exchange
        ):
            append(record)
            continue
        kind, exchange, symbol = type(record), record.exchange, record.symbol
        at = record.started_at if kind is Gap else record.ts_recv
        hour = at // HOUR_NS
        begin, end = hour * HOUR_NS, (hour + 1) * HOUR_NS
        group = groups[source, record.channel if kind is Event else kind, exchange, symbol, hour]
        append = group.append
        append(record)
        if kind in _SEPARATE:
            kind = None


def _sorted(groups: dict[tuple[Any, ...], list[Any]]) -> list[tuple[Partition, list[Any]]]:
    for key, records in groups.items():
        records.sort(key=_started_at if key[1] is Gap else _ts_recv)
    return [
        (Partition(source, channel_of(records[0]), exchange, symbol, hour), records)
        for (source, _, exchange, symbol, hour), records in groups.items()
    ]
