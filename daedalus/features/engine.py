# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, warn-unreachable=False
# mypy: disable-error-code="valid-type,no-any-return,index,assignment"
"""The feature engine: one per symbol, the same for live, watcher and batch.

A pure function of (state, event): no clock, no randomness, no I/O. `_step` is the only place that computes;
`update`, `update_frame` and `update_batch` only differ in where the levels come from. So their rows are equal
bit for bit, and a run resumed from `snapshot` equals one that was never interrupted.

    event ─▶ Levels ─▶ _step: gap? valid? ─▶ Flow (delta) ─▶ Rolling (windows) ─▶ Shape (if emitted) ─▶ row
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython

from daedalus.features.arrow import book_batches, rows_of, trade_batches
from daedalus.features.checkpoint import block, open_sealed, seal
from daedalus.features.flow import Flow
from daedalus.features.layout import layout
from daedalus.features.levels import Levels, floats, integers
from daedalus.features.params import Params, fingerprint, parse
from daedalus.features.rolling import Rolling
from daedalus.features.shape import Shape
from daedalus.records import BookSnapshot, Gap, Ticker, Trade

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from daedalus.features.run import Rows

__all__ = ["FeatureEngine"]

_AFTER_GAP = cython.declare(cython.longlong, 2)
_BACKFILLED = cython.declare(cython.longlong, 128)
_COMPLETE = cython.declare(cython.longlong, 256)
_NAN = cython.declare(cython.double, float("nan"))
_DAY_US = cython.declare(cython.longlong, 86_400_000_000)
_HEAD = cython.declare(cython.Py_ssize_t, 4)  # values before the levels of a frame

# What `_whole` holds.
_STARTED = cython.declare(cython.Py_ssize_t, 0)  # a book has been seen
_LAST = cython.declare(cython.Py_ssize_t, 1)  # time of the last event, us
_LAST_BOOK = cython.declare(cython.Py_ssize_t, 2)  # time of the last book, us
_BOUNDARY = cython.declare(cython.Py_ssize_t, 3)  # emit interval of the last row
_TRADES = cython.declare(cython.Py_ssize_t, 4)  # the symbol has a trades channel


@cython.final
@cython.cclass
class FeatureEngine:
    """Turns the records of one (exchange, symbol) into rows of features.

    Args:
        params: `[features]` by key; missing keys have their defaults.
        trades: whether the symbol's trades channel is collected: without it the columns of trades are null,
            with it 0 while there are none. None: learned from the first trade, or from `update_batch`.

    Raises:
        ValueError: a parameter is unknown or out of bounds (see `params.parse`).
    """

    def __init__(self, params: dict[str, object] | Params | None = None, trades: bool | None = None) -> None:
        p: Params = parse(params)
        self.params = p
        lie = layout(p)
        self.schema = lie.schema
        self._trades_given = trades
        self._width = len(self.schema.names)
        self._row = floats(self._width)  # as the parts write it: NaN before each row
        self._clean = floats(self._width)  # as it leaves: no infinities
        self._clean_bytes = memoryview(self._clean).cast("B")
        spans = tuple(round(h * 1e6) for h in p.horizons_s)
        edges = tuple(float(edge) for edge in p.bands_bps)
        self._levels = Levels()
        self._shape = Shape(self._levels, self._row, p.max_levels, edges, p.smart_depth_k)
        self._flow = Flow(
            self._levels, self._row, lie.flow, p.ofi_levels, p.ofi_decay_alpha, p.emit_ofi_levels
        )
        self._spans = spans
        self._rolling_at = lie.rolling
        self._clock_at = lie.clock
        self._longest = spans[len(spans) - 1]
        self._interval = round(p.emit_interval_s * 1e6)
        self._stale = round(p.max_state_staleness_s * 1e6)
        self._whole = integers(5)
        self._session = None
        self._book_session = None
        for i in range(self._width):
            self._row[i] = _NAN
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if just made."""
        self._rolling = Rolling(self._row, self._rolling_at, self._spans)
        self._flow.forget()
        for i in range(5):
            self._whole[i] = 0
        self._whole[_TRADES] = self._trades_given is True
        self._session = None
        self._book_session = None

    def update(self, record: Any) -> memoryview[float] | None:
        """Take one record; return the row if one is emitted.

        Args:
            record: BookSnapshot, Trade, Ticker or Gap of `daedalus.records`, in the order of capture. Only a
                book emits; backfilled records and gaps change nothing.

        Returns:
            A float64 row of its own (`schema.names` says what is where; NaN = no value), or None.

        Raises:
            TypeError: not a record.
            ValueError: captured before the last event of the same session.
        """
        kind = type(record)
        ts: cython.longlong
        flags: cython.longlong
        side: cython.int
        if kind is BookSnapshot:
            flags = record.flags
            if flags & _BACKFILLED:
                return None
            ts = record.ts_recv // 1000
            return self._book(ts, flags, record.session_id, record.bids, record.asks)
        if kind is Trade:
            flags = record.flags
            if flags & _BACKFILLED:
                return None
            ts = record.ts_recv // 1000
            side = 0
            if record.side == "buy":
                side = 1
            elif record.side == "sell":
                side = -1
            self._order(ts, record.session_id)
            self._trade(ts, record.amount, side)
            return None
        if kind is Ticker or kind is Gap:
            return None
        raise TypeError(f"cannot update with {kind.__name__}: it is no market record")

    def update_frame(self, frame: Buffer) -> memoryview[float] | None:
        """Take a book as one float64 buffer; return the row if one is emitted.

        Args:
            frame: ts_us, flags, n_bids, n_asks, bid prices, bid sizes, ask prices, ask sizes; best first.
                A frame has no session; mark the first one of a new session with bit 2.

        Raises:
            ValueError: the length is not 4 + 2 n_bids + 2 n_asks, or captured before the last event.
        """
        values: cython.const[cython.double][::1] = frame if cython.compiled else memoryview(frame)
        n: cython.Py_ssize_t = values.shape[0]
        if n < _HEAD:
            raise ValueError(f"cannot read a frame of {n} values: its head alone takes 4")
        bids: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, values[2])
        asks: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, values[3])
        if bids < 0 or asks < 0 or bids > n or asks > n or n != _HEAD + 2 * bids + 2 * asks:
            raise ValueError(f"cannot read a frame of {n} values: {bids} bids and {asks} asks do not fill it")
        ts: cython.longlong = cython.cast(cython.longlong, values[0])
        flags: cython.longlong = cython.cast(cython.longlong, values[1])
        if flags & _BACKFILLED:
            return None
        self._order(ts, self._session)
        book: Levels = self._levels
        book.reserve(bids if bids > asks else asks)
        book.split(0, values, _HEAD, values, _HEAD + bids, bids)
        book.split(1, values, _HEAD + 2 * bids, values, _HEAD + 2 * bids + asks, asks)
        if self._step(ts, flags, False):
            return self._emitted()
        return None

    def update_batch(
        self,
        orderbook: object = None,
        trades: object = None,
        ticker: object = None,
        out: Buffer | None = None,
    ) -> Rows:
        """Take whole tables, merged by capture time; return the rows that are emitted.

        Args:
            orderbook: pyarrow Table or RecordBatch in bronze columns, in order of capture.
            trades: the same of trades. None leaves open whether there is a trades channel; an empty table
                says there is one.
            ticker: the same of tickers; no column of this schema depends on it yet.
            out: writable float64 buffer for the values, at least order book rows x columns long. Without it
                the memory is allocated as rows come.

        Raises:
            ValueError: a column is missing or of another type, nulls where there may be none, times that run
                backwards within a session, or `out` too short.
        """
        del ticker
        from daedalus.features.run import Run  # it knows the engine, which cannot know it first

        books = book_batches(orderbook)
        tape = trade_batches(trades)
        if trades is not None and self._trades_given is None:
            self._whole[_TRADES] = 1
        rows: Rows = Run(self, tape, out, rows_of(books)).pass_over(books)
        return rows

    def snapshot(self) -> bytes:
        """Return all state, to be given to `restore` of an engine with the same parameters."""
        state = [
            [bytes(self._whole), self._session, self._book_session],
            self._flow.dump(),
            self._rolling.dump(),
        ]
        return seal(self.schema.id, fingerprint(self.params), state)

    def restore(self, blob: bytes) -> None:
        """Continue where `snapshot` was taken.

        Raises:
            ValueError: not a checkpoint, damaged, or of another schema or other parameters. The engine stays
                as it was.
        """
        head: Any
        flow_state: Any
        rolling_state: Any
        head, flow_state, rolling_state = open_sealed(blob, self.schema.id, fingerprint(self.params))
        # All of it is loaded into fresh parts first: a block that does not fit must leave nothing behind.
        whole = block(head[0], "q", 5)
        rolling: Rolling = Rolling(self._row, self._rolling_at, self._spans)
        rolling.load(rolling_state)
        self._flow.load(flow_state)
        self._whole = whole
        self._session = head[1]
        self._book_session = head[2]
        self._rolling = rolling

    @cython.cfunc
    def _book(
        self, ts: cython.longlong, flags: cython.longlong, session: object, bids: bytes, asks: bytes
    ) -> object:
        """Take the packed sides of one record."""
        fresh: cython.bint = self._book_session is not None and session != self._book_session
        self._order(ts, session)
        self._book_session = session
        book: Levels = self._levels
        bid_pairs: cython.const[cython.double][::1]
        ask_pairs: cython.const[cython.double][::1]
        longest: cython.Py_ssize_t = max(len(bids), len(asks))
        book.reserve(longest // 16)
        book.bids = 0
        book.asks = 0
        if bids:
            bid_pairs = memoryview(bids).cast("d")
            book.pairs(0, bid_pairs)
        if asks:
            ask_pairs = memoryview(asks).cast("d")
            book.pairs(1, ask_pairs)
        if self._step(ts, flags, fresh):
            return self._emitted()
        return None

    @cython.cfunc
    def _order(self, ts: cython.longlong, session: object) -> cython.int:
        """Hold the order of capture. Time runs backwards only into another session: then all starts anew."""
        if ts < 0:  # years before 1970 divide differently in C and in Python
            raise ValueError(f"cannot update with an event captured at {ts} us: before 1970")
        if ts < self._whole[_LAST]:
            if session == self._session:
                last = self._whole[_LAST]
                raise ValueError(
                    f"cannot update with an event captured at {ts} us: the last was at {last} us"
                )
            self.reset()
        self._session = session
        self._whole[_LAST] = ts
        return 0

    @cython.cfunc
    def _trade(self, ts: cython.longlong, amount: cython.double, side: cython.int) -> cython.int:
        """Count one trade; an amount that is no number is no trade."""
        if amount >= 0.0 and amount - amount == 0.0:
            if self._trades_given is None:
                self._whole[_TRADES] = 1
            self._rolling.trade(ts, amount, side)
        return 0

    @cython.cfunc
    def _step(self, ts: cython.longlong, flags: cython.longlong, fresh: cython.bint) -> cython.bint:
        """Compute: the book in `_levels`, captured at `ts`. True if there is a row in `_row`."""
        book: Levels = self._levels
        ask_0: cython.Py_ssize_t = book.capacity
        before: cython.longlong = self._whole[_LAST_BOOK]
        mid: cython.double = _NAN
        valid: cython.bint = book.bids > 0 and book.asks > 0 and book.price[0] <= book.price[ask_0]
        emit: cython.bint = True
        if self._whole[_STARTED] == 0:
            self._whole[_STARTED] = 1
            self._whole[_BOUNDARY] = -1
            self._rolling.hole(ts - self._longest, ts)
        elif (flags & _AFTER_GAP) != 0 or fresh or ts - before > self._stale:
            self._flow.forget()
            self._rolling.hole(before, ts)
        elif ts - self._flow.whole[1] > self._stale:
            self._flow.forget()  # there were books, but none of them was valid
        self._whole[_LAST_BOOK] = ts
        if self._interval > 0:
            emit = ts // self._interval > self._whole[_BOUNDARY]
            if emit:
                self._whole[_BOUNDARY] = ts // self._interval
        if valid:
            mid = (book.price[0] + book.price[ask_0]) / 2.0
            self._flow.step(ts, mid)
        else:
            self._flow.clear()
        self._rolling.step(ts, valid, mid, self._flow)
        if not emit:
            return False
        self._shape.write(mid, valid, (flags & _COMPLETE) != 0)
        self._flow.write()
        self._rolling.write(ts, valid, mid, self._whole[_TRADES] != 0)
        self._write_clock(ts)
        return True

    @cython.cfunc
    def _emitted(self) -> object:
        """Return the row just written as memory of its own, and make `_row` ready for the next."""
        x: cython.double
        i: cython.Py_ssize_t
        for i in range(self._width):
            x = self._row[i]
            self._clean[i] = x if x - x == 0.0 else _NAN  # no infinity leaves a kernel
            self._row[i] = _NAN
        return memoryview(bytes(self._clean_bytes)).cast("d")

    @cython.cfunc
    def _write_clock(self, ts: cython.longlong) -> cython.int:
        c: cython.Py_ssize_t = self._clock_at
        second: cython.longlong = ts % _DAY_US // 1_000_000
        weekday: cython.longlong = (ts // _DAY_US + 3) % 7  # 1970-01-01 was a Thursday
        self._row[c] = second // 3600
        self._row[c + 1] = second % 3600 // 60
        self._row[c + 2] = weekday
        self._row[c + 3] = 1.0 if weekday >= 5 else 0.0
        return 0
