"""What a long run leaves in the running sums: after many updates, against the window summed alone."""

import math
import random
from array import array
from collections import deque

from daedalus.features import FeatureEngine

T0 = 1_723_161_255_000_000  # us: 2024-08-08 23:54:15 UTC
SPAN_US = 5_000_000
STEP_US = 9_973
COLUMNS = ("ofi_sum_5s", "mlofi_sum_5s", "rv_5s")


def worst(updates: int, seed: int) -> float:
    """Return the largest relative error of the sums at the end of a run whose sizes shrink 10^15 times.

    What was added and taken out again in the first nine tenths leaves a rounding error as large as what the
    last window sums; a sum that is not made anew shows it.
    """
    rng = random.Random(seed)
    engine = FeatureEngine({"emit_interval_s": 0, "horizons_s": [5], "ofi_levels": 1})
    at = [engine.schema.index(name) for name in ("log_return_step", "ofi_step", "mlofi", *COLUMNS)]
    window: deque[tuple[int, float, float, float]] = deque()
    row: memoryview[float] | None = None
    for n in range(updates):
        us = T0 + n * STEP_US
        scale = 1e9 if n < 0.9 * updates else 1e-6
        bid = 100.0 + rng.randrange(5) / 100
        frame = [us, 0, 1, 1, bid, scale * (1 + rng.random()), bid + 0.01, scale * (1 + rng.random())]
        row = engine.update_frame(array("d", frame))
        assert row is not None
        window.append((us, row[at[0]], row[at[1]], row[at[2]]))
        while window[0][0] <= us - SPAN_US:
            window.popleft()
    assert row is not None
    returns, steps, decayed = ([entry[i] for entry in window] for i in (1, 2, 3))
    mean = math.fsum(returns) / len(returns)
    std = math.sqrt(math.fsum((r - mean) ** 2 for r in returns) / (len(returns) - 1))
    exact = ((math.fsum(steps), steps), (math.fsum(decayed), decayed), (std, [std]))
    return max(
        abs(row[at[3 + i]] - value) / math.fsum(map(abs, parts)) for i, (value, parts) in enumerate(exact)
    )
