"""`./run soak power [--seed N] [--duration S]`: 50 power cuts, at every stage of a record's way to Parquet.

As tests/system/test_power.py, which makes five. At every tenth all is brought home and counted. Stops
earlier when the time is over.
"""

import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.system.power import STAGES, Machine, unavailable

CUTS = 50
_COUNT_EVERY = 10


def soak(seed: int, duration_s: float) -> int:
    """Cut, look, count. Returns 0: everything held, 1: it did not, 2: nothing was tried."""
    print(f"soak power: seed {seed}")
    if why := unavailable():
        print(f"cannot cut the power: {why}")
        return 2
    dice = random.Random(seed)
    stages: list[str] = []
    ends = time.monotonic() + duration_s
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as folder:
        machine = Machine(Path(folder), seed)
        try:
            for number in range(1, CUTS + 1):
                if not stages:
                    stages = list(STAGES)
                    dice.shuffle(stages)
                stage = stages.pop()
                machine.boot()
                machine.wait(stage)
                machine.cut()
                found = machine.check_published()
                print(
                    f"cut {number}: {stage}, {machine.acked[machine.session]} acknowledged, {found} segments"
                )
                last = number == CUTS or time.monotonic() > ends
                if last or number % _COUNT_EVERY == 0:
                    machine.boot()
                    machine.finish()
                    print(f"  stored: {machine.check_stored()} rows, each acknowledged one once", flush=True)
                if last:
                    break
        except AssertionError as error:
            print(f"BROKEN with seed {seed}: {error}")
            return 1
        finally:
            machine.close()
    met = Counter(machine.reached)
    print("stages: " + ", ".join(f"{stage} {met[stage]}" for stage in STAGES))
    return 0
