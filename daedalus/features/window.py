# cython: language_level=3
# ruff: noqa: ERA001, PLR0124
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Sums over (t - h, t] for several h at once, from one ring of observations.

A running sum that only adds and subtracts drifts. Two things bound it: every total is a pair (sum, error of
the sum), kept by Knuth's two-sum, and the engine rebases all totals from the ring, in order, at each UTC
minute. So a run that began later has the same bits as one that began earlier, once the window is full.
"""

from __future__ import annotations

from typing import Any

import cython

from daedalus.features.checkpoint import block, part
from daedalus.features.levels import floats, integers

__all__ = ["BOOKS", "TAPE", "Ring", "Windows"]

BOOKS, TAPE = 0, 1  # what the entries of a ring are, and so what is summed of them

_LATEST = cython.declare(cython.longlong, 1 << 55)  # of a coded time: four times the latest time of an event
_SIDE_BITS = cython.declare(cython.Py_ssize_t, 2)
# Beyond any position reached by counting, and below what an int64 may still count from.
_FARTHEST = cython.declare(cython.longlong, 1 << 53)


@cython.final
@cython.cclass
class Ring:
    """Entries (time, `width` values) in order of time. Grows geometrically: never drops, never overflows.

    Positions count from the beginning of time; entry p lies in slot p mod capacity (a power of two).
    """

    def __init__(self, width: int, shift: int = 0) -> None:
        self.width = width
        self.shift = shift  # low bits of a time that are not time
        self.capacity = 256
        self.ts = integers(self.capacity)
        self.value = floats(self.capacity * self.width)
        self.head = 0
        self.tail = 0

    @cython.cfunc
    def push(self, ts: cython.longlong) -> cython.Py_ssize_t:
        """Append an entry; return its slot. The caller sets value[slot * width + column]."""
        if self.head - self.tail == self.capacity:
            self.room(2 * self.capacity)
        slot: cython.Py_ssize_t = self.head & (self.capacity - 1)
        self.ts[slot] = ts
        self.head += 1
        return slot

    @cython.cfunc
    def room(self, capacity: cython.Py_ssize_t) -> cython.int:
        """Move to memory for `capacity` entries, a power of two and enough."""
        times = self.pieces(self.ts, 1)
        values = self.pieces(self.value, self.width)
        self.capacity = capacity
        self.ts = integers(capacity)
        self.value = floats(capacity * self.width)
        self.fill(times, values)
        return 0

    @cython.cfunc
    def pieces(self, values: Any, width: cython.Py_ssize_t) -> object:
        """Return the live part of `ts` or `value` as bytes: one block, or two where it goes round the end."""
        flat = memoryview(values).cast("B")
        n: cython.Py_ssize_t = self.head - self.tail
        first: cython.Py_ssize_t = self.tail & (self.capacity - 1)
        until_end: cython.Py_ssize_t = min(n, self.capacity - first)
        item: cython.Py_ssize_t = 8 * width
        return b"".join(
            (flat[item * first : item * (first + until_end)], flat[: item * (n - until_end)]),
        )

    def fill(self, times: bytes, values: bytes) -> None:
        """Lay the live part where its positions say."""
        n: cython.Py_ssize_t = self.head - self.tail
        first: cython.Py_ssize_t = self.tail & (self.capacity - 1)
        until_end: cython.Py_ssize_t = min(n, self.capacity - first)
        for source, target, width in ((times, self.ts, 1), (values, self.value, self.width)):
            item = 8 * width
            flat = memoryview(target).cast("B")
            block_of = memoryview(source)
            flat[item * first : item * (first + until_end)] = block_of[: item * until_end]
            flat[: item * (n - until_end)] = block_of[item * until_end :]

    def dump(self) -> list[bytes]:
        """Return the live part: head and tail, times, values."""
        ends = integers(2)
        ends[0] = self.head
        ends[1] = self.tail
        return [bytes(ends), self.pieces(self.ts, 1), self.pieces(self.value, self.width)]

    def load(self, parts: object) -> None:
        """Take over what `dump` returned.

        Raises:
            ValueError: it is not that: other lengths, impossible positions, times that run backwards.
        """
        state = part(parts, 3)
        ends = block(state[0], "q", 2)
        head: cython.longlong = ends[0]
        tail: cython.longlong = ends[1]
        before: cython.longlong = 0
        i: cython.Py_ssize_t
        if not 0 <= tail <= head <= _FARTHEST:
            raise ValueError(f"cannot restore the engine: a ring from position {tail} to {head}")
        n: cython.Py_ssize_t = head - tail
        times: cython.longlong[::1] = block(state[1], "q", n)
        block(state[2], "d", n * self.width)
        for i in range(n):
            if times[i] < 0 or times[i] > _LATEST or (i > 0 and times[i] >> self.shift < before):
                raise ValueError(f"cannot restore the engine: time {times[i]} out of order in a ring")
            before = times[i] >> self.shift
        capacity: cython.Py_ssize_t = self.capacity
        while capacity < n:
            capacity *= 2
        self.head = 0  # nothing of what was in it is moved
        self.tail = 0
        self.room(capacity)
        self.head = head
        self.tail = tail
        self.fill(state[1], state[2])


@cython.final
@cython.cclass
class Windows:
    """Totals and counts of the entries of a ring, over each of several windows; NaN is no observation.

    BOOKS: entries (mid, return, ofi, mlofi); summed are return, return squared, ofi, mlofi.
    TAPE: entries (amount), the side in the low bits of the time (`time << 2 | side + 1`); summed are the
    amounts of buys, of sells, and all.

    One entry before the longest window stays in the ring: it is the last value at or before t - h.
    """

    def __init__(self, spans_us: tuple[int, ...], entries: int) -> None:
        self.tape = entries == TAPE
        self.shift = _SIDE_BITS if self.tape else 0
        self.ring = Ring(1, self.shift) if self.tape else Ring(4)
        self.sums = 3 if self.tape else 4
        self.count = len(spans_us)
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
    @cython.exceptval(check=False)
    def one(self, k: cython.Py_ssize_t, x: cython.double, step: cython.int) -> cython.void:
        """Take an observation in (step 1), out (-1), or into its total only (0)."""
        if x == x:
            if step >= 0:
                self.seen[k] += step
                self.add(2 * k, x)
            else:
                self.seen[k] -= 1
                if self.seen[k] == 0:
                    self.total[2 * k] = 0.0
                    self.total[2 * k + 1] = 0.0
                else:
                    self.add(2 * k, -x)

    @cython.cfunc
    @cython.exceptval(check=False)
    def move(self, window: cython.Py_ssize_t, slot: cython.Py_ssize_t, step: cython.int) -> cython.void:
        """Take an entry into a window or out of it; as `one`."""
        ring: Ring = self.ring
        k: cython.Py_ssize_t = window * self.sums
        x: cython.double
        if self.tape:
            x = ring.value[slot]
            side: cython.longlong = ring.ts[slot] & 3
            if side == 2:
                self.one(k, x, step)
            elif side == 0:
                self.one(k + 1, x, step)
            self.one(k + 2, x, step)
        else:
            x = ring.value[4 * slot + 1]
            self.one(k, x, step)
            self.one(k + 1, x * x, step)
            self.one(k + 2, ring.value[4 * slot + 2], step)
            self.one(k + 3, ring.value[4 * slot + 3], step)

    @cython.cfunc
    def evict(self, now: cython.longlong) -> cython.int:
        """Let go of what is no longer in (now - h, now]."""
        ring: Ring = self.ring
        w: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        since: cython.longlong
        for w in range(self.count):
            since = now - self.span[w]
            while self.first[w] < ring.head:
                slot = self.first[w] & (ring.capacity - 1)
                if ring.ts[slot] >> self.shift > since:
                    break
                self.first[w] += 1
                self.move(w, slot, -1)
        # Spans ascend, so the last window is the longest.
        if self.first[self.count - 1] - 1 > ring.tail:
            ring.tail = self.first[self.count - 1] - 1
        return 0

    @cython.cfunc
    def enter(self, slot: cython.Py_ssize_t) -> cython.int:
        """Count the entry just pushed in every window."""
        w: cython.Py_ssize_t
        for w in range(self.count):
            self.move(w, slot, 1)
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum every window anew from the ring, in order."""
        ring: Ring = self.ring
        w: cython.Py_ssize_t
        k: cython.Py_ssize_t
        position: cython.longlong
        for k in range(2 * self.count * self.sums):
            self.total[k] = 0.0
        for w in range(self.count):
            for position in range(self.first[w], ring.head):
                self.move(w, position & (ring.capacity - 1), 0)
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

    def load(self, parts: object) -> None:
        """Take over what `dump` returned.

        Raises:
            ValueError: it is not that: as `Ring.load`, or what the ring does not bear out.
        """
        state = part(parts, 6)
        first = block(state[0], "q", self.count)
        seen = block(state[1], "q", self.count * self.sums)
        total = block(state[2], "d", 2 * self.count * self.sums)
        ring = Ring(1, self.shift) if self.tape else Ring(4)
        ring.load(state[3:])
        self.ring = ring
        self.first = first
        self.seen = seen
        self.total = total
        self.prove()

    def prove(self) -> None:
        """Raise ValueError if positions, counts and totals do not belong to the ring."""
        ring: Ring = self.ring
        told = bytes(self.seen)
        totals = bytes(self.total)
        w: cython.Py_ssize_t
        k: cython.Py_ssize_t
        position: cython.longlong
        for w in range(self.count):
            # Spans ascend: a longer window begins no later.
            if not ring.tail <= self.first[w] <= ring.head or (w > 0 and self.first[w] > self.first[w - 1]):
                raise ValueError(f"cannot restore the engine: a window from position {self.first[w]}")
        for k in range(2 * self.count * self.sums):
            if self.total[k] - self.total[k] != 0.0:
                raise ValueError(f"cannot restore the engine: a total is {self.total[k]}")
        # Counting the entries again moves the totals too; they are put back.
        self.seen = integers(self.count * self.sums)
        for w in range(self.count):
            if w > 0:  # a longer window holds all of the shorter one, and some entries before
                for k in range(self.sums):
                    self.seen[w * self.sums + k] = self.seen[(w - 1) * self.sums + k]
            for position in range(self.first[w], ring.head if w == 0 else self.first[w - 1]):
                self.move(w, position & (ring.capacity - 1), 1)
        if bytes(self.seen) != told:
            raise ValueError("cannot restore the engine: the observations told are not those of the ring")
        self.total = block(totals, "d", 2 * self.count * self.sums)
