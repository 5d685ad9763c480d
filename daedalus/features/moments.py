# cython: language_level=3
# ruff: noqa: ERA001, PLR0124
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Windows of the book: realized volatility on the grid, means and deviations, the spread's regime.

Realized volatility and its part without jumps (bipower variation) count the finished seconds of a window. The
rest looks at every valid update, emitted or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython
from cython.cimports.libc.math import sqrt

from daedalus.features.checkpoint import part
from daedalus.features.deviations import Deviations
from daedalus.features.realized import Realized
from daedalus.features.regime import Regime

if TYPE_CHECKING:
    from daedalus.features.grid import Grid
    from daedalus.features.measure import Measure
    from daedalus.features.params import Params
    from daedalus.features.rolling import Rolling
    from daedalus.features.window import Ring

__all__ = ["WindowsOfBook"]

_MINUTE_US = cython.declare(cython.longlong, 60_000_000)
_COVERED = cython.declare(cython.double, 0.9)  # a realized volatility of less says too little
_LEAST = cython.declare(cython.longlong, 20)  # returns of a bipower variation
_HALF_PI = cython.declare(cython.double, 1.5707963267948966)
_PER_SPAN = cython.declare(cython.Py_ssize_t, 3)


@cython.final
@cython.cclass
class WindowsOfBook:
    """Fixed windows over valid updates, and the windows of finished seconds."""

    def __init__(self, row: memoryview[float], at: int, params: Params) -> None:
        self.row = row
        self.at = at
        spans = tuple(round(h * 1e6) for h in params.horizons_s)
        lasting = tuple(span for span in spans if span >= _MINUTE_US)
        self.count = len(lasting)
        self.brief = len(spans) - self.count  # horizons without columns here; they ascend
        self.realized = Realized(lasting)
        self.regime = Regime(params)
        self.depth = Deviations(self.regime.span, 1)
        self.minute = Deviations(_MINUTE_US, 3)  # slope of bids, of asks; cog_vs_mid

    @cython.cfunc
    def hole(self, start: cython.longlong, end: cython.longlong) -> cython.int:  # noqa: ARG002
        """Note that (start, end] was not observed; start 0: nothing was, before `end`."""
        self.regime.hole(start)
        return 0

    @cython.cfunc
    def seconds(self, grid: Grid, fresh: cython.Py_ssize_t) -> cython.int:
        """Count the newest `fresh` seconds of the grid."""
        ring: Ring = grid.seconds
        position: cython.longlong
        slot: cython.Py_ssize_t
        for position in range(ring.head - fresh, ring.head):
            slot = position & (ring.capacity - 1)
            if ring.value[slot] == ring.value[slot]:
                self.realized.enter(ring.ts[slot], ring.value[slot])
        return 0

    @cython.cfunc
    def step(self, ts: cython.longlong, valid: cython.bint, measure: Measure) -> cython.int:
        """Take what `Measure` found in this update, emitted or not."""
        slot: cython.Py_ssize_t
        self.realized.evict(ts)
        self.depth.evict(ts)
        self.minute.evict(ts)
        self.regime.step(ts, valid, measure.relative_spread)
        if valid:
            if measure.depth_5 == measure.depth_5:
                slot = self.depth.ring.push(ts)
                self.depth.ring.value[slot] = measure.depth_5
                self.depth.enter(slot)
            slot = self.minute.ring.push(ts)
            self.minute.ring.value[3 * slot] = measure.slope[0]
            self.minute.ring.value[3 * slot + 1] = measure.slope[1]
            self.minute.ring.value[3 * slot + 2] = measure.cog
            self.minute.enter(slot)
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum every window anew, in order."""
        self.realized.rebase()
        self.depth.rebase()
        self.minute.rebase()
        return 0

    @cython.cfunc
    def write(self, ts: cython.longlong, valid: cython.bint, grid: Grid, rolling: Rolling) -> cython.int:
        """Write the columns from `at` on."""
        c: cython.Py_ssize_t = self.at
        w: cython.Py_ssize_t
        n: cython.longlong
        standing: cython.double = grid.standing(ts)
        squares: cython.double
        bipower: cython.double
        if self.at < 0:
            return 0
        for w in range(self.count):
            n = self.realized.returns(w) + (standing == standing)
            if n > 0 and rolling.covered(self.brief + w, ts) >= _COVERED:
                squares = self.realized.squares(w)
                bipower = self.realized.pairs(w)
                if standing == standing:
                    squares += standing * standing
                    bipower += abs(standing) * abs(self.realized.before(ts))
                squares = max(squares, 0.0)  # cancellation may leave less
                self.row[c] = sqrt(squares)
                if n >= _LEAST:
                    bipower = _HALF_PI * (n / (n - 1.0)) * max(bipower, 0.0)
                    self.row[c + 1] = bipower
                    self.row[c + 2] = max(squares - bipower, 0.0)
            c += _PER_SPAN
        self.row[c] = self.depth.deviation(0)
        if valid:
            self.row[c + 1] = self.regime.percentile
            self.row[c + 2] = self.regime.now()
        self.row[c + 3] = self.regime.share(1, ts)
        self.row[c + 4] = self.regime.share(3, ts)
        c += 5
        for w in range(3):
            self.row[c] = self.minute.mean(w)
            self.row[c + 1] = self.minute.deviation(w)
            c += 2
        return 0

    def dump(self) -> list[bytes]:
        """Return all state."""
        return [*self.realized.dump(), *self.regime.dump(), *self.depth.dump(), *self.minute.dump()]

    def load(self, parts: object) -> None:
        """Take over what `dump` returned, into a new object.

        Raises:
            ValueError: it is not that.
        """
        state = part(parts, 20)
        self.realized.load(state[:5])
        self.regime.load(state[5:12])
        self.depth.load(state[12:16])
        self.minute.load(state[16:])
