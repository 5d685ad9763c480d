"""The control client: what it imports, prints, finds, and leaves with."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from daedalus.cli import ctl_text
from daedalus.cli.ctl import EXIT_CODES
from daedalus.kernel import locate

FORBIDDEN = (
    "asyncio",
    "zmq",
    "msgspec",
    "pydantic",
    "rich",
    "psutil",
    "structlog",
    "pyarrow",
    "polars",
    "ccxt",
)
CTL = str(Path(sys.executable).parent / "daedalus-ctl")


def actor(**values: Any) -> dict[str, Any]:
    return {
        "name": "store/writer-trades", "parent": "store", "state": "running", "substate": "", "desired": "up",
        "pid": 2211, "generation": 1, "uptime_s": 11530.0, "ready": True, "flapping": False,
        "restarts": {"total": 0, "window": 0, "last_1h": 0}, "backoff": {"k": 0, "next_in_s": None},
        "cpu_pct": 8.06, "mem": {"anon": 142 << 20, "warn": None, "soft": None, "hard": 300 << 20},
        "cpus": [2], "mailbox": 4, "beat_age_s": 0.5, "last_exit": None, "log_lines": 0, "log_dropped": 0,
    } | values  # fmt: skip


def document(*actors: dict[str, Any]) -> dict[str, Any]:
    root = {
        "name": "root", "parent": None, "state": "running", "substate": "", "desired": "up",
        "strategy": "one_for_one", "intensity": 3, "period": 600.0, "window_used": 1, "on_limit": "park",
    }  # fmt: skip
    host = {"load_1m": 0.9, "temperature_c": 61.2, "clock_synced": True}
    return {
        "v": 1,
        "ts": 1000.0,
        "supervisor": {"pid": 1, "host": host},
        "actors": list(actors),
        "groups": [root],
    }


def test_the_client_imports_none_of_the_heavy_things() -> None:
    code = f"import sys, daedalus.cli.ctl; print([m for m in {FORBIDDEN!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_table_has_its_columns_in_order_and_its_summary() -> None:
    last = {
        "class": "abnormal",
        "code": 1,
        "signal": None,
        "at": 988.0,
        "message": "exit 1",
        "stderr_tail": ["boom"],
    }
    down = actor(
        name="ingest/collector-kraken", state="backoff", pid=None, uptime_s=None, cpu_pct=None, mailbox=None,
        backoff={"k": 3, "next_in_s": 4.2}, restarts={"total": 5, "window": 1, "last_1h": 5}, last_exit=last,
    )  # fmt: skip
    lines = ctl_text.table(document(actor(), down)).splitlines()
    columns = ["NAME", "STATE", "PID", "UPTIME", "RST", "CPU%", "MEM/LIMIT", "CORE", "MBOX", "LAST", "ERROR"]
    assert lines[0].split() == columns
    assert lines[1].split()[1:] == ["running", "2211", "3h12m", "0", "8.1", "142M/300M", "2", "4", "-"]
    assert lines[2].split()[1:10] == ["backoff", "4s", "-", "-", "5", "-", "-/300M", "2", "-"]
    assert lines[2].endswith("exit 1: boom (12s ago)")
    summary = "2 actors: 1 running, 1 backoff · root 1/3 restarts in 10m · load 0.9 · 61°C · clock synced"
    assert lines[3] == summary


def test_only_the_last_error_is_cut_to_the_terminal() -> None:
    last = {
        "class": "abnormal",
        "code": 1,
        "signal": None,
        "at": 988.0,
        "message": "exit 1",
        "stderr_tail": ["x" * 300],
    }
    lines = ctl_text.table(document(actor(last_exit=last)), width=100).splitlines()
    assert len(lines[1]) == 100
    assert lines[1].endswith("…")
    assert "142M/300M" in lines[1]


def test_colours_only_when_asked_and_columns_stay() -> None:
    plain = ctl_text.table(document(actor()))
    assert "\x1b" not in plain
    coloured = ctl_text.table(document(actor()), color=True)
    assert coloured.replace("\x1b[32m", "").replace("\x1b[0m", "") == plain


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"state": "backoff"}, True),
        ({"state": "degraded"}, True),
        ({"state": "stopped", "desired": "down"}, False),
        ({"state": "stopped"}, True),
        ({"state": "done"}, False),
        ({"state": "ignored"}, False),
    ],
)
def test_status_diverges_when_a_wanted_state_is_missed(values: dict[str, Any], expected: bool) -> None:
    assert ctl_text.diverges(document(actor(**values))) is expected


def test_a_failed_group_diverges() -> None:
    shown = document(actor())
    shown["groups"].append(shown["groups"][0] | {"name": "g", "parent": "root", "state": "failed"})
    assert ctl_text.diverges(shown)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (720, "12m"), (11520, "3h12m"), (450000, "5d5h")],
)
def test_spans(seconds: float | None, text: str) -> None:
    assert ctl_text.span(seconds) == text


def test_sizes() -> None:
    assert [ctl_text.size(n) for n in (None, 512 << 10, 142 << 20, 3 << 29)] == ["-", "512K", "142M", "1.5G"]


def test_every_error_code_of_the_wire_has_an_exit_code() -> None:
    assert EXIT_CODES == {
        "failed": 1, "usage": 2, "config": 2, "not_found": 4, "timeout": 5, "running": 6, "restarting": 6,
        "busy": 6, "already_present": 6, "unreachable": 7, "denied": 8,
    }  # fmt: skip


def run(*args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    kept = {
        key: value for key, value in os.environ.items() if key not in ("XDG_RUNTIME_DIR", "DAEDALUS_RUNTIME")
    }
    return subprocess.run(
        [CTL, *args], capture_output=True, text=True, env=kept | environ, check=False, timeout=30
    )


def test_nobody_there_is_7_with_one_line_and_json_where_asked(tmp_path: Path) -> None:
    done = run("status", DAEDALUS_RUNTIME=str(tmp_path))
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == f"daedalus-ctl: cannot reach a supervisor: no socket {tmp_path}/control.sock\n"
    done = run("--json", "status", "--runtime", str(tmp_path))
    assert done.returncode == 7
    assert json.loads(done.stderr)["error"]["code"] == "unreachable"


def test_a_path_too_long_and_an_unknown_command_are_usage_errors(tmp_path: Path) -> None:
    assert run("status", "--runtime", str(tmp_path / ("x" * 120))).returncode == 2
    assert run("dance").returncode == 2
    assert run("stop").returncode == 2


def test_options_work_before_and_after_the_command_and_the_wire_is_exact(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(tmp_path / "control.sock"))
    server.listen()

    def serve() -> None:
        for _ in range(2):
            peer, _ = server.accept()
            with peer, peer.makefile("rb") as file:
                seen.append(json.loads(file.readline()))
                reply = {"v": 1, "id": 1, "ok": True, "result": document(actor())}
                peer.sendall(json.dumps(reply).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    runtime = ("--runtime", str(tmp_path))
    before = run(*runtime, "--timeout", "3", "--json", "status", "a*")
    after = run("status", "a*", *runtime, "--timeout", "3", "--json")
    thread.join()
    server.close()
    assert (before.returncode, after.returncode) == (0, 0)
    assert before.stdout == after.stdout
    request = {"v": 1, "id": 1, "cmd": "status", "args": {"select": ["a*"]}, "timeout": 3.0}
    assert seen == [request, request]


def test_the_default_runtime_is_among_the_places_searched() -> None:
    for environ in ({}, {"XDG_RUNTIME_DIR": "/run/user/7"}, {"RUNTIME_DIRECTORY": "/run/x"}):
        assert locate.default_runtime(environ) in locate.candidates(environ)


def test_a_directory_of_somebody_else_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(PermissionError, match="mode 0755"):
        locate.check_trusted(str(tmp_path))
    tmp_path.chmod(0o700)
    locate.check_trusted(str(tmp_path))
