"""What is stored of one symbol behind a point in time: from the collector's rings, journals and segments.

Run as `python -m daedalus.dataset.tail`, an errand of a feature actor that resumes: it needs zstandard and
maybe pyarrow, which a feature actor should not carry. On stdout: `u32 length, record` for each record, in the
order of capture, and nothing twice.

Theory. A row moves from the ring to a journal to a segment, and is in the next place before it leaves the one
before. So they are read in this order, and what was gone from one is found in the next. A record is in the
ring before anybody hears of it: with a record to stop at, everything before that record is there. Without
one, rings are read twice, and of the session that is still running only what is not younger than the youngest
row of the first pass is taken: all that came before that row was there when the second pass began.

Open journals are read as far as their frames are whole; the rest is still in the ring. A ring that goes back
beyond the point needs neither journals nor segments beside it, and that is the rule: minutes to hours.
"""

import argparse
import ctypes
import mmap
import os
import signal
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec

from daedalus.dataset.layout import HOUR_NS, Layout, hive_values
from daedalus.dataset.segment import SUFFIX, read_ndjson
from daedalus.kernel.errors import EXIT_FAILED, EXIT_OK
from daedalus.kernel.journal import CLOSED, Damage, contents, journals
from daedalus.kernel.ringview import RingView
from daedalus.records import BookSnapshot, Depth, Ticker, Trade, channel_of, decode, decode_many, encode

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXIT_MORE", "Wanted", "main", "tail"]

EXIT_MORE = 3  # what was asked for is more than is told at once: ask again behind the last record
BYTES_MAX = 4 << 20  # of records that are held: the errand lives within the bound of a feature actor

_LENGTH = struct.Struct("<I")
_TYPES: dict[str, type[Any]] = {
    "orderbook": BookSnapshot,
    "trades": Trade,
    "ticker": Ticker,
    "depth": Depth,
}
_MARGIN_NS = 60_000_000_000  # between the clock of the files and that of the rows
_BATCH_ROWS = 256  # books of 20 levels have 100 kB of lists each hundred
_PR_SET_PDEATHSIG = 1


