"""C01-C12: start and validation."""

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conformance.harness import Tree, probe, slack

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    """One tree with a group per case."""
    nothing = {"command": ["/no/such/program"], "ready": "spawn"}
    return plant().start(
        probe("c01/a", "--ready-after", 0.2),
        probe("c01/b", "--ready-after", 0.1),
        probe("c01/c"),
        ("c03/minimal", {"command": ["/bin/sleep", "300"], "ready": "spawn"}),
        probe("c09/a"),
        probe("c09/b", "--fail-start", 1),
        probe("c09/c"),
        probe("c10/a"),
        probe("c10/b", "--ignore"),
        probe("c10/c"),
        probe("c10t/a"),
        probe("c10t/b", "--ignore", restart="temporary"),
        probe("c10t/c"),
        probe("c11/b", "--ready-after", "inf", start_timeout_s=1.0),
        probe("c12/a"),
        ("c12/b", nothing),
        probe("c12/c"),
        groups={"c03n": {"parent": "c03"}},
    )


def test_c01_children_start_in_order_each_after_the_one_before_is_ready(shared: Tree) -> None:
    shared.wait_running("c01/a", "c01/b", "c01/c")
    assert shared.plot("c01/") == [(name, event) for name in "abc" for event in ("spawn", "ready")]


def test_c02_an_empty_supervisor_starts_and_counts_nothing(tree: Tree) -> None:
    tree.start(groups={"g": {}})
    assert tree.ctl("status").returncode == 0
    assert tree.call("count", group="g") == {"specs": 0, "active": 0, "supervisors": 0, "workers": 0}
    assert tree.ctl("count", "g").stdout.split()[:2] == ["specs=0", "active=0"]


