"""The full book at every stored change: rows of the channel `depth` back to books.

The rule is short. A "snapshot" is the whole book. An "update" sets each of its levels to its size, and 0
takes the level away. It holds only for a row that follows the one before without a hole: the same session,
the next number, no flag that a gap lies between. After a hole nothing is known until the next snapshot.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from daedalus.records import Depth, Flag, unpack_side

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Book", "rebuild"]

_PARTITION = ("exchange", "symbol", "year", "month", "day", "hour")
_COLUMNS = (
    *("exchange", "symbol", "capture_ts", "timestamp", "nonce", "kind", "bids", "asks"),
    *("seq", "session_id", "flags"),
)

Level = tuple[float, float]


class Book(NamedTuple):
    """A book after one change. Sides are (price, size), best first; they are never changed afterwards."""

    exchange: str
    symbol: str
    capture_ts: datetime | int  # UTC; of records: ns
    timestamp: int | None  # ms, the exchange's
    nonce: int | None  # the exchange's update id
    seq: int
    session_id: str
    flags: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class _Side:
    """One side of a book: prices in order, and the size of each."""

    __slots__ = ("_prices", "_reverse", "_sizes")

    def __init__(self, *, reverse: bool) -> None:
        self._reverse = reverse  # bids: the best is the highest
        self._prices: list[float] = []
        self._sizes: dict[float, float] = {}

    def fill(self, levels: Iterable[Level]) -> None:
        self._sizes = {price: size for price, size in dict(levels).items() if size}
        self._prices = sorted(self._sizes)

    def change(self, levels: Iterable[Level]) -> None:
        for price, size in levels:
            there = price in self._sizes
            if size:
                if not there:
                    insort(self._prices, price)
                self._sizes[price] = size
            elif there:
                del self._sizes[price]
                del self._prices[bisect_left(self._prices, price)]

    def top(self, levels: int | None) -> tuple[Level, ...]:
        count = len(self._prices) if levels is None else levels
        if self._reverse:
            best = reversed(self._prices[max(0, len(self._prices) - count) :])
            return tuple((price, self._sizes[price]) for price in best)
        return tuple((price, self._sizes[price]) for price in self._prices[:count])


class _State:
    """What is known of one stream."""

    def __init__(self) -> None:
        self.bids, self.asks = _Side(reverse=True), _Side(reverse=False)
        self.valid = False
        self.last = ("", 0)  # session, seq

    def take(self, row: Mapping[str, Any]) -> bool:
        """Apply a row; return whether the book is known after it."""
        session, seq = self.last
        follows = (row["session_id"], row["seq"]) == (session, seq + 1)
        self.last = (row["session_id"], row["seq"])
        if row["kind"] == "snapshot":
            self.bids.fill(_levels(row["bids"]))
            self.asks.fill(_levels(row["asks"]))
            self.valid = True
        elif row["kind"] != "update":
            raise ValueError(
                f"cannot rebuild a book: a row of depth is a snapshot or an update, not {row['kind']!r}"
            )
        elif self.valid and follows and not (row["flags"] or 0) & Flag.AFTER_GAP:
            self.bids.change(_levels(row["bids"]))
            self.asks.change(_levels(row["asks"]))
        else:
            self.valid = False
        return self.valid


def rebuild(
    rows: "pl.DataFrame | pl.LazyFrame | Iterable[Mapping[str, Any] | Depth]", levels: int | None = None
) -> Iterator[Book]:
    """Yield the book after every row of depth at which it is known.

    Args:
        rows: of `daedalus.scan(data, "depth", …)`, of one or several symbols, read hour by hour; or rows as
            mappings, or records, in the order of their capture.
        levels: how many of each side to give; None: all. The whole book is kept either way.

    Yields:
        Books, by exchange, symbol and time. Rows whose book is not known (before the first snapshot, and
        between a hole and the next snapshot) give none.

    Raises:
        ValueError: levels under 1, or a row that is neither snapshot nor update.
    """
    if levels is not None and levels < 1:
        raise ValueError(f"cannot rebuild books of {levels} levels: at least 1, or None for all")
    return _books(rows, levels)


def _books(rows: Any, levels: int | None) -> Iterator[Book]:
    states: dict[tuple[str, str], _State] = {}
    for row in _rows(rows):
        key = (row["exchange"], row["symbol"])
        state = states.get(key)
        if state is None:
            state = states[key] = _State()
        if state.take(row):
            yield Book(
                *key,
                row["capture_ts"],
                row["timestamp"],
                row["nonce"],
                row["seq"],
                row["session_id"],
                row["flags"] or 0,
                state.bids.top(levels),
                state.asks.top(levels),
            )


def _rows(rows: Any) -> Iterator[Mapping[str, Any]]:
    if hasattr(rows, "lazy"):  # a DataFrame; a LazyFrame is its own
        yield from _by_hour(rows.lazy())
        return
    for row in rows:
        yield _of_record(row) if isinstance(row, Depth) else row


def _by_hour(frame: "pl.LazyFrame") -> Iterator[dict[str, Any]]:
    import polars as pl

    hours = frame.select(_PARTITION).unique().sort(_PARTITION).collect()
    for values in hours.iter_rows(named=True):
        same = [pl.col(name) == value for name, value in values.items()]
        # Sessions overlap where the clock stepped back: one after the other, each by its own numbers.
        began = pl.col("capture_ts").min().over("session_id").alias("began")
        hour = frame.filter(*same).select(_COLUMNS).with_columns(began).sort("began", "session_id", "seq")
        yield from hour.collect().iter_rows(named=True)


def _of_record(record: Depth) -> dict[str, Any]:
    ts_event = record.ts_event
    return {
        "exchange": record.exchange,
        "symbol": record.symbol,
        "capture_ts": record.ts_recv,
        "timestamp": None if ts_event is None else ts_event // 1_000_000,
        **{
            name: getattr(record, name)
            for name in ("nonce", "kind", "bids", "asks", "seq", "session_id", "flags")
        },
    }


def _levels(side: Any) -> Iterable[Level]:
    if isinstance(side, bytes):
        return unpack_side(side)
    return [
        (level["price"], level["size"]) if isinstance(level, Mapping) else (level[0], level[1])
        for level in side or ()
    ]
