"""C62-C66: orphans, reaping, and the death and renewal of the supervisor."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.harness import Tree, alive, probe, slack, state_of

pytestmark = pytest.mark.system


def leaders(tree: Tree) -> list[int]:
    return [pid for pid in {told.pid for told in tree.traced()} if alive(pid)]


def kill_supervisor(tree: Tree) -> None:
    assert tree.process is not None
    tree.process.kill()
    tree.process.wait()


def children_of(pid: int) -> list[int]:
    """Return the direct children, zombies too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def test_c62_nobody_outlives_a_killed_supervisor(tree: Tree) -> None:
    deaf = ("--ignore-term", "--drain", 60)
    tree.start(
        probe("g/plain"),
        probe("g/deaf", *deaf),
        probe("g/forks", *deaf, "--fork", "plain", "--fork", "setsid"),
        probe("g/hung", "--hang", heartbeat_timeout_s=0, heartbeat_interval_s=0),
    )
    names = ("g/plain", "g/deaf", "g/forks", "g/hung")
    tree.wait_running(*names)
    zygotes = [item["pid"] for item in tree.status()["supervisor"]["zygotes"] if item["pid"]]
    assert len(tree.left()) == 6
    kill_supervisor(tree)
    began = time.monotonic()
    tree.until("no leader", lambda: not leaders(tree) and not any(map(alive, zygotes)), slack(1.5))
    assert time.monotonic() - began < slack(1.5)
    # What the actors themselves forked goes with its cgroup, or at the latest with the next start.
    tree.launch()
    tree.until_up()
    tree.wait_running(*names)
    now = {tree.pid(name) for name in names}
    forked = [told for told in tree.traced() if told.event.startswith("forked")]
    now |= {int(told.event.split()[1]) for told in forked if told.pid in now}
    assert set(tree.left()) == now
    assert tree.end() == 0
    assert tree.left() == []


def cycle(tree: Tree, times: int) -> None:
    """Kill the forking probe again and again; each next life must find nothing of the last."""
    supervisor = tree.status()["supervisor"]["pid"]
    fds = []
    for generation in range(1, times + 1):
        tree.wait_running("g/a", generation=generation)
        fds.append(len(os.listdir(f"/proc/{supervisor}/fd")))  # noqa: PTH208 - a count is all
        tree.kill("g/a")
    tree.wait_running("g/a", generation=times + 1)
    story = tree.traced("g/a")
    assert sum(told.event.startswith("forked") for told in story) == 2 * (times + 1)
    assert [told for told in story if told.event.startswith("orphan")] == []
    assert len(tree.left()) == 3
    tree.until("no zombie", lambda: "Z" not in map(state_of, children_of(supervisor)), 10.0)
    assert abs(len(os.listdir(f"/proc/{supervisor}/fd")) - fds[0]) <= 2  # noqa: PTH208


FORKS = ("--fork", "plain", "--fork", "setsid")
QUICK = {"base_s": 0.01, "cap_s": 0.01, "jitter": 0.0}


def test_c63_grandchildren_are_gone_before_the_next_life(tree: Tree) -> None:
    tree.start(probe("g/a", *FORKS, backoff=QUICK))
    cycle(tree, 6)
    assert tree.end() == 0
    assert tree.left() == []


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_c63_a_hundred_lives_leave_no_zombie_and_no_descriptor(tree: Tree) -> None:
    tree.start(probe("g/a", *FORKS, backoff=QUICK), groups={"g": {"intensity": 1000}})
    cycle(tree, 100)
    assert tree.end() == 0
    assert tree.left() == []


def repoint(value: Any, pid: int) -> int:
    """Put `pid` in place of every pid in a state file, and return how many there were."""
    if isinstance(value, dict):
        found = sum(repoint(item, pid) for item in value.values())
        if isinstance(value.get("pid"), int):
            value["pid"] = pid
            found += 1
        return found
    return sum(repoint(item, pid) for item in value) if isinstance(value, list) else 0


