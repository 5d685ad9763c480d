"""The control program as a whole: what it imports, how it leaves, where its words go, and that it teaches."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from daedalus.cli.ctl.connection import EXIT_CODES
from daedalus.cli.ctl.program import COMMANDS
from daedalus.kernel import locate
from tests.cli.ctl_server import CTL, Fault, Server, Stream, actor, brief, ctl, document, environment, run

FORBIDDEN = (
    *("asyncio", "zmq", "msgspec", "pydantic", "rich", "psutil", "structlog", "pyarrow", "polars", "ccxt"),
    *("subprocess", "tempfile", "logging", "multiprocessing", "concurrent", "click.shell_completion"),
)
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "ctl.md"


@pytest.mark.parametrize(
    "command", ["", *(f"; import daedalus.cli.ctl.{module}" for module in sorted(set(COMMANDS.values())))]
)
def test_the_client_imports_none_of_the_heavy_things(command: str) -> None:
    code = f"import sys; before = set(sys.modules); import daedalus.cli.ctl{command}"
    code += f"; print([m for m in {FORBIDDEN!r} if m in set(sys.modules) - before])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    allowed = "['click.shell_completion']\n" if command.endswith("completion") else "[]\n"
    assert done.stdout == allowed


def test_a_command_imports_its_own_file_alone() -> None:
    code = "import sys; sys.argv = ['daedalus-ctl', 'status', '--socket', '/nobody']\n"
    code += "import daedalus.cli.ctl as c\n"
    code += "try: c.main()\nexcept SystemExit:\n"
    code += "  print(*(m for m in sys.modules if m.startswith('daedalus.cli.ctl.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert names == {"program", "connection", "options", "views", "text", "words", "output"}


def test_every_error_code_of_the_wire_has_an_exit_code() -> None:
    assert EXIT_CODES == {
        "failed": 1, "usage": 2, "config": 2, "not_found": 4, "timeout": 5, "running": 6, "restarting": 6,
        "busy": 6, "already_present": 6, "unreachable": 7, "denied": 8,
    }  # fmt: skip


@pytest.mark.parametrize(("code", "exit_code"), EXIT_CODES.items())
def test_an_error_of_the_supervisor_is_one_line_and_its_exit_code(
    runtime_dir: Path, code: str, exit_code: int
) -> None:
    with Server(runtime_dir, {"stop": Fault(code, "cannot stop g/a: it says no", "g/a")}) as server:
        done = ctl(server, "stop", "g/a")
        as_json = ctl(server, "stop", "g/a", "--json")
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr == "daedalus-ctl: cannot stop g/a: it says no\n"
    error = {"code": code, "message": "cannot stop g/a: it says no", "actor": "g/a"}
    assert (as_json.returncode, as_json.stdout) == (exit_code, "")
    assert json.loads(as_json.stderr) == {"ok": False, "error": error}


def test_nobody_there_is_7_with_one_line_and_json_where_asked(tmp_path: Path) -> None:
    done = run("status", DAEDALUS_RUNTIME=str(tmp_path))
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == f"daedalus-ctl: cannot reach a supervisor: no socket {tmp_path}/control.sock\n"
    done = run("--json", "status", "--runtime", str(tmp_path))
    assert done.returncode == 7
    assert json.loads(done.stderr)["error"]["code"] == "unreachable"


@pytest.mark.parametrize(
    "words",
    [
        ("dance",),
        ("stop",),
        ("restart",),
        ("status", "--wid"),
        ("wait", "g/a", "--for", "runing"),
        ("stop", "g/a", "--timeout", "0"),
        ("logs", "--since", "yesterday"),
        ("events", "--since", "-1"),
    ],
)
def test_a_usage_error_is_one_line_and_2_and_json_where_asked(
    runtime_dir: Path, words: tuple[str, ...]
) -> None:
    done = run(*words, DAEDALUS_RUNTIME=str(runtime_dir))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"daedalus-ctl: [^\n]+\n", done.stderr)
    done = run(*words, "--json", DAEDALUS_RUNTIME=str(runtime_dir))
    assert (done.returncode, done.stdout) == (2, "")
    assert json.loads(done.stderr)["error"]["code"] == "usage"


def test_no_command_at_all_shows_the_help_on_stderr_and_exits_2() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: daedalus-ctl")


def test_a_path_too_long_is_a_usage_error(tmp_path: Path) -> None:
    done = run("status", "--runtime", str(tmp_path / ("x" * 120)))
    assert done.returncode == 2
    assert "at most 107" in done.stderr


def test_somebody_turned_away_before_he_could_ask_is_told_why(runtime_dir: Path) -> None:
    import socket

    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(runtime_dir / "control.sock"))
    server.listen()

    def turn_away() -> None:
        peer, _ = server.accept()
        fault = {"code": "denied", "message": "cannot serve uid 7", "actor": None}
        peer.sendall(json.dumps({"v": 1, "id": None, "ok": False, "error": fault}).encode() + b"\n")
        peer.close()

    thread = threading.Thread(target=turn_away)
    thread.start()
    done = run("status", "--runtime", str(runtime_dir))
    thread.join()
    server.close()
    assert (done.returncode, done.stderr) == (8, "daedalus-ctl: cannot serve uid 7\n")


def test_an_answer_that_is_none_is_unreachable_and_no_traceback(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"status": None}) as server:
        server._replies = lambda _: iter([{"ok": True}])  # type: ignore[method-assign]
        done = ctl(server, "status")
    assert done.returncode == 7
    assert re.fullmatch(r"daedalus-ctl: cannot understand the answer to status: [^\n]+\n", done.stderr)


def test_options_work_before_and_after_the_command_and_the_wire_is_exact(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"status": document(actor())}) as server:
        before = ctl(server, "--timeout", "3", "--json", "status", "a*")
        after = run("status", "a*", "--runtime", str(runtime_dir), "--timeout", "3", "--json")
    assert (before.returncode, after.returncode) == (0, 0)
    assert before.stdout == after.stdout
    assert json.loads(after.stdout) == document(actor())
    request = {"v": 1, "id": 1, "cmd": "status", "args": {"select": ["a*"]}, "timeout": 3.0}
    assert server.seen == [request, request]


def test_quiet_prints_nothing_when_all_went_well(runtime_dir: Path) -> None:
    answers = {"status": document(actor()), "stop": {"actors": [brief()]}, "count": {"specs": 1}}
    with Server(runtime_dir, answers) as server:
        for words in (("status",), ("tree",), ("stop", "g/a"), ("count",)):
            done = ctl(server, *words, "-q")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_reader_who_has_seen_enough_ends_it_in_silence(runtime_dir: Path) -> None:
    events = (
        {"seq": seq, "ts": 0.0, "mono": 0.0, "type": "ready", "actor": "g/a", "generation": 1}
        for seq in range(1, 20000)
    )
    with Server(runtime_dir, {"events": Stream(events)}) as server:
        command = f"set -o pipefail; {CTL} --runtime {server.directory} events | head -1"
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment(),
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_an_interrupt_is_130_without_a_traceback(runtime_dir: Path) -> None:
    asked, leave = threading.Event(), threading.Event()

    def hold(_: dict[str, object]) -> None:
        asked.set()
        leave.wait(20)

    with Server(runtime_dir, {"stop": hold}) as server:
        process = subprocess.Popen(
            [CTL, "stop", "g/a", "--runtime", str(runtime_dir)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert asked.wait(20)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        leave.set()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert server.asked("stop") == [{"actors": ["g/a"], "wait": True, "propagate": False}]


def on_terminal(*words: str, until: str, **environ: str) -> str:
    """Run it on a terminal of 80 columns and return what it wrote up to `until` and the end."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    process = subprocess.Popen(
        [CTL, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm", **environ)
    )
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1.0)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            written += data
        elif process.poll() is not None:
            break
    process.wait(timeout=20)
    os.close(ours)
    assert until in written.decode()
    return written.decode()


