"""C59-C61: memory limits and cores. The limits are tried as this machine has them, sampled or cgroup.

The probe's own 8 MiB or so come on top of what it hoards.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.harness import Tree, probe, slack

pytestmark = pytest.mark.system

SOFT = {"memory_soft": "40M", "memory_hard": "400M", "restart": "permanent"}
CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    grows = ("--alloc", 60, "--alloc-max", 90)
    one = plant().start(
        probe("c59/once", *grows, "--alloc-first", 1, memory_soft_min_interval_s=600.0, **SOFT),
        probe("c59b/twice", *grows, "--alloc-first", 2, memory_soft_min_interval_s=600.0, **SOFT),
        probe(
            "c60/a",
            "--alloc",
            400,
            "--alloc-max",
            150,
            "--alloc-first",
            1,
            memory_soft="64M",
            memory_hard="64M",
        ),
        probe("c60/b"),
        probe("warn/a", "--alloc", 200, "--alloc-max", 60, memory_warn="40M"),
        wait=False,
    )
    one.until_up()
    return one


def test_c59_over_the_soft_limit_it_is_drained_and_nothing_is_counted(shared: Tree) -> None:
    left = shared.wait_event("c59/once", "exit", timeout_s=60.0)
    assert (left["class"], left["message"], left["code"]) == ("memory", "memory soft", 0)
    shared.wait_running("c59/once", generation=2)
    assert shared.plot("c59/once", "drain", "drained", "term", "exit")[:3] == [
        ("once", "drain"), ("once", "drained"), ("once", "exit"),
    ]  # fmt: skip
    assert shared.group("c59")["window_used"] == 0
    levels = [event["level"] for event in shared.events("c59/once", "memory")]
    assert levels[-1] == "soft"


def test_c59_a_second_time_within_the_interval_counts(shared: Tree) -> None:
    shared.wait_state("c59b/twice", "running", generation=3, timeout_s=60.0)
    assert shared.group("c59b")["window_used"] == 1
    assert [event["message"] for event in shared.events("c59b/twice", "exit")] == ["memory soft"] * 2


def test_c60_over_the_hard_limit_it_is_killed_and_siblings_are_not(shared: Tree) -> None:
    left = shared.wait_event("c60/a", "exit", timeout_s=60.0)
    assert left["signal"] == "SIGKILL"
    assert (left["class"], left["message"]) in {("memory", "memory hard"), ("oom", "oom")}
    shared.wait_running("c60/a", generation=2)
    assert shared.group("c60")["window_used"] == 1
    assert shared.plot("c60/a", "drain", "term") == []
    assert shared.actor("c60/b")["generation"] == 1


def test_c60_over_the_mark_of_warning_it_is_degraded_and_goes_on(shared: Tree) -> None:
    shared.wait_state("warn/a", "degraded", timeout_s=60.0)
    assert shared.spawns("warn/a") == 1
    assert shared.ctl("status", "warn/a").returncode == 3


@pytest.mark.needs_cgroup_memory
def test_c60_the_kernel_kills_the_whole_group_and_the_class_says_oom(tree: Tree) -> None:
    tree.start(
        probe(
            "g/a",
            "--alloc",
            2000,
            "--alloc-max",
            400,
            "--alloc-first",
            1,
            memory_soft="64M",
            memory_hard="64M",
        )
    )
    left = tree.wait_event("g/a", "exit", timeout_s=60.0)
    assert (left["class"], left["signal"]) == ("oom", "SIGKILL")


def cores_line(pid: int) -> set[str]:
    """Return the cores that each thread may use, as the kernel writes them."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found.add(next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list")))
    return found


@pytest.mark.skipif(len(CORES) < 2, reason="one core leaves no choice")
def test_c61_every_thread_runs_on_the_core_it_was_given(tree: Tree) -> None:
    first, second = CORES[0], CORES[-1]
    hung = {"heartbeat_timeout_s": 0, "heartbeat_interval_s": 0}  # two threads, and nobody minds
    tree.start(probe("g/a", "--hang", cpus=[second], **hung))
    tree.wait_running("g/a")
    pid = tree.pid("g/a")
    tree.until("two threads", lambda: tree.actor("g/a")["threads"] == 2)
    assert cores_line(pid) == {str(second)}
    tree.kill("g/a", signal.SIGKILL)
    tree.wait_running("g/a", generation=2)
    pid = tree.pid("g/a")
    tree.until("two threads", lambda: tree.actor("g/a")["threads"] == 2)
    assert cores_line(pid) == {str(second)}
    before = tree.who("g/a")
    tree.write(probe("g/a", "--hang", cpus=[first], **hung))
    done = tree.ctl("reload")
    assert done.returncode == 0, done.stderr
    tree.until("new core", lambda: cores_line(pid) == {str(first)}, slack(0.5))
    assert tree.who("g/a") == before


def test_c61_a_core_that_is_not_there_is_a_fault(tree: Tree) -> None:
    missing = (os.cpu_count() or 1) + 5
    tree.write(probe("g/a", cpus=[missing]))
    done = tree.check()
    assert done.returncode == 2
    assert "cpus" in done.stderr
    assert str(missing) in done.stderr
