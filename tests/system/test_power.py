"""Power cuts on a real ext4: what was acknowledged is there, once, and nothing unreadable was published."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.power import NAMED, Machine, unavailable

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.needs_loop, pytest.mark.timeout(180)]

SEED = 20261121  # of the moments after a stage has begun; the stages themselves stand fixed


@pytest.fixture
def machine(short_tmp: Path) -> Iterator[Machine]:
    if why := unavailable():
        pytest.skip(f"NO POWER CUTS WERE TRIED: {why} (./run soak power, as root)")
    made = Machine(short_tmp, SEED)
    yield made
    made.close()


def test_c12_d24_d25_power_cuts_at_every_stage_lose_nothing_acknowledged(machine: Machine) -> None:
    for stage in NAMED:
        machine.boot()
        machine.wait(stage)
        machine.cut()
        machine.check_published()
    assert machine.reached == list(NAMED)
    assert all(machine.acked.values())
    machine.boot()
    machine.finish()
    assert machine.check_stored() > 1000
