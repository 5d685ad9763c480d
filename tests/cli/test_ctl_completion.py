"""Completion: the scripts, the names of the running tree, and that nobody has to wait for them."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.ctl_server import CTL, Server, actor, document, environment, run

NAMES = ("store/writer-trades", "store/writer-book", "pool/w@1", "pool/w@2", "pool/w@10")
TREE = document(*(actor(name=name) for name in NAMES))


def candidates(line: str, runtime: Path, breaks: str = " \t\n\"'@><=;|&(:") -> list[str]:
    """Return what bash would be told, as our script asks it."""
    done = run(
        COMP_LINE=line, COMP_POINT=str(len(line)), COMP_WORDBREAKS=breaks, DAEDALUS_RUNTIME=str(runtime),
        _DAEDALUS_CTL_COMPLETE="bash_complete",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return [value.partition(",")[2] for value in done.stdout.split("\n") if value]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_completes_by_asking_us(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_DAEDALUS_CTL_COMPLETE" in done.stdout
    if interpreter := shutil.which(shell):
        subprocess.run([interpreter, "-n"], input=done.stdout, text=True, check=True, timeout=20)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("daedalus-ctl re", ["restart", "resume", "reset", "remove", "reload", "reexec"]),
        ("daedalus-ctl stop st", ["store", "store/writer-trades", "store/writer-book"]),
        ("daedalus-ctl stop al", ["all"]),
        ("daedalus-ctl stop writer-t", ["writer-trades"]),
        ("daedalus-ctl stop store/writer-trades store/w", ["store/writer-book"]),
        ("daedalus-ctl spec store/writer-t", ["store/writer-trades"]),
        ("daedalus-ctl count s", ["store"]),
        ("daedalus-ctl wait x --for sto", ["stopped", "stopping"]),
        ("daedalus-ctl stop --prop", ["--propagate"]),
        ("daedalus-ctl completion z", ["zsh"]),
    ],
)
def test_commands_options_and_names_are_offered(runtime_dir: Path, line: str, expected: list[str]) -> None:
    with Server(runtime_dir, {"status": TREE}):
        assert candidates(line, runtime_dir) == expected


def test_names_of_instances_are_completed_behind_the_sign_at_which_bash_breaks(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"status": TREE}):
        assert candidates("daedalus-ctl stop pool/w@1", runtime_dir) == ["1", "10"]
        assert candidates("daedalus-ctl stop 'pool/w@1", runtime_dir) == ["pool/w@1", "pool/w@10"]
        assert candidates("daedalus-ctl stop pool/w@1", runtime_dir, " ") == ["pool/w@1", "pool/w@10"]


def test_the_supervisor_that_the_line_names_is_asked(runtime_dir: Path, tmp_path: Path) -> None:
    with Server(runtime_dir, {"status": TREE}):
        for line in (
            f"daedalus-ctl --runtime {runtime_dir} stop al",
            f"daedalus-ctl stop --runtime {runtime_dir} al",
        ):
            assert candidates(line, tmp_path) == ["all"]


def test_without_an_answer_there_are_no_names_and_no_complaint(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import click

    from daedalus.cli.ctl import completion

    assert candidates("daedalus-ctl stop st", runtime_dir) == []
    monkeypatch.setattr(completion, "ANSWER_S", 0.1)
    monkeypatch.setenv("DAEDALUS_RUNTIME", str(runtime_dir))
    leave = threading.Event()

    def hang(_: dict[str, Any]) -> None:
        leave.wait(20)

    with Server(runtime_dir, {"status": hang}) as server:
        context = click.Context(click.Command("stop"))
        assert completion.tree_names(context, "names", "st") == []
        leave.set()
    assert len(server.asked("status")) == 1


def test_completing_imports_nothing_heavy(runtime_dir: Path) -> None:
    code = (
        "import sys, daedalus.cli.ctl as c\nsys.argv = ['daedalus-ctl']\n"
        "try: c.main()\nexcept SystemExit: pass\n"
        "heavy = ('zmq', 'msgspec', 'rich', 'asyncio', 'subprocess')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    line = "daedalus-ctl stop st"
    values = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_DAEDALUS_CTL_COMPLETE": "bash_complete"}
    with Server(runtime_dir, {"status": TREE}):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=environment(DAEDALUS_RUNTIME=str(runtime_dir), **values),
        )
    assert json.loads(done.stderr) == []
    assert "plain,store/writer-trades" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_completes_with_it(runtime_dir: Path) -> None:
    script = f"""
        PATH={Path(CTL).parent}:$PATH
        eval "$(daedalus-ctl completion bash)"
        COMP_LINE='daedalus-ctl stop pool/w@1' COMP_POINT=26
        _daedalus_ctl_completion daedalus-ctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
        complete -p daedalus-ctl
    """
    with Server(runtime_dir, {"status": TREE}):
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=environment(DAEDALUS_RUNTIME=str(runtime_dir), COMP_WORDBREAKS=" @"),
        )
    assert done.stdout.splitlines()[:2] == ["1", "10"]
    assert "-F _daedalus_ctl_completion" in done.stdout
