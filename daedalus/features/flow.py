# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""What changed since the book before: order flow imbalance, returns, velocity.

Order flow imbalance after Cont, Kukanov & Stoikov (2014), per level index after Xu, Gould & Howison (2019).
The book before is the last valid one; after a gap there is none, and everything here is null once.
"""

from __future__ import annotations

import cython

from daedalus.features.checkpoint import block, part
from daedalus.features.elementary import exp, ln
from daedalus.features.levels import Levels, floats, integers

__all__ = ["Flow"]

_NAN = cython.declare(cython.double, float("nan"))
INFINITY = cython.declare(cython.double, float("inf"))
_SHORTEST_US = cython.declare(cython.longlong, 1000)  # a velocity over less than this is noise: null
_EVENTS_AT = cython.declare(cython.Py_ssize_t, 4)  # of the ofi_L{i} columns, behind the four ofi columns


@cython.final
@cython.cclass
class Flow:
    """Delta state of one symbol: the last valid book (its first levels), its mid, time and velocity."""

    def __init__(
        self, levels: Levels, row: memoryview[float], at: int, depth: int, alpha: float, vector: bool
    ) -> None:
        self.levels = levels
        self.row = row
        self.at = at
        self.depth = depth
        self.vector = vector
        self.weight = floats(depth)
        for i in range(depth):
            self.weight[i] = exp(-alpha * i)
        self.book = floats(4 * depth)  # bid prices, bid sizes, ask prices, ask sizes of the book before
        self.event = floats(depth)
        self.state = floats(2)  # mid, velocity
        self.whole = integers(4)  # have a book before, its time in us, its bids, its asks
        self.clear()
        self.forget()

    @cython.cfunc
    def forget(self) -> cython.int:
        """Let nothing from before be compared with what comes."""
        self.whole[0] = 0
        self.state[0] = _NAN
        self.state[1] = _NAN
        return 0

    @cython.cfunc
    def clear(self) -> cython.int:
        """Make every value of this update null."""
        i: cython.Py_ssize_t
        self.ofi = self.multi = self.decayed = self.norm = _NAN
        self.log_return = self.velocity = self.accel = _NAN
        for i in range(self.depth):
            self.event[i] = _NAN
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def side(self, side: cython.int, now: cython.Py_ssize_t, before: cython.Py_ssize_t) -> cython.double:
        """Return one side's part of e_i; `now` and `before` say where the level lies in either book."""
        price: cython.double = self.levels.price[now]
        price_before: cython.double = self.book[before]
        gain: cython.double = 0.0
        loss: cython.double = 0.0
        if side == 0:
            if price >= price_before:
                gain = self.levels.size[now]
            if price <= price_before:
                loss = self.book[before + self.depth]
            return gain - loss
        if price <= price_before:
            gain = self.levels.size[now]
        if price >= price_before:
            loss = self.book[before + self.depth]
        return loss - gain

    @cython.cfunc
    def step(self, ts: cython.longlong, mid: cython.double) -> cython.int:
        """Compare a valid book with the one before, then keep it."""
        book: Levels = self.levels
        n: cython.Py_ssize_t = self.depth
        ask_0: cython.Py_ssize_t = book.capacity
        bids: cython.Py_ssize_t = min(book.bids, n)
        asks: cython.Py_ssize_t = min(book.asks, n)
        i: cython.Py_ssize_t
        e: cython.double
        velocity: cython.double = _NAN
        dt: cython.double
        self.clear()
        if self.whole[0] != 0:
            self.multi = 0.0
            self.decayed = 0.0
            for i in range(n):
                if i < bids and i < self.whole[2]:
                    e = self.side(0, i, i)
                    if i < asks and i < self.whole[3]:
                        e += self.side(1, ask_0 + i, 2 * n + i)
                elif i < asks and i < self.whole[3]:
                    e = self.side(1, ask_0 + i, 2 * n + i)
                else:
                    break
                self.event[i] = e
                self.multi += e
                self.decayed += self.weight[i] * e
            self.ofi = self.event[0]
            self.norm = self.ofi / (
                ((book.size[0] + book.size[ask_0]) / 2.0 + (self.book[n] + self.book[3 * n]) / 2.0) / 2.0
            )
            self.log_return = ln(mid / self.state[0])
            if ts - self.whole[1] >= _SHORTEST_US:
                dt = (ts - self.whole[1]) / 1e6
                velocity = (mid - self.state[0]) / dt
                self.velocity = velocity
                self.accel = (velocity - self.state[1]) / dt
        self.whole[0] = 1
        self.whole[1] = ts
        self.whole[2] = bids
        self.whole[3] = asks
        self.state[0] = mid
        self.state[1] = velocity
        for i in range(bids):
            self.book[i] = book.price[i]
            self.book[n + i] = book.size[i]
        for i in range(asks):
            self.book[2 * n + i] = book.price[ask_0 + i]
            self.book[3 * n + i] = book.size[ask_0 + i]
        return 0

    @cython.cfunc
    def write(self) -> cython.int:
        """Write the columns of this update."""
        c: cython.Py_ssize_t = self.at
        i: cython.Py_ssize_t
        self.row[c] = self.ofi
        self.row[c + 1] = self.multi
        self.row[c + 2] = self.decayed
        self.row[c + 3] = self.norm
        c += _EVENTS_AT
        if self.vector:
            for i in range(self.depth):
                self.row[c + i] = self.event[i]
            c += self.depth
        self.row[c] = self.log_return
        self.row[c + 1] = self.velocity
        self.row[c + 2] = self.accel
        return 0

    def dump(self) -> list[bytes]:
        """Return all state."""
        return [bytes(self.book), bytes(self.state), bytes(self.whole)]

    def load(self, parts: object, latest: cython.longlong) -> None:
        """Take over what `dump` returned; the book before is no later than `latest`.

        Raises:
            ValueError: it is not that.
        """
        state = part(parts, 3)
        self.book = block(state[0], "d", 4 * self.depth)
        self.state = block(state[1], "d", 2)
        self.whole = block(state[2], "q", 4)
        bids: cython.longlong = self.whole[2]
        asks: cython.longlong = self.whole[3]
        i: cython.Py_ssize_t
        if not 0 <= self.whole[0] <= 1 or not 0 <= self.whole[1] <= latest:
            raise ValueError(f"cannot restore the engine: a book before, of {self.whole[1]} us")
        if not self.whole[0] <= bids <= self.depth or not self.whole[0] <= asks <= self.depth:
            raise ValueError(f"cannot restore the engine: a book before of {bids} bids and {asks} asks")
        if self.whole[0]:
            if not 0.0 < self.state[0] < INFINITY:
                raise ValueError(f"cannot restore the engine: a mid before of {self.state[0]}")
            for i in range(self.depth):
                for at, n in ((0, bids), (2 * self.depth, asks)):
                    if i < n and not (
                        0.0 < self.book[at + i] < INFINITY and 0.0 < self.book[at + self.depth + i] < INFINITY
                    ):
                        raise ValueError(f"cannot restore the engine: no level {i} in the book before")
