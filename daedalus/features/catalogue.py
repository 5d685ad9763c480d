"""Every feature, declared once, in the order of the row. The kernels write in this order.

Notation: bids (Pb_i, qb_i) and asks (Pa_i, qa_i), i = 0 best; M = mid; d_i = 1e4 abs(P_i - M)/M in bps; a
trade has taker sign e and amount v. n numbers the valid updates. "invalid" = crossed or a side empty.
"""

from daedalus.features.params import Params
from daedalus.features.schema import Feature

__all__ = ["clock", "flow", "number", "rolling", "shape", "sides"]

_INVALID = "invalid book"
_EMPTY = "side empty"
_EVENT = (
    "e_n = 1{Pb_n >= Pb_n-1} qb_n - 1{Pb_n <= Pb_n-1} qb_n-1"
    " - 1{Pa_n <= Pa_n-1} qa_n + 1{Pa_n >= Pa_n-1} qa_n-1, level 0"
)
_CONT = "Cont, Kukanov & Stoikov 2014, The Price Impact of Order Book Events"
_XU = "Xu, Gould & Howison 2019, Multi-Level Order-Flow Imbalance in a Limit Order Book"
_MICRO = "Gatheral & Oomen 2010, Zero-intelligence realized variance estimation"
_ANDERSEN = "Andersen & Bollerslev 1998, Answering the Skeptics"


def _f(name: str, unit: str, formula: str, null: str, paper: str | None = None) -> Feature:
    return Feature(name=name, unit=unit, formula=formula, null=null, paper=paper)


def number(value: float) -> str:
    """Return a parameter as it stands in a column's name.

    >>> number(5.0), number(0.5)
    ('5', '0.5')
    """
    return f"{value:.15g}"


def shape(params: Params) -> list[Feature]:
    """Return the columns that describe one book."""
    n = params.max_levels
    out: list[Feature] = []
    for i in range(n):
        for side in ("bid", "ask"):
            p = f"P{side[0]}_{i}"
            q = f"q{side[0]}_{i}"
            out += [
                _f(f"{side}_price_L{i}", "quote", p, "no such level"),
                _f(f"{side}_size_L{i}", "base", q, "no such level"),
            ]
    out += [
        _f("mid_price", "quote", "M = (Pb_0 + Pa_0)/2", _INVALID),
        _f("spread", "quote", "Pa_0 - Pb_0", _INVALID),
        _f("relative_spread", "1", "spread/M", _INVALID),
        _f("spread_bps", "bps", "1e4 spread/M", _INVALID),
        _f("microprice", "quote", "(qb_0 Pa_0 + qa_0 Pb_0)/(qb_0 + qa_0)", _INVALID, _MICRO),
        _f("micro_minus_mid", "quote", "microprice - M", _INVALID),
        _f("weighted_mid", "quote", f"sum P q / sum q over both sides, i < {n}", _INVALID),
        _f("cog_vs_mid", "bps", "1e4 (weighted_mid - M)/M", _INVALID),
    ]
    out += [
        _f(
            f"imbalance_L{i}",
            "1",
            f"(qb_{i} - qa_{i})/(qb_{i} + qa_{i})",
            "level missing on a side; invalid book",
        )
        for i in range(n)
    ]
    out += [
        _f(f"imbalance_top{k}", "1", f"(B - A)/(B + A), B and A the sums of the first {k} sizes", _INVALID)
        for k in (3, 5, 10)
    ]
    low = "0"
    for edge in params.bands_bps:
        band = f"{low}_{number(edge)}bps"
        inside = f"sum q with {low} <= d_i < {number(edge)}"
        reach = f"reach below {number(edge)} bps (unless the book is complete); invalid book"
        out += [
            _f(f"bid_vol_band_{band}", "base", inside, reach),
            _f(f"ask_vol_band_{band}", "base", inside, reach),
            _f(f"imb_band_{band}", "1", "(B - A)/(B + A) of the two bands", reach + "; both empty"),
            _f(f"depth_{band}", "base", "sum of the two bands", reach),
        ]
        low = number(edge)
    for make in sides(params):
        out += [make("bid"), make("ask")]
    return out + _across()


def sides(params: Params) -> list["_Side"]:
    """Return the columns that exist for either side, to be named with "bid" or "ask"."""
    n = params.max_levels
    wide = number(params.bands_bps[-1])
    k = number(params.smart_depth_k)
    five = "fewer than 5 levels"
    ols = "fewer than 3 levels; no variance of d; invalid book"
    return [
        _Side("{}_reach_bps", "bps", "d of the deepest captured level", _INVALID),
        _Side("total_{}_volume", "base", f"sum q, i < {n}", _EMPTY),
        _Side("{}_levels", "count", "captured levels", "never"),
        _Side(
            "{}_50pct_depth",
            "level",
            f"smallest k with sum q_i, i <= k, >= (1/2 - 1e-12) sum q, i < {n}",
            _EMPTY,
        ),
        _Side("{}_concentration", "1", f"sum (q_i / sum q)^2, i < {n}", _EMPTY),
        _Side("{}_gini", "1", f"Gini coefficient of the sizes, i < {n}", _EMPTY),
        _Side("vwap_{}_5", "quote", "sum P q / sum q, i < 5", _EMPTY),
        _Side("smart_{}_depth", "base", f"sum q exp(-{k} abs(P - M)/M), d < {wide}", _INVALID),
        _Side("{}_slope_simple", "quote/base", "abs(P_4 - P_0) / sum q, i < 5", five),
        _Side("{}_slope_regression", "base/bps", "OLS slope of cumulative q on d, up to 10 levels", ols),
        _Side("{}_depth_decay_5", "1", "q_4/q_0", five),
        _Side("{}_exp_decay_rate", "1/bps", "-OLS slope of ln q on d, up to 10 levels", ols),
        _Side("{}_wall_level", "level", f"index of the largest size, i < {n}; the first on ties", _EMPTY),
    ]


