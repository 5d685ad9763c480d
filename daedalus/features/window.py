# cython: language_level=3
# ruff: noqa: ERA001, PLR0124
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Sums over (t - h, t] for several h at once, from one ring of observations.

A running sum that only adds and subtracts drifts. Two things bound it: every total is a pair (sum, error of
the sum), kept by Knuth's two-sum, and the engine rebases all totals from the ring, in order, at each UTC
minute. So a run that began later has the same bits as one that began earlier, once the window is full.
"""

from __future__ import annotations

import cython

from daedalus.features.checkpoint import block
from daedalus.features.levels import floats, integers

__all__ = ["Ring", "Windows"]


@cython.final
@cython.cclass
class Ring:
    """Entries (time, `width` values) in order of time. Grows geometrically: never drops, never overflows.

    Positions count from the beginning of time; entry p lies in slot p mod capacity (a power of two).
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.capacity = 256
        self.ts = integers(self.capacity)
        self.value = floats(self.capacity * self.width)
        self.head = 0
        self.tail = 0

    @cython.cfunc
    def push(self, ts: cython.longlong) -> cython.Py_ssize_t:
        """Append an entry; return its slot. The caller sets value[slot * width + column]."""
        if self.head - self.tail == self.capacity:
            self.grow()
        slot: cython.Py_ssize_t = self.head & (self.capacity - 1)
        self.ts[slot] = ts
        self.head += 1
        return slot

    @cython.cfunc
    def grow(self) -> cython.int:
        """Double the capacity."""
        capacity: cython.Py_ssize_t = 2 * self.capacity
        ts: cython.longlong[::1] = integers(capacity)
        value: cython.double[::1] = floats(capacity * self.width)
        position: cython.longlong
        old: cython.Py_ssize_t
        new: cython.Py_ssize_t
        c: cython.Py_ssize_t
        for position in range(self.tail, self.head):
            old = position & (self.capacity - 1)
            new = position & (capacity - 1)
            ts[new] = self.ts[old]
            for c in range(self.width):
                value[new * self.width + c] = self.value[old * self.width + c]
        self.ts = ts
        self.value = value
        self.capacity = capacity
        return 0

    def dump(self) -> list[bytes]:
        """Return the live part: head and tail, times, values."""
        n: cython.Py_ssize_t = self.head - self.tail
        i: cython.Py_ssize_t
        c: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        ts = integers(n)
        value = floats(n * self.width)
        for i in range(n):
            slot = (self.tail + i) & (self.capacity - 1)
            ts[i] = self.ts[slot]
            for c in range(self.width):
                value[i * self.width + c] = self.value[slot * self.width + c]
        ends = integers(2)
        ends[0] = self.head
        ends[1] = self.tail
        return [bytes(ends), bytes(ts), bytes(value)]

    def load(self, parts: list[bytes]) -> None:
        """Take over what `dump` returned."""
        ends = block(parts[0], "q", 2)
        ts = block(parts[1], "q", ends[0] - ends[1])
        value = block(parts[2], "d", (ends[0] - ends[1]) * self.width)
        head: cython.longlong = ends[0]
        self.head = ends[1]
        self.tail = ends[1]
        i: cython.Py_ssize_t = 0
        c: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        while self.head < head:
            slot = self.push(ts[i])
            for c in range(self.width):
                self.value[slot * self.width + c] = value[i * self.width + c]
            i += 1


@cython.final
@cython.cclass
class Windows:
    """Totals and counts of the columns of a ring, over each of several windows.

    Columns from `skip` on are summed; a NaN is no observation. One entry before the longest window stays in
    the ring: it is the last value at or before t - h.
    """

    def __init__(self, spans_us: tuple[int, ...], width: int, skip: int) -> None:
        self.ring = Ring(width)
        self.count = len(spans_us)
        self.skip = skip
        self.sums = width - skip
        self.span = integers(self.count)
        for i, span in enumerate(spans_us):
            self.span[i] = span
        self.first = integers(self.count)  # position of the oldest entry inside each window
        self.seen = integers(self.count * self.sums)
        self.total = floats(2 * self.count * self.sums)

    @cython.cfunc
    @cython.exceptval(check=False)
    def add(self, at: cython.Py_ssize_t, x: cython.double) -> cython.void:
        """Add x to a total: the sum, and what rounding took from it."""
        s: cython.double = self.total[at]
        t: cython.double = s + x
        b: cython.double = t - s
        self.total[at] = t
        self.total[at + 1] += (s - (t - b)) + (x - b)

    @cython.cfunc
    def evict(self, now: cython.longlong) -> cython.int:
        """Let go of what is no longer in (now - h, now]."""
        ring: Ring = self.ring
        w: cython.Py_ssize_t
        c: cython.Py_ssize_t
        k: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        since: cython.longlong
        x: cython.double
        for w in range(self.count):
            since = now - self.span[w]
            while self.first[w] < ring.head:
                slot = self.first[w] & (ring.capacity - 1)
                if ring.ts[slot] > since:
                    break
                self.first[w] += 1
                for c in range(self.sums):
                    x = ring.value[slot * ring.width + self.skip + c]
                    if x == x:
                        k = w * self.sums + c
                        self.seen[k] -= 1
                        if self.seen[k] == 0:
                            self.total[2 * k] = 0.0
                            self.total[2 * k + 1] = 0.0
                        else:
                            self.add(2 * k, -x)
        # Spans ascend, so the last window is the longest.
        if self.first[self.count - 1] - 1 > ring.tail:
            ring.tail = self.first[self.count - 1] - 1
        return 0

    @cython.cfunc
    def enter(self, slot: cython.Py_ssize_t) -> cython.int:
        """Count the entry just pushed in every window."""
        w: cython.Py_ssize_t
        c: cython.Py_ssize_t
        x: cython.double
        for c in range(self.sums):
            x = self.ring.value[slot * self.ring.width + self.skip + c]
            if x == x:
                for w in range(self.count):
                    self.seen[w * self.sums + c] += 1
                    self.add(2 * (w * self.sums + c), x)
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum every window anew from the ring, in order."""
        ring: Ring = self.ring
        w: cython.Py_ssize_t
        c: cython.Py_ssize_t
        k: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        position: cython.longlong
        x: cython.double
        for k in range(2 * self.count * self.sums):
            self.total[k] = 0.0
        for w in range(self.count):
            for position in range(self.first[w], ring.head):
                slot = position & (ring.capacity - 1)
                for c in range(self.sums):
                    x = ring.value[slot * ring.width + self.skip + c]
                    if x == x:
                        self.add(2 * (w * self.sums + c), x)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def sum(self, window: cython.Py_ssize_t, column: cython.Py_ssize_t) -> cython.double:
        """Return the total of a column over a window."""
        k: cython.Py_ssize_t = 2 * (window * self.sums + column)
        return self.total[k] + self.total[k + 1]

    @cython.cfunc
    @cython.exceptval(check=False)
    def observations(self, window: cython.Py_ssize_t, column: cython.Py_ssize_t) -> cython.longlong:
        """Return how many observations a total holds."""
        return self.seen[window * self.sums + column]

    def dump(self) -> list[bytes]:
        """Return all state."""
        return [bytes(self.first), bytes(self.seen), bytes(self.total), *self.ring.dump()]

    def load(self, parts: list[bytes]) -> None:
        """Take over what `dump` returned."""
        self.first = block(parts[0], "q", self.count)
        self.seen = block(parts[1], "q", self.count * self.sums)
        self.total = block(parts[2], "d", 2 * self.count * self.sums)
        self.ring.load(parts[3:])
