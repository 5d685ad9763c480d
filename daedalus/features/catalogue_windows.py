"""Windows of the book, declared once, in the order of the row; notation as in `catalogue`.

r_g is the log return of second g of the UTC grid: of the last valid mid at or before g over that at g - 1.
"""

from daedalus.features.catalogue import number
from daedalus.features.params import Params
from daedalus.features.schema import Feature

__all__ = ["windows"]

_ANDERSEN = "Andersen & Bollerslev 1998, Answering the Skeptics"
_BARNDORFF = "Barndorff-Nielsen & Shephard 2004, Power and Bipower Variation"
_LEAST_S = 60  # the shortest horizon with returns enough on the grid
_MEAN = "no observation"
_STD = "fewer than 2 observations"


def windows(params: Params) -> list[Feature]:
    """Return realized volatility, for each horizon of a minute or more, and the fixed windows."""
    out = [feature for h in params.horizons_s if h >= _LEAST_S for feature in _realized(float(h))]
    out += _spread(params)
    for name, unit, of in (
        ("bid_slope", "base/bps", "bid_slope_regression"),
        ("ask_slope", "base/bps", "ask_slope_regression"),
        ("cog_momentum", "bps", "cog_vs_mid"),
    ):
        for word, what, null, warmup in (
            ("mean", "mean", _MEAN, "first book"),
            ("std", "sample std (n - 1)", _STD, "second valid book"),
        ):
            out.append(
                Feature(
                    name=f"{name}_{word}_60s",
                    unit=unit,
                    formula=f"{what} of {of} over valid updates",
                    null=null,
                    window_s=60.0,
                    fixed=True,
                    warmup=warmup,
                )
            )
    return out


def _realized(h: float) -> list[Feature]:
    s = number(h)
    covered = "observed share of the window below 0.9"
    rows = [
        ("realized_vol", "1", "sqrt(sum r_g^2), t - h < g <= t", f"{covered}; no return", _ANDERSEN),
        ("bipower", "1", "(pi/2) n/(n - 1) sum abs(r_g) abs(r_g-1) of neighbouring seconds, n returns",
         f"{covered}; fewer than 20 returns", _BARNDORFF),
        ("jump", "1", "max(sum r_g^2 - bipower, 0)", f"{covered}; fewer than 20 returns", _BARNDORFF),
    ]  # fmt: skip
    return [
        Feature(
            name=f"{name}_{s}s",
            unit=unit,
            formula=formula,
            null=null,
            window_s=h,
            warmup=f"0.9 of {s} s of books",
            paper=paper,
        )
        for name, unit, formula, null, paper in rows
    ]


def _spread(params: Params) -> list[Feature]:
    window = float(params.spread_regime_window_s)
    if params.use_dynamic_spread_regime:
        of, warmup = "spread_percentile", "30 valid books"
        low, high = params.spread_tight_percentile, params.spread_wide_percentile
        alike = "; 0 if all in the window are equal"
        null = "spread_percentile null"
        full = (
            f"{number(2 * window)} s of books"  # each share is of regimes that look back a window themselves
        )
    else:
        of, warmup = "relative_spread", "first book"
        low, high = params.tight_spread_threshold, params.wide_spread_threshold
        alike = ""
        null = "invalid book"
        full = f"{number(window)} s of books"
    share = "share of the time of known regime, which is that of the last valid update; none over a hole"
    rank = "(less + equal/2)/N of relative_spread among those of the window, itself included"
    judge = f"-1 (tight) if {of} <= {number(low)}, 1 (wide) if >= {number(high)}, else 0{alike}"
    rows = [
        ("depth_0_5bps_sigma", "base", "sample std (n - 1) of depth_0_5bps over valid updates", _STD,
         "second valid book"),
        ("spread_percentile", "1", rank, "fewer than 30 observations; invalid book", "30 valid books"),
        ("spread_regime", "1", judge, null, warmup),
        ("spread_regime_tight_frac", "1", f"tight {share}", "no regime known", full),
        ("spread_regime_wide_frac", "1", f"wide {share}", "no regime known", full),
    ]  # fmt: skip
    return [
        Feature(name=name, unit=unit, formula=formula, null=null, window_s=window, fixed=True, warmup=wait)
        for name, unit, formula, null, wait in rows
    ]
