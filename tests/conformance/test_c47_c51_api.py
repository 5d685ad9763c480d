"""C47-C51: the management commands, called as OTP's functions are."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.harness import Tree, probe

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    one = plant().start(
        probe("c47/a"),
        probe("c47/b"),
        probe("c48/a"),
        probe("c48/b"),
        probe("c49/a"),
        probe("c50/run"),
        probe("c50/wait", backoff={"base_s": 60.0, "cap_s": 60.0, "jitter": 0.0}),
        probe("c50/stop"),
        probe("c50n/inner"),
        groups={"c47": {}, "c48": {}, "c49": {}, "c50": {}, "c50n": {"parent": "c50"}, "c51": {}},
    )
    one.wait_running("c50n/inner")
    return one


def test_c47_start_is_idempotent_unless_it_is_strict(shared: Tree) -> None:
    before = shared.who("c47/a")
    done = shared.ctl("start", "c47/a")
    assert done.returncode == 0
    assert "already running" in done.stdout
    strict = shared.ctl("--json", "start", "c47/a", "--strict")
    assert strict.returncode == 6
    error = json.loads(strict.stderr)
    assert (error["ok"], error["error"]["code"], error["error"]["actor"]) == (False, "running", "c47/a")
    assert strict.stdout == ""
    assert shared.who("c47/a") == before


def test_c47_an_unknown_name_is_4_and_stopping_what_is_stopped_is_0(shared: Tree) -> None:
    assert shared.ctl("start", "c47/nobody").returncode == 4
    assert shared.ctl("stop", "c47/nobody").returncode == 4
    assert shared.ctl("spec", "c47/nobody").returncode == 4
    assert [shared.ctl("stop", "c47/b").returncode for _ in range(2)] == [0, 0]
    assert shared.ctl("status", "c47").returncode == 0  # stopped on purpose
    assert shared.spawns("c47/b") == 1


def test_c48_remove_wants_it_stopped_and_add_brings_it_back(shared: Tree) -> None:
    assert shared.ctl("remove", "c48/a").returncode == 6
    assert shared.refusal("remove", "c48/a") == "running"
    assert shared.refusal("add", name="c48/a") == "already_present"
    assert shared.ctl("stop", "c48/a").returncode == 0
    assert shared.refusal("add", name="c48/a") == "already_present"
    assert shared.ctl("remove", "c48/a").returncode == 0
    assert "c48/a" not in shared.actors()
    assert shared.call("count", group="c48")["specs"] == 1
    assert shared.ctl("start", "c48/a").returncode == 4
    assert shared.refusal("remove", "c48/a") == "not_found"
    assert shared.ctl("add", "c48/a").returncode == 0  # as supervisor.toml has it
    assert shared.wait_state("c48/a", "running")["restarts"]["total"] == 0
    assert shared.call("count", group="c48")["specs"] == 2


def test_c48_add_takes_a_specification_of_its_own(shared: Tree) -> None:
    file = shared.directory / "spec.json"
    file.write_text(json.dumps(shared.spec_of(probe("c48/new", restart="temporary"))))
    done = shared.ctl("add", "c48/new", "--spec", str(file))
    assert done.returncode == 0, done.stderr
    shared.wait_running("c48/new")
    assert json.loads(shared.ctl("--json", "spec", "c48/new").stdout)["restart"] == "temporary"
    file.write_text(json.dumps({"command": ["/bin/true"], "restrat": "permanent"}))
    assert shared.ctl("add", "c48/bad", "--spec", str(file)).returncode == 2
    shared.call("stop", "c48/new")
    shared.until("new gone", lambda: "c48/new" not in shared.actors())  # temporary: forgotten


def test_c49_a_start_that_fails_changes_nothing_and_is_not_retried(shared: Tree) -> None:
    shared.call("stop", "c49/a")
    spawned = shared.spawns("c49/a")
    shared.fail_next("c49/a", 1)
    assert shared.ctl("start", "c49/a").returncode == 1
    shown = shared.actor("c49/a")
    assert (shown["state"], shown["desired"], shown["pid"]) == ("stopped", "down", None)
    assert shared.group("c49")["window_used"] == 0
    time.sleep(0.5)  # a retry would come at once: the first delay is 0
    assert shared.spawns("c49/a") == spawned + 1
    assert shared.ctl("start", "c49/a").returncode == 0


def test_c50_count_tells_specifications_from_living_children(shared: Tree) -> None:
    shared.call("stop", "c50/stop")
    shared.leave("c50/wait", 1)
    shared.wait_running("c50/wait", generation=2)
    shared.leave("c50/wait", 1)  # the second failure in a row: 60 s
    shared.wait_state("c50/wait", "backoff")
    done = shared.ctl("--json", "count", "c50")
    assert json.loads(done.stdout) == {"specs": 4, "active": 2, "supervisors": 1, "workers": 3}
    shared.call("reset", "c50/wait")  # does not wait the minute out
    assert shared.wait_state("c50/wait", "running", generation=3)["backoff"]["k"] == 0


def add_and_stop(tree: Tree, count: int, mark: str) -> float:
    """Add and stop so many temporary actors, and return the seconds it took."""
    spec = tree.spec_of(probe("c51/x", restart="temporary"))
    began = time.monotonic()
    for number in range(count):
        tree.call("add", name=f"c51/{mark}{number}", spec=spec)
    for number in range(count):
        tree.call("stop", f"c51/{mark}{number}")
    return time.monotonic() - began


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def scale(tree: Tree, few: int, many: int) -> None:
    pid = tree.status()["supervisor"]["pid"]
    first = add_and_stop(tree, few, "few")
    before = resident_kib(pid)
    second = add_and_stop(tree, many, "many")
    assert second / first < 3 * many / few
    assert tree.call("count", group="c51") == {"specs": 0, "active": 0, "supervisors": 0, "workers": 0}
    assert resident_kib(pid) < before * 1.1
    assert tree.left() == []


def test_c51_temporary_actors_come_and_go_at_a_steady_cost(tree: Tree) -> None:
    scale(tree.start(groups={"c51": {}}), 3, 12)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_c51_two_hundred_temporary_actors_cost_ten_times_twenty(tree: Tree) -> None:
    scale(tree.start(groups={"c51": {}}), 20, 200)
