"""The control program against a real supervisor: every command does what its page says, in every state."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.ctl_server import CTL, environment, run
from tests.cli.schema import faults

pytestmark = pytest.mark.system

SUPERVISOR = str(Path(sys.executable).parent / "daedalus-supervisor")
SLEEP = 'command = ["/bin/sleep", "1000"]\nready = "spawn"'
TREE = f"""
[dashboard]
listen = ""
[groups.g]
on_limit = "park"
[actors."g/a"]
command = ["/bin/sh", "-c", "echo up $DAEDALUS_GENERATION; exec sleep 1000"]
ready = "spawn"
[actors."g/b"]
{SLEEP}
[actors."g/stubborn"]
command = ["/bin/sh", "-c", "trap '' TERM; echo deaf $DAEDALUS_GENERATION; while :; do sleep 0.05; done"]
ready = "spawn"
shutdown_s = 3.0
[groups.odd]
on_limit = "park"
intensity = 100
[actors."odd/crashing"]
command = ["/bin/sh", "-c", "echo no such symbol >&2; exit 1"]
ready = "spawn"
backoff = {{ base_s = 5.0 }}
[actors."odd/done"]
command = ["/bin/true"]
ready = "spawn"
restart = "transient"
[actors."odd/failed"]
command = ["/bin/sh", "-c", "exit 78"]
ready = "spawn"
[actors."odd/held"]
{SLEEP}
requires = ["path:/nowhere/at/all"]
"""


class Running:
    """A supervisor, and its control program."""

    def __init__(self, directory: Path, file: Path) -> None:
        self.runtime = directory / "r"
        self.file = file
        self.file.write_text(TREE)
        self.said = (directory / "said").open("wb")
        words = [
            "start",
            "--config",
            str(file),
            "--runtime",
            str(self.runtime),
            "--data",
            str(directory / "d"),
        ]
        self.process = subprocess.Popen(
            [SUPERVISOR, *words],
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=self.said,
            env=environment(),
        )

    def ctl(self, *words: str, exit_code: int | None = 0) -> str:
        """Run it and return what it printed: on standard output, or on standard error when that is all."""
        done = run("--runtime", str(self.runtime), *words)
        assert exit_code is None or done.returncode == exit_code, (words, done)
        return done.stdout or done.stderr

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.ctl("status", "--json", exit_code=None))
        return document

    def actor(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ctl("status", name, "--json", exit_code=None))["actors"][0]
        return found

    def deafen(self) -> None:
        """Start the stubborn one and wait until its shell ignores SIGTERM: ready it is before."""
        self.ctl("start", "stubborn")
        generation = self.actor("stubborn")["generation"]
        self.until("deafness", lambda: f"│ deaf {generation}\n" in self.ctl("logs", "stubborn"))

    def until(self, what: str, check: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 30
        while not (answer := check()):
            assert time.monotonic() < deadline, f"{what}: not within 30 s"
            time.sleep(0.05)
        return answer

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.said.close()


@contextlib.contextmanager
def started() -> Iterator[Running]:
    # not tmp_path: a socket's address holds 107 bytes
    short = Path(tempfile.mkdtemp(prefix="dd-", dir="/tmp"))
    running = Running(short, short / "supervisor.toml")
    try:
        running.until(
            "an answer", lambda: run("--runtime", str(running.runtime), "status").returncode in (0, 3)
        )
        running.ctl("wait", "g", "--timeout", "30")
        yield running
    finally:
        running.close()
        shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(scope="module")
def tree() -> Iterator[Running]:
    """The tree that the tests of this file share; each leaves it as it was."""
    with started() as running:
        yield running


@pytest.fixture
def mortal() -> Iterator[Running]:
    """A tree of one's own."""
    with started() as running:
        yield running


