"""C27-C35: intensity, escalation and parking. Every limit here escalates unless the case says otherwise.

The trees whose probes fail by themselves are started together, before the first test, so that their waiting
overlaps; the tests then read what has happened.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.conformance.harness import Tree, probe, slack

pytestmark = pytest.mark.system

DIES = ("--exit-after", 0, "--code", 1)
CASES = ("c27", "c28", "c30", "c33", "c33side", "c34", "c35")
ONCE = {"restart": "transient"}  # over its limit such a group stays down, so that it can be looked at


@pytest.fixture(scope="module")
def trees(plant: Callable[[], Tree]) -> dict[str, Tree]:
    """All trees of this module, none of them waited for."""
    made = {name: plant() for name in ("many", "attempts", "product", "park")}
    made["many"].start(
        probe("c29/a", "--exit-after", 3.5, "--code", 1, "--exit-first", 4),
        *[probe(f"{case}/{name}") for case in CASES for name in "ab"],
        groups={
            "c27": {"intensity": 2, **ONCE},
            "c28": {"intensity": 0, **ONCE},
            "c29": {"intensity": 1, "period_s": 2},
            "c30": {"intensity": 2, **ONCE},
            "c33": {"intensity": 1},
            "c34": {"intensity": 0, **ONCE},
            "c35": {"intensity": 0},
        },
        wait=False,
    )
    made["attempts"].start(
        probe("c31/a"),
        probe("c31/b", "--fail-start", 1000),
        probe("c31/c"),
        groups={"c31": {"intensity": 4, **ONCE}},
        wait=False,
    )
    made["product"].start(
        probe("g/leaf", *DIES),
        groups={"g": {"intensity": 2, "backoff": {"base_s": 0.1, "jitter": 0.0}}},
        root={"intensity": 1, "on_limit": "escalate"},
        wait=False,
    )
    made["park"].start(
        probe("g/leaf", *DIES),
        probe("side/a"),
        groups={"g": {"intensity": 0}},
        root={"intensity": 0, "on_limit": "park", "park_retry_s": 2.0},
        wait=False,
    )
    made["many"].until_up()
    return made


@pytest.fixture
def many(trees: dict[str, Tree]) -> Tree:
    return trees["many"]


def crash(tree: Tree, name: str, times: int) -> None:
    """Make an actor fail so often, each time waiting for its next life but after the last."""
    for number in range(times):
        generation = tree.wait_state(name, "running")["generation"]
        tree.leave(name, 1)
        if number < times - 1:
            tree.wait_running(name, generation=generation + 1)


def test_c27_the_restart_beyond_intensity_ends_the_group_in_reverse_order(many: Tree) -> None:
    many.wait_running("c27/b")
    crash(many, "c27/a", 3)
    many.until("group down", lambda: many.group("c27")["state"] == "failed")
    assert many.group("c27")["substate"] == "intensity"
    assert many.plot("c27/")[-1] == ("b", "exit")
    assert many.plot("c27/", "spawn") == [("a", "spawn"), ("b", "spawn"), ("a", "spawn"), ("a", "spawn")]
    assert [event["reason"] for event in many.events("c27", "escalate")] == ["intensity"]
    assert many.actor("c27/a")["pid"] is None


def test_c28_intensity_0_forgives_nothing(many: Tree) -> None:
    many.wait_running("c28/b")
    crash(many, "c28/a", 1)
    many.until("group down", lambda: many.group("c28")["state"] == "failed")
    assert many.plot("c28/", "spawn") == [("a", "spawn"), ("b", "spawn")]
    assert many.plot("c28/")[-1] == ("b", "exit")


def test_c30_children_share_the_window_of_their_supervisor(many: Tree) -> None:
    many.wait_running("c30/b")
    crash(many, "c30/a", 1)
    many.wait_running("c30/a", generation=2)
    crash(many, "c30/b", 1)
    many.wait_running("c30/b", generation=2)
    assert many.group("c30")["window_used"] == 2
    crash(many, "c30/a", 1)
    many.until("group down", lambda: many.group("c30")["state"] == "failed")
    assert (many.spawns("c30/a"), many.spawns("c30/b")) == (2, 2)


def test_c31_failed_attempts_to_restart_count(trees: dict[str, Tree]) -> None:
    one = trees["attempts"]
    one.until("answer", one.answering)
    one.wait_event("c31", "escalate")
    one.until("tree up", lambda: one.status()["supervisor"]["state"] == "running")
    assert (one.group("c31")["state"], one.group("c31")["substate"]) == ("failed", "intensity")
    assert one.plot("c31/", "fail") == [("b", "fail")] * 5
    assert one.plot("c31/", "spawn") == [("a", "spawn")] + [("b", "spawn")] * 5
    assert one.plot("c31/")[-1] == ("a", "exit")


def test_c32_a_leaf_that_always_fails_is_started_the_product_of_both_limits(trees: dict[str, Tree]) -> None:
    one = trees["product"]
    assert one.wait_exit() == 70
    assert one.spawns("g/leaf") == (1 + 1) * (2 + 1)
    assert one.left() == []


def test_c33_a_group_over_its_limit_is_restarted_alone_with_an_empty_window(many: Tree) -> None:
    many.wait_running("c33/a", "c33/b", "c33side/a", "c33side/b")
    before = many.who("c33side/a", "c33side/b")
    crash(many, "c33/a", 2)
    many.wait_running("c33/b", generation=2)
    many.wait_running("c33/a", generation=3)
    many.until("group up", lambda: many.group("c33")["state"] == "running")
    assert many.group("c33")["window_used"] == 0
    assert many.who("c33side/a", "c33side/b") == before
    crash(many, "c33/a", 1)  # one more is within the new window
    many.wait_running("c33/a", generation=4)
    assert (many.group("c33")["state"], many.group("c33")["window_used"]) == ("running", 1)


def test_c33_a_root_that_parks_tries_again_and_never_leaves(trees: dict[str, Tree]) -> None:
    one = trees["park"]
    one.until_up()
    before = one.who("side/a")
    one.until("parked", lambda: one.group("g")["substate"] == "parked")
    assert one.group("g")["state"] == "failed"
    one.until("three tries", lambda: one.spawns("g/leaf") >= 3)
    born = [told.mono for told in one.traced("g/leaf") if told.event == "spawn"]
    gaps = [later - earlier for earlier, later in pairwise(born)]
    assert all(2.0 <= gap < slack(2.2) for gap in gaps), gaps
    assert one.who("side/a") == before
    assert one.process is not None
    assert one.process.poll() is None
    assert one.ctl("status").returncode == 3


def test_c34_a_transient_group_over_its_limit_stays_down_and_says_so(many: Tree) -> None:
    many.wait_running("c34/b")
    crash(many, "c34/a", 1)
    many.until("group down", lambda: many.group("c34")["state"] == "failed")
    shown = many.group("c34")
    assert (shown["state"], shown["substate"]) == ("failed", "intensity")
    done = many.ctl("status", "c34")
    assert done.returncode == 3
    assert "failed (intensity)" in done.stdout + many.ctl("tree").stdout
    assert many.spawns("c34/a") == 1


def test_c34_check_warns_of_groups_that_would_stay_down_silently(many: Tree) -> None:
    done = many.check()
    assert done.returncode == 0
    warned = [line for line in done.stderr.splitlines() if "warning" in line and "c34" in line]
    assert any("transient" in line for line in warned), done.stderr


def test_c35_an_actor_added_by_hand_is_lost_with_its_group(many: Tree) -> None:
    many.wait_running("c35/a")
    many.call("add", name="c35/x", spec=many.spec_of(probe("c35/x")))
    many.wait_running("c35/x")
    crash(many, "c35/a", 1)  # one is too many: the group ends, and its parent starts it anew
    many.wait_running("c35/a", generation=2)
    many.until("group up", lambda: many.group("c35")["state"] == "running")
    assert "c35/x" not in many.actors()
    assert many.spawns("c35/x") == 1
    assert many.refusal("start", "c35/x") == "not_found"


def test_c29_failures_further_apart_than_the_period_never_end_the_group(many: Tree) -> None:
    shown = many.wait_state("c29/a", "running", generation=5)
    assert (shown["generation"], shown["restarts"]["total"]) == (5, 4)
    many.until("window passes", lambda: many.group("c29")["window_used"] == 0)
    assert many.events("c29", "escalate") == []
    assert many.group("c29")["state"] == "running"
