# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, warn-unreachable=False
# mypy: disable-error-code="valid-type,no-any-return,index,assignment"
"""All parts of one symbol's engine, and the one order in which an event goes through them.

Every door (`FeatureEngine.update`, `take`, `update_frame`, a batch's `Run`) ends here; nothing is computed
anywhere else, so their rows are equal bit for bit. A part keeps state of its own and writes columns of its
own; what it needs from another is handed to it here.

    book    hole? ▸ grid ▸ impact.seconds ▸ windows.seconds ▸ flow ▸ rolling ▸ impact.book ▸ windows ▸ bars
            ▸ rebase, when a UTC minute was crossed ▸ write, if a row is due
    delta   depth book ▸ as a book
    trade   gap? ▸ rolling ▸ impact ▸ vpin ▸ bars
    ticker  vpin

Seconds of the grid are finished by books only: whether a stretch was observed is known at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython

from daedalus.features.bars import Bars
from daedalus.features.checkpoint import block, part
from daedalus.features.depthbook import DepthBook
from daedalus.features.flow import Flow
from daedalus.features.grid import Grid
from daedalus.features.impact import Impact
from daedalus.features.levels import Levels, floats, integers
from daedalus.features.measure import Measure
from daedalus.features.moments import WindowsOfBook
from daedalus.features.rolling import Rolling
from daedalus.features.shape import Shape
from daedalus.features.vpin import Vpin

if TYPE_CHECKING:
    from daedalus.features.layout import Layout
    from daedalus.features.params import Params

__all__ = ["Machine", "refuse"]

_AFTER_GAP = cython.declare(cython.longlong, 2)
_COMPLETE = cython.declare(cython.longlong, 256)
_NAN = cython.declare(cython.double, float("nan"))
_DAY_US = cython.declare(cython.longlong, 86_400_000_000)
_MINUTE_US = cython.declare(cython.longlong, 60_000_000)
_LATEST_US = cython.declare(cython.longlong, 1 << 53)  # a float64 holds every time up to here exactly
_FLAGS_END = cython.declare(cython.longlong, 1 << 31)

# What `whole` holds.
_STARTED = cython.declare(cython.Py_ssize_t, 0)  # a book has been seen
_LAST = cython.declare(cython.Py_ssize_t, 1)  # time of the last event, us
_LAST_BOOK = cython.declare(cython.Py_ssize_t, 2)  # time of the last book, us
_BOUNDARY = cython.declare(cython.Py_ssize_t, 3)  # emit interval of the last row
_TRADES = cython.declare(cython.Py_ssize_t, 4)  # the symbol has a trades channel
_LAST_TRADE = cython.declare(cython.Py_ssize_t, 5)  # time of the last trade, us; 0 = none
_MINUTE = cython.declare(cython.Py_ssize_t, 6)  # of the last rebase
_OWED = cython.declare(cython.Py_ssize_t, 7)  # a delta after a gap gave no book: the next book is after a gap
_WHOLE = cython.declare(cython.Py_ssize_t, 8)


def refuse(ts: Any, flags: Any) -> None:
    """Raise ValueError: an event has a time or flags that none can have."""
    if not 0 <= ts <= _LATEST_US:
        raise ValueError(f"cannot update with an event captured at {ts} us: allowed are 0 to 2^53 us")
    raise ValueError(f"cannot update with an event of flags {flags}: allowed are 0 to 2^31 - 1")


@cython.final
@cython.cclass
class Machine:
    """The state of one symbol. `levels` and `row` are scratch: filled before and read after an event."""

    def __init__(self, params: Params, lie: Layout, trades: bool | None) -> None:
        self.params = params
        self.lie = lie
        self.trades_given = trades
        self.width = len(lie.schema.names)
        self.row = floats(self.width)  # as the parts write it: NaN before each row
        for i in range(self.width):
            self.row[i] = _NAN
        self.clock_at = lie.at["clock"]
        self.interval = round(params.emit_interval_s * 1e6)
        self.stale = round(params.max_state_staleness_s * 1e6)
        edges = tuple(float(edge) for edge in params.bands_bps)
        self.levels = Levels()
        self.measure = Measure(self.levels, params.max_levels)
        self.shape = Shape(
            self.levels, self.measure, self.row, params.max_levels, edges, params.smart_depth_k
        )
        self.renew()

    def renew(self) -> None:
        """Forget everything, as if just made."""
        p = self.params
        at = self.lie.at
        spans = tuple(round(h * 1e6) for h in p.horizons_s)
        self.flow = Flow(
            self.levels, self.row, at["flow"], p.ofi_levels, p.ofi_decay_alpha, p.emit_ofi_levels
        )
        self.rolling = Rolling(self.row, at["rolling"], spans)
        self.grid = Grid()
        self.windows = WindowsOfBook(self.row, at.get("windows", -1), p)
        self.impact = Impact(self.row, at.get("impact", -1), p)
        self.vpin = Vpin(self.row, at.get("vpin", -1), p)
        self.bars = Bars(p)
        self.depth = DepthBook(p)
        self.whole = integers(_WHOLE)
        self.whole[_TRADES] = self.trades_given is True
        self.session = None
        self.book_session = None
        self.trade_session = None

    def has_trades(self) -> None:
        """The symbol has a trades channel, unless it was made with a word about that."""
        if self.trades_given is None:
            self.whole[_TRADES] = 1

    @cython.cfunc
    def order(self, ts: cython.longlong, flags: cython.longlong, session: object) -> cython.int:
        """Hold the order of capture. Time runs backwards only into another session: then all starts anew."""
        if ts < 0 or ts > _LATEST_US or flags < 0 or flags >= _FLAGS_END:
            refuse(ts, flags)
        if ts < self.whole[_LAST]:
            if session == self.session:
                last = self.whole[_LAST]
                raise ValueError(
                    f"cannot update with an event captured at {ts} us: the last was at {last} us"
                )
            self.renew()
        if session is not self.session and session != self.session:
            self.session = session
            self.impact.new_session()
        self.whole[_LAST] = ts
        return 0

    @cython.cfunc
    def book(self, ts: cython.longlong, flags: cython.longlong, session: object) -> cython.bint:
        """Take the book in `levels`. True if there is a row in `row`."""
        fresh: cython.bint
        self.order(ts, flags, session)
        fresh = self.book_session is not None and session != self.book_session
        self.book_session = session
        return self.step(ts, flags, fresh)

    @cython.cfunc
    def delta(
        self,
        ts: cython.longlong,
        flags: cython.longlong,
        session: object,
        kind: cython.int,
        bids: bytes,
        asks: bytes,
    ) -> cython.bint:
        """Take a change of the full book (kind 0) or all of it (1). True if there is a row in `row`."""
        fresh: cython.bint
        what: cython.int
        self.order(ts, flags, session)
        fresh = self.book_session is not None and session != self.book_session
        self.book_session = session
        if fresh:  # another session's book is nobody's to change
            flags |= _AFTER_GAP
        what = self.depth.take(kind, flags, bids, asks)
        if what != 1:
            if flags & _AFTER_GAP:
                self.whole[_OWED] = 1
            return False
        if self.whole[_OWED]:
            self.whole[_OWED] = 0
            fresh = True
        self.depth.fill(self.levels)
        return self.step(ts, flags, fresh)

    @cython.cfunc
    def trade(
        self,
        ts: cython.longlong,
        flags: cython.longlong,
        session: object,
        price: cython.double,
        amount: cython.double,
        side: cython.int,
    ) -> cython.int:
        """Take one trade: side 1 buy, -1 sell, 0 unknown. What has no price or no amount is no trade."""
        fresh: cython.bint
        before: cython.longlong
        self.order(ts, flags, session)
        fresh = self.trade_session is not None and session != self.trade_session
        self.trade_session = session
        before = self.whole[_LAST_TRADE]
        self.whole[_LAST_TRADE] = ts
        if (flags & _AFTER_GAP) != 0 or fresh:
            self.impact.trades_gap(before, ts)
            self.vpin.trades_gap(before, ts)
        if not (amount >= 0.0 and amount - amount == 0.0 and price > 0.0 and price - price == 0.0):
            return 0
        if self.trades_given is None:
            self.whole[_TRADES] = 1
        self.rolling.trade(ts, amount, side)
        self.impact.trade(ts, price, amount, side)
        self.vpin.trade(ts, price, amount, side)
        self.bars.trade(ts, price, amount, side)
        return 0

    @cython.cfunc
    def ticker(
        self, ts: cython.longlong, flags: cython.longlong, session: object, base_volume: cython.double
    ) -> cython.int:
        """Take one ticker; its volume is NaN where the exchange tells none."""
        self.order(ts, flags, session)
        self.vpin.ticker(ts, base_volume)
        return 0

    @cython.cfunc
    def step(self, ts: cython.longlong, flags: cython.longlong, fresh: cython.bint) -> cython.bint:
        """Compute: the book in `levels`, captured at `ts`. True if there is a row in `row`."""
        book: Levels = self.levels
        measure: Measure = self.measure
        flow: Flow = self.flow
        ask_0: cython.Py_ssize_t = book.capacity
        before: cython.longlong = self.whole[_LAST_BOOK]
        mid: cython.double = _NAN
        finished: cython.Py_ssize_t
        valid: cython.bint = book.bids > 0 and book.asks > 0 and book.price[0] <= book.price[ask_0]
        emit: cython.bint = True
        if self.whole[_STARTED] == 0:
            self.whole[_STARTED] = 1
            self.whole[_BOUNDARY] = -1
            self.hole(0, ts)
        elif (flags & _AFTER_GAP) != 0 or fresh or ts - before > self.stale:
            flow.forget()
            self.hole(before, ts)
        elif ts - flow.whole[1] > self.stale:
            flow.forget()  # there were books, but none of them was valid
        self.whole[_LAST_BOOK] = ts
        if self.interval > 0:
            emit = ts // self.interval > self.whole[_BOUNDARY]
            if emit:
                self.whole[_BOUNDARY] = ts // self.interval
        if valid:
            mid = (book.price[0] + book.price[ask_0]) / 2.0
        measure.take(mid, valid, (flags & _COMPLETE) != 0)
        finished = self.grid.book(ts, valid, mid)
        if finished > 0:
            self.impact.seconds(self.grid, finished)
            self.windows.seconds(self.grid, finished)
        if valid:
            flow.step(ts, mid)
        else:
            flow.clear()
        self.rolling.step(ts, valid, mid, flow)
        self.impact.book(ts, valid, mid, flow.ofi)
        self.windows.step(ts, valid, measure)
        self.bars.book(ts, valid, mid, measure.spread, measure.imbalance, flow.ofi, self.grid, finished)
        if ts // _MINUTE_US != self.whole[_MINUTE]:
            self.whole[_MINUTE] = ts // _MINUTE_US
            self.rebase()
        if not emit:
            return False
        self.shape.write(mid, valid, (flags & _COMPLETE) != 0)
        flow.write()
        self.rolling.write(ts, valid, mid, self.whole[_TRADES] != 0)
        self.windows.write(ts, valid, self.grid, self.rolling)
        self.impact.write(ts, valid)
        self.vpin.write()
        self.write_clock(ts)
        return True

    @cython.cfunc
    def hole(self, start: cython.longlong, end: cython.longlong) -> cython.int:
        """Tell every part that (start, end] was not observed; start 0: nothing was, before `end`."""
        self.rolling.hole(start, end)
        self.grid.hole(start, end)
        self.windows.hole(start, end)
        self.impact.hole(start, end)
        self.bars.hole(start, end)
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum every window anew: a run that began later has the same bits from here on."""
        self.rolling.rebase()
        self.windows.rebase()
        self.impact.rebase()
        return 0

    @cython.cfunc
    def write_clock(self, ts: cython.longlong) -> cython.int:
        """Write the columns of the UTC calendar."""
        c: cython.Py_ssize_t = self.clock_at
        second: cython.longlong = ts % _DAY_US // 1_000_000
        weekday: cython.longlong = (ts // _DAY_US + 3) % 7  # 1970-01-01 was a Thursday
        self.row[c] = second // 3600
        self.row[c + 1] = second % 3600 // 60
        self.row[c + 2] = weekday
        self.row[c + 3] = 1.0 if weekday >= 5 else 0.0
        return 0

    def dump(self) -> list[Any]:
        """Return all state."""
        return [
            [bytes(self.whole), self.session, self.book_session, self.trade_session],
            self.flow.dump(),
            self.rolling.dump(),
            self.grid.dump(),
            self.windows.dump(),
            self.impact.dump(),
            self.vpin.dump(),
            self.bars.dump(),
            self.depth.dump(),
        ]

    def load(self, state: object) -> None:
        """Take over what `dump` returned.

        Raises:
            ValueError: it is not that. The machine is of no use then: load into a new one.
        """
        parts = part(state, 9)
        head = part(parts[0], 4)
        whole: cython.longlong[::1] = block(head[0], "q", _WHOLE)
        latest: cython.longlong = whole[_LAST]
        i: cython.Py_ssize_t
        if not 0 <= latest <= _LATEST_US:
            raise ValueError(f"cannot restore the engine: its last event was captured at {latest} us")
        for i in (_LAST_BOOK, _LAST_TRADE, _BOUNDARY, _MINUTE):
            if not (-1 if i == _BOUNDARY else 0) <= whole[i] <= latest:
                raise ValueError(f"cannot restore the engine: value {i} is {whole[i]}, beyond {latest} us")
        for i in (_STARTED, _TRADES, _OWED):
            if not 0 <= whole[i] <= 1:
                raise ValueError(f"cannot restore the engine: value {i} is {whole[i]}, allowed are 0 and 1")
        for session in head[1:]:
            if session is not None and not isinstance(session, str):
                raise ValueError(f"cannot restore the engine: a session is {type(session).__name__}, no text")
        self.whole = whole
        self.session, self.book_session, self.trade_session = head[1:]
        self.flow.load(parts[1], latest)
        self.rolling.load(parts[2], latest)
        for blocks in parts[3:]:
            if not isinstance(blocks, list) or not all(isinstance(b, bytes) for b in blocks):
                raise ValueError("cannot restore the engine: the state of a part is no list of blocks")
        self.grid.load(parts[3])
        self.windows.load(parts[4])
        self.impact.load(parts[5])
        self.vpin.load(parts[6])
        self.bars.load(parts[7])
        self.depth.load(parts[8])
