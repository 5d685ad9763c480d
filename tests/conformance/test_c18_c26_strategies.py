"""C18-C26: what the failure of one child means to the others."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.conformance.harness import Tree, probe, slack

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    """One tree with a group per case."""
    sizes = {"c18": "ab", "c19": "abc", "c20": "abcde", "c21": "ab", "c22": "abc", "c23": "abc"}
    one = plant().start(
        *[probe(f"{case}/{name}") for case, names in sizes.items() for name in names],
        *[probe(f"c25/{name}", restart="transient" if name == "t" else "permanent") for name in "abct"],
        probe("c26/w", instances=3),
        groups={
            "c19": {"strategy": "one_for_all"},
            "c20": {"strategy": "rest_for_one"},
            "c21": {"strategy": "one_for_all"},
            "c22": {"strategy": "rest_for_one"},
            "c23": {"strategy": "rest_for_one"},
            "c25": {"strategy": "one_for_all"},
            "c26": {"strategy": "simple_one_for_one"},
        },
    )
    one.wait_running("c25/t")
    return one


def story_since(tree: Tree, group: str, mark: float, *events: str) -> list[tuple[str, str]]:
    """Return (bare name, event) of a group after a moment of the monotonic clock."""
    told = [item for item in tree.traced(f"{group}/") if item.mono > mark]
    pairs = [(item.name.rpartition("/")[2], item.event.split()[0]) for item in told]
    return [pair for pair in pairs if pair[1] in events]


def test_c18_one_for_one_leaves_the_sibling_alone(shared: Tree) -> None:
    before = shared.who("c18/a", "c18/b")
    pid = shared.kill("c18/a")
    assert shared.wait_state("c18/a", "running", generation=2)["pid"] != pid
    assert shared.who("c18/b")["c18/b"] == before["c18/b"]


def test_c19_one_for_all_stops_in_reverse_and_starts_in_order(shared: Tree) -> None:
    mark = time.monotonic()
    shared.kill("c19/b")
    shared.wait_running("c19/a", "c19/b", "c19/c", generation=2)
    assert story_since(shared, "c19", mark, "exit", "spawn", "ready") == [
        ("c", "exit"), ("a", "exit"),
        ("a", "spawn"), ("a", "ready"), ("b", "spawn"), ("b", "ready"), ("c", "spawn"), ("c", "ready"),
    ]  # fmt: skip
    assert shared.group("c19")["window_used"] == 1
    found = shared.actors()
    assert [found[f"c19/{name}"]["generation"] for name in "abc"] == [2, 2, 2]


def test_c20_rest_for_one_takes_the_later_ones_only(shared: Tree) -> None:
    before = shared.who("c20/a", "c20/b")
    mark = time.monotonic()
    shared.kill("c20/c")
    shared.wait_running("c20/c", "c20/d", "c20/e", generation=2)
    assert story_since(shared, "c20", mark, "exit", "spawn") == [
        ("e", "exit"), ("d", "exit"), ("c", "spawn"), ("d", "spawn"), ("e", "spawn"),
    ]  # fmt: skip
    assert shared.who("c20/a", "c20/b") == before
    assert shared.group("c20")["window_used"] == 1


def test_c21_one_for_all_begins_again_when_another_child_fails_its_restart(shared: Tree) -> None:
    mark = time.monotonic()
    shared.fail_next("c21/b")
    shared.kill("c21/a")
    shared.wait_running("c21/a", "c21/b", generation=3)
    # b was stopped with the group, then a's second instance goes because b's second start failed.
    assert story_since(shared, "c21", mark, "exit", "fail", "ready") == [
        ("b", "exit"), ("a", "ready"), ("b", "fail"), ("a", "exit"), ("a", "ready"), ("b", "ready"),
    ]  # fmt: skip
    assert shared.group("c21")["window_used"] == 2


def test_c22_rest_for_one_keeps_what_was_restarted_before_the_failure(shared: Tree) -> None:
    mark = time.monotonic()
    shared.fail_next("c22/b")
    shared.kill("c22/a")
    shared.wait_running("c22/b", generation=3)
    shared.wait_running("c22/a", "c22/c", generation=2)
    assert story_since(shared, "c22", mark, "exit", "fail", "ready") == [
        ("c", "exit"), ("b", "exit"), ("a", "ready"), ("b", "fail"), ("b", "ready"), ("c", "ready"),
    ]  # fmt: skip
    assert shared.group("c22")["window_used"] == 2
    assert shared.who("c22/a")["c22/a"][1] == 2


def test_c23_a_restart_that_keeps_failing_can_be_looked_at_and_cancelled(shared: Tree) -> None:
    first = shared.who("c23/a")
    shared.fail_next("c23/b", 1000)
    shared.kill("c23/b")

    def waits() -> bool:
        backoff = shared.actor("c23/b").get("backoff") or {}
        return (backoff.get("next_in_s") or 0.0) > 0.6

    shared.until("a long wait", waits)
    assert shared.ctl("start", "c23/b").returncode == 6
    shared.until("a long wait", waits)
    found = shared.actors()
    states = [found[f"c23/{name}"]["state"] for name in "abc"]
    assert states == ["running", "backoff", "stopped"]
    assert found["c23/c"]["desired"] == "up"
    assert shared.refusal("start", "c23/b") == "restarting"
    assert shared.ctl("remove", "c23/b").returncode == 6
    shared.until("a long wait", waits)
    assert shared.refusal("remove", "c23/b") == "restarting"
    shared.call("stop", "c23/b")
    spawned = shared.spawns("c23/b")
    time.sleep(1.5)  # over the cap of the backoff
    found = shared.actors()
    assert [found[f"c23/{name}"]["state"] for name in "abc"] == ["running", "stopped", "stopped"]
    assert shared.who("c23/a") == first
    assert (shared.spawns("c23/b"), shared.spawns("c23/c")) == (spawned, 1)


def test_c24_a_restart_loop_neither_delays_a_question_nor_the_end(tree: Tree) -> None:
    tree.start(probe("g/a"), probe("g/b"), probe("g/c"))
    tree.wait_running("g/a", "g/b", "g/c")
    tree.fail_next("g/b", 1000)
    tree.kill("g/b")
    tree.until("a loop", lambda: tree.spawns("g/b") >= 4)
    took = []
    for _ in range(20):
        began = time.monotonic()
        assert tree.actor("g/b")["state"] in ("backoff", "starting", "running", "killing")
        took.append(time.monotonic() - began)
    assert sorted(took)[len(took) // 2] < 0.2
    began = time.monotonic()
    assert tree.ctl("shutdown").returncode == 0
    assert tree.wait_exit() == 0
    assert time.monotonic() - began < slack(3 * 1.5)
    assert tree.left() == []


def test_c25_what_the_operator_stopped_stays_down_what_ended_well_comes_back(shared: Tree) -> None:
    shared.call("stop", "c25/c")
    shared.leave("c25/t", 0)
    shared.wait_state("c25/t", "done")
    shared.kill("c25/a")
    shared.wait_running("c25/a", "c25/b", "c25/t", generation=2)
    shown = shared.actor("c25/c")
    assert (shown["state"], shown["desired"], shown["generation"]) == ("stopped", "down", 1)
    assert shared.spawns("c25/c") == 1
    assert shared.spawns("c25/t") == 2


def test_c26_instances_of_a_template_are_named_and_handled_one_by_one(shared: Tree) -> None:
    names = [f"c26/w@{number}" for number in (1, 2, 3)]
    shared.wait_running(*names)
    before = shared.who(*names)
    shared.call("stop", names[1])
    assert shared.actor(names[1])["state"] == "stopped"
    shared.call("start", names[1])
    shared.wait_state(names[1], "running", generation=2)
    after = shared.who(*names)
    assert (after[names[0]], after[names[2]]) == (before[names[0]], before[names[2]])
    assert shared.ctl("remove", "c26/w").returncode == 2
    assert shared.who(*names) == after


def test_c26_twenty_instances_stop_at_once(tree: Tree) -> None:
    tree.start(
        probe("pool/w", "--drain", 0.5, instances=20, drain_s=8.0),
        groups={"pool": {"strategy": "simple_one_for_one"}},
    )
    names = [f"pool/w@{number}" for number in range(1, 21)]
    tree.wait_running(*names)
    assert tree.process is not None
    began = time.monotonic()
    os.kill(tree.process.pid, signal.SIGTERM)
    assert tree.wait_exit() == 0
    assert time.monotonic() - began < slack(0.5) + 2.0  # one after the other would take 10 s
    told = tree.traced("pool/")
    drains = [item.mono for item in told if item.event == "drain"]
    ends = [item.mono for item in told if item.event.startswith("exit")]
    assert len(drains) == len(ends) == 20
    assert max(drains) - min(drains) < 0.5 * 4
    assert tree.left() == []
