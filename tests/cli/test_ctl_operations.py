"""The commands that act: what goes over the wire, what is printed, what is told to those who wait."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from daedalus.cli.ctl import connection, patience
from daedalus.cli.ctl.options import Options
from tests.cli.ctl_server import CTL, Fault, Server, actor, brief, ctl, document, environment

WAITED = {"wait": True, "propagate": False}
WIRE = [
    (("start", "a"), "start", {"actors": ["a"], **WAITED, "strict": False}),
    (
        ("start", "a", "b", "--strict", "--no-wait"),
        "start",
        {"actors": ["a", "b"], "wait": False, "propagate": False, "strict": True},
    ),
    (("stop", "all"), "stop", {"actors": ["all"], **WAITED}),
    (("stop", "ingest/*", "--propagate"), "stop", {"actors": ["ingest/*"], "wait": True, "propagate": True}),
    (("restart", "a"), "restart", {"actors": ["a"], **WAITED}),
    (("rolling-restart", "store"), "rolling-restart", {"actors": ["store"], "min_healthy_s": 2.0}),
    (
        ("rolling-restart", "store", "--min-healthy", "0.5"),
        "rolling-restart",
        {"actors": ["store"], "min_healthy_s": 0.5},
    ),
    (("drain", "a"), "drain", {"actors": ["a"]}),
    (("kill", "a", "--signal", "SIGUSR1"), "kill", {"actors": ["a"], "signal": "SIGUSR1"}),
    (("kill", "a", "-s", "9"), "kill", {"actors": ["a"], "signal": "9"}),
    (("pause", "a"), "pause", {"actors": ["a"]}),
    (("resume", "a"), "resume", {"actors": ["a"]}),
    (("reset", "a"), "reset", {"actors": ["a"]}),
    (("wait", "a"), "wait", {"actors": ["a"], "for": "running"}),
    (("wait", "a", "--for", "stopped"), "wait", {"actors": ["a"], "for": "stopped"}),
    (("add", "g/x"), "add", {"name": "g/x"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "cmd", "args"), WIRE, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_the_arguments_of_the_wire(
    runtime_dir: Path, words: tuple[str, ...], cmd: str, args: dict[str, Any]
) -> None:
    with Server(runtime_dir, {cmd: {"actors": [brief()]}}) as server:
        done = ctl(server, *words)
        timed = ctl(server, *words, "--timeout", "7", "--json")
    fate = {"pause": "paused", "resume": "resumed", "kill": f"{words[-1]} sent"}.get(cmd, "running")
    assert done.stdout == f"store/writer-trades: {fate} (pid 2211)\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(timed.stdout) == {"actors": [brief()]}
    asked = {"v": 1, "id": 1, "cmd": cmd, "args": args}
    assert server.seen == [asked | {"timeout": None}, asked | {"timeout": 7.0}]


def test_what_became_of_each_is_a_line(runtime_dir: Path) -> None:
    fates = [
        brief("g/a", note="already running"),
        brief("g/b", "stopped", pid=None),
        brief("g/c", "stopped", pid=None, in_flight=0, flushed=12),
        brief("g/d", "stopped", pid=None, in_flight=None, flushed=None),
    ]
    with Server(runtime_dir, {"drain": {"actors": fates}}) as server:
        done = ctl(server, "drain", "g")
    assert done.stdout == (
        "g/a: already running (pid 2211)\ng/b: stopped\n"
        "g/c: stopped (in flight 0, flushed 12)\ng/d: stopped\n"
    )


def test_add_reads_its_keys_from_a_file_or_from_standard_input(runtime_dir: Path, tmp_path: Path) -> None:
    keys = {"command": ["/bin/true"], "restart": "transient"}
    (tmp_path / "x.json").write_text(json.dumps(keys))
    with Server(runtime_dir, {"add": {"actors": [brief("g/x")]}}) as server:
        assert ctl(server, "add", "g/x", "--spec", str(tmp_path / "x.json")).returncode == 0
        command = [CTL, "add", "g/x", "--spec", "-", "--runtime", str(runtime_dir)]
        subprocess.run(
            command, input=json.dumps(keys), text=True, check=True, capture_output=True, timeout=60
        )
    assert server.asked("add") == [{"name": "g/x", "spec": keys}] * 2


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), ("{", "as JSON"), ("[1]", "not an object of keys but list")]
)
def test_add_refuses_a_file_that_has_no_keys(
    runtime_dir: Path, tmp_path: Path, content: str | None, why: str
) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    with Server(runtime_dir, {}) as server:
        done = ctl(server, "add", "g/x", "--spec", str(file))
    assert done.returncode == 2
    assert done.stderr.startswith(f"daedalus-ctl: cannot {'read' if content != '[1]' else 'use'} {file}")
    assert why in done.stderr
    assert server.seen == []


def test_remove_names_what_is_gone(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"remove": {"removed": ["g/a", "g/b"]}}) as server:
        assert ctl(server, "remove", "g/a", "g/b").stdout == "g/a: removed\ng/b: removed\n"
    assert server.asked("remove") == [{"actors": ["g/a", "g/b"]}]


PLAN = {
    "applied": True,
    "changes": [
        {
            "name": "store/writer-trades",
            "kind": "actor",
            "action": "live",
            "keys": ["memory_soft", "drain_s"],
        },
        {"name": "ops", "kind": "group", "action": "add", "keys": []},
    ],
    "unchanged": 9,
    "warnings": ["sum of memory_hard is 3.1G of 3.7G"],
}


def test_reload_prints_its_plan_as_a_table_and_warnings_aside(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"reload": PLAN}) as server:
        done = ctl(server, "reload")
        as_json = ctl(server, "reload", "--json")
    assert done.stdout == (
        "NAME                 KIND   ACTION  KEYS\n"
        "store/writer-trades  actor  live    memory_soft, drain_s\n"
        "ops                  group  add     -\n"
        "2 changes applied, 9 unchanged\n"
    )
    assert done.stderr == "warning: sum of memory_hard is 3.1G of 3.7G\n"
    assert (json.loads(as_json.stdout), as_json.stderr) == (PLAN, "")
    assert server.asked("reload") == [{"dry_run": False}] * 2


def test_reload_says_what_it_did_not_do(runtime_dir: Path) -> None:
    nothing = {"applied": False, "changes": [], "unchanged": 9, "warnings": []}
    with Server(
        runtime_dir, {"reload": lambda args: PLAN | {"applied": False} if args["dry_run"] else nothing}
    ) as server:
        assert ctl(server, "reload", "--dry-run").stdout.endswith("\n2 changes not applied, 9 unchanged\n")
        assert ctl(server, "reload").stdout == "no changes (9 unchanged)\n"


def test_every_fault_of_the_file_is_a_line_and_the_exit_code_2(runtime_dir: Path) -> None:
    faults = "f.toml:3: groups.g.period_s: too small\nf.toml:9: actors.x: unknown key"
    with Server(runtime_dir, {"reload": Fault("config", faults)}) as server:
        done = ctl(server, "reload")
    assert (done.returncode, done.stderr) == (2, f"daedalus-ctl: {faults}\n")


class Waiting:
    """An operation that is done once somebody asked for the status; at the latest when it is told to be."""

    def __init__(self, *actors: dict[str, Any]) -> None:
        self.document = document(*actors)
        self.done = threading.Event()

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        self.done.set()
        return self.document

    def operation(self, _: dict[str, Any]) -> dict[str, Any]:
        assert self.done.wait(30)
        return {"actors": [brief()]}

    def answers(self, cmd: str) -> dict[str, Any]:
        return {cmd: self.operation, "status": self.status}


def on_stderr_terminal(*words: str) -> tuple[int, str, str]:
    """Run it with standard error on a terminal; return the exit code and what came on both."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [CTL, *words], stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment()
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        said += data
    os.close(ours)
    stdout, _ = process.communicate(timeout=30)
    return process.returncode, stdout, said.decode()


