"""Reading the data set: the files of a question, chosen by their paths, as one polars LazyFrame.

Only directories that can hold an answer are entered, so the cost of asking for an hour does not grow with
the years behind it. Segments of older versions get the columns they lack as nulls.
"""

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from daedalus.dataset.columns import COLUMNS, PARTITION_COLUMNS, TIME_COLUMN, columns_of
from daedalus.dataset.layout import Layout, hive_values
from daedalus.dataset.symbols import names_of
from daedalus.records import CHANNELS, FRAMES, sanitise

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Instant", "files", "instant", "scan", "scan_files"]

Instant = datetime | date | str

_NUMBER = re.compile(r"(year|month|day|hour)=(\d+)/")
_TIME_PARTS = ("year", "month", "day", "hour")
_LENGTHS = (timedelta(days=366), timedelta(days=31), timedelta(days=1), timedelta(hours=1))  # at most


def scan(
    data: str | Path,
    channel: str,
    *,
    tier: str = "bronze",
    source: str | None = None,
    exchange: str | None = None,
    symbol: str | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    gaps: Literal["mark"] | None = None,
) -> "pl.LazyFrame":
    """Return the rows of a channel, lazily, reading only the partitions that are asked for.

    Args:
        data: the data directory.
        channel: orderbook, trades, ticker, depth, bidask …, and gaps, instruments, frames.
        tier: bronze, silver or gold.
        source: ccxt or native; None = all.
        exchange: name of the exchange; None = all.
        symbol: in either spelling, `BTC/USDT` or `BTC-USDT`, or its alias; None = all.
        start: first capture time, inclusive: datetime, date or ISO text; UTC unless it says otherwise.
        end: capture time, exclusive.
        gaps: "mark" adds a boolean column `in_gap`: whether a gap of the row's own stream was open when it
            was captured. The last row before a gap and the first behind it are not in it. The gap rows
            themselves: `daedalus.gaps`.

    Returns:
        A LazyFrame, by exchange, symbol and hour, and by capture time within a segment. Without any file it
        is empty and has the schema of the channel; of silver and gold the partition columns.

    Raises:
        FileNotFoundError: there is no such data directory.
        TypeError: an argument is of a wrong type.
        ValueError: unknown tier or channel, an unusable name or time.
    """
    import polars as pl

    if gaps not in (None, "mark"):
        raise ValueError(f"cannot scan with gaps={gaps!r}: 'mark', or None")

    found = files(
        data, channel, tier=tier, source=source, exchange=exchange, symbol=symbol, start=start, end=end
    )
    bronze = tier == Layout(data="").tier_raw
    frame = scan_files(found, _schema(channel) if bronze else None if found else _partition_schema())
    names = frame.collect_schema().names()
    if exchange is not None and "exchange" in names:
        frame = frame.filter(pl.col("exchange") == sanitise(exchange))
    if symbol is not None and "symbol" in names:
        known = names_of(Layout(data=str(data)), symbol)
        called = set().union(*known.values()) if exchange is None else _called(known, sanitise(exchange))
        frame = frame.filter(pl.col("symbol").is_in(sorted(called)))
    time = TIME_COLUMN.get(channel, "capture_ts") if bronze else "capture_ts"
    if time in names:
        if start is not None:
            frame = frame.filter(pl.col(time) >= instant(start))
        if end is not None:
            frame = frame.filter(pl.col(time) < instant(end))
    if gaps == "mark" and time in names:
        from daedalus.dataset import mask

        rows = mask.gaps(data, channel, source=source, exchange=exchange, symbol=symbol, start=start, end=end)
        frame = mask.mark(frame, rows.collect(), time)
    return frame


def scan_files(found: list[Path], schema: "pl.Schema | None" = None) -> "pl.LazyFrame":
    """Return the rows of these Parquet files; without a schema the last file's is the schema of all."""
    import polars as pl

    if not found:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(
        found,
        schema=pl.read_parquet_schema(found[-1]) if schema is None else schema,
        glob=False,
        hive_partitioning=False,  # the partition columns are in the data
        missing_columns="insert",
        extra_columns="ignore",
    )


