"""A disk that fills up under a whole tree: nobody ends, the writers say so, and it goes on exactly once."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system import configs
from tests.system.tap import Tap
from tests.system.test_kills import _assert_exactly_once, _stop_twice
from tests.system.tree import Simulator, Tree, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.needs_loop, pytest.mark.timeout(180)]

SIZE_MB = 48
CONFIG = """
[writer]
max_segment_age_s = 1
[disk]
warn_pct = 50
evict_pct = 0
stop_pct = 0
"""


@pytest.fixture
def small_disk(short_tmp: Path) -> Iterator[Path]:
    """The tree's data directory, on a file system of a few MiB."""
    if os.geteuid() != 0:
        pytest.skip("NO FULL DISK WAS TRIED: only root mounts one")
    data = short_tmp / "d"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "none", str(data)], check=True)
    yield data
    subprocess.run(["umount", "-l", str(data)], check=True)


def _fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def _writers(tree: Tree) -> dict[str, dict[str, Any]]:
    return {name: actor for name, actor in tree.actors().items() if "/writer-" in name}


def _all_say(tree: Tree, word: str) -> dict[str, dict[str, Any]] | None:
    found = _writers(tree)
    return found if all(word in actor["status_text"] for actor in found.values()) else None


def test_d26_a_full_disk_ends_nobody_is_told_and_nothing_is_lost_or_doubled(
    small_disk: Path, short_tmp: Path
) -> None:
    simulator = Simulator(
        *("--model", "--symbols", "BTC/USDT,ETH/USDT", "--rate", "200", "--seed", "7"),
        log=short_tmp / "simulator.log",
    )
    coinbase = tuple(simulator.addresses["symbols"]["coinbase"])
    tree = Tree(short_tmp, CONFIG + configs.coinbase(simulator.addresses, coinbase))
    tap = None
    ballast = small_disk / "ballast"
    try:
        tree.wait_running()
        tap = Tap([tree.runtime / "pub-coinbase.sock"])
        before = {name: actor["pid"] for name, actor in tree.actors().items()}
        time.sleep(2)
        _fill(ballast)
        told = wait_for("every writer to say that the disk is full", lambda: _all_say(tree, "ENOSPC"), 60)
        assert len(told) >= 3
        # How much: a little comes free again when a checkpoint that found no room is given up.
        wait_for("the level of the disk", lambda: _all_say(tree, "disk warn: "), 60)
        time.sleep(3)
        assert {name: actor["pid"] for name, actor in tree.actors().items()} == before
        ballast.unlink()
        wait_for(
            "every writer to go on",
            lambda: not any("cannot" in actor["status_text"] for actor in _writers(tree).values()),
            60,
        )
        time.sleep(1)
        assert {name: actor["pid"] for name, actor in tree.actors().items()} == before, "somebody ended"
        tap.close()
        _stop_twice(tree)
        _assert_exactly_once(tree, tap)
        log = tree.log.read_text(errors="replace")
        told_times = log.count("journal_stalled")
        assert 3 <= told_times <= 4 * len(before), "it is told once, not with each attempt"
    finally:
        if tap is not None and not tap._stop.is_set():
            tap.close()
        tree.close()
        simulator.close()