class Found:
    """The records found so far, encoded: a third of the memory. Of too many only the oldest are kept."""

    def __init__(self, wanted: "Wanted") -> None:
        self._wanted = wanted
        self.of: dict[
            tuple[str, str, int], tuple[int, bytes]
        ] = {}  # channel, session, number -> time, record
        self.cut = False
        self._bytes = 0
        self._until = (3, 0)

    def add(self, channel: str, record: Any) -> None:
        """Take a record, unless it is here already or too young."""
        key = (channel, record.session_id, record.seq)
        if key in self.of or self._turn(record.session_id, record.ts_recv) > self._until:
            return
        blob = encode(record)
        self.of[key] = (record.ts_recv, blob)
        self._bytes += len(blob)
        if self._bytes > BYTES_MAX:
            self._keep_the_oldest()

    def _turn(self, session_id: str, ts_recv: int) -> tuple[int, int]:
        """Return a key in the order of telling: the clock may have been set back between two sessions."""
        if session_id == self._wanted.session_id:
            return 0, ts_recv
        return (2 if session_id == self._wanted.until_session else 1), ts_recv

    def _keep_the_oldest(self) -> None:
        kept, self._bytes = {}, 0
        turns = {key: self._turn(key[1], ts) for key, (ts, _) in self.of.items()}
        for key, (ts, blob) in sorted(self.of.items(), key=lambda item: turns[item[0]]):
            if self._bytes > BYTES_MAX // 2:
                break
            kept[key] = (ts, blob)
            self._bytes += len(blob)
            self._until = turns[key]
        self.of, self.cut = kept, True


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which records: the question in `actors.stream.Tail`, and of whom."""

    exchange: str  # sanitised
    symbol: str
    channels: tuple[str, ...]
    session_id: str  # of the last record there was
    after: int  # ns UTC: its capture time
    until_session: str = ""  # of the record to stop before; empty: none
    until: int = 0  # ns UTC: its capture time
    rings: dict[str, str] = {}  # channel -> the collector's spool

    def holds(self, session_id: str, ts_recv: int) -> bool:
        """Return whether a record of that session and time is asked for."""
        if session_id == self.session_id:
            return ts_recv > self.after and (session_id != self.until_session or ts_recv < self.until)
        if session_id == self.until_session:
            return ts_recv < self.until
        if self.until_session:
            return self.session_id != self.until_session and self.after < ts_recv < self.until
        return ts_recv > self.after


def tail(layout: Layout, wanted: Wanted) -> tuple[list[bytes], bool]:
    """Return the records asked for, encoded, by session in order of appearance, then by capture time.

    And whether there are more: of what is too much only the oldest are returned.

    Raises:
        OSError: a file cannot be read.
        ValueError: a journal or a segment is of another version.
    """
    found = Found(wanted)
    rings = _from_rings(wanted, found)
    running, horizon = rings.session_id, rings.until
    left = [channel for channel in wanted.channels if channel not in rings.covered]
    for channel in left:
        _from_journals(layout, channel, wanted, found)
    for channel in left:
        _from_segments(layout, channel, wanted, found)
    rows = found.of
    if not wanted.until_session:
        rows = {key: item for key, item in rows.items() if key[1] != running or item[0] <= horizon}
    begins: dict[str, int] = {}
    for (_, session, _), (ts, _) in rows.items():
        begins[session] = min(ts, begins.get(session, ts))
    rank = {session: (1, ts) for session, ts in begins.items()}
    rank[wanted.session_id] = (0, 0)
    rank[wanted.until_session] = (2, 0) if wanted.until_session != wanted.session_id else (0, 0)
    ordered = sorted(rows.items(), key=lambda item: (rank[item[0][1]], item[1][0]))
    return [blob for _, (_, blob) in ordered], found.cut


def _take(wanted: Wanted, found: Found, records: Iterable[Any]) -> None:
    for record in records:
        if (
            type(record) in _KINDS
            and record.symbol == wanted.symbol
            and record.exchange == wanted.exchange
            and wanted.holds(record.session_id, record.ts_recv)
        ):
            channel = channel_of(record)
            if channel in wanted.channels:
                found.add(channel, record)


_KINDS = frozenset(_TYPES.values())


class _Rings(NamedTuple):
    """What is known of the rings when they have been read."""

    session_id: str  # the one that may still run
    until: int  # ns UTC: how far it was read for certain
    covered: set[str]  # channels whose ring goes back beyond what is asked for: nothing else is needed


def _from_rings(wanted: Wanted, found: Found) -> _Rings:
    needle = wanted.symbol.encode()
    views = {channel: RingView(path) for channel, path in wanted.rings.items()}
    youngest = (0, "")
    first = True

    def take(blob: bytes) -> bool:
        nonlocal youngest
        if needle in blob:
            record = decode(blob)
            _take(wanted, found, (record,))
            if first and type(record) in _KINDS and record.symbol == wanted.symbol:
                youngest = max(youngest, (record.ts_recv, record.session_id))
        return False  # it is kept here, if at all

    for first in (True, False):  # noqa: B007 - `take` reads it
        for view in views.values():
            view.more(take)
    covered = {channel for channel, view in views.items() if _goes_back(view, wanted.after)}
    for view in views.values():
        view.close()
    return _Rings(youngest[1], youngest[0], covered)


def _goes_back(view: RingView, after: int) -> bool:
    """Return whether all that came after a time was read from this ring."""
    return view.first is not None and not view.broken and decode(view.first).ts_recv <= after


def _from_journals(layout: Layout, channel: str, wanted: Wanted, found: Found) -> None:
    for _, path in journals(layout.active(channel)):
        for name in (path, path.with_suffix(CLOSED)):  # it may be closed while we look
            try:
                with name.open("rb") as file:
                    stat = os.fstat(file.fileno())
                    if stat.st_mtime_ns < wanted.after - _MARGIN_NS or stat.st_size == 0:
                        break
                    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except FileNotFoundError:
                continue  # or sealed: then it is found below
            _from_journal(data, wanted, found)
            break


def _from_journal(data: mmap.mmap, wanted: Wanted, found: Found) -> None:
    for item in contents(data):
        if isinstance(item, Damage | dict) or item.sender != wanted.exchange:
            continue
        mark = item.marks.get(wanted.symbol)
        if mark is not None and not (mark.session_id == wanted.session_id and mark.ts_recv <= wanted.after):
            _take(wanted, found, decode_many(item.blob))


def _from_segments(layout: Layout, channel: str, wanted: Wanted, found: Found) -> None:
    sources = layout.ready()
    if not sources.is_dir():
        return
    begin = datetime.fromtimestamp(wanted.after // HOUR_NS * 3600, UTC)
    first = (begin.year, begin.month, begin.day, begin.hour)
    for source in sorted(path.name for path in sources.iterdir()):
        stream = layout.ready(source, channel) / f"exchange={wanted.exchange}" / f"symbol={wanted.symbol}"
        for path in _segments(stream, first, ()):
            if path.stat().st_mtime_ns < wanted.after - _MARGIN_NS:
                continue
            if path.name.endswith(SUFFIX["ndjson"]):
                _take(wanted, found, _of_lines(path, channel))
            elif path.name.endswith(SUFFIX["parquet"]):
                _take(wanted, found, _of_parquet(path, channel, wanted.after // 1000))


def _segments(place: Path, first: tuple[int, ...], known: tuple[int, ...]) -> Iterator[Path]:
    """Yield what lies in the hours from `first` on. `known`: year, month … of the place so far."""
    if not place.is_dir():
        return
    for path in sorted(place.iterdir()):
        values = [value for value in hive_values(path.name).values() if isinstance(value, int)]
        if not values:
            yield path
        elif (*known, *values) >= first[: len(known) + 1]:
            yield from _segments(path, first, (*known, *values))


def _of_parquet(path: Path, channel: str, after_us: int) -> Iterator[Any]:
    """Yield the records of a segment that were captured after `after_us`."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    bound = pa.scalar(after_us, pa.timestamp("us", tz="UTC"))
    with ParquetFile(path, pre_buffer=False) as file:
        column = file.schema.names.index("capture_ts")
        for group in range(file.num_row_groups):
            told = file.metadata.row_group(group).column(column).statistics
            if told is not None and told.has_min_max and told.max <= bound.as_py():
                continue
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
                rows = batch.filter(pc.greater(batch.column("capture_ts"), bound))
                if rows.num_rows:
                    yield from _of_batch(rows, channel)


