# cython: language_level=3
# ruff: noqa: ERA001, SLF001
# mypy: disallow-untyped-decorators=False, warn-unreachable=False
# mypy: disable-error-code="valid-type,no-any-return,index,assignment"
"""One pass of an engine over tables: trades merged into books by capture time, emitted rows collected.

A friend of the engine: it calls the same methods of its `Machine` that single records go through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cython

from daedalus.features.levels import Levels, floats, integers

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from daedalus.features.arrow import BookColumns, TradeColumns
    from daedalus.features.engine import FeatureEngine
    from daedalus.features.machine import Machine

__all__ = ["Rows", "Run"]

_BACKFILLED = cython.declare(cython.longlong, 128)
_NAN = cython.declare(cython.double, float("nan"))
_FOREVER = cython.declare(cython.longlong, 0x7FFFFFFFFFFFFFFF)


class Rows(NamedTuple):
    """What a batch emitted. All are memoryviews; NumPy and polars take them without a copy."""

    ts_us: memoryview  # int64, capture time
    values: memoryview  # float64, (rows, columns); NaN = null
    index: memoryview  # int64, the row's number in the order book table


@cython.final
@cython.cclass
class Run:
    """One pass over tables: the cursor in the trades, and the rows so far."""

    def __init__(
        self, engine: FeatureEngine, tape: list[TradeColumns], out: Buffer | None, most: int
    ) -> None:
        self.tape = iter(tape)
        self.trade_count = 0
        self.trade = 0
        self.machine = engine._machine
        self.width = engine._width
        self.row = self.machine.row
        self.given = out is not None
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
        self.count = 0
        self.number = 0

    def pass_over(self, books: list[BookColumns]) -> Rows:
        """Feed all of it; return what was emitted."""
        for columns in books:
            self.books(columns)
        self.trades_until(_FOREVER)
        return self.rows()

    @cython.cfunc
    def trades_until(self, ts: cython.longlong) -> cython.int:
        """Feed the trades captured at `ts` or before."""
        while True:
            while self.trade >= self.trade_count:
                columns = next(self.tape, None)
                if columns is None:
                    return 0
                self.trade_ts = columns.ts_us
                self.price = columns.price
                self.amount = columns.amount
                self.side = columns.side
                self.trade_flags = columns.flags
                self.trade_session = columns.session
                self.session_names = columns.sessions
                self.trade_count = self.trade_ts.shape[0]
                self.trade = 0
                self.session_code = -2
            if self.trade_ts[self.trade] > ts:
                return 0
            if not self.trade_flags[self.trade] & _BACKFILLED or self.trade_flags[self.trade] < 0:
                if self.trade_session[self.trade] != self.session_code:
                    self.session_code = self.trade_session[self.trade]
                    self.session = self.session_names[self.session_code]
                self.machine.trade(
                    self.trade_ts[self.trade],
                    self.trade_flags[self.trade],
                    self.session,
                    self.price[self.trade],
                    self.amount[self.trade],
                    cython.cast(cython.int, self.side[self.trade]),
                )
            self.trade += 1

    @cython.cfunc
    def books(self, columns: BookColumns) -> cython.int:
        """Feed a batch of books, each behind the trades captured before it."""
        machine: Machine = self.machine
        levels: Levels = machine.levels
        ts: cython.const[cython.longlong][::1] = columns.ts_us
        flags: cython.const[cython.longlong][::1] = columns.flags
        sessions: cython.const[cython.longlong][::1] = columns.session
        bid_offsets: cython.const[cython.longlong][::1] = columns.bid_offsets
        ask_offsets: cython.const[cython.longlong][::1] = columns.ask_offsets
        bid_prices: cython.const[cython.double][::1] = columns.bid_prices
        bid_sizes: cython.const[cython.double][::1] = columns.bid_sizes
        ask_prices: cython.const[cython.double][::1] = columns.ask_prices
        ask_sizes: cython.const[cython.double][::1] = columns.ask_sizes
        code: cython.longlong = -2
        session: object = None
        i: cython.Py_ssize_t
        b: cython.Py_ssize_t
        a: cython.Py_ssize_t
        bids: cython.Py_ssize_t
        asks: cython.Py_ssize_t
        for i in range(ts.shape[0]):
            if not flags[i] & _BACKFILLED or flags[i] < 0:
                self.trades_until(ts[i])
                if sessions[i] != code:
                    code = sessions[i]
                    session = columns.sessions[code]
                b = bid_offsets[i]
                a = ask_offsets[i]
                bids = bid_offsets[i + 1] - b
                asks = ask_offsets[i + 1] - a
                levels.reserve(bids if bids > asks else asks)
                levels.split(0, bid_prices, b, bid_sizes, b, bids)
                levels.split(1, ask_prices, a, ask_sizes, a, asks)
                if machine.book(ts[i], flags[i], session):
                    self.keep(ts[i])
            self.number += 1
        return 0

    @cython.cfunc
    def keep(self, ts: cython.longlong) -> cython.int:
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
        self.ts[self.count] = ts
        self.index[self.count] = self.number
        self.count += 1
        return 0

    @cython.cfunc
    def grow(self) -> cython.int:
        """Double the room for rows."""
        self.capacity *= 2
        values = floats(self.capacity * self.width)
        ts = integers(self.capacity)
        index = integers(self.capacity)
        values[: self.count * self.width] = memoryview(self.values)
        ts[: self.count] = memoryview(self.ts)
        index[: self.count] = memoryview(self.index)
        self.values = values
        self.ts = ts
        self.index = index
        return 0

    @cython.cfunc
    def rows(self) -> object:
        """Return what was emitted."""
        n: cython.Py_ssize_t = self.count
        values = memoryview(self.values)[: n * self.width]
        if n > 0:
            values = values.cast("B").cast("d", (n, self.width))
        return Rows(memoryview(self.ts)[:n], values, memoryview(self.index)[:n])
