# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="valid-type,no-any-return"
"""The order book: two sorted arrays, the best level last.

Nearly all updates touch the levels close to the best price. With the best level at the end an insertion or
a removal there moves a handful of numbers; best first it would move the whole side (three times slower on a
real feed). A side is kept as prices and sizes in flat float64 arrays that grow geometrically.

Prices are compared for equality as they were parsed, never after arithmetic.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ASK", "BID", "COMPILED", "Book"]

COMPILED: bool = cython.compiled

BID = 0
ASK = 1

_FIRST_CAPACITY = cython.declare(cython.Py_ssize_t, 256)  # levels per side


@cython.cclass
class Book:
    """The full depth of one symbol. Pure state: feed it the exchange's deltas, read its top.

    >>> book = Book()
    >>> book.apply(BID, 100.0, 1.5)
    >>> book.apply(BID, 101.0, 0.5)
    >>> book.best(BID), book.best(ASK), book.depth(BID)
    ((101.0, 0.5), None, 2)
    """

    # Bids ascend in [0, bids), asks descend in [capacity, capacity + asks): the best is the last of its side.
    _price: cython.double[::1]
    _size: cython.double[::1]
    _out: cython.double[::1]
    _out_bytes: memoryview
    _capacity: cython.Py_ssize_t
    _bids: cython.Py_ssize_t
    _asks: cython.Py_ssize_t

    def __init__(self) -> None:
        self._capacity = _FIRST_CAPACITY
        self._price = _floats(2 * self._capacity)
        self._size = _floats(2 * self._capacity)
        self._bids = 0
        self._asks = 0
        self._reserve_out(64)

    def apply(self, side: cython.int, price: cython.double, size: cython.double) -> None:
        """Set the size at a price; size 0 removes the level (removing what is not there is no error).

        Args:
            side: BID (0) or ASK (1).
            price: quote currency, finite.
            size: base currency, finite, not negative.

        Raises:
            ValueError: another side, or a price or size that is not a number of that kind. The book stays
                as it was.
        """
        _check_side(side)
        _check_level(price, size)
        self._set(side, price, size)

    def apply_many(self, side: cython.int, levels: Buffer) -> None:
        """Apply a packed side (float64 pairs price, size; any order) level by level. Raises as `apply`.

        All levels are checked before the first is applied.
        """
        _check_side(side)
        pairs: cython.const[cython.double][::1] = _pairs(levels)
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = pairs.shape[0] // 2
        for i in range(n):
            _check_level(pairs[2 * i], pairs[2 * i + 1])
        for i in range(n):
            self._set(side, pairs[2 * i], pairs[2 * i + 1])

    def load(self, side: cython.int, levels: Buffer) -> None:
        """Replace a side by a packed side, such as an exchange's snapshot. Raises as `apply`."""
        _check_side(side)
        pairs: cython.const[cython.double][::1] = _pairs(levels)
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = pairs.shape[0] // 2
        for i in range(n):
            _check_level(pairs[2 * i], pairs[2 * i + 1])
        if side == 0:
            self._bids = 0
        else:
            self._asks = 0
        for i in range(n - 1, -1, -1):  # the worst first: each level is then appended at the end
            self._set(side, pairs[2 * i], pairs[2 * i + 1])

    def clear(self) -> None:
        """Forget both sides."""
        self._bids = 0
        self._asks = 0

    def top(self, side: cython.int, levels: cython.Py_ssize_t) -> bytes:
        """Return up to `levels` levels as a packed side: float64 pairs (price, size), best first."""
        _check_side(side)
        n: cython.Py_ssize_t = self._bids if side == 0 else self._asks
        last: cython.Py_ssize_t = n - 1 if side == 0 else self._capacity + n - 1
        i: cython.Py_ssize_t
        if levels < n:
            n = max(levels, 0)
        if 2 * n > self._out.shape[0]:
            self._reserve_out(4 * n)
        for i in range(n):
            self._out[2 * i] = self._price[last - i]
            self._out[2 * i + 1] = self._size[last - i]
        return bytes(self._out_bytes[: 16 * n])

    def best(self, side: cython.int) -> tuple[float, float] | None:
        """Return the best (price, size), None if the side is empty."""
        _check_side(side)
        n: cython.Py_ssize_t = self._bids if side == 0 else self._asks
        if n == 0:
            return None
        at: cython.Py_ssize_t = n - 1 if side == 0 else self._capacity + n - 1
        return (self._price[at], self._size[at])

    def depth(self, side: cython.int) -> int:
        """Return the number of levels."""
        _check_side(side)
        return self._bids if side == 0 else self._asks

    def size_at(self, side: cython.int, price: cython.double) -> float | None:
        """Return the size at a price, None if there is no such level."""
        _check_side(side)
        at: cython.Py_ssize_t = self._find(side, price)
        end: cython.Py_ssize_t = self._bids if side == 0 else self._capacity + self._asks
        if at < end and self._price[at] == price:
            return self._size[at]
        return None

    @cython.cfunc
    @cython.exceptval(check=False)
    def _find(self, side: cython.int, price: cython.double) -> cython.Py_ssize_t:
        """Return where `price` is, or would be inserted."""
        low: cython.Py_ssize_t
        high: cython.Py_ssize_t
        middle: cython.Py_ssize_t
        if side == 0:
            low = 0
            high = self._bids
            while low < high:
                middle = (low + high) // 2
                if self._price[middle] < price:
                    low = middle + 1
                else:
                    high = middle
        else:
            low = self._capacity
            high = low + self._asks
            while low < high:
                middle = (low + high) // 2
                if self._price[middle] > price:
                    low = middle + 1
                else:
                    high = middle
        return low

    @cython.cfunc
    def _set(self, side: cython.int, price: cython.double, size: cython.double) -> cython.int:
        at: cython.Py_ssize_t = self._find(side, price)
        end: cython.Py_ssize_t = self._bids if side == 0 else self._capacity + self._asks
        i: cython.Py_ssize_t
        if at < end and self._price[at] == price:
            if size != 0.0:
                self._size[at] = size
                return 0
            for i in range(at, end - 1):
                self._price[i] = self._price[i + 1]
                self._size[i] = self._size[i + 1]
            self._count(side, -1)
            return 0
        if size == 0.0:
            return 0
        if (self._bids if side == 0 else self._asks) == self._capacity:
            old: cython.Py_ssize_t = self._capacity
            self._grow()
            if side != 0:
                at += old
                end += old
        for i in range(end, at, -1):
            self._price[i] = self._price[i - 1]
            self._size[i] = self._size[i - 1]
        self._price[at] = price
        self._size[at] = size
        self._count(side, 1)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def _count(self, side: cython.int, by: cython.int) -> cython.void:
        if side == 0:
            self._bids += by
        else:
            self._asks += by

    @cython.cfunc
    def _grow(self) -> cython.int:
        """Double the capacity of both sides."""
        old: cython.Py_ssize_t = self._capacity
        price: cython.double[::1] = _floats(4 * old)
        size: cython.double[::1] = _floats(4 * old)
        i: cython.Py_ssize_t
        for i in range(self._bids):
            price[i] = self._price[i]
            size[i] = self._size[i]
        for i in range(self._asks):
            price[2 * old + i] = self._price[old + i]
            size[2 * old + i] = self._size[old + i]
        self._price = price
        self._size = size
        self._capacity = 2 * old
        return 0

    @cython.cfunc
    def _reserve_out(self, values: cython.Py_ssize_t) -> cython.int:
        out = _floats(values)
        self._out = out
        self._out_bytes = out.cast("B")
        return 0


@cython.cfunc
def _check_side(side: cython.int) -> cython.int:
    if side != 0 and side != 1:  # noqa: PLR1714  (a tuple would be built in C)
        raise ValueError(f"cannot use book side {side}: 0 is bids, 1 is asks")
    return 0


@cython.cfunc
def _check_level(price: cython.double, size: cython.double) -> cython.int:
    # x - x is 0 for every finite x, and nan for nan and the infinities.
    if price - price != 0.0:
        raise ValueError(f"cannot apply a level at price {price}: it must be finite")
    if size - size != 0.0 or size < 0.0:
        raise ValueError(f"cannot apply size {size} at price {price}: it must be finite and at least 0")
    return 0


def _floats(count: int) -> memoryview[float]:
    return memoryview(array("d", bytes(8 * count)))


def _pairs(levels: Buffer) -> memoryview[float]:
    view = memoryview(levels).cast("B")
    if view.nbytes % 16:
        raise ValueError(f"cannot read a packed side of {view.nbytes} bytes: levels take 16 each")
    return view.cast("d")
