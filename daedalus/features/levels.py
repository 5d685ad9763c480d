# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="valid-type,no-any-return"
"""The captured book of one update: both sides, best first, as the kernels read them.

`price` and `size` are flat: bids at [0, bids), asks at [capacity, capacity + asks). Levels without a
positive, finite price and size are dropped on entry: they are no levels.
"""

from __future__ import annotations

from array import array

import cython

__all__ = ["Levels", "floats", "integers"]

INFINITY = cython.declare(cython.double, float("inf"))


def floats(count: int) -> memoryview[float]:
    """Return `count` float64 zeros."""
    return memoryview(array("d", bytes(8 * count)))


def integers(count: int) -> memoryview[int]:
    """Return `count` int64 zeros."""
    return memoryview(array("q", bytes(8 * count)))


@cython.final
@cython.cclass
class Levels:
    """Both sides of one book; grows geometrically and never shrinks."""

    def __init__(self) -> None:
        self.capacity = 64
        self.price = floats(128)
        self.size = floats(128)
        self.bids = 0
        self.asks = 0

    @cython.cfunc
    def reserve(self, levels: cython.Py_ssize_t) -> cython.int:
        """Make room for `levels` per side. What was in it is gone."""
        if levels > self.capacity:
            while self.capacity < levels:
                self.capacity *= 2
            self.price = floats(2 * self.capacity)
            self.size = floats(2 * self.capacity)
            self.bids = 0
            self.asks = 0
        return 0

    @cython.cfunc
    def split(
        self,
        side: cython.int,
        prices: cython.const[cython.double][::1],
        p: cython.Py_ssize_t,
        sizes: cython.const[cython.double][::1],
        s: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
    ) -> cython.int:
        """Take a side from prices[p:p + count] and sizes[s:s + count]; there must be room (`reserve`)."""
        at: cython.Py_ssize_t = 0 if side == 0 else self.capacity
        n: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        for i in range(count):
            if sizes[s + i] > 0.0 and sizes[s + i] < INFINITY and 0.0 < prices[p + i] < INFINITY:
                self.price[at + n] = prices[p + i]
                self.size[at + n] = sizes[s + i]
                n += 1
        if side == 0:
            self.bids = n
        else:
            self.asks = n
        return 0

    @cython.cfunc
    def packed(self, side: cython.int, packed: bytes) -> cython.int:
        """Take a side from packed (price, size) pairs; there must be room (`reserve`).

        Raises:
            ValueError: the bytes are no whole number of pairs.
        """
        at: cython.Py_ssize_t = 0 if side == 0 else self.capacity
        count: cython.Py_ssize_t = len(packed)
        n: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        price: cython.double
        size: cython.double
        if count % 16 != 0:
            raise ValueError(f"cannot read a side of {count} bytes: a level takes 16")
        if cython.compiled:  # a view of the bytes costs more than reading them
            pairs: cython.p_double = cython.cast(cython.p_double, cython.cast(cython.p_char, packed))
        else:
            pairs = memoryview(packed).cast("d")
        for i in range(count // 16):
            price = pairs[2 * i]
            size = pairs[2 * i + 1]
            if 0.0 < size < INFINITY and 0.0 < price < INFINITY:
                self.price[at + n] = price
                self.size[at + n] = size
                n += 1
        if side == 0:
            self.bids = n
        else:
            self.asks = n
        return 0
