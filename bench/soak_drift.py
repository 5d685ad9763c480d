"""Soak of the engine's running sums: ten million updates, then every sum against its window alone."""

import sys

from tests.features.drift import worst

UPDATES = 10_000_000
MOST = 1e-13  # relative


def soak(seed: int, duration_s: float) -> int:
    """Run all updates once, however long it takes; 1 if a sum has drifted."""
    del duration_s
    found = worst(UPDATES, seed)
    sys.stdout.write(f"{UPDATES} updates, seed {seed}: relative error {found:.2e}, allowed {MOST:.0e}\n")
    return 0 if found < MOST else 1