def _of_batch(rows: "pa.RecordBatch", channel: str) -> Iterator[Any]:
    import pyarrow as pa

    columns: dict[str, Sequence[Any]] = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if name in ("bids", "asks"):
            columns[name] = _sides(column)
        elif name == "capture_ts":
            columns[name] = column.cast(pa.int64()).to_pylist()
        else:
            columns[name] = column.to_pylist()
    for at in range(rows.num_rows):
        record = _record(channel, {name: values[at] for name, values in columns.items()})
        if record is not None:
            yield record


def _sides(column: "pa.Array") -> list[bytes]:
    """Return list<struct<price, size>> as packed sides."""
    starts = [0, *column.value_lengths().to_pylist()]
    level = column.flatten()
    flat = array("d", bytes(16 * len(level)))
    flat[0::2] = array("d", level.field("price").to_pylist())
    flat[1::2] = array("d", level.field("size").to_pylist())
    data, at, sides = flat.tobytes(), 0, []
    for length in starts[1:]:
        sides.append(data[at : at + 16 * length])
        at += 16 * length
    return sides


def _of_lines(path: Path, channel: str) -> Iterator[Any]:
    epoch = datetime.fromtimestamp(0, UTC)
    for row in read_ndjson(path):
        since = datetime.fromisoformat(row["capture_ts"]) - epoch
        row["capture_ts"] = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        for name in ("bids", "asks"):
            if name in row:
                levels = [value for level in row[name] for value in (level["price"], level["size"])]
                row[name] = array("d", levels).tobytes()
        record = _record(channel, row)
        if record is not None:
            yield record


def _record(channel: str, row: dict[str, Any]) -> Any:
    """Return the record of a stored row; None for one of before there were numbers.

    The exchange's time comes back in whole milliseconds: that is all that bronze has of it.
    """
    if row.get("seq") is None or row.get("session_id") is None:
        return None
    event_ms = row.get("timestamp")
    values = {
        **row,
        "ts_recv": row["capture_ts"] * 1000,
        "ts_event": None if event_ms is None else event_ms * 1_000_000,
        "flags": row.get("flags") or 0,
    }
    kind = _TYPES[channel]
    return kind(**{name: values.get(name) for name in kind.__struct_fields__})


def _write(out: BinaryIO, records: Iterable[bytes]) -> None:
    out.writelines(_LENGTH.pack(len(blob)) + blob for blob in records)
    out.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is stored behind a record to stdout.

    Exit 0: it was all; 3: there is more; 1: something could not be read.
    """
    parser = argparse.ArgumentParser(prog="daedalus.dataset.tail", description=main.__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument(
        "--wanted", required=True, help="JSON: exchange, symbol, channels, session_id, after …"
    )
    parser.add_argument("--parent", type=int, default=0, help="pid to die with; 0: none")
    given = parser.parse_args(arguments)
    if given.parent:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != given.parent:
            return EXIT_FAILED
    _be_small()
    try:
        wanted = msgspec.json.decode(given.wanted, type=Wanted)
        records, more = tail(Layout(data=str(given.data)), wanted)
        _write(sys.stdout.buffer, records)
    except (OSError, ValueError, MemoryError) as error:
        sys.stderr.write(f"cannot read what is stored: {error}\n")
        return EXIT_FAILED
    return EXIT_MORE if more else EXIT_OK


def _be_small() -> None:
    """Keep what Arrow takes for itself little: this shares a feature actor's bound of memory."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


if __name__ == "__main__":
    raise SystemExit(main())