def files(
    data: str | Path,
    channel: str,
    *,
    tier: str = "bronze",
    source: str | None = None,
    exchange: str | None = None,
    symbol: str | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
) -> list[Path]:
    """Return the Parquet files that can hold the rows asked for, streams and their hours in order.

    Arguments and errors as of `scan`.
    """
    _check_types(
        {"channel": channel, "tier": tier}, {"source": source, "exchange": exchange, "symbol": symbol}
    )
    if not isinstance(data, str | Path):
        raise TypeError(f"cannot scan data={data!r}: a path is expected, not {type(data).__name__}")
    if not Path(data).is_dir():
        raise FileNotFoundError(f"cannot scan {data}: no such directory")
    layout = Layout(data=str(data))
    tiers = (layout.tier_raw, layout.tier_features, layout.tier_aggregates)
    if tier not in tiers:
        raise ValueError(f"cannot scan the tier {tier!r}: one of {', '.join(tiers)}")
    base = layout.ready() if tier == layout.tier_raw else Path(layout.data, layout.processed_dir)
    sources = [source] if source is not None else sorted(_directories(base))
    roots = [base / name / channel / ("" if tier == layout.tier_raw else tier) for name in sources]
    roots = [root for root in roots if root.is_dir()]
    if not roots and channel not in (*COLUMNS, *CHANNELS, FRAMES):
        raise ValueError(f"cannot scan the channel {channel!r}: {base} has none of that name")
    place = None if exchange is None else sanitise(exchange)
    names = None if symbol is None else names_of(layout, symbol)

    def wanted(values: dict[str, str | int]) -> bool:
        there = values.get("exchange")
        if place is not None and there not in (None, place):
            return False
        return names is None or "symbol" not in values or values["symbol"] in _called(names, str(there))

    window = (None if start is None else instant(start), None if end is None else instant(end))
    found = (path for root in roots for path in _walk(root, {}, wanted, window))
    return sorted(found, key=lambda path: _NUMBER.sub(_padded, path.as_posix()))


def _called(names: dict[str, set[str]], exchange: str) -> set[str]:
    """What a symbol is called on disk by one exchange."""
    return names.get(exchange, names[""])


def _padded(match: re.Match[str]) -> str:
    return f"{match[1]}={int(match[2]):04d}/"


def _check_types(texts: dict[str, object], names: dict[str, object]) -> None:
    for name, value in (texts | {key: value for key, value in names.items() if value is not None}).items():
        if not isinstance(value, str):
            raise TypeError(f"cannot scan {name}={value!r}: a text is expected, not {type(value).__name__}")


def instant(value: object) -> datetime:
    """Return a time in UTC.

    Raises:
        TypeError: it is neither a time nor a text.
        ValueError: the text is not an ISO time.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"cannot read the time {value!r}: ISO 8601 is expected") from error
    elif not isinstance(value, date):
        kind = type(value).__name__
        raise TypeError(
            f"cannot read the time {value!r}: a datetime, date or ISO text is expected, not {kind}"
        )
    elif not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - made aware below
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _walk(
    directory: Path,
    known: dict[str, str | int],
    wanted: Callable[[dict[str, str | int]], bool],
    window: tuple[datetime | None, datetime | None],
) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                if entry.name.endswith(".parquet"):
                    yield directory / entry.name
                continue
            values = known | hive_values(entry.name)
            if wanted(values) and _overlaps(values, *window):
                yield from _walk(directory / entry.name, values, wanted, window)


def _overlaps(values: dict[str, str | int], start: datetime | None, end: datetime | None) -> bool:
    """Whether the stretch of time that the directories so far stand for meets [start, end)."""
    parts = [int(values[name]) for name in _TIME_PARTS if name in values]
    if not parts or (start is None and end is None):
        return True
    year, month, day, hour = (*parts, *(1, 1, 1, 0)[len(parts) :])
    try:
        first = datetime(year, month, day, hour, tzinfo=UTC)
    except ValueError:  # hour=77: no partition of ours; its rows decide
        return True
    after = first + _LENGTHS[len(parts) - 1]
    return (end is None or first < end) and (start is None or after > start)


def _directories(base: Path) -> Iterator[str]:
    if base.is_dir():
        with os.scandir(base) as entries:
            yield from (entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


@cache
def _schema(channel: str) -> "pl.Schema":
    import polars as pl

    types: dict[str, pl.DataType] = {
        "i32": pl.Int32(),
        "i64": pl.Int64(),
        "f64": pl.Float64(),
        "bool": pl.Boolean(),
        "str": pl.String(),
        "bytes": pl.Binary(),
        "time": pl.Datetime("us", "UTC"),
        "side": pl.List(pl.Struct({"price": pl.Float64, "size": pl.Float64})),
    }
    return pl.Schema([(name, types[word]) for name, word in columns_of(channel)])


def _partition_schema() -> "pl.Schema":
    """What every file of every tier has."""
    import polars as pl

    return pl.Schema(
        {name: pl.String() if name in ("exchange", "symbol") else pl.Int32() for name in PARTITION_COLUMNS}
    )
