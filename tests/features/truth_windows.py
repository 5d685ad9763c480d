"""Windows of the book again, slow and obvious: every row from the whole history, in extended precision."""

import bisect
import math
from typing import Any

import numpy as np

from daedalus.features.params import Params
from daedalus.records import BookSnapshot, unpack_side

Row = dict[str, float | None]
_SECOND = 1_000_000


class WindowsTruth:
    """Takes each book with the columns of its shape and the holes so far, and returns these columns."""

    def __init__(self, params: Params) -> None:
        self.p = params
        self.valid: list[tuple[int, float, float, float, float, float, float]] = []
        self.times: list[int] = []  # of them
        self.holes_before: list[int] = []  # holes that had ended when a valid book came
        self.regimes: list[tuple[int, int]] = []  # us from which a regime holds; -9 = unknown
        self.known_holes = 0

    def row(self, record: BookSnapshot, shape: Row, holes: list[tuple[int, int]]) -> Row:
        """Return the columns of one book; `holes` are all up to it, its own the last."""
        us = record.ts_recv // 1000
        for start, _ in holes[self.known_holes :]:
            self.regimes.append((start, -9))
        self.known_holes = len(holes)
        out: Row = {}
        if shape.get("mid_price") is not None:
            mid = float(shape["mid_price"] or 0)
            values = [shape["relative_spread"], _near(record, mid), shape["bid_slope_regression"]]
            values += [shape["ask_slope_regression"], shape["cog_vs_mid"]]
            self.valid.append((us, mid, *(math.nan if v is None else v for v in values)))
            self.times.append(us)
            self.holes_before.append(len(holes))
            percentile, regime = self._judge(us)
            out |= {"spread_percentile": percentile, "spread_regime": None if regime == -9 else float(regime)}
            self.regimes.append((us, regime))
        out |= self._shares(us)
        window = self._inside(us, self.p.spread_regime_window_s)
        out["depth_0_5bps_sigma"] = _std(window[:, 3])
        minute = self._inside(us, 60)
        for name, column in (("bid_slope", 4), ("ask_slope", 5), ("cog_momentum", 6)):
            out[f"{name}_mean_60s"] = _mean(minute[:, column])
            out[f"{name}_std_60s"] = _std(minute[:, column])
        for h in self.p.horizons_s:
            if h >= 60:
                out |= self._realized(us, h, holes)
        return out

    def _inside(self, us: int, seconds: float) -> Any:
        first = bisect.bisect_right(self.times, us - round(seconds * 1e6))
        return np.array(self.valid[first:]).reshape(-1, 7)

    def _judge(self, us: int) -> tuple[float | None, int]:
        spreads = self._inside(us, self.p.spread_regime_window_s)[:, 2]
        now = spreads[-1]
        less, equal = float((spreads < now).sum()), float((spreads == now).sum())
        percentile = (less + equal / 2) / len(spreads) if len(spreads) >= 30 else None
        if not self.p.use_dynamic_spread_regime:
            low, high = self.p.tight_spread_threshold, self.p.wide_spread_threshold
            return percentile, -1 if now <= low else int(now >= high)
        if percentile is None:
            return None, -9
        if spreads.min() == spreads.max():
            return percentile, 0
        low, high = self.p.spread_tight_percentile, self.p.spread_wide_percentile
        return percentile, -1 if percentile <= low else int(percentile >= high)

    def _shares(self, us: int) -> Row:
        since = us - round(self.p.spread_regime_window_s * 1e6)
        time = {-9: 0, -1: 0, 0: 0, 1: 0}
        ends = [start for start, _ in self.regimes[1:]] + [us]
        for (start, regime), end in zip(self.regimes, ends, strict=True):
            time[regime] += max(0, end - max(start, since))
        known = time[-1] + time[0] + time[1]
        names = {"spread_regime_tight_frac": -1, "spread_regime_wide_frac": 1}
        return {name: time[regime] / known if known else None for name, regime in names.items()}

    def _realized(self, us: int, h: float, holes: list[tuple[int, int]]) -> Row:
        since = us - round(h * 1e6)
        hidden = sum(max(0, end - max(start, since)) for start, end in holes if end > since)
        returns = {}
        for g in range(since // _SECOND + 1, us // _SECOND + 1):
            one, two = self._value(g - 1, holes), self._value(g, holes)
            crossed = any(end > (g - 1) * _SECOND and start < g * _SECOND for start, end in holes)
            if one is not None and two is not None and not crossed:
                returns[g] = math.log(two / one)
        if not returns or (round(h * 1e6) - hidden) / round(h * 1e6) < 0.9:
            return {}
        n, squares = len(returns), math.fsum(r * r for r in returns.values())
        out: Row = {f"realized_vol_{h:g}s": math.sqrt(squares)}
        if n >= 20:
            pairs = math.fsum(abs(r * returns[g - 1]) for g, r in returns.items() if g - 1 in returns)
            bipower = math.pi / 2 * n / (n - 1) * pairs
            out |= {f"bipower_{h:g}s": bipower, f"jump_{h:g}s": max(squares - bipower, 0.0)}
        return out

    def _value(self, g: int, holes: list[tuple[int, int]]) -> float | None:
        """Return the last valid mid at or before second g, if nothing was hidden in between."""
        t = g * _SECOND
        place = bisect.bisect_right(self.times, t) - 1
        if place < 0:
            return None
        hidden = any(start < t or end <= t for start, end in holes[self.holes_before[place] :])
        return None if hidden else self.valid[place][1]


def _near(record: BookSnapshot, mid: float) -> float | None:
    """Return the size below 5 bps on both sides, if the book reaches so far."""
    total = 0.0
    for packed in (record.bids, record.asks):
        levels = [(1e4 * abs(p - mid) / mid, q) for p, q in unpack_side(packed) if q > 0]
        if not record.flags & 256 and levels[-1][0] < 5:
            return None
        total += math.fsum(q for d, q in levels if d < 5)
    return total


def _known(values: Any) -> Any:
    return values[~np.isnan(values)].astype(np.longdouble)


def _mean(values: Any) -> float | None:
    known = _known(values)
    return float(known.mean()) if len(known) else None


def _std(values: Any) -> float | None:
    known = _known(values)
    return float(np.std(known, ddof=1)) if len(known) >= 2 else None
