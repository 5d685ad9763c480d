# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="valid-type,no-any-return,index"
"""The shape of one book: everything that needs no memory (features page, Book shape).

`write` fills its part of the row from the levels of one update, after `Measure` has taken them. The row comes
in as NaN, so a column that is not written is null. Column numbers follow the order in which
`catalogue.shape` declares the columns:

    4 per level | prices | imbalance_L | imbalance_top | bands | sides, bid and ask in turn | across
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from daedalus.features.elementary import exp, ln
from daedalus.features.levels import Levels, floats, integers

if TYPE_CHECKING:
    from daedalus.features.measure import Measure

__all__ = ["Shape"]

# Columns of each part.
_PER_LEVEL = cython.declare(cython.Py_ssize_t, 4)
_PRICES = cython.declare(cython.Py_ssize_t, 8)
_PER_BAND = cython.declare(cython.Py_ssize_t, 4)
_SIDES = cython.declare(cython.Py_ssize_t, 13)
_REGRESSION_LEVELS = cython.declare(cython.Py_ssize_t, 10)
_HALF = cython.declare(cython.double, 0.5 - 1e-12)


@cython.final
@cython.cclass
class Shape:
    """Writes the book-shape columns of the current levels into the row."""

    def __init__(
        self,
        levels: Levels,
        measure: Measure,
        row: memoryview[float],
        max_levels: int,
        edges: tuple[float, ...],
        k: float,
    ) -> None:
        self.levels = levels
        self.measure = measure
        self.row = row
        self.max_levels = max_levels
        self.bands = len(edges)
        self.edges = floats(self.bands)
        for i, edge in enumerate(edges):
            self.edges[i] = edge
        self.widest = edges[len(edges) - 1]
        self.smart_k = k
        self.band = floats(2 * self.bands)
        self.near = floats(4)  # volume below 10 and 50 bps, bids then asks
        self.room = 64  # levels a side in `known` and `weight`; grows
        self.known = floats(2 * self.room)  # distances whose exp is in `weight`
        self.weight = floats(2 * self.room)
        self.work = floats(max_levels)
        self.rank = integers(max_levels)
        self.log_size = floats(2 * _REGRESSION_LEVELS)
        self.log_value = floats(2 * _REGRESSION_LEVELS)
        self.imbalance_at = _PER_LEVEL * max_levels + _PRICES
        self.bands_at = self.imbalance_at + max_levels + 3
        self.sides_at = self.bands_at + _PER_BAND * self.bands
        self.both_at = self.sides_at + 2 * _SIDES

    @cython.cfunc
    def write(self, mid: cython.double, valid: cython.bint, complete: cython.bint) -> cython.int:
        """Write all columns of the book just measured. `mid` counts only if it is valid."""
        book: Levels = self.levels
        bids: cython.Py_ssize_t = book.bids
        asks: cython.Py_ssize_t = book.asks
        ask_0: cython.Py_ssize_t = book.capacity
        i: cython.Py_ssize_t
        for i in range(min(bids, self.max_levels)):
            self.row[4 * i] = book.price[i]
            self.row[4 * i + 1] = book.size[i]
        for i in range(min(asks, self.max_levels)):
            self.row[4 * i + 2] = book.price[ask_0 + i]
            self.row[4 * i + 3] = book.size[ask_0 + i]
        self.one_side(0, bids)
        self.one_side(1, asks)
        if valid:
            self.prices(mid)
            self.distances(0, bids, mid)
            self.distances(1, asks, mid)
            self.across(complete)
        elif bids == 0 or asks == 0:
            self.row[self.both_at + 1] = 0.0
        return 0

    @cython.cfunc
    def one_side(self, side: cython.int, n: cython.Py_ssize_t) -> cython.int:
        """Write what needs one side only, and no distance."""
        book: Levels = self.levels
        at: cython.Py_ssize_t = 0 if side == 0 else book.capacity
        c: cython.Py_ssize_t = self.sides_at + side
        m: cython.Py_ssize_t = min(n, self.max_levels)
        i: cython.Py_ssize_t
        self.row[c + 4] = n
        if n == 0:
            return 0
        total: cython.double = 0.0
        squares: cython.double = 0.0
        wall: cython.Py_ssize_t = 0
        q: cython.double
        for i in range(m):
            q = book.size[at + i]
            total += q
            squares += q * q
            if q > book.size[at + wall]:
                wall = i
        self.row[c + 2] = total
        cumulative: cython.double = 0.0
        for i in range(m):
            cumulative += book.size[at + i]
            if cumulative >= _HALF * total:
                self.row[c + 6] = i
                break
        if total * total > 0.0:
            self.row[c + 8] = squares / (total * total)
        self.row[c + 10] = self.gini(at, m, total)
        volume: cython.double = 0.0
        value: cython.double = 0.0
        for i in range(min(n, 5)):
            volume += book.size[at + i]
            value += book.price[at + i] * book.size[at + i]
        self.row[c + 12] = value / volume
        if n >= 5:
            self.row[c + 16] = abs(book.price[at + 4] - book.price[at]) / volume
            self.row[c + 20] = book.size[at + 4] / book.size[at]
        self.row[c + 24] = wall
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def gini(self, at: cython.Py_ssize_t, n: cython.Py_ssize_t, total: cython.double) -> cython.double:
        """Return 2 sum(i x_i) / (n sum(x)) - (n + 1)/n over the sizes in ascending order, i from 1."""
        book: Levels = self.levels
        i: cython.Py_ssize_t
        j: cython.Py_ssize_t
        above: cython.longlong
        ahead: cython.longlong
        q: cython.double
        # Sort by counting who is above whom: more comparisons than by insertion, but no jump to mispredict.
        for i in range(n):
            q = book.size[at + i]
            ahead = 0
            for j in range(i):
                above = book.size[at + j] > q
                self.rank[j] += above
                ahead += above
            self.rank[i] = i - ahead
        for i in range(n):
            self.work[self.rank[i]] = book.size[at + i]
        weighted: cython.double = 0.0
        for i in range(n):
            weighted += (2.0 * i + 1.0 - n) * self.work[i]
        return max(weighted / (n * total), 0.0)

    @cython.cfunc
    def prices(self, mid: cython.double) -> cython.int:
        """Write prices, spreads and imbalances of a valid book."""
        book: Levels = self.levels
        ask_0: cython.Py_ssize_t = book.capacity
        c: cython.Py_ssize_t = _PER_LEVEL * self.max_levels
        bid_size: cython.double = book.size[0]
        ask_size: cython.double = book.size[ask_0]
        bids: cython.Py_ssize_t = min(book.bids, self.max_levels)
        asks: cython.Py_ssize_t = min(book.asks, self.max_levels)
        spread: cython.double = self.measure.spread
        # The same as (qb Pa + qa Pb)/(qb + qa), without the cancellation: equal sizes give exactly the mid.
        tilt: cython.double = 0.5 * spread * ((bid_size - ask_size) / (bid_size + ask_size))
        i: cython.Py_ssize_t
        q: cython.double
        self.row[c] = mid
        self.row[c + 1] = spread
        self.row[c + 2] = spread / mid
        self.row[c + 3] = 1e4 * spread / mid
        self.row[c + 4] = mid + tilt
        self.row[c + 5] = tilt
        self.row[c + 6] = self.measure.weighted_mid
        self.row[c + 7] = self.measure.cog
        c = self.imbalance_at
        for i in range(min(bids, asks)):
            q = book.size[ask_0 + i]
            self.row[c + i] = (book.size[i] - q) / (book.size[i] + q)
        c += self.max_levels
        bid_size = 0.0
        ask_size = 0.0
        for i in range(10):
            if i < bids:
                bid_size += book.size[i]
            if i < asks:
                ask_size += book.size[ask_0 + i]
            if i == 2:
                self.row[c] = (bid_size - ask_size) / (bid_size + ask_size)
            elif i == 4:
                self.row[c + 1] = (bid_size - ask_size) / (bid_size + ask_size)
            elif i == 9:
                self.row[c + 2] = (bid_size - ask_size) / (bid_size + ask_size)
        return 0

    @cython.cfunc
    def distances(self, side: cython.int, n: cython.Py_ssize_t, mid: cython.double) -> cython.int:
        """Write what needs distances from the mid on one side."""
        book: Levels = self.levels
        at: cython.Py_ssize_t = 0 if side == 0 else book.capacity
        c: cython.Py_ssize_t = self.sides_at + side
        b: cython.Py_ssize_t = side * self.bands
        measure: Measure = self.measure
        far: cython.double[::1] = measure.far
        f: cython.Py_ssize_t = side * measure.room
        memo: cython.Py_ssize_t
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t = 0
        d: cython.double
        q: cython.double
        smart: cython.double = 0.0
        near_10: cython.double = 0.0
        near_50: cython.double = 0.0
        scan: cython.double = max(self.widest, 50.0)
        for i in range(self.bands):
            self.band[b + i] = 0.0
        if self.room < n:
            self.room = 2 * n
            self.known = floats(2 * self.room)
            self.weight = floats(2 * self.room)
        memo = side * self.room
        for i in range(measure.ranged[side], n):
            far[f + i] = 1e4 * abs(book.price[at + i] - mid) / mid
        for i in range(n):
            d = far[f + i]
            if d >= scan:
                break
            q = book.size[at + i]
            if d < 10.0:
                near_10 += q
            if d < 50.0:
                near_50 += q
            if d < self.widest:
                while d >= self.edges[k]:
                    k += 1
                self.band[b + k] += q
                # Most distances are those of the update before. One of 0 is never remembered: so it begins.
                if self.known[memo + i] != d or d == 0.0:
                    self.known[memo + i] = d
                    self.weight[memo + i] = exp(-self.smart_k * d * 1e-4)
                smart += q * self.weight[memo + i]
        self.near[2 * side] = near_10
        self.near[2 * side + 1] = near_50
        self.row[c] = measure.reach[side]
        self.row[c + 14] = smart
        self.row[c + 18] = measure.slope[side]
        if n >= 3:
            self.decay(side, min(n, _REGRESSION_LEVELS))
        return 0

    @cython.cfunc
    def decay(self, side: cython.int, n: cython.Py_ssize_t) -> cython.int:
        """Write the OLS slope of ln size on distance, over n levels."""
        book: Levels = self.levels
        at: cython.Py_ssize_t = 0 if side == 0 else book.capacity
        measure: Measure = self.measure
        f: cython.Py_ssize_t = side * measure.room
        memo: cython.Py_ssize_t = side * _REGRESSION_LEVELS
        i: cython.Py_ssize_t
        q: cython.double
        center: cython.double = measure.center[side]
        l_mean: cython.double = 0.0
        for i in range(n):
            q = book.size[at + i]
            # Most sizes are those of the update before: remember their logarithms.
            if self.log_size[memo + i] != q:
                self.log_size[memo + i] = q
                self.log_value[memo + i] = ln(q)
            l_mean += self.log_value[memo + i]
        l_mean /= n
        xl: cython.double = 0.0
        for i in range(n):
            xl += (measure.far[f + i] - center) * (self.log_value[memo + i] - l_mean)
        if measure.varies[side]:
            self.row[self.sides_at + side + 22] = (0.0 - xl) / measure.variance[side]
        return 0

    @cython.cfunc
    def across(self, complete: cython.bint) -> cython.int:
        """Write bands and everything else that takes both sides of a valid book."""
        bid_reach: cython.double = self.measure.reach[0]
        ask_reach: cython.double = self.measure.reach[1]
        s: cython.Py_ssize_t = self.sides_at
        c: cython.Py_ssize_t = self.bands_at
        i: cython.Py_ssize_t
        a: cython.double
        b: cython.double
        for i in range(self.bands):
            b = self.band[i]
            a = self.band[self.bands + i]
            if complete or bid_reach >= self.edges[i]:
                self.row[c] = b
            if complete or ask_reach >= self.edges[i]:
                self.row[c + 1] = a
                if complete or bid_reach >= self.edges[i]:
                    if b + a > 0.0:
                        self.row[c + 2] = (b - a) / (b + a)
                    self.row[c + 3] = b + a
            c += _PER_BAND
        c = self.both_at
        b = self.row[s + 2]
        a = self.row[s + 3]
        self.row[c] = (b - a) / (b + a)
        self.row[c + 1] = min(self.levels.bids, self.levels.asks)
        self.row[c + 2] = self.row[s + 13] - self.row[s + 12]
        b = self.row[s + 14]
        a = self.row[s + 15]
        self.row[c + 3] = b + a
        if b + a > 0.0:
            self.row[c + 4] = (b - a) / (b + a)
        # A null slope is NaN and fails the comparison.
        if abs(self.row[s + 19]) > 0.0:
            self.row[c + 5] = self.row[s + 18] / self.row[s + 19]
        top_5: cython.double = self.row[self.imbalance_at + self.max_levels + 1]
        tilt: cython.double = self.row[_PER_LEVEL * self.max_levels + 5]
        self.row[c + 6] = top_5 if tilt > 0.0 else (-top_5 if tilt < 0.0 else 0.0)
        reach: cython.double = bid_reach if bid_reach < ask_reach else ask_reach
        spread: cython.double = self.measure.spread
        b = self.measure.near[0] + self.measure.near[1]
        if (complete or reach >= 50.0) and self.near[1] + self.near[3] > 0.0:
            self.row[c + 7] = b / (self.near[1] + self.near[3])
        if (complete or reach >= 5.0) and b > 0.0:
            self.row[c + 8] = spread / b
        if (complete or reach >= 10.0) and self.near[0] + self.near[2] > 0.0:
            self.row[c + 9] = spread / (self.near[0] + self.near[2])
        return 0
