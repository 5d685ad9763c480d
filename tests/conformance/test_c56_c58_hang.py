"""C56-C58: who is called hung, and who is not."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.conformance.harness import Tree, alive, probe, slack, state_of

pytestmark = pytest.mark.system

TIMEOUT_S = 1.5


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    beats = {"heartbeat_timeout_s": TIMEOUT_S}
    one = plant().start(
        probe("c56/a", "--hang", **beats),
        probe("c56/b", **beats),
        probe("c57/hung", **beats),
        probe("c57/back", heartbeat_timeout_s=4.0),
        probe("c57/paused", **beats),
        probe("c57/off", "--beat", 0, heartbeat_timeout_s=0, heartbeat_interval_s=0),
    )
    one.wait_running("c57/off")
    return one


def test_c56_a_loop_that_stops_is_killed_though_its_threads_live(shared: Tree) -> None:
    verdict = shared.wait_event("c56/a", "hang")
    ready = shared.wait_event("c56/a", "ready")
    assert TIMEOUT_S <= verdict["mono"] - ready["mono"] < slack(TIMEOUT_S + 1.0)
    left = shared.wait_event("c56/a", "exit")
    assert left["class"] == "hung"
    assert left["message"].startswith("hung ")
    assert shared.wait_event("c56/a", "restart_scheduled")["seq"] > left["seq"]
    shared.wait_event("c56/a", "spawn", since=left["seq"])
    threads = [
        told.mono for told in shared.traced("c56/a") if told.event == "thread" and told.generation == 1
    ]
    assert threads[-1] - threads[0] > TIMEOUT_S / 2  # it lived on while the loop did not
    assert shared.group("c56")["window_used"] >= 1
    assert shared.actor("c56/b")["restarts"]["total"] == 0
    shared.call("stop", "c56/a")


def test_c57_a_stopped_process_shows_as_such_and_is_hung_at_the_timeout(shared: Tree) -> None:
    stopped = time.monotonic()
    shared.kill("c57/hung", signal.SIGSTOP)
    shown = shared.until("substate", lambda: shared.actor("c57/hung")["substate"] == "stopped", slack(0.5))
    assert shown
    assert time.monotonic() - stopped < slack(0.5)
    if shared.actor("c57/hung")["pid"] is not None:
        assert "running (stopped)" in shared.ctl("status", "c57/hung").stdout or shared.events(
            "c57/hung", "hang"
        )
    left = shared.wait_event("c57/hung", "exit")
    assert left["class"] == "hung"
    assert left["mono"] - stopped >= TIMEOUT_S - 0.25  # its last beat was that much before, at most
    shared.wait_running("c57/hung", generation=2)


def test_c57_one_that_goes_on_in_time_is_not_hung(shared: Tree) -> None:
    before = shared.who("c57/back")
    pid = shared.kill("c57/back", signal.SIGSTOP)
    shared.until("substate", lambda: shared.actor("c57/back")["substate"] == "stopped")
    assert "running (stopped)" in shared.ctl("status", "c57/back").stdout
    os.kill(pid, signal.SIGCONT)
    shared.until("substate", lambda: shared.actor("c57/back")["substate"] == "")
    time.sleep(4.5)
    assert shared.who("c57/back") == before
    assert shared.actor("c57/back")["state"] == "running"


def test_c57_pause_suspends_the_clock_and_resume_starts_it_anew(shared: Tree) -> None:
    before = shared.who("c57/paused")
    assert shared.ctl("pause", "c57/paused").returncode == 0
    assert shared.actor("c57/paused")["substate"] == "paused"
    pid = shared.pid("c57/paused")
    assert state_of(pid) == "T"
    time.sleep(2 * TIMEOUT_S)
    assert shared.who("c57/paused") == before
    assert shared.ctl("resume", "c57/paused").returncode == 0
    shared.until("substate", lambda: shared.actor("c57/paused")["substate"] == "")
    time.sleep(TIMEOUT_S)
    assert shared.who("c57/paused") == before
    assert state_of(pid) != "T"


def test_c57_one_without_a_heartbeat_is_never_hung(shared: Tree) -> None:
    assert shared.events("c57/off", "hang") == []
    assert shared.actor("c57/off")["state"] == "running"


def freeze(tree: Tree, names: tuple[str, ...], timeout_s: float) -> None:
    """Stop the supervisor for three timeouts; nobody may be called hung for it."""
    before = tree.who(*names)
    seq = tree.last_seq()
    assert tree.process is not None
    os.kill(tree.process.pid, signal.SIGSTOP)
    time.sleep(3 * timeout_s)
    os.kill(tree.process.pid, signal.SIGCONT)
    tree.until("answer", lambda: tree.call("count"))
    time.sleep(timeout_s * 1.2)
    assert tree.who(*names) == before
    assert tree.events(None, "hang", "kill", "exit", since=seq) == []
    assert all(alive(pid or 0) for pid, _ in before.values())


def test_c58_a_supervisor_that_was_stopped_blames_no_actor(tree: Tree) -> None:
    tree.start(probe("g/a", heartbeat_timeout_s=1.0), probe("g/b", heartbeat_timeout_s=1.0))
    tree.wait_running("g/a", "g/b")
    freeze(tree, ("g/a", "g/b"), 1.0)


def test_c58_a_machine_that_was_suspended_blames_no_actor(tree: Tree) -> None:
    names = ("g/a", "g/b", "g/c")
    tree.start(*[probe(name, heartbeat_timeout_s=1.5) for name in names])
    tree.wait_running(*names)
    before, seq = tree.who(*names), tree.last_seq()
    assert tree.process is not None
    pids = [pid or 0 for pid, _ in before.values()]
    # Everybody sleeps, so that no beat waits in the socket; the supervisor wakes first and finds them late.
    for pid in (tree.process.pid, *pids):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4.5)
    for pid in (tree.process.pid, *pids):
        os.kill(pid, signal.SIGCONT)
    tree.until("answer", lambda: tree.call("count"))
    time.sleep(2.0)
    assert tree.who(*names) == before
    assert tree.events(None, "hang", "kill", "exit", since=seq) == []


@pytest.mark.soak
def test_c58_a_supervisor_that_was_stopped_again_and_again_blames_no_actor(tree: Tree) -> None:
    names = tuple(f"g/{name}" for name in "abcdef")
    tree.start(*[probe(name, heartbeat_timeout_s=2.0) for name in names])
    tree.wait_running(*names)
    for _ in range(5):
        freeze(tree, names, 2.0)
