"""C13-C17: what each restart type makes of each way to end."""

import signal
from collections.abc import Callable

import pytest

from tests.conformance.harness import Tree, probe

pytestmark = pytest.mark.system

WAYS = ("zero", "one", "segv")


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    ends = [
        probe(f"{case}/{way}", restart=restart)
        for case, restart in (("c13", "permanent"), ("c14", "transient"), ("c15", "temporary"))
        for way in WAYS
    ]
    bystanders = [
        probe(f"{group}/{name}", restart=restart)
        for group in ("c16all", "c16rest")
        for name, restart in (("a", "permanent"), ("b", "temporary"))
    ]
    one = plant().start(
        *ends,
        *bystanders,
        probe("c17/term", "--no-handler", restart="transient"),
        probe("c17fatal/a", restart="transient"),
        probe("c17recycle/a"),
        probe("c17recycle/b"),
        groups={
            "c16all": {"strategy": "one_for_all"},
            "c16rest": {"strategy": "rest_for_one"},
        },
    )
    one.wait_running("c17recycle/b")
    return one


def end(tree: Tree, name: str) -> int:
    """End an actor in the way that its name says, and return the pid it had."""
    way = name.rpartition("/")[2]
    if way == "segv":
        return tree.kill(name, signal.SIGSEGV)
    return tree.leave(name, WAYS.index(way))


@pytest.mark.parametrize("way", WAYS)
def test_c13_a_permanent_one_always_comes_back(shared: Tree, way: str) -> None:
    name = f"c13/{way}"
    pid = end(shared, name)
    shown = shared.wait_state(name, "running", generation=2)
    assert shown["pid"] != pid
    assert (shown["generation"], shown["restarts"]["total"]) == (2, 1)
    last = shown["last_exit"]
    expected = {
        "zero": ("normal", 0, None, "exit 0"),
        "one": ("abnormal", 1, None, "exit 1"),
        "segv": ("abnormal", None, "SIGSEGV", "SIGSEGV"),
    }[way]
    assert (last["class"], last["code"], last["signal"], last["message"][: len(expected[3])]) == expected


@pytest.mark.parametrize("way", WAYS)
def test_c14_a_transient_one_comes_back_from_a_failure_only(shared: Tree, way: str) -> None:
    name = f"c14/{way}"
    end(shared, name)
    if way != "zero":
        assert shared.wait_state(name, "running", generation=2)["restarts"]["total"] == 1
        return
    shown = shared.wait_state(name, "done")
    assert (shown["pid"], shown["generation"], shown["restarts"]["total"]) == (None, 1, 0)
    counted = shared.call("count", group="c14")
    assert (counted["specs"], counted["active"]) == (3, 2)
    assert shared.ctl("status", name).returncode == 0


def test_c14_a_transient_one_that_ends_well_before_it_is_ready_is_done(tree: Tree) -> None:
    tree.start(
        probe("g/a", "--ready-after", "inf", "--exit-early", 0.1, restart="transient"),
        probe("g/b"),
        wait=False,
    )
    tree.until("answer", tree.answering)
    tree.wait_running("g/b")
    assert tree.actor("g/a")["state"] == "done"
    assert tree.spawns("g/a") == 1


@pytest.mark.parametrize("way", WAYS)
def test_c15_a_temporary_one_is_forgotten_however_it_ends(shared: Tree, way: str) -> None:
    name = f"c15/{way}"
    specs = shared.call("count", group="c15")["specs"]
    end(shared, name)
    shared.until(f"{name} gone", lambda: name not in shared.actors())
    assert shared.call("count", group="c15")["specs"] == specs - 1
    assert shared.events(name, "exit")
    assert shared.events(name, "restart_scheduled") == []
    assert shared.refusal("start", name) == "not_found"


@pytest.mark.parametrize("group", ["c16all", "c16rest"])
def test_c16_a_temporary_bystander_does_not_come_back_with_the_group(shared: Tree, group: str) -> None:
    pid = shared.kill(f"{group}/a")
    shown = shared.wait_state(f"{group}/a", "running", generation=2)
    assert shown["pid"] != pid
    shared.until("b gone", lambda: f"{group}/b" not in shared.actors())
    assert shared.spawns(f"{group}/b") == 1
    state = shared.group(group)
    assert (state["state"], state["window_used"]) == ("running", 1)
    assert shared.call("count", group=group)["specs"] == 1


def test_c17_a_sigterm_that_nobody_ordered_is_a_failure(shared: Tree) -> None:
    shared.kill("c17/term", signal.SIGTERM)
    shown = shared.wait_state("c17/term", "running", generation=2)
    assert (shown["last_exit"]["class"], shown["last_exit"]["signal"]) == ("abnormal", "SIGTERM")
    assert shared.group("c17")["window_used"] == 1


def test_c17_exit_78_fails_for_good_and_counts_nothing(shared: Tree) -> None:
    shared.leave("c17fatal/a", 78)
    shown = shared.wait_state("c17fatal/a", "failed")
    assert (shown["last_exit"]["class"], shown["last_exit"]["code"]) == ("fatal", 78)
    assert shared.group("c17fatal")["window_used"] == 0
    assert shared.spawns("c17fatal/a") == 1


def test_c17_exit_75_comes_back_at_once_and_counts_nothing(shared: Tree) -> None:
    shared.leave("c17recycle/a", 75)
    shown = shared.wait_state("c17recycle/a", "running", generation=2)
    assert shown["last_exit"]["class"] == "recycle"
    assert shared.group("c17recycle")["window_used"] == 0
    assert shown["backoff"]["k"] == 0


def test_c17_a_second_exit_75_within_a_minute_is_a_failure(shared: Tree) -> None:
    shared.leave("c17recycle/b", 75)
    shared.wait_running("c17recycle/b", generation=2)
    shared.leave("c17recycle/b", 75)
    shared.wait_running("c17recycle/b", generation=3)
    assert shared.group("c17recycle")["window_used"] == 1
