# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, warn-unreachable=False
# mypy: disable-error-code="valid-type,no-any-return,index,assignment"
"""One pass of an engine over tables: books (or changes), trades and tickers in capture order, rows collected.

A friend of the engine: it calls the same methods of its `Machine` that single records go through. Capture
order is that of the sessions, and of the times within one: a clock that was set back began a new session, and
its times say nothing about the one before. At equal times trades come first, then tickers, then books.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cython

from daedalus.features.arrow import ranks
from daedalus.features.levels import Levels, floats, integers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from daedalus.features.arrow import BookColumns, Columns, TickerColumns, TradeColumns
    from daedalus.features.machine import Machine

__all__ = ["Cursor", "Rows", "Run"]

_BACKFILLED = cython.declare(cython.longlong, 128)
_NAN = cython.declare(cython.double, float("nan"))
_FOREVER = cython.declare(cython.longlong, 0x7FFFFFFFFFFFFFFF)


class Rows(NamedTuple):
    """What a batch emitted. All are memoryviews; NumPy and polars take them without a copy."""

    ts_us: memoryview  # int64, capture time
    values: memoryview  # float64, (rows, columns); NaN = null
    index: memoryview  # int64, the row's number in the table of books or of depth
    flags: memoryview  # int64, of the update


@cython.final
@cython.cclass
class Cursor:
    """A place in one stream: the row it stands on, and when that comes. Beyond the end it never comes."""

    def __init__(self, batches: Sequence[Columns], order: dict[str | None, int]) -> None:
        self.batches = iter(batches)
        self.order = order
        self.at = -1
        self.end = 0
        self.rank = self.ts = -1

    @cython.cfunc
    def next(self) -> cython.bint:
        """Go on to the next row. True if it is the first of a batch, or there is none."""
        first: cython.bint = False
        self.at += 1
        if self.at >= self.end:
            columns = next(self.batches, None)
            self.columns = columns
            if columns is None:
                self.rank = self.ts = _FOREVER
                return True
            self.times = columns.ts_us
            self.flagged = columns.flags
            self.codes = columns.session
            self.names = columns.sessions
            self.code = -2
            self.at = 0
            self.end = self.times.shape[0]
            first = True
        self.ts = self.times[self.at]
        self.flags = self.flagged[self.at]
        if self.codes[self.at] != self.code:
            self.code = self.codes[self.at]
            self.session = self.names[self.code]
            self.rank = self.order[self.session]
        return first


@cython.final
@cython.cclass
class Run:
    """One pass over tables: where it stands in each stream, and the rows so far."""

    def __init__(
        self,
        machine: Machine,
        books: list[BookColumns],
        trades: list[TradeColumns],
        tickers: list[TickerColumns],
        out: Buffer | None,
    ) -> None:
        order = ranks([books, trades, tickers])
        most = sum(len(columns.ts_us) for columns in books)
        self.machine = machine
        self.books = Cursor(books, order)
        self.trades = Cursor(trades, order)
        self.tickers = Cursor(tickers, order)
        self.changes = any(columns.whole is not None for columns in books)
        self.width = machine.width
        self.row = machine.row
        self.scratch = floats(128)
        if out is not None:
            self.values = memoryview(out).cast("B").cast("d")
            if self.values.shape[0] < most * self.width:
                raise ValueError(
                    f"cannot write up to {most} rows of {self.width} values into {self.values.shape[0]}"
                )
            self.capacity = most
        else:
            self.capacity = min(most, 1024)
            self.values = floats(self.capacity * self.width)
        self.ts = integers(self.capacity)
        self.index = integers(self.capacity)
        self.flags = integers(self.capacity)
        self.count = 0
        self.number = 0

    def pass_over(self) -> Rows:
        """Feed all of it; return what was emitted."""
        emitted: cython.bint
        books: Cursor = self.books
        self.open_trades()
        self.open_tickers()
        self.open_books()
        while books.ts != _FOREVER:
            if not books.flags & _BACKFILLED or books.flags < 0:
                self.others_until(books.rank, books.ts)
                emitted = self.feed_change() if self.changes else self.feed_book()
                if emitted:
                    self.keep()
            self.number += 1
            self.open_books()
        self.others_until(_FOREVER, _FOREVER - 1)
        return self.rows()

    @cython.cfunc
    def open_books(self) -> cython.int:
        """Go on to the next row of books."""
        if self.books.next() and self.books.columns is not None:
            columns: Any = self.books.columns
            self.bid_offsets = columns.bid_offsets
            self.ask_offsets = columns.ask_offsets
            self.bid_prices = columns.bid_prices
            self.bid_sizes = columns.bid_sizes
            self.ask_prices = columns.ask_prices
            self.ask_sizes = columns.ask_sizes
            if columns.whole is not None:
                self.whole = columns.whole
        return 0

    @cython.cfunc
    def open_trades(self) -> cython.int:
        """Go on to the next trade."""
        if self.trades.next() and self.trades.columns is not None:
            columns: Any = self.trades.columns
            self.price = columns.price
            self.amount = columns.amount
            self.side = columns.side
        return 0

    @cython.cfunc
    def open_tickers(self) -> cython.int:
        """Go on to the next ticker."""
        if self.tickers.next() and self.tickers.columns is not None:
            columns: Any = self.tickers.columns
            self.base_volume = columns.base_volume
        return 0

    @cython.cfunc
    def others_until(self, rank: cython.longlong, ts: cython.longlong) -> cython.int:
        """Feed the trades and tickers captured before the place of a book, in their order."""
        t: Cursor = self.trades
        k: Cursor = self.tickers
        while True:
            if t.rank < k.rank or (t.rank == k.rank and t.ts <= k.ts):
                if t.rank > rank or (t.rank == rank and t.ts > ts):
                    return 0
                self.feed_trade()
            else:
                if k.rank > rank or (k.rank == rank and k.ts > ts):
                    return 0
                self.feed_ticker()

    @cython.cfunc
    def feed_trade(self) -> cython.int:
        """Feed a trade, go on to the next."""
        t: Cursor = self.trades
        if not t.flags & _BACKFILLED or t.flags < 0:
            self.machine.trade(
                t.ts,
                t.flags,
                t.session,
                self.price[t.at],
                self.amount[t.at],
                cython.cast(cython.int, self.side[t.at]),
            )
        self.open_trades()
        return 0

    @cython.cfunc
    def feed_ticker(self) -> cython.int:
        """Feed a ticker, go on to the next."""
        k: Cursor = self.tickers
        if not k.flags & _BACKFILLED or k.flags < 0:
            self.machine.ticker(k.ts, k.flags, k.session, self.base_volume[k.at])
        self.open_tickers()
        return 0

    @cython.cfunc
    def feed_book(self) -> cython.bint:
        """Feed a book. True if there is a row."""
        books: Cursor = self.books
        levels: Levels = self.machine.levels
        b: cython.Py_ssize_t = self.bid_offsets[books.at]
        a: cython.Py_ssize_t = self.ask_offsets[books.at]
        bids: cython.Py_ssize_t = self.bid_offsets[books.at + 1] - b
        asks: cython.Py_ssize_t = self.ask_offsets[books.at + 1] - a
        levels.reserve(bids if bids > asks else asks)
        levels.split(0, self.bid_prices, b, self.bid_sizes, b, bids)
        levels.split(1, self.ask_prices, a, self.ask_sizes, a, asks)
        return self.machine.book(books.ts, books.flags, books.session)

    @cython.cfunc
    def feed_change(self) -> cython.bint:
        """Feed a change of the full book, or all of it. True if there is a row."""
        books: Cursor = self.books
        b: cython.Py_ssize_t = self.bid_offsets[books.at]
        a: cython.Py_ssize_t = self.ask_offsets[books.at]
        return self.machine.delta(
            books.ts,
            books.flags,
            books.session,
            cython.cast(cython.int, self.whole[books.at]),
            self.packed(self.bid_prices, self.bid_sizes, b, self.bid_offsets[books.at + 1] - b),
            self.packed(self.ask_prices, self.ask_sizes, a, self.ask_offsets[books.at + 1] - a),
        )

    @cython.cfunc
    def packed(
        self,
        prices: cython.const[cython.double][::1],
        sizes: cython.const[cython.double][::1],
        at: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
    ) -> bytes:
        """Return levels as a record has them: pairs of price and size."""
        i: cython.Py_ssize_t
        if 2 * count > self.scratch.shape[0]:
            self.scratch = floats(4 * count)
        for i in range(count):
            self.scratch[2 * i] = prices[at + i]
            self.scratch[2 * i + 1] = sizes[at + i]
        return bytes(memoryview(self.scratch)[: 2 * count])

    @cython.cfunc
    def keep(self) -> cython.int:
        """Add the engine's row, as its `_emitted` does, but straight to where it stays."""
        x: cython.double
        at: cython.Py_ssize_t
        i: cython.Py_ssize_t
        if self.count == self.capacity:
            self.grow()
        at = self.count * self.width
        for i in range(self.width):
            x = self.row[i]
            self.values[at + i] = x if x - x == 0.0 else _NAN
            self.row[i] = _NAN
        self.ts[self.count] = self.books.ts
        self.index[self.count] = self.number
        self.flags[self.count] = self.books.flags
        self.count += 1
        return 0

    @cython.cfunc
    def grow(self) -> cython.int:
        """Double the room for rows."""
        self.capacity *= 2
        values = floats(self.capacity * self.width)
        ts = integers(self.capacity)
        index = integers(self.capacity)
        flags = integers(self.capacity)
        values[: self.count * self.width] = memoryview(self.values)
        ts[: self.count] = memoryview(self.ts)
        index[: self.count] = memoryview(self.index)
        self.values = values
        self.ts = ts
        self.index = index
        flags[: self.count] = memoryview(self.flags)
        self.flags = flags
        return 0

    @cython.cfunc
    def rows(self) -> object:
        """Return what was emitted."""
        n: cython.Py_ssize_t = self.count
        values = memoryview(self.values)[: n * self.width]
        if n > 0:
            values = values.cast("B").cast("d", (n, self.width))
        return Rows(memoryview(self.ts)[:n], values, memoryview(self.index)[:n], memoryview(self.flags)[:n])