def test_colours_are_for_terminals_alone_and_no_color_is_honoured(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"status": document(actor())}) as server:
        words = ("--runtime", str(runtime_dir), "status")
        assert "\x1b[32m" in on_terminal(*words, until="clock synced")
        assert "\x1b" not in on_terminal(*words, until="clock synced", NO_COLOR="1")
        assert "\x1b" not in on_terminal(*words, "--no-color", until="clock synced")
        assert "\x1b" not in ctl(server, "status").stdout
        assert "\x1b" not in ctl(server, "tree").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_by_an_example_and_is_on_the_page(name: str) -> None:
    from click.testing import CliRunner

    from daedalus.cli.ctl.program import ctl as program

    done = CliRunner().invoke(program, [name, "--help"])
    assert done.exit_code == 0
    assert re.search(rf"Example:\n .*daedalus-ctl {name}\b", done.output)
    page = PAGE.read_text(encoding="utf-8")
    assert f"\n### {name}\n" in page
    assert re.search(rf"^\$ .*daedalus-ctl {name}\b", page, re.MULTILINE)


def test_the_page_has_no_command_that_is_none() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^### ([\w-]+)$", page)) == set(COMMANDS)


def test_the_default_runtime_is_among_the_places_searched() -> None:
    for environ in ({}, {"XDG_RUNTIME_DIR": "/run/user/7"}, {"RUNTIME_DIRECTORY": "/run/x"}):
        assert locate.default_runtime(environ) in locate.candidates(environ)


def test_a_directory_of_somebody_else_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(PermissionError, match="mode 0755"):
        locate.check_trusted(str(tmp_path))
    tmp_path.chmod(0o700)
    locate.check_trusted(str(tmp_path))
