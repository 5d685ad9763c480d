"""`daedalus-supervisor` and `daedalus` as a user meets them: what they print, how they leave."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from daedalus import __version__
from daedalus.cli import data, supervisor
from daedalus.cli.effective import as_text, greeting, size
from daedalus.config import Report, report
from daedalus.kernel.home import Home
from daedalus.kernel.spec import Tree

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD = '[exchanges.binance]\nadapter = "ccxt"\n[exchanges.binance.channels]\norderbook = ["BTC/USDT"]\n'


def program(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed `daedalus-supervisor`."""
    command = [str(Path(sys.executable).parent / "daedalus-supervisor"), *args]
    env = {
        key: value for key, value in os.environ.items() if key not in ("DAEDALUS_CONFIG", "XDG_RUNTIME_DIR")
    }
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=60, check=False)


@pytest.fixture
def started(monkeypatch) -> list[tuple[Tree, float]]:
    """A supervisor that only notes what it was asked to run."""
    calls: list[tuple[Tree, float]] = []

    def run(tree: Tree, *, duration_s: float = 0.0, greet: Callable[[], None] | None = None) -> int:
        calls.append((tree, duration_s))
        if greet is not None:
            greet()
        return 0

    monkeypatch.setattr("daedalus.kernel.launch.run", run)
    return calls


def test_version_names_the_version() -> None:
    done = CliRunner().invoke(supervisor.main, ["version"])
    assert done.exit_code == 0
    assert done.output.startswith(f"daedalus {__version__} ")


def test_check_prints_the_effective_tree_and_exits_0(tmp_path: Path) -> None:
    (tmp_path / "supervisor.toml").write_text(GOOD)
    done = program("check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in (
        "writer-orderbook",
        "feature-binance-BTC-USDT",
        "memory 240M/320M",
        "one_for_one, 5 restarts in 60 s",
    ):
        assert word in done.stdout


def test_check_exits_2_with_every_fault_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(GOOD + "[writer]\ncommitt_ms = 1\n[link]\nspool_mb = 0\n")
    done = program("check", str(file))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{file}:6: writer.committ_ms: unknown key 'committ_ms' (did you mean 'commit_ms'?)",
        f"{file}:8: link.spool_mb: cannot use 0: input should be greater than or equal to 1",
        f"{file}: 2 fault(s)",
    ]


