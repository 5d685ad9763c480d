# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Realized variance of the finished seconds in (t - h, t], for several h, and its part without jumps.

A pair of neighbouring returns counts in a window if both do: it comes with the second and leaves with the
first. Totals are pairs (sum, error of the sum), summed anew at each UTC minute.
"""

from __future__ import annotations

import cython

from daedalus.features.checkpoint import block, part
from daedalus.features.levels import floats, integers
from daedalus.features.window import Ring

__all__ = ["Realized"]

_SECOND_US = cython.declare(cython.longlong, 1_000_000)
_SQUARES = cython.declare(cython.Py_ssize_t, 0)
_PAIRS = cython.declare(cython.Py_ssize_t, 1)


@cython.final
@cython.cclass
class Realized:
    """A ring of the returns of seconds, and per window the sums of their squares and of abs(r_g r_g-1).

    What is 0 is not added: where all is, a sum is 0, not what rounding left of it.
    """

    def __init__(self, spans_us: tuple[int, ...]) -> None:
        self.count = len(spans_us)
        self.ring = Ring(1)
        self.span = integers(self.count)
        for i, span in enumerate(spans_us):
            self.span[i] = span
        self.first = integers(self.count)  # position of the oldest return inside each window
        self.added = integers(2 * self.count)
        self.total = floats(4 * self.count)

    @cython.cfunc
    @cython.exceptval(check=False)
    def add(self, k: cython.Py_ssize_t, x: cython.double, step: cython.int) -> cython.void:
        """Take x into a total (step 1), out of it (-1), or in again (0)."""
        s: cython.double = self.total[2 * k]
        t: cython.double
        b: cython.double
        if x == 0.0:
            return
        self.added[k] += step
        if step < 0:
            x = -x
            if self.added[k] == 0:
                self.total[2 * k] = 0.0
                self.total[2 * k + 1] = 0.0
                return
        t = s + x
        b = t - s
        self.total[2 * k] = t
        self.total[2 * k + 1] += (s - (t - b)) + (x - b)

    @cython.cfunc
    @cython.exceptval(check=False)
    def pair(self, position: cython.longlong) -> cython.double:
        """Return abs(r_g r_g-1) of the return at a position and the one before it, 0 if no neighbour."""
        ring: Ring = self.ring
        slot: cython.Py_ssize_t = position & (ring.capacity - 1)
        before: cython.Py_ssize_t = (position - 1) & (ring.capacity - 1)
        if ring.ts[before] != ring.ts[slot] - _SECOND_US:
            return 0.0
        return abs(ring.value[slot]) * abs(ring.value[before])

    @cython.cfunc
    @cython.exceptval(check=False)
    def count_in(self, w: cython.Py_ssize_t, position: cython.longlong, step: cython.int) -> cython.void:
        """Count a return, the newest so far, in a window; `step` as in `add`."""
        r: cython.double = self.ring.value[position & (self.ring.capacity - 1)]
        self.add(2 * w + _SQUARES, r * r, step)
        if position > self.first[w]:
            self.add(2 * w + _PAIRS, self.pair(position), step)

    @cython.cfunc
    def enter(self, ts: cython.longlong, r: cython.double) -> cython.int:
        """Count the return of the second that ended at `ts` in every window."""
        w: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        if self.count == 0:
            return 0
        slot = self.ring.push(ts)
        self.ring.value[slot] = r
        for w in range(self.count):
            self.count_in(w, self.ring.head - 1, 1)
        return 0

    @cython.cfunc
    def evict(self, now: cython.longlong) -> cython.int:
        """Let go of what is no longer in (now - h, now]."""
        ring: Ring = self.ring
        w: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        for w in range(self.count):
            while self.first[w] < ring.head:
                slot = self.first[w] & (ring.capacity - 1)
                if ring.ts[slot] > now - self.span[w]:
                    break
                self.add(2 * w + _SQUARES, ring.value[slot] * ring.value[slot], -1)
                self.first[w] += 1
                if self.first[w] < ring.head:
                    self.add(2 * w + _PAIRS, self.pair(self.first[w]), -1)
        if self.count > 0:  # spans ascend, so the last window is the longest
            ring.tail = self.first[self.count - 1]
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum every window anew from the ring, in order."""
        k: cython.Py_ssize_t
        w: cython.Py_ssize_t
        position: cython.longlong
        for k in range(4 * self.count):
            self.total[k] = 0.0
        for w in range(self.count):
            for position in range(self.first[w], self.ring.head):
                self.count_in(w, position, 0)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def returns(self, window: cython.Py_ssize_t) -> cython.longlong:
        """Return how many returns a window holds."""
        return self.ring.head - self.first[window]

    @cython.cfunc
    @cython.exceptval(check=False)
    def squares(self, window: cython.Py_ssize_t) -> cython.double:
        """Return the sum of r^2 over a window."""
        return self.total[4 * window] + self.total[4 * window + 1]

    @cython.cfunc
    @cython.exceptval(check=False)
    def pairs(self, window: cython.Py_ssize_t) -> cython.double:
        """Return the sum of abs(r_g r_g-1) over a window."""
        return self.total[4 * window + 2] + self.total[4 * window + 3]

    @cython.cfunc
    @cython.exceptval(check=False)
    def before(self, ts: cython.longlong) -> cython.double:
        """Return the return of the second that ended a second before `ts`; 0 if there is none."""
        slot: cython.Py_ssize_t = (self.ring.head - 1) & (self.ring.capacity - 1)
        if self.ring.head == self.ring.tail or self.ring.ts[slot] != ts - _SECOND_US:
            return 0.0
        return self.ring.value[slot]

    def dump(self) -> list[bytes]:
        """Return all state; what was added follows from the ring."""
        return [bytes(self.first), bytes(self.total), *self.ring.dump()]

    def load(self, parts: object) -> None:
        """Take over what `dump` returned, into a new object.

        Raises:
            ValueError: it is not that.
        """
        w: cython.Py_ssize_t
        position: cython.longlong
        state = part(parts, 5)
        first = block(state[0], "q", self.count)
        totals = bytes(block(state[1], "d", 4 * self.count))
        self.ring.load(state[2:])
        self.first = first
        for w in range(self.count):
            # Spans ascend: a longer window begins no later.
            most: cython.longlong = self.ring.head if w == 0 else self.first[w - 1]
            if not self.ring.tail <= self.first[w] <= most:
                raise ValueError(f"cannot restore the engine: a window from position {self.first[w]}")
            for position in range(self.first[w], self.ring.head):
                self.count_in(w, position, 1)
        self.total = block(totals, "d", 4 * self.count)