def test_status_keeps_to_the_published_schema_in_every_state(tree: Running) -> None:
    settled = {"crashing": "backoff", "done": "done", "failed": "failed", "held": "held"}
    for name, state in settled.items():
        tree.ctl("wait", name, "--for", state, "--timeout", "30")
    tree.deafen()
    tree.ctl("stop", "b")
    tree.ctl("pause", "a")
    tree.ctl("stop", "stubborn", "--no-wait")
    document = tree.status()
    assert faults(document) == []
    states = {item["name"].rpartition("/")[2]: item["state"] for item in document["actors"]}
    assert states == settled | {"a": "running", "b": "stopped", "stubborn": "stopping"}
    assert tree.actor("a")["substate"] == "paused"
    shown = tree.ctl("status", "--wide", exit_code=3)
    assert "no such symbol" in shown
    assert "\x1b" not in shown
    tree.ctl("resume", "a")
    assert "cannot start g/stubborn" in tree.ctl("start", "stubborn", exit_code=6)
    tree.ctl("wait", "stubborn", "--for", "stopped", "--timeout", "30")
    assert tree.actor("stubborn")["last_exit"]["signal"] == "SIGKILL"
    tree.ctl("start", "g")
    assert tree.ctl("status", "g", exit_code=0).splitlines()[-1].startswith("3 actors: 3 running")


def test_what_was_stopped_on_purpose_is_0_and_what_fails_is_3(tree: Running) -> None:
    tree.ctl("stop", "a")
    assert tree.ctl("stop", "a") == "g/a: already stopped\n"
    tree.ctl("status", "g", exit_code=0)
    tree.ctl("status", "odd", exit_code=3)
    tree.ctl("start", "a")
    assert "already running" in tree.ctl("start", "a")
    tree.ctl("start", "a", "--strict", exit_code=6)
    tree.ctl("start", "crashing", exit_code=6)
    tree.ctl("start", "nobody", exit_code=4)


def test_restarts_change_the_process_and_signals_reach_it(tree: Running) -> None:
    before = {name: tree.actor(name)["pid"] for name in ("a", "b")}
    tree.ctl("restart", "a")
    tree.ctl("rolling-restart", "b", "--min-healthy", "0.2")
    after = {name: tree.actor(name)["pid"] for name in ("a", "b")}
    assert after["a"] != before["a"]
    assert after["b"] != before["b"]
    generation = tree.actor("b")["generation"]
    assert tree.ctl("kill", "b", "--signal", "KILL") == f"g/b: KILL sent (pid {after['b']})\n"
    tree.until("another generation", lambda: tree.actor("b")["generation"] > generation)
    tree.ctl("wait", "b", "--timeout", "30")
    tree.ctl("kill", "b", "--signal", "SIGNONE", exit_code=2)
    assert tree.ctl("drain", "b").startswith("g/b: stopped")
    tree.ctl("reset", "b")
    tree.ctl("start", "b")
    tree.ctl("wait", "b", "--for", "stopped", "--timeout", "0.3", exit_code=5)


def test_an_actor_is_added_and_removed(tree: Running, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"command": ["/bin/sleep", "1000"], "ready": "spawn"}')
    assert tree.ctl("add", "g/x", "--spec", str(tmp_path / "x.json")).startswith("g/x: running")
    tree.ctl("add", "g/x", "--spec", str(tmp_path / "x.json"), exit_code=6)
    assert json.loads(tree.ctl("spec", "x", "--json"))["command"] == ["/bin/sleep", "1000"]
    assert tree.ctl("count", "g") == "specs=4 active=4 supervisors=0 workers=4\n"
    tree.ctl("remove", "x", exit_code=6)
    tree.ctl("stop", "x")
    assert tree.ctl("remove", "x") == "g/x: removed\n"
    tree.ctl("status", "x", exit_code=4)
    (tmp_path / "x.json").write_text('{"comand": ["/bin/sleep"]}')
    assert "did you mean" in tree.ctl("add", "g/x", "--spec", str(tmp_path / "x.json"), exit_code=2)
    tree.ctl("add", "g/unknown", exit_code=2)


def test_reload_plans_applies_and_refuses(tree: Running) -> None:
    assert tree.ctl("reload").startswith("no changes")
    pids = {name: tree.actor(name)["pid"] for name in ("a", "b")}
    tree.file.write_text(
        TREE.replace("shutdown_s = 3.0", "shutdown_s = 4.0") + f'[actors."g/new"]\n{SLEEP}\n'
    )
    plan = tree.ctl("reload", "--dry-run").splitlines()
    assert plan[0].split() == ["NAME", "KIND", "ACTION", "KEYS"]
    assert sorted(row.split()[:4] for row in plan[1:-1]) == [
        ["g/new", "actor", "add", "-"],
        ["g/stubborn", "actor", "live", "shutdown_s"],
    ]
    assert plan[-1].startswith("2 changes not applied, ")
    tree.ctl("status", "new", exit_code=4)
    assert tree.ctl("reload").splitlines()[-1].startswith("2 changes applied, ")
    tree.ctl("wait", "new", "--timeout", "30")
    tree.file.write_text("[groups.g\n")
    assert str(tree.file) in tree.ctl("reload", exit_code=2)
    tree.file.write_text(TREE)
    tree.ctl("reload")
    tree.ctl("status", "new", exit_code=4)
    assert {name: tree.actor(name)["pid"] for name in pids} == pids


