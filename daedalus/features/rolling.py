# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""What happened in (t - h, t], for each horizon: returns, volatility, order flow, trades, coverage.

Windows are on capture time. A hole is a stretch (previous row, flagged row] that nobody watched: the sums
keep what they hold, `coverage` says how much of the window they stand for, and no return reaches across.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython
from cython.cimports.libc.math import sqrt

from daedalus.features.checkpoint import block, part
from daedalus.features.elementary import ln
from daedalus.features.levels import floats, integers
from daedalus.features.window import BOOKS, TAPE, Ring, Windows

if TYPE_CHECKING:
    from daedalus.features.flow import Flow

__all__ = ["Rolling"]

_COLUMNS = cython.declare(cython.Py_ssize_t, 10)  # per horizon
# What rounding leaves of a variance that is 0, relative to the sum of squares.
_NOTHING = cython.declare(cython.double, 1e-14)
# Summed columns of the books and of the tape.
_R = cython.declare(cython.Py_ssize_t, 0)
_RR = cython.declare(cython.Py_ssize_t, 1)
_OFI = cython.declare(cython.Py_ssize_t, 2)
_MLOFI = cython.declare(cython.Py_ssize_t, 3)
_BUY = cython.declare(cython.Py_ssize_t, 0)
_SELL = cython.declare(cython.Py_ssize_t, 1)
_ALL = cython.declare(cython.Py_ssize_t, 2)


