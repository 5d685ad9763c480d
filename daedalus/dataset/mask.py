"""Gaps for research: which were open in a stretch of time, and which rows lie in one.

The gaps table is partitioned by the hour in which a gap began. A question about a stretch of time has to
find those that began long before and reach into it: that is what `gaps` adds to `scan(data, "gaps")`.
"""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from daedalus.dataset.scan import Instant, instant, scan

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MARK", "gaps", "mark"]

MARK = "in_gap"


def gaps(
    data: str | Path,
    channel: str | None = None,
    *,
    source: str | None = None,
    exchange: str | None = None,
    symbol: str | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
) -> "pl.LazyFrame":
    """Return the gap rows that overlap [start, end), by `started_at`, lazily.

    Args:
        data: the data directory.
        channel: of this channel's streams; None = all.
        source: ccxt or native; None = all.
        exchange: name of the exchange; None = all.
        symbol: in either spelling; None = all.
        start: inclusive: datetime, date or ISO text; UTC unless it says otherwise.
        end: exclusive.

    Returns:
        The columns of the gaps table: docs/formats.md. A gap of length 0 belongs to the instant it names.

    Raises:
        FileNotFoundError, TypeError, ValueError: as `scan`.
    """
    import polars as pl

    frame = scan(data, "gaps", source=source, exchange=exchange, symbol=symbol, end=end)
    if channel is not None:
        frame = frame.filter(pl.col("channel") == channel)
    if start is not None:
        first = instant(start)
        frame = frame.filter((pl.col("ended_at") > first) | (pl.col("started_at") >= first))
    return frame.sort("started_at")


def mark(frame: "pl.LazyFrame", found: "pl.DataFrame", time: str) -> "pl.LazyFrame":
    """Return the rows with a boolean column `in_gap`: whether a gap of their stream was open at their time.

    A gap begins with the last good row before it and ends with the first behind it: neither lies in it, nor
    does anything in a gap of length 0.

    Args:
        frame: has the columns exchange, symbol and `time`.
        found: gap rows, all of the frame's channel.
        time: the column that says when a row was captured.
    """
    import polars as pl

    open_at = pl.lit(value=False)
    for (exchange, symbol), spells in _spells(found).items():
        starts = pl.Series([start for start, _ in spells], dtype=pl.Int64)
        ends = pl.Series([-1, *(end for _, end in spells)], dtype=pl.Int64)
        at = pl.col(time).dt.timestamp("us")
        latest = pl.lit(starts).search_sorted(at, side="left")  # how many began before
        inside = pl.lit(ends).gather(latest) > at
        open_at |= (pl.col("exchange") == exchange) & (pl.col("symbol") == symbol) & inside
    return frame.with_columns(open_at.alias(MARK))


def _spells(found: "pl.DataFrame") -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Return the merged stretches of each (exchange, symbol), µs UTC, in order.

    Stretches that only touch stay two: a row between them is the first good one and the last.
    """
    import polars as pl

    rows = (
        found.select("exchange", "symbol", pl.col("started_at", "ended_at").dt.timestamp("us"))
        .sort("exchange", "symbol", "started_at")
        .iter_rows()
    )
    merged: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for (exchange, symbol), spells in groupby(rows, key=lambda row: (row[0], row[1])):
        stretches = merged.setdefault((exchange, symbol), [])
        for _, _, start, end in spells:
            if start == end:
                continue
            if stretches and start < stretches[-1][1]:
                stretches[-1] = (stretches[-1][0], max(end, stretches[-1][1]))
            else:
                stretches.append((start, end))
    return merged