def test_check_json_has_the_fields_of_the_interface(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(GOOD)
    answer = json.loads(program("check", "--json", str(file)).stdout)
    assert set(answer) == {"ok", "faults", "warnings", "tree"}
    assert answer["ok"] is True
    assert [
        actor["settings"]["exchange"] for actor in answer["tree"]["actors"] if actor["role"] == "collector"
    ] == ["binance"]
    file.write_text("x = 1\n")
    done = program("check", "--json", str(file))
    answer = json.loads(done.stdout)
    assert done.returncode == 2
    assert (answer["ok"], answer["tree"]) == (False, None)
    known = "known keys: " + answer["faults"][0]["hint"].removeprefix("known keys: ")
    assert answer["faults"] == [
        {"path": "x", "level": "error", "message": "unknown key 'x'", "hint": known, "line": 1}
    ]


def test_check_strict_makes_faults_of_warnings(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[groups.a]\nrestart = "transient"\n')
    assert program("check", str(file)).returncode == 0
    assert program("check", "--strict", str(file)).returncode == 2
    assert json.loads(program("check", "--strict", "--json", str(file)).stdout)["ok"] is False


def test_check_of_a_missing_file_is_one_line_and_2(tmp_path: Path) -> None:
    done = program("check", "no.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "no such file: no.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_start_gives_the_tree_to_the_supervisor(tmp_path: Path, short_tmp: Path, started) -> None:
    file = tmp_path / "x.toml"
    file.write_text(GOOD)
    args = ["start", "--config", str(file), "--data", str(tmp_path / "d"), "--runtime", str(short_tmp / "r")]
    done = CliRunner().invoke(supervisor.main, [*args, "--duration", "2.5"])
    assert done.exit_code == 0, done.output
    [(tree, duration_s)] = started
    assert duration_s == 2.5
    assert (tree.data, tree.runtime) == (str(tmp_path / "d"), str(short_tmp / "r"))
    assert Path(tree.data).is_dir()
    assert Path(tree.runtime).stat().st_mode & 0o777 == 0o700


def test_start_of_the_demo_greets_and_shows_where_to_look(
    tmp_path: Path, short_tmp: Path, started, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(supervisor.main, ["start", "--demo", "--runtime", str(short_tmp / "r")])
    assert done.exit_code == 0, done.output
    assert "daedalus subscribe binance BTC/USDT" in done.output
    assert str(tmp_path / "demo-data") in done.output
    [(tree, _)] = started
    assert tree.actors[0].name == "demo/simulator"


def test_a_second_start_greets_nobody_and_exits_6(tmp_path: Path, short_tmp: Path) -> None:
    home = Home(str(short_tmp / "r"))
    home.lock()
    try:
        done = program("start", "--demo", "--runtime", str(short_tmp / "r"), cwd=tmp_path)
    finally:
        home.close()
    assert (done.returncode, done.stdout) == (6, "")
    assert f"a supervisor already runs there, pid {os.getpid()}" in done.stderr


def test_start_with_a_bad_file_exits_78_and_makes_nothing(tmp_path: Path, started) -> None:
    file = tmp_path / "x.toml"
    file.write_text("x = 1\n")
    done = CliRunner().invoke(
        supervisor.main, ["start", "--config", str(file), "--data", str(tmp_path / "d")]
    )
    assert done.exit_code == 78
    assert not (tmp_path / "d").exists()
    assert started == []


@pytest.mark.parametrize("which", ["data", "runtime"])
def test_start_without_a_usable_directory_exits_78_and_names_it(
    tmp_path: Path, short_tmp: Path, started, which: str
) -> None:
    (tmp_path / "plain").touch()
    file = tmp_path / "x.toml"
    file.write_text(GOOD)
    places = {"data": str(tmp_path / "d"), "runtime": str(short_tmp / "r")} | {
        which: str(tmp_path / "plain" / "x")
    }
    options = [word for key, value in places.items() for word in (f"--{key}", value)]
    done = CliRunner().invoke(supervisor.main, ["start", "--config", str(file), *options])
    assert done.exit_code == 78
    assert f"cannot use the {which} directory {tmp_path}/plain/x: Not a directory" in done.output
    assert started == []


def test_start_refuses_demo_with_a_file_and_negative_durations() -> None:
    assert CliRunner().invoke(supervisor.main, ["start", "--demo", "--config", "x"]).exit_code == 2
    assert CliRunner().invoke(supervisor.main, ["start", "--demo", "--duration", "-1"]).exit_code == 2


def test_the_supervisor_keeps_pydantic_out_of_its_process(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(GOOD)
    code = (
        "import sys, daedalus.cli.supervisor as s, daedalus.kernel.supervisor as k\n"
        "k.run = lambda tree, duration_s, greet: print('pydantic' in sys.modules, 'ccxt' in sys.modules)\n"
        f"where = ['--data', {str(tmp_path)!r}, '--runtime', {str(tmp_path)!r}]\n"
        f"s.main(['start', '--config', {str(file)!r}, *where])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["False False"], done.stderr


def test_the_greeting_and_the_tree_are_told_for_every_kind_of_tree() -> None:
    empty = Report(file="f", tree=Tree(runtime="/r", data="/d", groups=(), actors=()))
    assert "no actors" in greeting(empty)
    demo = report(None, demo=True, port=1, runtime="/tmp/dd-test")
    assert demo.tree is not None
    assert "2 collectors, for 5 s" in greeting(demo, duration_s=5)
    assert as_text(demo.tree).count("\n") > 15


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1, "1"), (1023, "1023"), (320 << 20, "320M"), (3 << 29, "1.5G")]
)
def test_sizes_are_shown_as_they_are_written(value: int | None, text: str) -> None:
    assert size(value) == text


def test_the_data_program_lists_what_is_built_without_importing_it() -> None:
    done = CliRunner().invoke(data._group, ["--help"])
    assert done.exit_code == 0
    for name in ("query", "simulate", "subscribe", "sync"):
        assert f"\n  {name}" in done.output
    assert CliRunner().invoke(data._group, ["etl"]).exit_code == 2


@pytest.mark.parametrize("name", ["query", "simulate", "subscribe", "sync"])
def test_every_listed_command_exports_a_click_command_of_its_name(name: str) -> None:
    done = CliRunner().invoke(data._group, [name, "--help"])
    assert done.exit_code == 0, done.output
