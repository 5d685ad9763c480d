"""C36-C39: a significant child that ends by itself takes its group with it."""

import signal
from collections.abc import Callable

import pytest

from tests.conformance.harness import Tree, probe

pytestmark = pytest.mark.system

WAYS = ("zero", "one", "kill")


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    def group(name: str, significant: str, restart: str, members: str = "abc") -> list:
        return [
            probe(
                f"{name}/{member}",
                **({"significant": True, "restart": restart} if member in significant else {}),
            )
            for member in members
        ]

    names = [f"c36{way}" for way in WAYS]
    some = {"auto_shutdown": "any_significant", "restart": "transient"}
    one = plant().start(
        *[actor for name in names for actor in group(name, "a", "temporary")],
        *group("c37", "a", "transient"),
        *group("c38", "ab", "transient"),
        *group("c39stop", "a", "transient"),
        *group("c39sib", "b", "temporary"),
        probe("side/a"),
        groups={
            **dict.fromkeys([*names, "c37", "c39stop"], some),
            "c38": some | {"auto_shutdown": "all_significant"},
            "c39sib": some | {"strategy": "one_for_all"},
        },
    )
    one.wait_running("side/a")
    return one


def went_down(tree: Tree, group: str) -> bool:
    return bool(tree.group(group)["state"] == "done")


@pytest.mark.parametrize("way", WAYS)
def test_c36_any_end_of_a_significant_temporary_one_ends_the_group(shared: Tree, way: str) -> None:
    group = f"c36{way}"
    before = shared.who("side/a")
    if way == "kill":
        shared.kill(f"{group}/a", signal.SIGKILL)
    else:
        shared.leave(f"{group}/a", WAYS.index(way))
    shared.until("group done", lambda: went_down(shared, group))
    ends = [
        told.name for told in shared.traced(f"{group}/") if told.event == "exit 0" and told.name[-1] != "a"
    ]
    assert ends == [f"{group}/c", f"{group}/b"]
    assert len(shared.plot(f"{group}/", "spawn")) == 3
    assert shared.events(group, "escalate") == []
    assert shared.who("side/a") == before


def test_c37_a_significant_transient_one_ends_the_group_only_by_ending_well(shared: Tree) -> None:
    before = shared.who("c37/b", "c37/c")
    shared.leave("c37/a", 1)
    shared.wait_running("c37/a", generation=2)
    assert shared.who("c37/b", "c37/c") == before
    assert shared.group("c37")["state"] == "running"
    shared.leave("c37/a", 0)
    shared.until("group done", lambda: went_down(shared, "c37"))
    assert shared.plot("c37/", "exit")[-2:] == [("c", "exit"), ("b", "exit")]


def test_c38_all_significant_ones_have_to_end(shared: Tree) -> None:
    before = shared.who("c38/b", "c38/c")
    shared.leave("c38/a", 0)
    shared.wait_state("c38/a", "done")
    assert shared.group("c38")["state"] == "running"
    assert shared.who("c38/b", "c38/c") == before
    shared.leave("c38/b", 0)
    shared.until("group done", lambda: went_down(shared, "c38"))
    assert shared.plot("c38/", "exit") == [("a", "exit"), ("b", "exit"), ("c", "exit")]
    assert len(shared.plot("c38/", "spawn")) == 3


def test_c39_an_operators_stop_is_no_end_of_its_own(shared: Tree) -> None:
    before = shared.who("c39stop/b", "c39stop/c")
    shared.call("stop", "c39stop/a")
    assert shared.actor("c39stop/a")["state"] == "stopped"
    assert shared.group("c39stop")["state"] == "running"
    assert shared.who("c39stop/b", "c39stop/c") == before


def test_c39_the_end_of_a_sibling_is_no_end_of_its_own(shared: Tree) -> None:
    shared.kill("c39sib/a")
    shared.wait_running("c39sib/a", "c39sib/c", generation=2)
    shared.until("b gone", lambda: "c39sib/b" not in shared.actors())
    assert shared.group("c39sib")["state"] == "running"
    assert shared.spawns("c39sib/b") == 1
