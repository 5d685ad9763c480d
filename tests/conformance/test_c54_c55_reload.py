"""C54, C55: a new file is applied to a running tree, and what it does not touch goes on."""

import json
import os
from typing import Any

import pytest

from tests.conformance.harness import Actor, Tree, probe

pytestmark = pytest.mark.system


def trio(**changes: dict[str, Any]) -> list[Actor]:
    return [probe(f"g/{name}", **changes.get(name, {})) for name in "abc"]


def lines(tree: Tree) -> list[tuple[str, str]]:
    return tree.plot("g/", "spawn", "exit")


def test_c54_a_live_key_and_an_addition_leave_every_pid_alone(tree: Tree) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    before = tree.who("g/a", "g/b", "g/c")
    begun = {name: tree.actor(name)["started_at"] for name in before}
    tree.write(*trio(b={"memory_hard": "222M"}), probe("g/d"))
    dry = tree.ctl("reload", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "g/d" in dry.stdout
    assert "g/d" not in tree.actors()
    done = tree.ctl("--json", "reload")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    changes = {(item["name"], item["action"]) for item in report["changes"] if item["kind"] == "actor"}
    assert changes == {("g/b", "live"), ("g/d", "add")}
    assert report["applied"] is True
    tree.wait_running("g/d")
    assert tree.who("g/a", "g/b", "g/c") == before
    assert {name: tree.actor(name)["started_at"] for name in before} == begun
    assert tree.actor("g/b")["mem"]["hard"] == 222 << 20
    assert tree.call("spec", "g/b")["memory_hard"] == 222 << 20


def test_c54_the_same_file_again_changes_nothing(tree: Tree) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    before = tree.who("g/a", "g/b", "g/c")
    seq = tree.last_seq()
    tree.config.write_text("# a remark is no change\n\n" + tree.config.read_text())
    done = tree.ctl("reload")
    assert done.returncode == 0, done.stderr
    assert "no changes" in (done.stdout + done.stderr).lower()
    assert tree.who("g/a", "g/b", "g/c") == before
    assert tree.events(None, "spawn", "exit", "restart_scheduled", since=seq) == []


@pytest.mark.parametrize("fault", ['[actors."g/e"\n', '[actors."g/e"]\nrestrat = "permanent"\n'])
def test_c54_a_file_with_a_fault_changes_nothing_at_all(tree: Tree, fault: str) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    before = tree.who("g/a", "g/b", "g/c")
    tree.write(*trio(b={"memory_hard": "222M"}), probe("g/d"), more=fault)
    done = tree.ctl("reload")
    assert done.returncode == 2
    assert "supervisor.toml:" in done.stderr
    assert set(tree.actors()) == {"g/a", "g/b", "g/c"}
    assert tree.who("g/a", "g/b", "g/c") == before
    assert tree.actor("g/b")["mem"]["hard"] == 192 << 20


def test_c54_a_change_of_the_root_is_refused(tree: Tree) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    before = tree.who("g/a", "g/b", "g/c")
    text = tree.config.read_text()
    tree.config.write_text(text.replace(str(tree.runtime), str(tree.directory / "elsewhere")))
    done = tree.ctl("reload")
    assert done.returncode == 2
    assert "restart" in done.stderr
    assert tree.who("g/a", "g/b", "g/c") == before


def test_c54_sighup_reloads_too(tree: Tree) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    tree.write(*trio(), probe("g/d"))
    assert tree.process is not None
    os.kill(tree.process.pid, 1)
    tree.wait_running("g/d")


def test_c55_new_arguments_restart_that_actor_once_and_no_other(tree: Tree) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    before = tree.who("g/a", "g/c")
    tree.write(*trio(b={"args": ["--note", "new"]}))
    assert tree.ctl("reload").returncode == 0
    shown = tree.wait_state("g/b", "running", generation=2)
    assert (shown["generation"], tree.spawns("g/b")) == (2, 2)
    assert tree.who("g/a", "g/c") == before
    assert tree.group("g")["window_used"] == 0
    assert tree.plot("g/b", "drain", "exit") == [("b", "drain"), ("b", "exit")]


def test_c55_a_removed_one_is_drained_and_gone_and_intent_is_kept(tree: Tree) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    before = tree.who("g/b")
    tree.call("stop", "g/a")
    tree.write(*trio(a={"shutdown_s": 1.5})[:2])
    assert tree.ctl("reload").returncode == 0
    tree.until("c gone", lambda: "g/c" not in tree.actors())
    assert tree.plot("g/c", "drain", "drained", "exit") == [("c", "drain"), ("c", "drained"), ("c", "exit")]
    shown = tree.actor("g/a")
    assert (shown["state"], shown["desired"]) == ("stopped", "down")
    assert tree.call("spec", "g/a")["shutdown_s"] == 1.5
    assert tree.who("g/b") == before
    assert tree.spawns("g/a") == 1
    assert tree.refusal("start", "g/c") == "not_found"


def test_c55_one_added_by_hand_is_left_alone(tree: Tree) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    tree.call("add", name="g/hand", spec=tree.spec_of(probe("g/hand")))
    tree.wait_running("g/hand")
    before = tree.who("g/hand")
    tree.write(*trio(), probe("g/d"))
    assert tree.ctl("reload").returncode == 0
    tree.wait_running("g/d")
    assert tree.who("g/hand") == before


def test_c55_intent_and_counters_outlive_the_supervisor(tree: Tree) -> None:
    tree.start(*trio())
    tree.wait_running("g/a", "g/b", "g/c")
    tree.call("stop", "g/a")
    tree.kill("g/b")
    tree.wait_running("g/b", generation=2)
    assert tree.end() == 0
    tree.launch()
    tree.until_up()
    tree.wait_running("g/b", "g/c")
    shown = tree.actor("g/a")
    assert (shown["state"], shown["desired"]) == ("stopped", "down")
    assert tree.actor("g/b")["restarts"]["total"] == 1
    assert tree.actor("g/c")["restarts"]["total"] == 0