def test_c64_a_pid_that_somebody_else_has_by_now_is_never_signalled(tree: Tree) -> None:
    tree.start(probe("g/a"))
    tree.wait_running("g/a")
    file = next(path for path in tree.runtime.rglob("state.json"))
    time.sleep(0.3)
    kill_supervisor(tree)
    tree.until("no leader", lambda: not leaders(tree))
    with subprocess.Popen(["/bin/sleep", "300"], start_new_session=True) as stranger:
        try:
            state = json.loads(file.read_text())
            actors = {key: value for key, value in state.items() if key != "supervisor"}
            assert repoint(actors, stranger.pid) >= 1, state
            file.write_text(json.dumps(state))
            tree.launch()
            tree.until_up()
            tree.wait_running("g/a")
            assert stranger.poll() is None
            assert state_of(stranger.pid) == "S"
            assert tree.end() == 0
            assert stranger.poll() is None
        finally:
            stranger.kill()


def ticks(tree: Tree) -> list[tuple[int, int]]:
    """Return (generation, number) of what the ticking probe printed, as far as it is kept."""
    lines = json.loads(
        "[" + ",".join(tree.ctl("--json", "logs", "g/a", "-n", "256").stdout.splitlines()) + "]"
    )
    words = [line["text"].split() for line in lines if line["text"].startswith("tick ")]
    return [(int(generation), int(number)) for _, generation, number in words]


def test_c65_reexec_keeps_every_actor_its_counters_and_its_lines(tree: Tree) -> None:
    tree.start(probe("g/a", "--tick", 0.1), probe("g/b"), probe("g/c", "--fork", "setsid"), probe("g/d"))
    names = ("g/a", "g/b", "g/c", "g/d")
    tree.wait_running(*names)
    tree.leave("g/b", 1)
    tree.wait_running("g/b", generation=2)
    tree.call("stop", "g/d")
    before, first = tree.who(*names), tree.status()["supervisor"]
    seen = ticks(tree)[-1][1]
    done = tree.ctl("reexec")
    assert done.returncode == 0, done.stderr
    second = tree.status()["supervisor"]
    assert second["pid"] == first["pid"]
    assert second["image"] == first["image"] + 1
    assert tree.who(*names) == before
    found = tree.actors()
    assert [found[name]["state"] for name in names] == ["running", "running", "running", "stopped"]
    assert found["g/d"]["desired"] == "down"
    assert found["g/b"]["restarts"]["total"] == 1
    assert found["g/b"]["last_exit"]["code"] == 1
    assert tree.group("g")["window_used"] == 1
    tree.until("more lines", lambda: ticks(tree)[-1][1] >= seen + 5)
    numbers = [number for _, number in ticks(tree)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] == 1
    tree.kill("g/a", signal.SIGSEGV)
    shown = tree.wait_state("g/a", "running", generation=2)
    assert (shown["last_exit"]["class"], shown["last_exit"]["signal"]) == ("abnormal", "SIGSEGV")
    assert [told for told in tree.traced("g/c") if told.event.startswith("orphan")] == []
    assert tree.end() == 0
    assert tree.left() == []


def test_c65_reexec_again_and_again_changes_no_pid(tree: Tree) -> None:
    tree.start(probe("g/a", "--tick", 0.05), probe("g/b"))
    tree.wait_running("g/a", "g/b")
    before = tree.who("g/a", "g/b")
    for _ in range(4):
        assert tree.ctl("reexec").returncode == 0
        assert tree.who("g/a", "g/b") == before
    numbers = [number for _, number in ticks(tree)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_c66_a_second_start_leaves_with_6_and_harms_nothing(tree: Tree) -> None:
    tree.start(probe("g/a"))
    tree.wait_running("g/a")
    before, first = tree.who("g/a"), tree.process
    assert first is not None
    second = tree.launch()
    tree.process = first
    assert second.wait(25) == 6
    assert str(tree.status()["supervisor"]["pid"]) in tree.stderr.read_text()
    assert tree.who("g/a") == before


def test_c66_what_a_killed_supervisor_left_does_not_stop_the_next(tree: Tree) -> None:
    tree.start(probe("g/a"))
    tree.wait_running("g/a")
    kill_supervisor(tree)
    assert (tree.runtime / "control.sock").exists()
    assert tree.ctl("status").returncode == 7
    tree.launch()
    tree.until_up()
    tree.wait_running("g/a")
    assert tree.spawns("g/a") == 2
    assert tree.end() == 0