def test_who_waits_is_told_for_what_and_the_line_is_wiped(runtime_dir: Path) -> None:
    waiting = Waiting(actor(state="draining"), actor(name="store/writer-book"))
    with Server(runtime_dir, waiting.answers("stop")) as server:
        code, stdout, stderr = on_stderr_terminal("stop", "store", "--runtime", str(runtime_dir))
    assert (code, stdout) == (0, "store/writer-trades: running (pid 2211)\n")
    assert re.fullmatch(r"(\rwaiting: store/writer-trades draining \(\d+ s\))+\r {43,}\r", stderr)
    assert server.asked("status")[0] == {"select": ["store"]}


def test_who_waits_for_a_state_is_told_who_is_not_in_it(runtime_dir: Path) -> None:
    actors = [actor(name=f"g/{number}") for number in range(5)]
    with Server(runtime_dir, Waiting(*actors).answers("wait")):
        _, _, stderr = on_stderr_terminal("wait", "g", "--for", "stopped", "--runtime", str(runtime_dir))
    assert "\rwaiting: g/0 running, g/1 running, g/2 running, 2 more (" in stderr


@pytest.mark.parametrize("wish", ["json", "quiet", ""])
def test_nothing_is_told_where_nobody_wants_to_hear_it(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wish: str
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    options = Options()
    options.runtime = str(runtime_dir)
    if wish:
        setattr(options, wish, True)
    with (
        Server(runtime_dir, {"status": document(actor())}) as server,
        patience.Patience(options, ["g"]) as told,
    ):
        told(2.0)
    assert capsys.readouterr().err.startswith("\rwaiting (2 s)") is not bool(wish)
    assert len(server.asked("status")) == (0 if wish else 1)


def test_a_supervisor_that_hangs_is_given_up(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "READ_TIMEOUT_S", 0.1)
    options, leave = Options(), threading.Event()
    options.runtime = str(runtime_dir)
    with Server(runtime_dir, {"status": lambda _: leave.wait(20)}):
        told = patience.Patience(options, [])
        told(patience.ALIVE_EVERY_S - 1)
        with pytest.raises(connection.Refused, match=r"cannot wait any longer: .* for 0.1 s") as refused:
            told(patience.ALIVE_EVERY_S)
        leave.set()
    assert refused.value.code == "timeout"


def test_a_timeout_is_the_supervisors_and_only_then_ours(runtime_dir: Path) -> None:
    options, leave = Options(), threading.Event()
    options.runtime = str(runtime_dir)
    with Server(runtime_dir, {"stop": lambda _: leave.wait(20)}):
        ours = connection.Connection(options)
        with pytest.raises(connection.Refused, match=r"within 0.1 s; it goes on$") as refused:
            ours.call("stop", {}, 0.1, lambda _: None, margin_s=0.0)
        leave.set()
        ours.close()
    assert refused.value.code == "timeout"


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "60"])