def test_views_of_the_whole_answer(tree: Running) -> None:
    assert "└─ odd" in tree.ctl("tree")
    assert tree.ctl("top").startswith("NAME")
    assert "g/a  foreign" in tree.ctl("stats", "a")
    health = json.loads(tree.ctl("health", "--json", exit_code=None))
    assert {"name", "level", "value", "limit", "unit", "text"} <= set(health["indicators"][0])
    assert "INDICATOR" in tree.ctl("health", exit_code=None)
    doctor = json.loads(tree.ctl("doctor", "--json", exit_code=None))
    found = {check["name"]: check for check in doctor["checks"]}
    assert found["supervisor"]["value"].startswith(f"pid {tree.process.pid}, ")
    assert "restart" in json.loads(tree.ctl("spec", "a", "--json"))


def test_an_interrupted_client_leaves_its_operation_alone(tree: Running) -> None:
    tree.deafen()
    command = [CTL, "stop", "stubborn", "--runtime", str(tree.runtime)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        tree.until("it stops", lambda: tree.actor("stubborn")["state"] == "stopping")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
    tree.ctl("wait", "stubborn", "--for", "stopped", "--timeout", "30")
    tree.ctl("start", "stubborn")


def test_a_timeout_is_5_and_the_operation_goes_on(tree: Running) -> None:
    tree.deafen()
    said = tree.ctl("stop", "stubborn", "--timeout", "0.3", exit_code=5)
    assert "it goes on" in said
    tree.ctl("wait", "stubborn", "--for", "stopped", "--timeout", "30")
    tree.ctl("start", "stubborn")


class Follower:
    """A client that follows, and what it printed."""

    def __init__(self, tree: Running, file: Path, *words: str) -> None:
        self.file = file
        with file.open("wb") as out:
            self.process = subprocess.Popen(
                [CTL, *words, "--runtime", str(tree.runtime)], stdout=out, stderr=out, env=environment()
            )

    def text(self) -> str:
        return self.file.read_text(encoding="utf-8")


def test_followers_outlive_restarts_and_a_reexec_and_leave_with_7(mortal: Running, tmp_path: Path) -> None:
    lines = Follower(mortal, tmp_path / "lines", "logs", "a", "-f", "-n", "1")
    events = Follower(mortal, tmp_path / "events", "events", "-f", "--json")
    mortal.until("the first line", lambda: "│ up" in lines.text())
    mortal.ctl("restart", "a")
    generation = mortal.actor("a")["generation"]
    mortal.until("the mark", lambda: f"g/a │ --- gen {generation} started ---\n" in lines.text())
    mortal.until("the line", lambda: f"g/a │ up {generation}\n" in lines.text())
    before = mortal.actor("a")
    assert mortal.ctl("reexec") == f"supervisor: image 2 (pid {mortal.process.pid})\n"
    after = mortal.actor("a")
    assert (after["pid"], after["generation"]) == (before["pid"], before["generation"])
    assert mortal.status()["supervisor"]["image"] == 2
    mortal.ctl("restart", "a")
    mortal.until("the line after it", lambda: f"g/a │ up {generation + 1}\n" in lines.text())
    assert lines.text().count(f"g/a │ up {generation}\n") == 1
    assert mortal.ctl("shutdown") == "supervisor: stopped\n"
    assert [follower.process.wait(30) for follower in (lines, events)] == [7, 7]
    assert lines.text().endswith("daedalus-ctl: cannot follow logs any longer: the supervisor has left\n")
    *told, last = events.text().splitlines()
    numbers = [json.loads(text)["seq"] for text in told]
    assert numbers == list(range(1, len(numbers) + 1))
    assert json.loads(last)["error"]["code"] == "unreachable"
    assert not (mortal.runtime / "control.sock").exists()
    assert "cannot reach a supervisor" in mortal.ctl("status", exit_code=7)
