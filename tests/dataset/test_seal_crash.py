"""A sealer killed at every single effect it has on the disk: the second run gives the same files, once."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from daedalus.dataset.layout import HOUR_NS, Layout
from tests.dataset.makings import T0, entry, frames_of, gap, segments, trade, write_journal

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]


def journal(data: Path) -> None:
    """Two symbols, two hours, a gap row, and damage in the middle."""
    records = [trade(n, symbol=f"S{n % 2}-USDT", ts=T0 + n * 60_000_000_000) for n in range(1, 100)]
    groups = frames_of(records)
    groups.append([entry([gap(T0 + HOUR_NS - 5000)], 100)])
    path = write_journal(data, "trades", groups)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture
def memory_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory where fsync costs nothing: some hundred runs follow one another."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


def test_a_death_at_any_effect_gives_the_same_files_once(memory_dir):
    template = memory_dir / "template"
    journal(template)
    work = memory_dir / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.dataset.crash_seal", str(template), str(work), "trades"],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    reference = runs[0][1]
    assert len(reference) == 7, "two symbols in two hours, and three gap rows in partitions of their own"
    assert len(runs) > 60, "each effect is a moment to die at"
    different = [(death, found) for death, found in runs if found != reference]
    assert different == []


def test_kills_at_random_moments_leave_every_row_stored_once(tmp_path):
    """The real program, SIGKILLed by the clock; what is in ready is readable after every kill."""
    seeded = random.Random(20260131)
    total = 0
    for number in range(1, 4):
        records = [trade(n, ts=T0 + n * 1_000_000) for n in range(total + 1, total + 8001)]
        write_journal(tmp_path, "trades", frames_of(records, 500), number)
        total += len(records)
    command = [sys.executable, "-m", "daedalus.dataset.seal", "--data", str(tmp_path), "--channel", "trades"]
    for _ in range(12):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(seeded.uniform(0.1, 0.7))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        for path in segments(tmp_path):
            pl.read_parquet(tmp_path / path)
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    ids = [value for path in segments(tmp_path) for value in pl.read_parquet(tmp_path / path)["trade_id"]]
    assert sorted(ids, key=int) == [str(1000 + n) for n in range(1, total + 1)]
    assert [path.name[-13:-8] for path in segments(tmp_path)] == ["00001", "00002", "00003"]
    assert list(Layout(data=str(tmp_path)).active("trades").iterdir()) == []
