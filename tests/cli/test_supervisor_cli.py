"""`daedalus-supervisor` and `daedalus` as a user meets them: what they print, how they leave."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from daedalus import __version__
from daedalus.cli import data, supervisor
from daedalus.cli.effective import as_text, greeting, size
from daedalus.config import Report, report
from daedalus.config.source import Source
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
def started(monkeypatch) -> list[tuple[Tree | None, float, Source | None]]:
    """A supervisor that only notes what it was asked to run."""
    calls: list[tuple[Tree | None, float, Source | None]] = []

    def run(
        tree: Tree | None,
        *,
        duration_s: float = 0.0,
        greet: Callable[[], None] | None = None,
        source: Source | None = None,
    ) -> int:
        calls.append((tree, duration_s, source))
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


def test_d28_check_says_in_words_who_shares_an_allowance(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    more = '[exchanges.raw]\nadapter = "native"\nid = "binance"\nchannels = { trades = ["ETH/USDT"] }\n'
    file.write_text(GOOD + more)
    done = program("check", "--strict", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == (
        "note     2 collectors share what binance spot allows one address: "
        "binance keeps to 1/2 of it, raw keeps to 1/2 of it"
    )


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


def test_check_of_a_directory_says_so(tmp_path: Path) -> None:
    done = program("check", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot read the configuration: {tmp_path} is a directory" in done.stderr


def test_a_stop_that_takes_too_long_warns_and_is_a_fault_under_systemd(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[supervisor]\nstop_timeout_s = 20\n" + GOOD)
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    done = program("check", str(file))
    assert done.returncode == 0
    assert f"warning: {file}:2: supervisor.stop_timeout_s: the stop of the tree may take 78 s" in done.stderr
    assert (
        "over stop_timeout_s 20: mostly store 45 s, live 18 s, ingest 15 s (set stop_timeout_s" in done.stderr
    )
    assert "bounds   start 80 s, stop 78 s" in done.stdout
    assert program("check", "--strict", str(file)).returncode == 2
    monkeypatch.setenv("INVOCATION_ID", "0123")
    done = program("check", str(file))
    assert (done.returncode, done.stderr.startswith(f"{file}:2: supervisor.stop_timeout_s")) == (2, True)


def test_start_under_systemd_runs_all_the_same_when_the_stop_may_take_too_long(
    tmp_path: Path, short_tmp: Path, started, monkeypatch
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "0123")
    file = tmp_path / "x.toml"
    file.write_text("[supervisor]\nstop_timeout_s = 20\n" + GOOD)
    words = ["start", "--config", str(file), "--data", str(tmp_path), "--runtime", str(short_tmp / "r")]
    done = CliRunner().invoke(supervisor.main, words)
    assert (done.exit_code, len(started)) == (0, 1)
    assert "warning: " in done.output


def test_a_loader_that_hangs_or_dies_is_a_fault_in_one_line(monkeypatch) -> None:
    monkeypatch.setattr(supervisor, "_LOAD_TIMEOUT_S", 0)
    assert "the loader took longer than 0 s" in CliRunner().invoke(supervisor.main, ["check"]).output
    monkeypatch.undo()
    monkeypatch.setattr(Source, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    assert "the loader left with 3" in CliRunner().invoke(supervisor.main, ["check"]).output


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
    [(tree, duration_s, source)] = started
    assert source.command([])[4:] == [f"--config={file}", f"--data={tree.data}", f"--runtime={tree.runtime}"]
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
    [(tree, _, source)] = started
    assert tree.actors[0].name == "demo/simulator"
    again = reread(source)
    assert again.tree == tree  # the same port, the same places: a reload of the demo changes nothing


def reread(source: Source, *extra: str) -> Report:
    """Do what a supervisor does for a reload."""
    done = subprocess.run(source.command(list(extra)), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return source.parse(done.stdout)


def test_a_reload_sees_a_directory_that_changed_in_the_file_and_not_on_the_command_line(
    tmp_path: Path, short_tmp: Path, started
) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f'[paths]\ndata = "{tmp_path}/a"\nruntime = "{short_tmp}/r"\n' + GOOD)
    assert CliRunner().invoke(supervisor.main, ["start", "--config", str(file)]).exit_code == 0
    [(tree, _, source)] = started
    assert reread(source).tree == tree
    file.write_text(f'[paths]\ndata = "{tmp_path}/b"\nruntime = "{short_tmp}/r"\n' + GOOD)
    assert reread(source).tree.data == f"{tmp_path}/b"
    file.write_text("x = 1\n")
    again = reread(source)
    assert (again.tree, [fault.line for fault in again.faults]) == (None, [1])


def test_a_new_image_of_the_supervisor_reads_no_file_and_keeps_its_source(
    tmp_path: Path, short_tmp: Path, started, monkeypatch
) -> None:
    demo = report(None, demo=True, port=4711, runtime=str(short_tmp / "r"), data=str(tmp_path))
    monkeypatch.setattr("daedalus.kernel.upgrade.inherited", lambda: SimpleNamespace(tree=demo.tree))
    words = ["start", "--demo", "--runtime", str(short_tmp / "r"), "--data", str(tmp_path)]
    assert CliRunner().invoke(supervisor.main, words).exit_code == 0
    [(tree, _, source)] = started
    assert tree is None
    assert reread(source).tree == demo.tree


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
        "import sys, daedalus.cli.supervisor as s, daedalus.kernel.launch as k\n"
        "heavy = {'pydantic', 'ccxt', 'tomllib', 'difflib', 'daedalus.config.models'}\n"
        "k.run = lambda tree, **_: print(sorted(heavy & set(sys.modules)))\n"
        f"where = ['--data', {str(tmp_path)!r}, '--runtime', {str(tmp_path)!r}]\n"
        f"s.main(['start', '--config', {str(file)!r}, *where])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


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
