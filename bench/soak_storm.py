"""`./run soak storm [--seed N] [--duration S]`: tests/system/test_storm.py, for hours if you like.

Recordings at 5x, a fault every second or two from the seeded schedule of the whole menu, a SIGKILL of a
collector or a writer every two seconds; then the judge. A failed run leaves its directory behind.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

from tests.conftest import recordings_path
from tests.system.storm import Storm


def soak(seed: int, duration_s: float) -> int:
    """Run one storm. Returns 0: every rule held, 1: one did not, 2: nothing was tried."""
    recordings = recordings_path()
    if not recordings.is_dir():
        print(f"soak storm: no recordings at {recordings}: set DAEDALUS_RECORDINGS")
        return 2
    base = Path(tempfile.mkdtemp(prefix="dd-storm-", dir=os.environ.get("DAEDALUS_SOAK_DIR", "/tmp")))
    print(f"soak storm: seed {seed}, {duration_s:g} s, in {base}", flush=True)
    began = time.monotonic()
    storm = Storm(base, recordings, seed)
    good = False
    try:
        storm.begin()
        storm.rage(duration_s)
        storm.settle()
        verdict = storm.judge()
        print(f"{verdict}\nsoak storm: {time.monotonic() - began:.0f} s", flush=True)
        good = not verdict.findings
    except AssertionError as error:
        print(f"BROKEN with seed {seed}: {error}", flush=True)
    finally:
        storm.close()
        if good:
            shutil.rmtree(base, ignore_errors=True)
    return 0 if good else 1
