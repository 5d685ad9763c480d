# cython: language_level=3
# ruff: noqa: ERA001, PLR0124
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Whether the spread is tight or wide, by its rank in a window or by fixed thresholds, and for how long.

The regime of a valid update lasts until the next one, through invalid books too, and ends where a hole
begins: of a hole's time no regime is known. Time is counted in whole microseconds, so nothing drifts and
nothing has to be summed anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from daedalus.features.checkpoint import block, part
from daedalus.features.levels import integers
from daedalus.features.ranks import Ranks
from daedalus.features.window import Ring

if TYPE_CHECKING:
    from daedalus.features.params import Params

__all__ = ["Regime"]

_NAN = cython.declare(cython.double, float("nan"))
_INFINITY = cython.declare(cython.double, float("inf"))
_LATEST_US = cython.declare(cython.longlong, 1 << 53)
_LEAST = cython.declare(cython.Py_ssize_t, 30)  # observations of a percentile
# A regime; the column is one of these less _NORMAL.
_UNKNOWN = cython.declare(cython.longlong, 0)
_TIGHT = cython.declare(cython.longlong, 1)
_NORMAL = cython.declare(cython.longlong, 2)
_WIDE = cython.declare(cython.longlong, 3)
# What `whole` holds.
_NOW = cython.declare(cython.Py_ssize_t, 0)  # the regime
_SINCE = cython.declare(cython.Py_ssize_t, 1)  # when it began, us


