"""A storm of faults and kills over real recordings: nothing is lost in silence, nothing is doubled or wrong.

The short form of `./run soak storm`: one seed, under a minute of rage.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.storm import SIMULATED, Storm

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

SEED = 4
RAGE_S = 30


@pytest.fixture
def storm(short_tmp: Path, recordings: Path) -> Iterator[Storm]:
    made = Storm(short_tmp, recordings, SEED)
    try:
        yield made
    finally:
        made.close()


def test_bronze_is_whole_true_and_in_order_after_a_storm(storm: Storm) -> None:
    storm.begin()
    storm.rage(RAGE_S)
    storm.settle()
    verdict = storm.judge()
    assert verdict.findings == [], str(verdict)
    seen = verdict.seen
    assert seen["trades stored"] > 1000
    assert seen["books"] > 1000
    assert sum(storm.killed.values()) >= RAGE_S / 4
    assert sum(count for what, count in seen.items() if what.startswith("faults of")) >= RAGE_S / 4
    for name in SIMULATED:
        assert any(count for what, count in seen.items() if what.startswith(f"books of {name}:")), name
    assert seen["gaps of restart"]
