"""The parameters of the engine: one frozen Struct, its defaults, and what is allowed.

Each key changes an output, except `checkpoint_interval_s`, which the actor reads.
"""

import difflib
import hashlib
import math
from itertools import pairwise
from typing import Literal

import msgspec

__all__ = ["Params", "fingerprint", "parse"]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[features]` of supervisor.toml. Times in seconds, distances in bps of the mid."""

    max_levels: int = 20  # levels with columns of their own, at least 10
    ofi_levels: int = 10  # levels in ofi_multi and mlofi
    ofi_decay_alpha: float = 0.5  # mlofi weighs level i by exp(-alpha i)
    bands_bps: tuple[float, ...] = (5, 10, 25, 50, 100)  # ascending edges; the first band begins at 0
    horizons_s: tuple[float, ...] = (1, 5, 15, 60, 300, 900)  # ascending windows
    bar_durations_s: tuple[int, ...] = (60, 300, 900, 3600)
    emit_interval_s: float = 1.0  # 0 = every update
    spread_regime_window_s: float = 300
    use_dynamic_spread_regime: bool = True
    spread_tight_percentile: float = 0.2
    spread_wide_percentile: float = 0.8
    tight_spread_threshold: float = 0.0001
    wide_spread_threshold: float = 0.0002
    kyle_lambda_window_s: float = 300
    kyle_flow: Literal["trades", "ofi"] = "trades"
    enable_vpin: bool = True
    vpin_bucket_volume: Literal["auto"] | float = "auto"  # base currency
    vpin_window_buckets: int = 50
    vpin_classify: Literal["side", "tick"] = "side"
    realized_spread_delays_s: tuple[float, ...] = (5, 60)
    smart_depth_k: float = 100  # smart depth weighs a level by exp(-k abs(P - M)/M)
    max_state_staleness_s: float = 300  # silence longer than this is a gap
    emit_ofi_levels: bool = False
    checkpoint_interval_s: float = 60

    def __post_init__(self) -> None:
        """Refuse what has no meaning; the first fault found is the one reported."""
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            # Not `value < least or value > most`: that lets a NaN through.
            if not isinstance(value, str) and not least <= value <= most:
                raise ValueError(f"{name}: cannot use {value}: allowed are {least} to {most}")
        for name in ("bands_bps", "horizons_s", "bar_durations_s", "realized_spread_delays_s"):
            values = getattr(self, name)
            ascending = all(a < b for a, b in pairwise(values))
            if not values or not ascending or not 0 < values[0] <= values[-1] < math.inf:
                raise ValueError(f"{name}: cannot use {list(values)}: need ascending numbers above 0")
        if min(self.horizons_s) < 1e-3:
            raise ValueError(f"horizons_s: cannot use {min(self.horizons_s)}: the shortest is 0.001 s")
        if self.ofi_levels > self.max_levels:
            raise ValueError(
                f"ofi_levels: cannot use {self.ofi_levels}: max_levels is only {self.max_levels} levels"
            )
        for low, high in (
            ("spread_tight_percentile", "spread_wide_percentile"),
            ("tight_spread_threshold", "wide_spread_threshold"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low}: cannot use {getattr(self, low)}: above {high} {getattr(self, high)}"
                )


_DAY_S = 86_400.0
_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("max_levels", 10, 5000),
    ("ofi_levels", 1, 5000),
    ("ofi_decay_alpha", 0, 1000),
    ("emit_interval_s", 0, _DAY_S),
    ("spread_regime_window_s", 1, _DAY_S),
    ("spread_tight_percentile", 0, 1),
    ("spread_wide_percentile", 0, 1),
    ("tight_spread_threshold", 0, 1),
    ("wide_spread_threshold", 0, 1),
    ("kyle_lambda_window_s", 1, _DAY_S),
    ("vpin_bucket_volume", 1e-12, 1e18),
    ("vpin_window_buckets", 1, 100_000),
    ("smart_depth_k", 0, 1e6),
    ("max_state_staleness_s", 0.001, _DAY_S),
    ("checkpoint_interval_s", 1, _DAY_S),
)


def parse(params: dict[str, object] | Params | None) -> Params:
    """Return validated parameters.

    Raises:
        ValueError: an unknown key, a value of another type or out of bounds; the message begins with the key.
    """
    if isinstance(params, Params):
        return params
    given = params or {}
    for key in given:
        if key not in Params.__struct_fields__:
            near = difflib.get_close_matches(str(key), Params.__struct_fields__, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key}: cannot use this key: there is no such feature parameter{hint}")
    try:
        return msgspec.convert(given, Params)
    except msgspec.ValidationError as fault:
        raise ValueError(f"cannot use the feature parameters: {fault}") from None


def fingerprint(params: Params) -> str:
    """Return a hash of everything that changes an output (32 hex digits)."""
    values = msgspec.structs.asdict(params)
    del values["checkpoint_interval_s"]
    canonical = {
        name: [float(v) for v in value]
        if isinstance(value, tuple)
        else (value if isinstance(value, bool | str) else float(value))
        for name, value in values.items()
    }
    return hashlib.blake2b(msgspec.json.encode(canonical, order="sorted"), digest_size=16).hexdigest()