class _Side:
    """A declaration that waits for its side."""

    def __init__(self, name: str, unit: str, formula: str, null: str) -> None:
        self.parts = (name, unit, formula, null)

    def __call__(self, side: str) -> Feature:
        name, unit, formula, null = self.parts
        return _f(name.format(side), unit, formula, null)


def _across() -> list[Feature]:
    return [
        _f("book_pressure", "1", "(B - A)/(B + A) of the total volumes", _INVALID),
        _f("book_depth", "count", "min(bid_levels, ask_levels)", "crossed book"),
        _f("vwap_spread", "quote", "vwap_ask_5 - vwap_bid_5", _INVALID),
        _f("smart_depth", "base", "smart_bid_depth + smart_ask_depth", _INVALID),
        _f(
            "smart_depth_imbalance", "1", "(B - A)/(B + A) of the smart depths", "smart_depth 0; invalid book"
        ),
        _f(
            "slope_asymmetry",
            "1",
            "bid_slope_regression/ask_slope_regression",
            "a slope is null or the ask's 0",
        ),
        _f("imb_signed", "1", "imbalance_top5 sign(micro_minus_mid)", _INVALID),
        _f(
            "book_convexity",
            "1",
            "depth_0_5bps/depth_0_50bps",
            "reach below 50 bps; zero depth; invalid book",
        ),
        _f("lambda_like", "quote/base", "spread/depth_0_5bps", "reach below 5 bps; zero depth; invalid book"),
        _f(
            "amihud_like",
            "quote/base",
            "spread/depth_0_10bps",
            "reach below 10 bps; zero depth; invalid book",
        ),
    ]


def flow(params: Params) -> list[Feature]:
    """Return the columns that compare a book with the valid one before."""
    k = params.ofi_levels
    null = "no valid book before, or a gap since; invalid book"
    warmup = "second valid book"
    rows: list[tuple[str, str, str, str, str | None]] = [
        (
            "ofi_step",
            "base",
            _EVENT,
            null,
            _CONT,
        ),
        (
            "ofi_multi",
            "base",
            f"sum e_i, i < {k}; a level missing in either book is skipped on its side",
            null,
            _XU,
        ),
        ("mlofi", "base", f"sum exp(-{number(params.ofi_decay_alpha)} i) e_i, i < {k}", null, _XU),
        ("ofi_norm", "1", "ofi_step / mean of (qb_0 + qa_0)/2 over this and the previous book", null, _CONT),
    ]
    if params.emit_ofi_levels:
        rows += [(f"ofi_L{i}", "base", f"e_{i}", f"{null}; both sides skipped", _XU) for i in range(k)]
    rows += [
        ("log_return_step", "1", "ln(M_n/M_n-1)", null, None),
        ("mid_velocity", "quote/s", "v_n = (M_n - M_n-1)/dt", f"{null}; dt below 1 ms", None),
        ("mid_accel", "quote/s^2", "(v_n - v_n-1)/dt", "mid_velocity null now or before", None),
    ]
    return [
        Feature(name=name, unit=unit, formula=formula, null=null, warmup=warmup, paper=paper)
        for name, unit, formula, null, paper in rows
    ]


def rolling(params: Params) -> list[Feature]:
    """Return the columns over (t - h, t], for each horizon h."""
    out: list[Feature] = []
    none = "no trades channel"
    for h in params.horizons_s:
        s = number(h)
        rows: list[tuple[str, str, str, str, str, str | None]] = [
            ("log_return", "1", f"ln(M_t / M at the last valid update <= t - {s} s)",
             "no such update, or a gap since; invalid book", f"{s} s of books", None),
            ("rv", "1", "sample std (n - 1) of log_return_step", "fewer than 2 observations", "3 valid books",
             _ANDERSEN),
            ("ofi_sum", "base", "sum ofi_step", "no observation", "second valid book", _CONT),
            ("mlofi_sum", "base", "sum mlofi", "no observation", "second valid book", _XU),
            ("coverage", "1", "observed share of the window", "never", "first book", None),
            ("buy_volume", "base", "sum v of buys; 0 without", none, "first book", None),
            ("sell_volume", "base", "sum v of sells; 0 without", none, "first book", None),
            ("trade_vol", "base", "sum v, unknown sides too; 0 without", none, "first book", None),
            ("trade_count", "count", "trades, unknown sides too; 0 without", none, "first book", None),
            ("tfi", "1", "(B - S)/(B + S) of buy and sell volume", f"no trade of known side; {none}",
             "first trade", None),
        ]  # fmt: skip
        out += [
            Feature(
                name=f"{name}_{s}s",
                unit=unit,
                formula=formula,
                null=null,
                window_s=float(h),  # 1 and 1.0 must not be two schemas
                warmup=warmup,
                paper=paper,
            )
            for name, unit, formula, null, warmup, paper in rows
        ]
    return out


def clock(_params: Params) -> list[Feature]:
    """Return the columns of the UTC calendar."""
    return [
        _f("hour_of_day", "h", "0 to 23, UTC", "never"),
        _f("minute_of_hour", "min", "0 to 59, UTC", "never"),
        _f("day_of_week", "d", "0 = Monday to 6, UTC", "never"),
        _f("is_weekend", "1", "1 on Saturday and Sunday, UTC, else 0", "never"),
    ]