def test_c03_defaults_of_a_minimal_actor_and_of_a_nested_group(shared: Tree) -> None:
    done = shared.ctl("spec", "c03/minimal", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["restart"] == "permanent"
    assert shown["shutdown_s"] == 2.0  # of foreign programs; of a collector it is OTP's 5.0
    nested = json.loads(shared.ctl("spec", "c03n", "--json").stdout)
    assert (nested["strategy"], nested["restart"]) == ("one_for_one", "permanent")
    assert nested["shutdown_s"] == "infinity"


FAULTS = {
    "missing command": ('[actors."g/none"]', "[actors.", "command"),
    "unknown restart": ('[actors."g/restart"]', "restart =", "restart"),
    "negative shutdown": ('[actors."g/shutdown"]', "shutdown_s =", "shutdown_s"),
    "period 0": ("[groups.h]", "period_s =", "period_s"),
    "intensity -1": ("[groups.i]", "intensity =", "intensity"),
    "unknown strategy": ("[groups.j]", "strategy =", "strategy"),
}


@pytest.fixture(scope="module")
def faulty() -> Iterator[tuple[Tree, "subprocess.CompletedProcess[str]"]]:
    one = Tree()
    one.write(
        probe("g/good"),
        ("g/none", {"drain_s": 0.5}),
        probe("g/restart", restart="always"),
        probe("g/shutdown", shutdown_s=-1.0),
        groups={"h": {"period_s": 0.0}, "i": {"intensity": -1}, "j": {"strategy": "one_for_two"}},
    )
    yield one, one.check()
    one.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_c04_check_names_the_line_and_the_key_of_each_fault(
    faulty: tuple[Tree, "subprocess.CompletedProcess[str]"], fault: str
) -> None:
    tree, done = faulty
    assert done.returncode == 2
    owner, start, key = FAULTS[fault]
    lines = tree.config.read_text().splitlines()
    at = lines.index(owner)
    while not lines[at].startswith(start):
        at += 1
    told = [line for line in done.stderr.splitlines() if f"supervisor.toml:{at + 1}" in line]
    assert told, f"nothing about line {at + 1} ({lines[at]}) in:\n{done.stderr}"
    assert any(key in line for line in told), told


def test_c04_a_name_given_twice_is_a_fault(tree: Tree) -> None:
    text = tree.write(probe("g/a"))
    tree.config.write_text(text + '\n[actors."g/a"]\ncommand = ["/bin/true"]\n')
    done = tree.check()
    assert done.returncode == 2
    assert f"supervisor.toml:{len(text.splitlines()) + 2}" in done.stderr, done.stderr


def test_c04_a_start_with_a_bad_file_exits_78_and_spawns_nothing(tree: Tree) -> None:
    tree.write(probe("g/a"), probe("g/b", restart="always"))
    tree.launch()
    assert tree.wait_exit() == 78
    assert tree.traced() == []


def test_c05_an_unknown_key_is_refused_with_the_nearest_name(tree: Tree) -> None:
    tree.write(probe("g/a", restrat="permanent"))
    done = tree.check()
    assert done.returncode == 2
    assert "restrat" in done.stderr
    assert re.search(r"\brestart\b['\"`]?\?", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("restart", "auto_shutdown"), [("transient", "never"), ("permanent", "any_significant")]
)
def test_c06_significant_needs_auto_shutdown_and_an_end(tree: Tree, restart: str, auto_shutdown: str) -> None:
    tree.write(
        probe("g/a", restart=restart, significant=True),
        groups={"g": {"auto_shutdown": auto_shutdown, "restart": "transient"}},
    )
    done = tree.check()
    assert done.returncode == 2
    assert "significant" in done.stderr


@pytest.mark.parametrize(("intensity", "silent"), [(8, False), (7, True)])
def test_c07_an_intensity_that_no_child_can_reach_is_warned_about(
    tree: Tree, intensity: int, silent: bool
) -> None:
    tree.write(
        probe("g/a", backoff=None),
        groups={"g": {"intensity": intensity, "period_s": 60}},
        root={"intensity": 3, "period_s": 600},
    )
    assert tree.check("--strict").returncode == (0 if silent else 2)
    lax = tree.check()
    assert lax.returncode == 0
    assert ("max 8 failures per 60 s" in lax.stderr) is not silent, lax.stderr


def test_c08_a_strict_start_that_fails_takes_the_tree_down_with_70(tree: Tree) -> None:
    strict = {"start_failure": "abort"}
    tree.write(
        probe("g/a"),
        probe("g/b", "--fail-start", 1),
        probe("g/c"),
        groups={"g": {"on_limit": "escalate", **strict}},
        root={"on_limit": "escalate", **strict},
    )
    tree.launch()
    assert tree.wait_exit() == 70
    story = tree.plot("g/")
    assert story[-1] == ("a", "exit")
    assert tree.spawns("g/b") == 1
    assert tree.spawns("g/c") == 0
    told = [line for line in tree.stderr.read_text().splitlines() if "failed_to_start_child" in line]
    assert any("g/b" in line for line in told), tree.story()
    assert tree.left() == []


def test_c09_a_first_start_that_fails_is_retried_and_the_next_waits(shared: Tree) -> None:
    shared.wait_running("c09/a", "c09/b", "c09/c")
    assert shared.plot("c09/") == [
        ("a", "spawn"), ("a", "ready"),
        ("b", "spawn"), ("b", "fail"),
        ("b", "spawn"), ("b", "ready"),
        ("c", "spawn"), ("c", "ready"),
    ]  # fmt: skip
    found = shared.actors()
    assert found["c09/b"]["restarts"]["total"] == 1
    assert [found[f"c09/{name}"]["generation"] for name in "abc"] == [1, 2, 1]
    kinds = [event["type"] for event in shared.events("c09/b") if event["type"] != "state"]
    assert kinds == ["spawn", "exit", "restart_scheduled", "spawn", "ready"]


def test_c10_one_that_ignores_is_no_failure(shared: Tree) -> None:
    shared.wait_running("c10/a", "c10/c")
    shown = shared.wait_state("c10/b", "ignored")
    assert (shown["restarts"]["total"], shown["pid"]) == (0, None)
    counted = shared.call("count", group="c10")
    assert (counted["specs"], counted["active"]) == (3, 2)
    assert shared.spawns("c10/b") == 1
    assert shared.ctl("status", "c10").returncode == 0


def test_c10_a_temporary_one_that_ignores_is_forgotten(shared: Tree) -> None:
    shared.wait_running("c10t/a", "c10t/c")
    shared.until("c10t/b gone", lambda: "c10t/b" not in shared.actors())
    counted = shared.call("count", group="c10t")
    assert (counted["specs"], counted["active"]) == (2, 2)


def test_c11_one_that_is_never_ready_is_killed_at_its_start_timeout(shared: Tree) -> None:
    left = shared.wait_event("c11/b", "exit")
    born = shared.wait_event("c11/b", "spawn")
    assert 1.0 <= left["mono"] - born["mono"] < slack(1.0)
    assert left["class"] == "start_timeout"
    assert left["message"].startswith("start timeout 1")
    assert shared.wait_event("c11/b", "restart_scheduled")["seq"] > left["seq"]
    shared.until("a second start", lambda: shared.spawns("c11/b") >= 2)
    shared.call("stop", "c11/b")
    # Each start but the first was a restart that counts, and nothing else does.
    scheduled = len(shared.events("c11/b", "restart_scheduled"))
    assert shared.group("c11")["window_used"] == scheduled
    assert len(shared.events("c11/b", "spawn")) in (scheduled, scheduled + 1)


def test_c12_a_program_that_does_not_exist_fails_for_good(shared: Tree) -> None:
    shared.wait_running("c12/a", "c12/c")
    shown = shared.wait_state("c12/b", "failed")
    assert shown["last_exit"]["message"].startswith("ENOENT")
    assert shown["last_exit"]["class"] == "spawn_error"
    assert shown["restarts"]["total"] == 0
    assert shared.group("c12")["window_used"] == 0
    assert shared.events("c12/b", "restart_scheduled") == []
    assert shared.ctl("status", "c12").returncode == 3
