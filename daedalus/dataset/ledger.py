"""What the files say of a stream: its rows as runs, its gap rows as causes.

Reads three columns of each file, one file at a time, and keeps a few numbers of each: a question about a
year costs its reading and no memory. Of the files outside the question only the nearest on either side are
read: without them a quiet hour could not be told from one that nobody collected.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from daedalus.dataset.coverage import Cause, Run, join_runs
from daedalus.dataset.layout import Layout, hive_values
from daedalus.dataset.scan import files

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Evidence", "channels_of", "evidence", "microseconds"]

_NO_STREAM = ("gaps", "instruments")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US = 3_600_000_000
_FOREVER = 1 << 40  # hours
_GAP_HOURS = 24  # before the first hour read in which a gap may begin that reaches into it
_JOIN_EVERY = 100  # files
_LEAST = (("year", 1970), ("month", 1), ("day", 1), ("hour", 0))
_GAP_COLUMNS = [
    *("channel", "started_at", "ended_at", "session_id", "first_seq", "last_seq", "reason"),
    *("lost_estimate", "detail"),
]


class Evidence(NamedTuple):
    """What `coverage.cover` goes by."""

    runs: list[Run]
    gaps: list[Cause]
    begun: frozenset[str]  # sessions whose earlier rows were not looked at


def microseconds(at: datetime) -> int:
    """Return a time as µs since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def channels_of(layout: Layout, exchange: str, names: list[str]) -> list[str]:
    """Return the channels in which a symbol has rows or gap rows, sorted.

    Args:
        layout: of the data set.
        exchange: sanitised.
        names: what the symbol is, or was, called on disk.
    """
    found = set()
    for channel in {path.name for path in layout.ready().glob("*/*") if path.is_dir()}:
        if any(any(layout.ready().glob(f"*/{channel}/exchange={exchange}/symbol={name}")) for name in names):
            found.add(channel)
    if "gaps" in found:
        paths = [
            path for name in names for path in files(layout.data, "gaps", exchange=exchange, symbol=name)
        ]
        found |= {word for path in paths for word in _read(path, ["channel"])["channel"].unique().to_list()}
    return sorted(found - set(_NO_STREAM))


def evidence(
    layout: Layout,
    channel: str,
    exchange: str,
    names: list[str],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    step: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Return the runs and gap rows that bear upon [start, end).

    Args:
        layout: of the data set.
        channel: of the stream.
        exchange: sanitised.
        names: what the symbol is, or was, called on disk.
        start: UTC; None: from the beginning.
        end: UTC; None: to the end.
        step: told after each file how many are done, and of how many.

    Raises:
        OSError, polars.exceptions.PolarsError: a file cannot be read.
    """
    rows = _by_hour(layout, channel, exchange, names)
    gaps = _by_hour(layout, "gaps", exchange, names)
    first, last, earlier = _bounds([hour for hour, _ in rows], start, end)
    wanted = [(hour, path) for hour, path in rows if first <= hour <= last]
    told = [path for hour, path in gaps if (not earlier or hour >= first - _GAP_HOURS) and hour <= last]
    of = len(wanted) + len(told)
    tell = step or _silent
    runs: list[Run] = []
    begun: set[str] = set()
    for done, (hour, path) in enumerate(wanted, 1):
        found = list(_runs(path))
        if earlier and hour == first:
            begun |= {run.session for run in found}
        runs += found
        if done % _JOIN_EVERY == 0:
            runs = join_runs(runs)
        tell(done, of)
    causes: list[Cause] = []
    for done, path in enumerate(told, len(wanted) + 1):
        causes += _causes(path, channel)
        tell(done, of)
    return Evidence(runs, causes, frozenset(begun))


def _silent(_done: int, _of: int) -> None:
    """Tell nobody."""


def _by_hour(layout: Layout, channel: str, exchange: str, names: list[str]) -> list[tuple[int, Path]]:
    """Return the files of a stream with their hour since 1970, in order of time."""
    try:
        found = [
            path for name in names for path in files(layout.data, channel, exchange=exchange, symbol=name)
        ]
    except ValueError:  # no such channel
        return []
    return sorted((_hour(path), path) for path in found)


def _hour(path: Path) -> int:
    values = hive_values(path.parent)
    year, month, day, hour = (int(values.get(name, least)) for name, least in _LEAST)
    return microseconds(datetime(year, month, day, hour, tzinfo=UTC)) // _HOUR_US


def _bounds(hours: list[int], start: datetime | None, end: datetime | None) -> tuple[int, int, bool]:
    """Return the first and the last hour to read, and whether there are rows before the first.

    They are the hours asked for, and the nearest that have rows on either side.
    """
    low = -_FOREVER if start is None else microseconds(start) // _HOUR_US
    high = _FOREVER if end is None else (microseconds(end) - 1) // _HOUR_US
    first = max((hour for hour in hours if hour < low), default=-_FOREVER)
    last = min((hour for hour in hours if hour > high), default=_FOREVER)
    return first, last, any(hour < first for hour in hours)


def _read(path: Path, columns: list[str]) -> "pl.DataFrame":
    import polars as pl

    return pl.read_parquet(path, columns=columns, hive_partitioning=False, glob=False)


def _runs(path: Path) -> Iterator[Run]:
    """Yield the runs of one file, which is sorted by capture time."""
    import polars as pl

    seq, time, session = pl.col("seq"), pl.col("capture_ts").dt.timestamp("us"), pl.col("session_id")
    breaks = (seq.diff() != 1) | (session != session.shift())
    table = (
        _read(path, ["capture_ts", "seq", "session_id"])
        .drop_nulls()
        .with_columns(time.alias("at"), breaks.fill_null(value=True).cum_sum().alias("run"))
        .group_by("run", maintain_order=True)
        .agg(
            session.first(),
            seq.first().alias("first_seq"),
            seq.last().alias("last_seq"),
            pl.col("at").first().alias("first_at"),
            pl.col("at").last().alias("last_at"),
            (pl.col("at").diff() <= 0).sum().alias("disordered"),
        )
    )
    for row in table.iter_rows(named=True):
        del row["run"]
        yield Run(row.pop("session_id"), **row)


def _causes(path: Path, channel: str) -> Iterator[Cause]:
    """Yield the gap rows of one channel in a file."""
    import polars as pl

    for row in _read(path, _GAP_COLUMNS).filter(pl.col("channel") == channel).iter_rows(named=True):
        yield Cause(
            microseconds(row["started_at"]),
            microseconds(row["ended_at"]),
            row["reason"],
            row["session_id"] or "",
            row["first_seq"],
            row["last_seq"],
            row["lost_estimate"],
            row["detail"],
        )
