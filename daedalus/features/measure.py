# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="valid-type,no-any-return,index"
"""What windows and bars need of every update, emitted or not: spreads, imbalance, slopes, depth near the mid.

`Shape` writes the same values where a row is due, and goes on from the distances worked out here.
"""

from __future__ import annotations

import cython

from daedalus.features.levels import Levels, floats, integers

__all__ = ["Measure"]

_NAN = cython.declare(cython.double, float("nan"))
_REGRESSION_LEVELS = cython.declare(cython.Py_ssize_t, 10)
# Relative, so that it means the same in every unit: distances that differ by less are one distance.
_NO_VARIANCE = cython.declare(cython.double, 1e-24)


@cython.final
@cython.cclass
class Measure:
    """The measures of the book last taken; null is NaN, and everything is null of an invalid book."""

    def __init__(self, levels: Levels, max_levels: int) -> None:
        self.levels = levels
        self.max_levels = max_levels
        self.room = 64  # levels a side in `far`; grows
        self.far = floats(2 * self.room)  # distances from the mid in bps, bids then asks
        self.ranged = integers(2)  # how many of them are worked out, per side
        self.reach = floats(2)  # bps
        self.near = floats(2)  # size below 5 bps
        self.slope = floats(2)  # of the regression of cumulative size on distance, and of its distances:
        self.center = floats(2)  # the mean
        self.variance = floats(2)  # the sum of squares about it
        self.varies = integers(2)  # 1: enough for a slope
        self.spread = self.relative_spread = self.imbalance = _NAN
        self.weighted_mid = self.cog = self.depth_5 = _NAN

    @cython.cfunc
    def take(self, mid: cython.double, valid: cython.bint, complete: cython.bint) -> cython.int:
        """Take the book in `levels`; `complete`: it reaches everywhere."""
        book: Levels = self.levels
        ask_0: cython.Py_ssize_t = book.capacity
        bids: cython.Py_ssize_t = min(book.bids, self.max_levels)
        asks: cython.Py_ssize_t = min(book.asks, self.max_levels)
        i: cython.Py_ssize_t
        longest: cython.Py_ssize_t = max(book.bids, book.asks)
        self.spread = self.relative_spread = self.imbalance = _NAN
        self.weighted_mid = self.cog = self.depth_5 = _NAN
        self.slope[0] = self.slope[1] = _NAN
        if not valid:
            return 0
        if self.room < longest:
            self.room = 2 * longest
            self.far = floats(2 * self.room)
        self.spread = book.price[ask_0] - book.price[0]
        self.relative_spread = self.spread / mid
        self.imbalance = (book.size[0] - book.size[ask_0]) / (book.size[0] + book.size[ask_0])
        value: cython.double = 0.0
        volume: cython.double = 0.0
        for i in range(bids):
            value += book.price[i] * book.size[i]
            volume += book.size[i]
        for i in range(asks):
            value += book.price[ask_0 + i] * book.size[ask_0 + i]
            volume += book.size[ask_0 + i]
        self.weighted_mid = value / volume
        self.cog = 1e4 * (value / volume - mid) / mid
        self.side(0, book.bids, mid)
        self.side(1, book.asks, mid)
        if complete or (self.reach[0] >= 5.0 and self.reach[1] >= 5.0):
            self.depth_5 = self.near[0] + self.near[1]
        return 0

    @cython.cfunc
    def side(self, side: cython.int, n: cython.Py_ssize_t, mid: cython.double) -> cython.int:
        """Work out distances as far as needed, the reach, the depth below 5 bps and the slope of one side."""
        book: Levels = self.levels
        at: cython.Py_ssize_t = 0 if side == 0 else book.capacity
        m: cython.Py_ssize_t = min(n, _REGRESSION_LEVELS)
        f: cython.Py_ssize_t = side * self.room
        i: cython.Py_ssize_t
        d: cython.double
        near: cython.double = 0.0
        for i in range(m):
            self.far[f + i] = 1e4 * abs(book.price[at + i] - mid) / mid
        self.ranged[side] = m
        for i in range(n):
            if i >= m:
                self.far[f + i] = 1e4 * abs(book.price[at + i] - mid) / mid
                self.ranged[side] = i + 1
            if self.far[f + i] >= 5.0:
                break
            near += book.size[at + i]
        self.near[side] = near
        self.varies[side] = 0
        self.reach[side] = 1e4 * abs(book.price[at + n - 1] - mid) / mid
        if m < 3:
            return 0
        x_mean: cython.double = 0.0
        y_mean: cython.double = 0.0
        cumulative: cython.double = 0.0
        for i in range(m):
            cumulative += book.size[at + i]
            x_mean += self.far[f + i]
            y_mean += cumulative
        x_mean /= m
        y_mean /= m
        xx: cython.double = 0.0
        xy: cython.double = 0.0
        cumulative = 0.0
        for i in range(m):
            d = self.far[f + i] - x_mean
            cumulative += book.size[at + i]
            xx += d * d
            xy += d * (cumulative - y_mean)
        self.center[side] = x_mean
        self.variance[side] = xx
        if xx > _NO_VARIANCE * m * x_mean * x_mean:
            self.slope[side] = xy / xx
            self.varies[side] = 1
        return 0
