"""C70: what the supervisor says to the service manager, heard on a socket of our own."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conformance.harness import BIN, Tree, probe
from tests.conformance.manager import Manager

pytestmark = pytest.mark.system

WATCHDOG_S = 2.0
# Blocks the supervisor's loop for 3 s without stopping its other threads, if it has any.
BLOCKS = "import signal, time\nsignal.signal(signal.SIGWINCH, lambda *_: time.sleep(3.0))\n"


@pytest.fixture
def manager(tree: Tree) -> Iterator[Manager]:
    one = Manager(tree.directory / "manager")
    tree.environment |= one.environment(WATCHDOG_S)
    yield one
    tree.end()
    one.close()


def test_c70_ready_is_said_only_when_the_root_runs(tree: Tree, manager: Manager) -> None:
    tree.start(probe("g/a", "--ready-after", 0.5), probe("g/b", "--ready-after", 0.5), wait=False)
    tree.until("READY", lambda: manager.said("READY"))
    last = next(told for told in tree.traced("g/b") if told.event == "ready")
    first = manager.said("READY")[0]
    assert first.state["READY"] == "1"
    assert first.mono >= last.mono
    assert tree.status()["supervisor"]["state"] == "running"
    # Actors are told of our socket, not of the manager's, and nothing of its watchdog.
    environ = Path(f"/proc/{tree.pid('g/a')}/environ").read_bytes().split(b"\0")
    told = dict(item.split(b"=", 1) for item in environ if b"=" in item)
    assert told[b"NOTIFY_SOCKET"].startswith(str(tree.runtime).encode())
    assert not [key for key in told if key.startswith(b"WATCHDOG_")]


def test_c70_the_watchdog_is_pinged_by_the_loop_and_in_time(tree: Tree, manager: Manager) -> None:
    place = tree.directory / "site"
    place.mkdir()
    (place / "sitecustomize.py").write_text(BLOCKS)
    path = tree.environment.get("PYTHONPATH")
    tree.environment["PYTHONPATH"] = f"{place}:{path}" if path else str(place)
    tree.start(probe("g/a"))
    tree.until("five pings", lambda: len(manager.said("WATCHDOG")) >= 5)
    pings = [message.mono for message in manager.said("WATCHDOG")]
    between = sorted(later - earlier for earlier, later in pairwise(pings))
    assert between[len(between) // 2] <= WATCHDOG_S / 2 + 0.2
    assert tree.process is not None
    os.kill(tree.process.pid, signal.SIGWINCH)
    blocked = time.monotonic()
    time.sleep(2.5)
    assert manager.said("WATCHDOG", since=blocked + 0.2) == []
    tree.until("a ping again", lambda: manager.said("WATCHDOG", since=blocked + 2.9))
    assert tree.actor("g/a")["restarts"]["total"] == 0


def test_c70_stopping_is_said_first(tree: Tree, manager: Manager) -> None:
    tree.start(probe("g/a"), probe("g/b"))
    tree.wait_running("g/a", "g/b")
    mark = time.monotonic()
    assert tree.end() == 0
    tree.until("STOPPING", lambda: manager.said("STOPPING", since=mark))
    after = [
        message for message in manager.messages if message.mono > mark and "WATCHDOG" not in message.state
    ]
    assert after[0].state["STOPPING"] == "1"
    drained = min(told.mono for told in tree.traced("g/") if told.event == "drain")
    assert after[0].mono <= drained + 0.5


@pytest.mark.parametrize("way", ["ctl", "SIGHUP"])
def test_c70_a_reload_is_announced_and_ended(tree: Tree, manager: Manager, way: str) -> None:
    tree.start(probe("g/a"))
    tree.wait_running("g/a")
    tree.until("the first READY", lambda: manager.said("READY"))
    tree.write(probe("g/a"), probe("g/b"))
    mark = time.monotonic()
    if way == "ctl":
        assert tree.ctl("reload").returncode == 0
    else:
        assert tree.process is not None
        tree.process.send_signal(signal.SIGHUP)
    tree.until("READY", lambda: manager.said("READY", since=mark))
    begun, ended = manager.said("RELOADING", since=mark)[0], manager.said("READY", since=mark)[0]
    assert begun.state["RELOADING"] == "1"
    assert mark - 0.1 <= int(begun.state["MONOTONIC_USEC"]) / 1e6 <= ended.mono
    assert begun.mono <= ended.mono
    tree.wait_running("g/b")


@pytest.mark.needs_systemd
def test_c70_a_real_service_manager_sees_it_running_and_stops_it(tree: Tree) -> None:
    unit = f"daedalus-conformance-{os.getpid()}"
    tree.write(probe("g/a"), probe("g/b"))
    properties = ["Type=notify", "NotifyAccess=main", "KillMode=mixed", "WatchdogSec=10", "Delegate=yes"]
    command = ["systemd-run", f"--unit={unit}", *(f"--property={item}" for item in properties)]
    command += [str(BIN / "daedalus-supervisor"), "start", "--config", str(tree.config)]
    subprocess.run(command, check=True, timeout=60)  # returns when READY=1 was heard
    try:
        tree.wait_running("g/a", "g/b")
        shown = subprocess.run(
            ["systemctl", "show", unit, "-p", "ActiveState,StatusText"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "ActiveState=active" in shown.stdout
        assert "2 actors" in shown.stdout
    finally:
        subprocess.run(["systemctl", "stop", unit], check=True, timeout=60)
    assert tree.left() == []
    assert [told.name for told in tree.traced() if told.event == "exit 0"] == ["g/b", "g/a"]
