"""The catalogue again, slow and obvious: NumPy over whole windows, nothing carried but the history."""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from daedalus.features.params import Params
from daedalus.records import BookSnapshot, Trade, unpack_side
from tests.features.truth_windows import WindowsTruth

Row = dict[str, float | None]
Side = list[tuple[float, float]]


def ratio(a: float, b: float) -> float | None:
    """Return the imbalance of two amounts."""
    return (a - b) / (a + b) if a + b > 0 else None


def slope(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return the OLS slope with intercept."""
    return float(np.cov(x, y)[0, 1] / np.var(x, ddof=1)) if len(x) >= 3 and np.ptp(x) > 0 else None


def one_side(word: str, levels: Side, mid: float | None, n: int, p: Params) -> Row:
    """Return the columns of one side; `levels` is the whole captured side."""
    row: Row = {f"{word}_levels": float(len(levels))}
    if not levels:
        return row
    q = np.array([size for _, size in levels[:n]])
    total = math.fsum(q)
    five = levels[:5]
    row[f"total_{word}_volume"] = total
    row[f"{word}_50pct_depth"] = float(np.argmax(np.cumsum(q) >= (0.5 - 1e-12) * total))
    row[f"{word}_concentration"] = float(np.sum((q / total) ** 2))
    row[f"{word}_gini"] = float(np.abs(q[:, None] - q[None, :]).sum() / (2 * len(q) * total))
    row[f"vwap_{word}_5"] = sum(a * b for a, b in five) / sum(b for _, b in five)
    row[f"{word}_wall_level"] = float(np.argmax(q))
    if len(levels) >= 5:
        row[f"{word}_slope_simple"] = abs(levels[4][0] - levels[0][0]) / sum(b for _, b in five)
        row[f"{word}_depth_decay_5"] = levels[4][1] / levels[0][1]
    if mid is not None:
        price, size = (np.array(values) for values in zip(*levels, strict=True))
        d = 1e4 * np.abs(price - mid) / mid
        inside = d < p.bands_bps[-1]
        smart = size * np.exp(-p.smart_depth_k * np.abs(price - mid) / mid)
        row[f"{word}_reach_bps"] = float(d[-1])
        row[f"smart_{word}_depth"] = float(smart[inside].sum())
        row[f"{word}_slope_regression"] = slope(d[:10], np.cumsum(size[:10]))
        decay = slope(d[:10], np.log(size[:10]))
        row[f"{word}_exp_decay_rate"] = None if decay is None else -decay
    return row


def shape(bids: Side, asks: Side, complete: bool, p: Params) -> Row:
    """Return the columns of 4.1."""
    n = p.max_levels
    row: Row = {}
    for word, side in (("bid", bids), ("ask", asks)):
        for i, (price, size) in enumerate(side[:n]):
            row[f"{word}_price_L{i}"], row[f"{word}_size_L{i}"] = price, size
    valid = bool(bids and asks and bids[0][0] <= asks[0][0])
    mid = (bids[0][0] + asks[0][0]) / 2 if valid else None
    row |= one_side("bid", bids, mid, n, p) | one_side("ask", asks, mid, n, p)
    if mid is None:
        return row | ({} if bids and asks else {"book_depth": 0.0})
    (pb, qb), (pa, qa) = bids[0], asks[0]
    row |= {"mid_price": mid, "spread": pa - pb, "relative_spread": (pa - pb) / mid}
    row["spread_bps"] = 1e4 * (pa - pb) / mid
    row["microprice"] = (qb * pa + qa * pb) / (qb + qa)
    row["micro_minus_mid"] = row["microprice"] - mid
    both = bids[:n] + asks[:n]
    row["weighted_mid"] = sum(a * b for a, b in both) / sum(b for _, b in both)
    row["cog_vs_mid"] = 1e4 * (row["weighted_mid"] - mid) / mid
    for i, (b, a) in enumerate(zip(bids[:n], asks[:n], strict=False)):
        row[f"imbalance_L{i}"] = ratio(b[1], a[1])
    for k in (3, 5, 10):
        row[f"imbalance_top{k}"] = ratio(sum(q for _, q in bids[:k]), sum(q for _, q in asks[:k]))

    def volume(side: Side, low: float, high: float) -> float | None:
        d = [1e4 * abs(price - mid) / mid for price, _ in side]
        if not complete and max(d) < high:
            return None
        return sum(q for (_, q), x in zip(side, d, strict=True) if low <= x < high)

    for low, high in pairwise([0, *p.bands_bps]):
        band = f"band_{low:g}_{high:g}bps"
        b, a = volume(bids, low, high), volume(asks, low, high)
        row[f"bid_vol_{band}"], row[f"ask_vol_{band}"] = b, a
        if b is not None and a is not None:
            row[f"imb_{band}"], row[f"depth_{band[5:]}"] = ratio(b, a), b + a
    near = {}
    for high in (5, 10, 50):
        b, a = volume(bids, 0, high), volume(asks, 0, high)
        near[high] = None if b is None or a is None or b + a == 0 else b + a
    if near[50]:
        row["book_convexity"] = (volume(bids, 0, 5) + volume(asks, 0, 5)) / near[50]
    row["lambda_like"] = row["spread"] / near[5] if near[5] else None
    row["amihud_like"] = row["spread"] / near[10] if near[10] else None
    row["book_pressure"] = ratio(row["total_bid_volume"], row["total_ask_volume"])
    row["book_depth"] = float(min(len(bids), len(asks)))
    row["vwap_spread"] = row["vwap_ask_5"] - row["vwap_bid_5"]
    row["smart_depth"] = row["smart_bid_depth"] + row["smart_ask_depth"]
    row["smart_depth_imbalance"] = ratio(row["smart_bid_depth"], row["smart_ask_depth"])
    b, a = row["bid_slope_regression"], row["ask_slope_regression"]
    row["slope_asymmetry"] = b / a if b is not None and a else None
    sign = 0 if pa == pb else np.sign(qb - qa)
    row["imb_signed"] = row["imbalance_top5"] * float(sign)
    return row


def event(side: int, now: tuple[float, float], before: tuple[float, float]) -> float:
    """Return one side's part of e_n (side 1 bid, -1 ask)."""
    better, worse = side * now[0] >= side * before[0], side * now[0] <= side * before[0]
    return side * (better * now[1] - worse * before[1])


class Reference:
    """Feeds on the same records as the engine; every row is computed from the history anew."""

    def __init__(self, params: Params, *, trades: bool) -> None:
        self.p = params
        self.trades_known = trades
        self.before: tuple[int, Side, Side, float, float | None] | None = None
        self.last_us: int | None = None
        self.session = ""
        self.valid: list[tuple[int, float, float, float, float]] = []  # us, mid, return, ofi, mlofi
        self.holes: list[tuple[int, int]] = []
        self.trades: list[tuple[int, float, int]] = []
        self.windows = WindowsTruth(params)

    def update(self, record: BookSnapshot | Trade) -> Row | None:
        """Take a record; return a row for a book."""
        if record.flags & 128:
            return None
        us = record.ts_recv // 1000
        if isinstance(record, Trade):
            self.trades.append((us, record.amount, {"buy": 1, "sell": -1}.get(record.side or "", 0)))
            return None
        bids, asks = ([(p, q) for p, q in unpack_side(x) if q > 0] for x in (record.bids, record.asks))
        if self.last_us is None:
            self.holes.append((us - 10**13, us))
        elif record.flags & 2 or record.session_id != self.session or us - self.last_us > self._stale():
            self.before = None
            self.holes.append((self.last_us, us))
        if self.before is not None and us - self.before[0] > self._stale():
            self.before = None
        self.last_us, self.session = us, record.session_id
        row = shape(bids, asks, bool(record.flags & 256), self.p)
        row |= self._flow(us, bids, asks, row.get("mid_price"))
        row |= self.windows.row(record, row, self.holes)
        return row | self._rolling(us, row.get("mid_price")) | self._clock(us)

    def _stale(self) -> float:
        return self.p.max_state_staleness_s * 1e6

    def _flow(self, us: int, bids: Side, asks: Side, mid: float | None) -> Row:
        if mid is None:
            return {}
        row: Row = {}
        speed = None
        if self.before is not None:
            then, bids_0, asks_0, mid_0, speed_0 = self.before
            parts: list[float | None] = []
            for i in range(self.p.ofi_levels):
                e = [event(1, bids[i], bids_0[i])] if i < min(len(bids), len(bids_0)) else []
                e += [event(-1, asks[i], asks_0[i])] if i < min(len(asks), len(asks_0)) else []
                parts.append(sum(e) if e else None)
                row[f"ofi_L{i}"] = parts[i]
            row["ofi_step"] = parts[0]
            row["ofi_multi"] = sum(e for e in parts if e is not None)
            alpha = self.p.ofi_decay_alpha
            row["mlofi"] = sum(math.exp(-alpha * i) * e for i, e in enumerate(parts) if e is not None)
            sizes = [side[0][1] for side in (bids, asks, bids_0, asks_0)]
            row["ofi_norm"] = parts[0] / (sum(sizes) / 4)
            row["log_return_step"] = math.log(mid / mid_0)
            if us - then >= 1000:
                dt = (us - then) / 1e6
                row["mid_velocity"] = speed = (mid - mid_0) / dt
                row["mid_accel"] = None if speed_0 is None else (speed - speed_0) / dt
        nan = math.nan
        values = [row.get(n) for n in ("log_return_step", "ofi_step", "mlofi")]
        self.valid.append((us, mid, *(nan if v is None else v for v in values)))
        self.before = (us, bids, asks, mid, speed)
        return row

    def _rolling(self, us: int, mid: float | None) -> Row:
        row: Row = {}
        history: Any = np.array(self.valid).reshape(-1, 5)
        tape: Any = np.array(self.trades).reshape(-1, 3)
        for h in self.p.horizons_s:
            since, s = us - h * 1e6, f"{h:g}s"
            inside = history[history[:, 0] > since]
            r = inside[~np.isnan(inside[:, 2]), 2]
            row[f"rv_{s}"] = float(np.std(r, ddof=1)) if len(r) >= 2 else None
            seen = inside[~np.isnan(inside[:, 3])]
            row[f"ofi_sum_{s}"] = math.fsum(seen[:, 3]) if len(seen) else None
            row[f"mlofi_sum_{s}"] = math.fsum(seen[:, 4]) if len(seen) else None
            hidden = sum(max(0, end - max(start, since)) for start, end in self.holes if end > since)
            row[f"coverage_{s}"] = 1 - hidden / (h * 1e6)
            past = history[history[:, 0] <= since]
            # The reference is the last valid update; nothing between it and now may be a hole.
            if mid is not None and len(past) and not any(end > past[-1, 0] for _, end in self.holes):
                row[f"log_return_{s}"] = math.log(mid / past[-1, 1])
            if self.trades_known:
                recent = tape[tape[:, 0] > since]
                buy, sell = (math.fsum(recent[recent[:, 2] == sign, 1]) for sign in (1, -1))
                row |= {f"buy_volume_{s}": buy, f"sell_volume_{s}": sell}
                row[f"trade_vol_{s}"] = math.fsum(recent[:, 1])
                row[f"trade_count_{s}"] = float(len(recent))
                row[f"tfi_{s}"] = ratio(buy, sell)
        return row

    @staticmethod
    def _clock(us: int) -> Row:
        when = np.datetime64(us, "us").astype(object)
        row = {"hour_of_day": when.hour, "minute_of_hour": when.minute, "day_of_week": when.weekday()}
        return {**{k: float(v) for k, v in row.items()}, "is_weekend": float(when.weekday() >= 5)}
