# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, warn-unreachable=False
# mypy: disable-error-code="valid-type,no-any-return,index,assignment"
"""The feature engine: one per symbol, the same for live, watcher and batch.

A pure function of (state, event): no clock, no randomness, no I/O. The doors are here; what is computed, and
in which order, is in `machine`. So rows are equal bit for bit whichever door was used, and a run resumed from
`snapshot` equals one that was never interrupted.

    record, frame, table ─▶ Levels ─▶ Machine: parts in their order ─▶ row
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython

from daedalus.features.arrow import book_batches, depth_batches, ticker_batches, trade_batches
from daedalus.features.checkpoint import open_sealed, seal
from daedalus.features.layout import layout
from daedalus.features.levels import Levels, floats
from daedalus.features.machine import Machine, refuse
from daedalus.features.params import Params, fingerprint, parse
from daedalus.records import BookSnapshot, Depth, Gap, Ticker, Trade

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from daedalus.features.feed import Head
    from daedalus.features.run import Rows

__all__ = ["FeatureEngine"]


def _doubles(frame: Any) -> memoryview[float]:
    """Return what a compiled engine takes as a flat buffer of float64; ValueError for any other."""
    view: memoryview[Any] = memoryview(frame)
    if view.format != "d" or view.ndim != 1 or not view.c_contiguous:
        raise ValueError(view.format)
    return view


_BACKFILLED = cython.declare(cython.longlong, 128)
_NAN = cython.declare(cython.double, float("nan"))
_HEAD = cython.declare(cython.Py_ssize_t, 4)  # values before the levels of a frame
_LARGEST = cython.declare(cython.double, 9007199254740992.0)  # 2^53: whole numbers up to here are exact


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
        self._lie = lie
        self._width = len(self.schema.names)
        self._clean = floats(self._width)  # a row as it leaves: no infinities
        self._clean_bytes = memoryview(self._clean).cast("B")
        self._machine = Machine(p, lie, trades)
        self._session_bytes = b""
        self._session = ""

    def reset(self) -> None:
        """Forget everything, as if just made."""
        self._machine.renew()

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
        machine: Machine = self._machine
        ts: cython.longlong
        flags: cython.longlong
        side: cython.int
        if kind is Gap:
            return None
        if kind is not BookSnapshot and kind is not Trade and kind is not Ticker and kind is not Depth:
            raise TypeError(f"cannot update with {kind.__name__}: it is no market record")
        try:
            flags = record.flags
            ts = record.ts_recv // 1000
        except OverflowError:  # beyond 64 bits
            refuse(record.ts_recv // 1000, record.flags)
            return None
        if flags & _BACKFILLED and flags > 0:
            return None
        if kind is BookSnapshot:
            return self._book(ts, flags, record.session_id, record.bids, record.asks)
        if kind is Trade:
            side = 0
            if record.side == "buy":
                side = 1
            elif record.side == "sell":
                side = -1
            machine.trade(ts, flags, record.session_id, record.price, record.amount, side)
        elif kind is Ticker:
            volume = record.base_volume
            machine.ticker(ts, flags, record.session_id, _NAN if volume is None else volume)
        elif machine.delta(ts, flags, record.session_id, record.kind == "snapshot", record.bids, record.asks):
            return self._emitted()
        return None

    def take(self, head: Head, more_flags: cython.longlong = 0) -> memoryview[float] | None:
        """Take the record that `head` has read, as `update` takes the record itself.

        Args:
            head: of a trade, book, ticker or depth record, in the order of capture.
            more_flags: set beside its own: bit 2, if the caller knows of a gap before it.

        Returns:
            As `update`.

        Raises:
            ValueError: as `update`; or `head` has read nothing.
        """
        machine: Machine = self._machine
        flags: cython.longlong = head.flags | more_flags
        ts: cython.longlong
        if not 1 <= head.kind <= 5 or head.kind == 4:
            raise ValueError(f"cannot take a record of kind {head.kind}: allowed are 1, 2, 3 and 5")
        if flags & _BACKFILLED and flags > 0:
            return None
        ts = head.ts_recv
        ts = ts // 1000 if ts >= 0 else -1
        if head.session != self._session_bytes:
            self._session_bytes = head.session
            self._session = head.session.decode()
        if head.kind == 2:
            return self._book(ts, flags, self._session, head.bids, head.asks)
        if head.kind == 1:
            machine.trade(ts, flags, self._session, head.price, head.amount, head.side)
        elif head.kind == 3:
            machine.ticker(ts, flags, self._session, head.base_volume)
        elif machine.delta(ts, flags, self._session, head.whole, head.bids, head.asks):
            return self._emitted()
        return None

    def update_frame(self, frame: Buffer) -> memoryview[float] | None:
        """Take a book as one float64 buffer; return the row if one is emitted.

        Args:
            frame: ts_us, flags, n_bids, n_asks, bid prices, bid sizes, ask prices, ask sizes; best first.
                A frame has no session; mark the first one of a new session with bit 2.

        Raises:
            ValueError: the length is not 4 + 2 n_bids + 2 n_asks, or captured before the last event.
        """
        values: cython.const[cython.double][::1]
        try:
            values = frame if cython.compiled else _doubles(frame)
        except (ValueError, BufferError):
            raise ValueError("cannot read a frame: it is no flat buffer of float64") from None
        n: cython.Py_ssize_t = values.shape[0]
        if n < _HEAD:
            raise ValueError(f"cannot read a frame of {n} values: its head alone takes 4")
        for i in range(_HEAD):
            # A cast of what is no whole number, or too large, is undefined in C. A NaN fails the comparison.
            if not (-_LARGEST <= values[i] <= _LARGEST) or values[i] != values[i] // 1.0:
                raise ValueError(f"cannot read a frame: value {i} is {values[i]}, not whole or beyond 2^53")
        ts: cython.longlong = cython.cast(cython.longlong, values[0])
        flags: cython.longlong = cython.cast(cython.longlong, values[1])
        bids: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, values[2])
        asks: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, values[3])
        if bids < 0 or asks < 0 or bids > n or asks > n or n != _HEAD + 2 * bids + 2 * asks:
            raise ValueError(f"cannot read a frame of {n} values: {bids} bids and {asks} asks do not fill it")
        if flags & _BACKFILLED and flags > 0:
            return None
        machine: Machine = self._machine
        book: Levels = machine.levels
        machine.order(ts, flags, machine.session)
        book.reserve(bids if bids > asks else asks)
        book.split(0, values, _HEAD, values, _HEAD + bids, bids)
        book.split(1, values, _HEAD + 2 * bids, values, _HEAD + 2 * bids + asks, asks)
        if machine.step(ts, flags, False):
            return self._emitted()
        return None

    def update_batch(
        self,
        orderbook: object = None,
        trades: object = None,
        ticker: object = None,
        depth: object = None,
        out: Buffer | None = None,
    ) -> Rows:
        """Take whole tables, merged into the order of capture; return the rows that are emitted.

        Args:
            orderbook: pyarrow Table or RecordBatch in bronze columns, in order of capture.
            trades: the same of trades. None leaves open whether there is a trades channel; an empty table
                says there is one.
            ticker: the same of tickers.
            depth: the same of depth, instead of `orderbook`.
            out: writable float64 buffer for the values, at least books x columns long. Without it the memory
                is allocated as rows come.

        Raises:
            ValueError: both sources of books, a column missing or of another type, nulls where there may be
                none, times that run backwards within a session, or `out` too short.
        """
        from daedalus.features.run import Run  # it knows the engine's parts, which need not know it

        if orderbook is not None and depth is not None:
            raise ValueError("cannot read orderbook and depth: only one of them makes the rows")
        books = book_batches(orderbook) if depth is None else depth_batches(depth)
        run = Run(self._machine, books, trade_batches(trades), ticker_batches(ticker), out)
        if trades is not None:
            self._machine.has_trades()
        rows: Rows = run.pass_over()
        return rows

    def snapshot(self) -> bytes:
        """Return all state, to be given to `restore` of an engine with the same parameters."""
        return seal(self.schema.id, fingerprint(self.params), self._machine.dump())

    def restore(self, blob: bytes) -> None:
        """Continue where `snapshot` was taken.

        Raises:
            ValueError: not a checkpoint, damaged, or of another schema or other parameters. The engine stays
                as it was.
        """
        state: list[Any] = open_sealed(blob, self.schema.id, fingerprint(self.params))
        machine: Machine = Machine(self.params, self._lie, self._trades_given)
        machine.load(state)
        self._machine = machine

    @cython.cfunc
    def _book(
        self, ts: cython.longlong, flags: cython.longlong, session: object, bids: bytes, asks: bytes
    ) -> object:
        """Take the packed sides of one record."""
        machine: Machine = self._machine
        book: Levels = machine.levels
        book.reserve(max(len(bids), len(asks)) // 16)
        book.packed(0, bids)
        book.packed(1, asks)
        if machine.book(ts, flags, session):
            return self._emitted()
        return None

    @cython.cfunc
    def _emitted(self) -> object:
        """Return the row just written as memory of its own, and make `row` ready for the next."""
        row: cython.double[::1] = self._machine.row
        x: cython.double
        i: cython.Py_ssize_t
        for i in range(self._width):
            x = row[i]
            self._clean[i] = x if x - x == 0.0 else _NAN  # no infinity leaves a kernel
            row[i] = _NAN
        return memoryview(bytes(self._clean_bytes)).cast("d")
