"""C40-C46: stop, kill, drain."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.conformance.harness import Tree, probe, slack
from tests.conformance.wire import RefusedError

pytestmark = pytest.mark.system

KILL_GRACE_S = 5.0


@pytest.fixture(scope="module")
def shared(plant: Callable[[], Tree]) -> Tree:
    deaf = ("--close-notify", "--ignore-term")
    one = plant().start(
        probe("c42/a", shutdown_s="brutal_kill"),
        probe("c43/a", *deaf, heartbeat_timeout_s=0, heartbeat_interval_s=0),
        probe("c43/b"),
        probe("c44/good", "--queue", 1000, "--drain", 0.2, drain_s=5.0),
        probe("c44/late", "--queue", 1000, "--drain", 60, drain_s=0.1),
        probe("c44/ctl", "--queue", 7, drain_s=5.0),
        probe("c44/ctllate", "--drain", 60, drain_s=0.1),
        probe("c44/none", drain_signal=None),
        probe("c45/a"),
        probe("c45/deaf", "--ignore-term", "--drain", 60),
    )
    one.wait_running("c45/deaf")
    return one


def test_c40_a_shutdown_stops_in_reverse_order_and_leaves_nothing(tree: Tree) -> None:
    tree.start(probe("g/a"), probe("g/b"), probe("h/c"))
    tree.wait_running("g/a", "g/b", "h/c")
    assert tree.ctl("shutdown").returncode == 0
    assert tree.wait_exit() == 0
    ends = [(told.name, told.event) for told in tree.traced() if told.event in ("drain", "exit 0")]
    assert ends == [(name, event) for name in ("h/c", "g/b", "g/a") for event in ("drain", "exit 0")]
    assert tree.left() == []
    assert tree.ctl("status").returncode == 7


def test_c41_one_that_ignores_sigterm_is_killed_and_the_others_are_not(tree: Tree) -> None:
    tree.start(probe("g/a"), probe("g/b", "--ignore-term", "--drain", 60), probe("g/c"))
    tree.wait_running("g/a", "g/b", "g/c")
    began = time.monotonic()
    assert tree.ctl("shutdown").returncode == 0
    assert tree.wait_exit() == 0
    assert 1.5 <= time.monotonic() - began < slack(1.5)
    story = tree.traced("g/")
    assert [told.name for told in story if told.event == "exit 0"] == ["g/c", "g/a"]
    deaf = next(told for told in story if told.event == "deaf SIGTERM")
    drain = next(told for told in story if (told.name, told.event) == ("g/b", "drain"))
    last = next(told for told in story if (told.name, told.event) == ("g/a", "drain"))
    assert deaf.mono - drain.mono >= 0.45
    assert last.mono - deaf.mono >= 0.95
    told = [line for line in tree.stderr.read_text().splitlines() if "shutdown_error" in line]
    assert len(told) == 1
    assert "g/b" in told[0]
    assert "timeout" in told[0]
    assert tree.left() == []


def test_c42_brutal_kill_asks_nothing(shared: Tree) -> None:
    began = time.monotonic()
    shared.call("stop", "c42/a")
    assert time.monotonic() - began < slack(0.3)
    assert shared.actor("c42/a")["state"] == "stopped"
    assert shared.plot("c42/") == [("a", "spawn"), ("a", "ready")]
    assert shared.actor("c42/a")["last_exit"]["signal"] == "SIGKILL"


def test_c43_one_that_hears_nothing_is_stopped_and_delays_nobody(shared: Tree) -> None:
    link = shared.link()
    began = time.monotonic()
    link.ask("stop", actors=["c43/a"])
    shared.wait_state("c43/a", "draining", "stopping")
    asked = time.monotonic()
    shared.call("restart", "c43/b")
    shared.wait_running("c43/b", generation=2)
    assert time.monotonic() - asked < slack(0.5)
    assert list(link.answers())[-1]["actors"][0]["state"] == "stopped"
    link.close()
    assert 1.5 <= time.monotonic() - began < slack(0.5 + 1.0)
    assert shared.plot("c43/a", "deaf") == [("a", "deaf"), ("a", "deaf")]
    assert shared.events("c43/a", "shutdown_error")


def test_c44_a_drain_is_acknowledged_with_counters(shared: Tree) -> None:
    shared.until("a mailbox", lambda: shared.actor("c44/good")["mailbox"] == 1000)
    shared.call("stop", "c44/good")
    shown = shared.actor("c44/good")
    assert (shown["state"], shown["last_exit"]["code"]) == ("stopped", 0)
    told = shared.events("c44/good", "drained")
    assert [(event["in_flight"], event["flushed"]) for event in told] == [(0, 1000)]
    assert shared.plot("c44/good", "drained", "term") == [("good", "drained")]
    assert shared.events("c44/good", "drain_timeout") == []


def test_c44_one_that_drains_too_slowly_gets_sigterm(shared: Tree) -> None:
    shared.call("stop", "c44/late")
    assert shared.actor("c44/late")["state"] == "stopped"
    assert shared.plot("c44/late", "drain", "drained", "term") == [("late", "drain"), ("late", "term")]
    kinds = [
        event["type"] for event in shared.events("c44/late", "drain", "drain_timeout", "drained", "exit")
    ]
    assert kinds == ["drain", "drain_timeout", "exit"]
    assert shared.events("c44/late", "shutdown_error") == []


def test_c44_drain_says_what_was_flushed_and_fails_when_it_was_not(shared: Tree) -> None:
    report = shared.call("drain", "c44/ctl")["actors"]
    assert [(item["name"], item["in_flight"], item["flushed"]) for item in report] == [("c44/ctl", 0, 7)]
    assert shared.actor("c44/ctl")["desired"] == "down"
    done = shared.ctl("drain", "c44/ctllate")
    assert done.returncode == 1, done.stderr
    assert shared.wait_state("c44/ctllate", "stopped")["desired"] == "down"


def test_c44_without_a_drain_signal_a_stop_begins_with_sigterm(shared: Tree) -> None:
    shared.call("stop", "c44/none")
    assert shared.plot("c44/none", "drain", "term") == [("none", "term")]


@pytest.mark.parametrize("name", ["a", "deaf"])
def test_c45_a_stopped_process_can_be_stopped(shared: Tree, name: str) -> None:
    pid = shared.kill(f"c45/{name}", signal.SIGSTOP)
    began = time.monotonic()
    shared.call("stop", f"c45/{name}")
    assert time.monotonic() - began < slack(0.5 + 1.0)
    assert shared.actor(f"c45/{name}")["state"] == "stopped"
    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110 - a question to the kernel, not a file


def test_c46_a_second_sigterm_hurries(tree: Tree) -> None:
    slow = {"drain_s": 30.0, "shutdown_s": 30.0}
    tree.start(probe("g/a", "--drain", 60, "--ignore-term", **slow), probe("g/b", "--drain", 60, **slow))
    tree.wait_running("g/a", "g/b")
    assert tree.process is not None
    tree.process.send_signal(signal.SIGTERM)
    tree.wait_state("g/b", "draining")
    began = time.monotonic()
    tree.process.send_signal(signal.SIGTERM)
    assert tree.wait_exit() in (0, 1)
    assert time.monotonic() - began < slack(3.0)
    assert tree.left() == []


def test_c46_a_request_that_times_out_goes_on(tree: Tree) -> None:
    tree.start(probe("g/a", "--drain", 1.5, drain_s=20.0))
    tree.wait_running("g/a")
    with pytest.raises(RefusedError, match="goes on") as caught:
        tree.call("stop", "g/a", timeout=0.2)
    assert caught.value.code == "timeout"
    assert tree.wait_state("g/a", "stopped")["last_exit"]["code"] == 0