@cython.final
@cython.cclass
class Rolling:
    """Three rings (valid books, trades, holes) and the totals over them."""

    def __init__(self, row: memoryview[float], at: int, spans_us: tuple[int, ...]) -> None:
        self.row = row
        self.at = at
        self.count = len(spans_us)
        self.books = Windows(spans_us, BOOKS)
        self.tape = Windows(spans_us, TAPE)
        self.holes = Ring(1)  # time = its end, value = its start
        self.span = integers(self.count)
        for i, span in enumerate(spans_us):
            self.span[i] = span
        self.hidden = integers(self.count)  # us of the holes that end inside each window
        self.first_hole = integers(self.count)
        self.ratio = floats(self.count)  # whose logarithms are in `log_ratio`
        self.log_ratio = floats(self.count)
        self.last_hole = 0  # its end

    @cython.cfunc
    def hole(self, start: cython.longlong, end: cython.longlong) -> cython.int:
        """Note that (start, end] was not observed."""
        slot: cython.Py_ssize_t = self.holes.push(end)
        w: cython.Py_ssize_t
        self.holes.value[slot] = start
        for w in range(self.count):
            self.hidden[w] += end - start
        self.last_hole = end
        return 0

    @cython.cfunc
    def trade(self, ts: cython.longlong, amount: cython.double, side: cython.int) -> cython.int:
        """Count a trade: side 1 buy, -1 sell, 0 unknown."""
        slot: cython.Py_ssize_t
        self.tape.evict(ts)
        slot = self.tape.ring.push((ts << 2) + side + 1)
        self.tape.ring.value[slot] = amount
        self.tape.enter(slot)
        return 0

    @cython.cfunc
    def step(self, ts: cython.longlong, valid: cython.bint, mid: cython.double, flow: Flow) -> cython.int:
        """Move all windows to `ts` and count a valid book."""
        ring: Ring = self.books.ring
        at: cython.Py_ssize_t
        w: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        start: cython.longlong
        self.books.evict(ts)
        self.tape.evict(ts)
        for w in range(self.count):
            while self.first_hole[w] < self.holes.head:
                slot = self.first_hole[w] & (self.holes.capacity - 1)
                if self.holes.ts[slot] > ts - self.span[w]:
                    break
                start = cython.cast(cython.longlong, self.holes.value[slot])
                self.hidden[w] -= self.holes.ts[slot] - start
                self.first_hole[w] += 1
        self.holes.tail = self.first_hole[self.count - 1]
        if valid:
            slot = ring.push(ts)
            at = slot * ring.width
            ring.value[at] = mid
            ring.value[at + 1] = flow.log_return
            ring.value[at + 2] = flow.ofi
            ring.value[at + 3] = flow.decayed
            self.books.enter(slot)
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum every window anew, in order."""
        self.books.rebase()
        self.tape.rebase()
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def covered(self, window: cython.Py_ssize_t, ts: cython.longlong) -> cython.double:
        """Return the observed share of a window."""
        span: cython.longlong = self.span[window]
        hidden: cython.longlong = self.hidden[window]
        start: cython.longlong
        slot: cython.Py_ssize_t
        # Holes are disjoint: only the oldest can be cut by the window's edge.
        if self.first_hole[window] < self.holes.head:
            slot = self.first_hole[window] & (self.holes.capacity - 1)
            start = cython.cast(cython.longlong, self.holes.value[slot])
            if start < ts - span:
                hidden -= ts - span - start
        # Cython divides two C integers as integers here: cast first.
        return cython.cast(cython.double, span - hidden) / cython.cast(cython.double, span)

    @cython.cfunc
    def write(
        self, ts: cython.longlong, valid: cython.bint, mid: cython.double, with_trades: cython.bint
    ) -> cython.int:
        """Write the columns of every horizon."""
        books: Windows = self.books
        tape: Windows = self.tape
        ring: Ring = books.ring
        w: cython.Py_ssize_t
        c: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        n: cython.longlong
        s: cython.double
        ss: cython.double
        buy: cython.double
        sell: cython.double
        ratio: cython.double
        for w in range(self.count):
            c = self.at + w * _COLUMNS
            if valid and books.first[w] > ring.tail:
                slot = (books.first[w] - 1) & (ring.capacity - 1)
                if ring.ts[slot] >= self.last_hole:
                    ratio = mid / ring.value[slot * ring.width]
                    # The mid rests most of the time. A ratio of 0 is never remembered: so it begins.
                    if self.ratio[w] != ratio or ratio == 0.0:
                        self.ratio[w] = ratio
                        self.log_ratio[w] = ln(ratio)
                    self.row[c] = self.log_ratio[w]
            n = books.observations(w, _R)
            if n >= 2:
                s = books.sum(w, _R)
                ss = books.sum(w, _RR)
                s = ss - s * s / n
                self.row[c + 1] = sqrt(s / (n - 1)) if s > _NOTHING * ss else 0.0
            if books.observations(w, _OFI) > 0:
                self.row[c + 2] = books.sum(w, _OFI)
                self.row[c + 3] = books.sum(w, _MLOFI)
            self.row[c + 4] = self.covered(w, ts)
            if with_trades:
                buy = tape.sum(w, _BUY)
                sell = tape.sum(w, _SELL)
                self.row[c + 5] = buy
                self.row[c + 6] = sell
                self.row[c + 7] = tape.sum(w, _ALL)
                self.row[c + 8] = tape.observations(w, _ALL)
                if buy + sell > 0.0:
                    self.row[c + 9] = (buy - sell) / (buy + sell)
        return 0

    def dump(self) -> list[list[bytes]]:
        """Return all state."""
        ends = integers(1)
        ends[0] = self.last_hole
        whole = [bytes(ends), bytes(self.hidden), bytes(self.first_hole)]
        return [whole, self.books.dump(), self.tape.dump(), self.holes.dump()]

    def load(self, parts: object, latest: cython.longlong) -> None:
        """Take over what `dump` returned; nothing in it may be later than `latest`.

        Raises:
            ValueError: it is not that.
        """
        state = part(parts, 4)
        head = part(state[0], 3)
        self.last_hole = block(head[0], "q", 1)[0]
        self.hidden = block(head[1], "q", self.count)
        self.first_hole = block(head[2], "q", self.count)
        self.books.load(state[1])
        self.tape.load(state[2])
        self.holes.load(state[3])
        if not 0 <= self.last_hole <= latest or self.newest() > latest:
            raise ValueError("cannot restore the engine: its windows are of a time that has not come")
        self.prove()

    @cython.ccall
    def newest(self) -> cython.longlong:
        """Return the time of the newest entry of any ring."""
        latest: cython.longlong = 0
        ring: Ring = self.books.ring
        if ring.head > ring.tail:
            latest = ring.ts[(ring.head - 1) & (ring.capacity - 1)]
        ring = self.tape.ring
        if ring.head > ring.tail:
            latest = max(latest, ring.ts[(ring.head - 1) & (ring.capacity - 1)] >> 2)
        ring = self.holes
        if ring.head > ring.tail:
            latest = max(latest, ring.ts[(ring.head - 1) & (ring.capacity - 1)])
        return latest

    def prove(self) -> None:
        """Raise ValueError if the holes are none, or are not what is hidden in each window."""
        w: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        position: cython.longlong
        hidden: cython.longlong
        start: cython.double
        before: cython.longlong = 0
        for position in range(self.holes.tail, self.holes.head):
            slot = position & (self.holes.capacity - 1)
            start = self.holes.value[slot]
            # A cast of what is no whole number in bounds is undefined in C. NaN fails the comparison.
            if not before <= start <= self.holes.ts[slot] or start != start // 1.0:
                raise ValueError(
                    f"cannot restore the engine: a hole from {start} to {self.holes.ts[slot]} us"
                )
            before = self.holes.ts[slot]
        for w in range(self.count):
            if not self.holes.tail <= self.first_hole[w] <= self.holes.head:
                raise ValueError(f"cannot restore the engine: holes from position {self.first_hole[w]}")
            hidden = 0
            for position in range(self.first_hole[w], self.holes.head):
                slot = position & (self.holes.capacity - 1)
                hidden += self.holes.ts[slot] - cython.cast(cython.longlong, self.holes.value[slot])
            if hidden != self.hidden[w]:
                raise ValueError(
                    f"cannot restore the engine: {self.hidden[w]} us are told hidden, {hidden} are"
                )
