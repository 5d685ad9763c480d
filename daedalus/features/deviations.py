# cython: language_level=3
# ruff: noqa: ERA001, PLR0124
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Means and standard deviations over one window of observations.

A variance from running sums is the small difference of two large numbers. So both sums are kept to twice the
precision of a float: each is a pair (sum, error of the sum), squares enter with their own rounding error
(Dekker's product), and the difference is taken of the pairs. What is left of a variance that is 0 is then far
below what any data can mean, and the test for it is relative.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.math import sqrt

from daedalus.features.checkpoint import block, part
from daedalus.features.levels import floats, integers
from daedalus.features.window import Ring

__all__ = ["Deviations"]

_NAN = cython.declare(cython.double, float("nan"))
_HALVES = cython.declare(cython.double, 134217729.0)  # 2^27 + 1 splits a float in two halves of 26 bits
# What rounding leaves of a variance that is 0, relative to the mean square.
_NOTHING = cython.declare(cython.double, 1e-24)
_SUMS = cython.declare(cython.Py_ssize_t, 4)  # per column: sum, its error, sum of squares, its error


@cython.final
@cython.cclass
class Deviations:
    """A ring of observations of some columns in (t - h, t], and their sums. A NaN is no observation."""

    def __init__(self, span_us: int, width: int) -> None:
        self.span = span_us
        self.width = width
        self.ring = Ring(width)
        self.seen = integers(width)
        self.total = floats(_SUMS * width)
        self.low = 0.0  # what the last product lost

    @cython.cfunc
    @cython.exceptval(check=False)
    def product(self, x: cython.double, y: cython.double) -> cython.double:
        """Return x y; `low` is what rounding took from it."""
        high: cython.double = x * y
        c: cython.double = _HALVES * x
        x_0: cython.double = c - (c - x)
        x_1: cython.double = x - x_0
        c = _HALVES * y
        y_0: cython.double = c - (c - y)
        y_1: cython.double = y - y_0
        self.low = ((x_0 * y_0 - high) + x_0 * y_1 + x_1 * y_0) + x_1 * y_1
        return high

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
    def count(self, slot: cython.Py_ssize_t, sign: cython.int) -> cython.void:
        """Add an entry to the sums, or take it away."""
        c: cython.Py_ssize_t
        x: cython.double
        high: cython.double
        for c in range(self.width):
            x = self.ring.value[slot * self.width + c]
            if x == x:
                high = self.product(x, x)
                self.add(_SUMS * c, sign * x)
                self.add(_SUMS * c + 2, sign * high)
                self.total[_SUMS * c + 3] += sign * self.low

    @cython.cfunc
    def evict(self, now: cython.longlong) -> cython.int:
        """Let go of what is no longer in (now - h, now]."""
        ring: Ring = self.ring
        slot: cython.Py_ssize_t
        c: cython.Py_ssize_t
        i: cython.Py_ssize_t
        while ring.tail < ring.head:
            slot = ring.tail & (ring.capacity - 1)
            if ring.ts[slot] > now - self.span:
                break
            self.count(slot, -1)
            for c in range(self.width):
                if ring.value[slot * self.width + c] == ring.value[slot * self.width + c]:
                    self.seen[c] -= 1
                    if self.seen[c] == 0:
                        for i in range(_SUMS * c, _SUMS * (c + 1)):
                            self.total[i] = 0.0
            ring.tail += 1
        return 0

    @cython.cfunc
    def enter(self, slot: cython.Py_ssize_t) -> cython.int:
        """Count the entry just pushed."""
        c: cython.Py_ssize_t
        x: cython.double
        for c in range(self.width):
            x = self.ring.value[slot * self.width + c]
            if not x - x == 0.0:  # nor is what a float cannot hold
                self.ring.value[slot * self.width + c] = _NAN
            else:
                self.seen[c] += 1
        self.count(slot, 1)
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum the window anew from the ring, in order."""
        i: cython.Py_ssize_t
        position: cython.longlong
        for i in range(_SUMS * self.width):
            self.total[i] = 0.0
        for position in range(self.ring.tail, self.ring.head):
            self.count(position & (self.ring.capacity - 1), 1)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def mean(self, column: cython.Py_ssize_t) -> cython.double:
        """Return the mean of a column; NaN without observations."""
        if self.seen[column] == 0:
            return _NAN
        return (self.total[_SUMS * column] + self.total[_SUMS * column + 1]) / self.seen[column]

    @cython.cfunc
    @cython.exceptval(check=False)
    def deviation(self, column: cython.Py_ssize_t) -> cython.double:
        """Return the sample standard deviation of a column; NaN below two observations."""
        at: cython.Py_ssize_t = _SUMS * column
        n: cython.double = self.seen[column]
        if n < 2.0:
            return _NAN
        # n (n - 1) variance = n sum x^2 - (sum x)^2, each as a pair.
        s: cython.double = self.total[at] + self.total[at + 1]
        s_low: cython.double = self.total[at + 1] - (s - self.total[at])
        q: cython.double = self.total[at + 2] + self.total[at + 3]
        q_low: cython.double = self.total[at + 3] - (q - self.total[at + 2])
        square: cython.double = self.product(s, s)
        square_low: cython.double = self.low + 2.0 * s * s_low
        whole: cython.double = self.product(n, q)
        whole_low: cython.double = self.low + n * q_low
        d: cython.double = (whole - square) + (whole_low - square_low)
        if not whole - whole == 0.0:  # squares beyond what a float holds
            return _NAN
        if d <= 0.0 or d <= _NOTHING * whole:
            return 0.0
        return sqrt(d / (n * (n - 1.0)))

    def dump(self) -> list[bytes]:
        """Return all state; the counts follow from the ring."""
        return [bytes(self.total), *self.ring.dump()]

    def load(self, parts: object) -> None:
        """Take over what `dump` returned, into a new object.

        Raises:
            ValueError: it is not that.
        """
        position: cython.longlong
        at: cython.Py_ssize_t
        c: cython.Py_ssize_t
        state = part(parts, 4)
        total = block(state[0], "d", _SUMS * self.width)
        self.ring.load(state[1:])
        self.total = total
        for position in range(self.ring.tail, self.ring.head):
            at = (position & (self.ring.capacity - 1)) * self.width
            for c in range(self.width):
                if self.ring.value[at + c] == self.ring.value[at + c]:
                    self.seen[c] += 1