@cython.final
@cython.cclass
class Regime:
    """A window of relative spreads, and the stretches of time that each regime lasted."""

    def __init__(self, params: Params) -> None:
        self.span = round(params.spread_regime_window_s * 1e6)
        self.dynamic = params.use_dynamic_spread_regime
        if self.dynamic:
            self.tight = params.spread_tight_percentile
            self.wide = params.spread_wide_percentile
        else:
            self.tight = params.tight_spread_threshold
            self.wide = params.wide_spread_threshold
        self.spreads = Ring(1)
        self.ranks = Ranks()
        self.lasted = Ring(2)  # time = end of a stretch, values = its start and regime
        self.length = integers(4)  # us of the stretches in the window, by regime
        self.whole = integers(2)
        self.percentile = _NAN

    @cython.cfunc
    def hole(self, start: cython.longlong) -> cython.int:
        """Note that nothing is known from `start` on."""
        self.turn(_UNKNOWN, start)
        return 0

    @cython.cfunc
    def step(self, ts: cython.longlong, valid: cython.bint, spread: cython.double) -> cython.int:
        """Move the window to `ts` and judge the relative spread of a valid book."""
        since: cython.longlong = ts - self.span
        ring: Ring = self.spreads
        slot: cython.Py_ssize_t
        n: cython.Py_ssize_t
        less: cython.Py_ssize_t
        regime: cython.longlong
        judged: cython.double = spread
        while ring.tail < ring.head:
            slot = ring.tail & (ring.capacity - 1)
            if ring.ts[slot] > since:
                break
            self.ranks.remove(ring.value[slot])
            ring.tail += 1
        while self.lasted.tail < self.lasted.head:
            slot = self.lasted.tail & (self.lasted.capacity - 1)
            if self.lasted.ts[slot] > since:
                break
            self.count(slot, -1)
            self.lasted.tail += 1
        self.percentile = _NAN
        if not valid:
            return 0
        if not spread - spread == 0.0:  # beyond what a float holds
            self.turn(_UNKNOWN, ts)
            return 0
        slot = ring.push(ts)
        ring.value[slot] = spread
        less = self.ranks.add(spread)
        n = self.ranks.total()
        if n >= _LEAST:
            # Cython divides two C integers as integers here: cast first.
            self.percentile = (less + cython.cast(cython.double, self.ranks.equal) / 2.0) / n
        if self.dynamic:
            judged = self.percentile
        if judged != judged:
            regime = _UNKNOWN
        elif self.dynamic and self.ranks.equal == n:  # all alike: neither, whatever the thresholds
            regime = _NORMAL
        elif judged <= self.tight:
            regime = _TIGHT
        else:
            regime = _WIDE if judged >= self.wide else _NORMAL
        self.turn(regime, ts)
        return 0

    @cython.cfunc
    def turn(self, regime: cython.longlong, ts: cython.longlong) -> cython.int:
        """Let a regime begin at `ts`, if it is another."""
        slot: cython.Py_ssize_t
        if regime == self.whole[_NOW]:
            return 0
        if self.whole[_NOW] != _UNKNOWN and self.whole[_SINCE] < ts:
            slot = self.lasted.push(ts)
            self.lasted.value[2 * slot] = self.whole[_SINCE]
            self.lasted.value[2 * slot + 1] = self.whole[_NOW]
            self.count(slot, 1)
        self.whole[_NOW] = regime
        self.whole[_SINCE] = ts
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def count(self, slot: cython.Py_ssize_t, sign: cython.int) -> cython.void:
        """Add a stretch to the time of its regime, or take it away."""
        start: cython.longlong = cython.cast(cython.longlong, self.lasted.value[2 * slot])
        regime: cython.longlong = cython.cast(cython.longlong, self.lasted.value[2 * slot + 1])
        self.length[regime] += sign * (self.lasted.ts[slot] - start)

    @cython.cfunc
    @cython.exceptval(check=False)
    def now(self) -> cython.double:
        """Return the regime: -1 tight, 0 normal, 1 wide, NaN unknown."""
        if self.whole[_NOW] == _UNKNOWN:
            return _NAN
        return self.whole[_NOW] - _NORMAL

    @cython.cfunc
    @cython.exceptval(check=False)
    def share(self, regime: cython.longlong, ts: cython.longlong) -> cython.double:
        """Return how much of the window's time of known regime was of this one; NaN if none is known."""
        since: cython.longlong = ts - self.span
        known: cython.longlong = self.length[_TIGHT] + self.length[_NORMAL] + self.length[_WIDE]
        part: cython.longlong = self.length[regime]
        start: cython.longlong
        slot: cython.Py_ssize_t
        # Stretches are disjoint: only the oldest can be cut by the window's edge.
        if self.lasted.tail < self.lasted.head:
            slot = self.lasted.tail & (self.lasted.capacity - 1)
            start = cython.cast(cython.longlong, self.lasted.value[2 * slot])
            if start < since:
                known -= since - start
                if cython.cast(cython.longlong, self.lasted.value[2 * slot + 1]) == regime:
                    part -= since - start
        if self.whole[_NOW] != _UNKNOWN:
            start = self.whole[_SINCE]
            if start < since:
                start = since
            known += ts - start
            if self.whole[_NOW] == regime:
                part += ts - start
        if known == 0:
            return _NAN
        return cython.cast(cython.double, part) / cython.cast(cython.double, known)

    def dump(self) -> list[bytes]:
        """Return all state; ranks and lengths follow from the rings."""
        return [bytes(self.whole), *self.spreads.dump(), *self.lasted.dump()]

    def load(self, parts: object) -> None:
        """Take over what `dump` returned, into a new object.

        Raises:
            ValueError: it is not that.
        """
        slot: cython.Py_ssize_t
        position: cython.longlong
        before: cython.longlong = 0
        x: cython.double
        state = part(parts, 7)
        self.whole = block(state[0], "q", 2)
        self.spreads.load(state[1:4])
        self.lasted.load(state[4:])
        if not _UNKNOWN <= self.whole[_NOW] <= _WIDE or not 0 <= self.whole[_SINCE] <= _LATEST_US:
            raise ValueError(f"cannot restore the engine: {list(self.whole)} is no regime and its time")
        for position in range(self.spreads.tail, self.spreads.head):
            x = self.spreads.value[position & (self.spreads.capacity - 1)]
            if not 0.0 <= x < _INFINITY:
                raise ValueError(f"cannot restore the engine: {x} is no relative spread")
            self.ranks.add(x)
        for position in range(self.lasted.tail, self.lasted.head):
            slot = position & (self.lasted.capacity - 1)
            x = self.lasted.value[2 * slot]
            # A cast of what is no whole number in bounds is undefined in C. NaN fails the comparison.
            if not before <= x <= self.lasted.ts[slot] or x != x // 1.0:
                raise ValueError(f"cannot restore the engine: a regime cannot last since {x} us")
            before = self.lasted.ts[slot]
            x = self.lasted.value[2 * slot + 1]
            if x != _TIGHT and x != _NORMAL and x != _WIDE:  # noqa: PLR1714
                raise ValueError(f"cannot restore the engine: {x} is no regime of a spread")
            self.count(slot, 1)