def test_shutdown_returns_when_the_supervisor_has_left(runtime_dir: Path) -> None:
    with sleeper() as process:

        def end(_: dict[str, Any]) -> dict[str, int]:
            threading.Timer(0.3, process.kill).start()
            return {"pid": process.pid}

        with Server(runtime_dir, {"shutdown": end}) as server:
            done = ctl(server, "shutdown")
            assert process.wait(20) == -signal.SIGKILL
    assert (done.returncode, done.stdout) == (0, "supervisor: stopped\n")


def test_shutdown_of_one_that_stays_is_5_and_at_once_where_nobody_waits(runtime_dir: Path) -> None:
    with sleeper() as process:
        with Server(runtime_dir, {"shutdown": {"pid": process.pid}}) as server:
            late = ctl(server, "shutdown", "--timeout", "0.2")
            at_once = ctl(server, "shutdown", "--no-wait")
        process.kill()
    assert (late.returncode, at_once.returncode) == (5, 0)
    assert late.stderr.endswith("within 0.2 s; it goes on\n")
    assert at_once.stdout == "supervisor: stopping\n"


def test_reexec_returns_when_the_new_image_answers(runtime_dir: Path) -> None:
    images = iter([1, 1, 2])
    with sleeper() as process:
        answers = {
            "reexec": {"pid": process.pid, "image": 1},
            "status": lambda _: document(pid=process.pid, image=next(images)),
        }
        with Server(runtime_dir, answers) as server:
            done = ctl(server, "reexec")
        process.kill()
    assert (done.returncode, done.stdout) == (0, f"supervisor: image 2 (pid {process.pid})\n")
    assert len(server.asked("status")) == 3


def test_reexec_without_a_new_image_is_5_and_of_a_dead_one_7(runtime_dir: Path) -> None:
    with sleeper() as process:
        answers = {"reexec": {"pid": process.pid, "image": 1}, "status": document(pid=process.pid, image=1)}
        with Server(runtime_dir, answers) as server:
            same = ctl(server, "reexec", "--timeout", "0.5")
            process.kill()
            process.wait(20)
            dead = ctl(server, "reexec", "--timeout", "20")
    assert (same.returncode, dead.returncode) == (5, 7)
    assert "image 1 still answers" in same.stderr
    assert "has left" in dead.stderr
