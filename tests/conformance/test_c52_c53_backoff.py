"""C52, C53: delays between restarts, and that no clock on the wall moves them."""

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.conformance.harness import BACKOFF, Tree, probe, slack

pytestmark = pytest.mark.system

DELAYS_S = (0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0)
# Python runs this at start-up: what the supervisor takes for the time of day is off by what stands in a file.
WALL = """
import time
from pathlib import Path
def shifted(true, unit):
    def wall():
        return true() + type(true())(float(Path({file!r}).read_text()) * unit)
    return wall
time.time, time.time_ns = shifted(time.time, 1), shifted(time.time_ns, 10**9)
"""


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    loop = ("--exit-after", 0, "--code", 1, "--exit-first", 7)
    return plant().start(
        probe("c52/a", *loop, backoff=BACKOFF | {"reset_after_s": 1.0}),
        probe("c52/jitter", *loop, backoff=BACKOFF | {"jitter": 0.1}),
        probe("c53/a", backoff=BACKOFF | {"base_s": 2.0, "cap_s": 2.0}),
    )


def delays(tree: Tree, name: str) -> list[float]:
    return [event["delay_s"] for event in tree.events(name, "restart_scheduled")]


def gaps(tree: Tree, name: str) -> list[float]:
    """Return the seconds from each end to the next start, as the supervisor saw them."""
    told = tree.events(name, "exit", "spawn")
    return [
        later["mono"] - earlier["mono"]
        for earlier, later in pairwise(told)
        if (earlier["type"], later["type"]) == ("exit", "spawn")
    ]


def test_c52_delays_double_up_to_the_cap_and_begin_anew_after_a_stable_run(shared: Tree) -> None:
    shared.wait_state("c52/a", "running", generation=8)
    assert delays(shared, "c52/a") == list(DELAYS_S)
    for gap, delay in zip(gaps(shared, "c52/a"), DELAYS_S, strict=True):
        assert delay <= gap < slack(delay)
    shared.until("a stable run", lambda: (shared.actor("c52/a")["uptime_s"] or 0) > 1.1)
    shared.leave("c52/a", 1)
    shared.wait_running("c52/a", generation=9)
    assert delays(shared, "c52/a")[7:] == [0.0]
    assert shared.actor("c52/a")["backoff"]["k"] == 1


def test_c52_jitter_only_adds(shared: Tree) -> None:
    shared.wait_state("c52/jitter", "running", generation=8)
    found = delays(shared, "c52/jitter")
    assert len(found) == len(DELAYS_S)
    for delay, least in zip(found, DELAYS_S, strict=True):
        assert least <= delay <= least * 1.1 + 0.001
    assert any(delay > least + 0.0005 for delay, least in zip(found, DELAYS_S, strict=True))


def test_c53_a_stop_while_waiting_is_immediate_and_final(shared: Tree) -> None:
    shared.leave("c53/a", 1)
    shared.wait_running("c53/a", generation=2)
    shared.leave("c53/a", 1)
    assert shared.wait_state("c53/a", "backoff")["backoff"]["next_in_s"] > 0.5
    began = time.monotonic()
    shared.call("stop", "c53/a")
    assert time.monotonic() - began < 1.0
    shown = shared.actor("c53/a")
    assert (shown["state"], shown["desired"], shown["backoff"]["next_in_s"]) == ("stopped", "down", None)
    time.sleep(3.0)
    assert shared.spawns("c53/a") == 2


def test_c53_an_hour_more_or_less_on_the_wall_changes_no_timing(tree: Tree) -> None:
    wall, place = tree.directory / "wall", tree.directory / "site"
    wall.write_text("0")
    place.mkdir()
    (place / "sitecustomize.py").write_text(WALL.format(file=str(wall)))
    path = tree.environment.get("PYTHONPATH")
    tree.environment["PYTHONPATH"] = f"{place}:{path}" if path else str(place)
    slow = {"base_s": 1.0, "cap_s": 1.0, "jitter": 0.0}
    tree.start(
        probe("g/starts", "--ready-after", "inf", start_timeout_s=1.5, restart="temporary"),
        probe("g/waits", backoff=slow),
        probe("g/stops", "--ignore-term", "--drain", 60),
        probe("g/beats", heartbeat_timeout_s=5.0),
        wait=False,
    )
    tree.until("answer", tree.answering)
    tree.wait_state("g/starts", "starting")
    wall.write_text("3600")
    left = tree.wait_event("g/starts", "exit")
    assert abs(left["ts"] - time.time() - 3600) < 60.0, "the wall clock was not moved"
    assert 1.5 <= left["mono"] - tree.wait_event("g/starts", "spawn")["mono"] < slack(1.5)
    tree.wait_running("g/waits", "g/stops", "g/beats")
    before = tree.who("g/beats")
    tree.leave("g/waits", 1)
    tree.wait_running("g/waits", generation=2)
    tree.leave("g/waits", 1)
    tree.wait_state("g/waits", "backoff")
    wall.write_text("-3600")
    tree.wait_running("g/waits", generation=3)
    assert 1.0 <= gaps(tree, "g/waits")[1] < slack(1.0)
    link = tree.link()
    began = time.monotonic()
    link.ask("stop", actors=["g/stops"])
    tree.wait_state("g/stops", "stopping")
    wall.write_text("3600")
    list(link.answers())
    link.close()
    assert 1.5 <= time.monotonic() - began < slack(1.5)
    assert tree.who("g/beats") == before
