"""How a running supervisor reads its configuration again, and asks for one actor: faults, no traceback."""
# ruff: noqa: E501 - the lines are the messages, whole

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daedalus import config
from daedalus.config import Report, Wanted
from daedalus.config.source import Source
from daedalus.kernel.errors import ConfigError

FILE = """
[groups.pool]
strategy = "simple_one_for_one"
[actors."pool/w"]
command = ["/bin/cat"]
nice = 2
instances = 3
[actors."ops/x"]
command = ["/bin/true"]
[exchanges.binance]
adapter = "ccxt"
channels = { trades = ["BTC/USDT"] }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "supervisor.toml"
    file.write_text(FILE)
    return file


@pytest.fixture
def ask(file: Path):
    def ask(name: str, table: dict[str, Any] | None = None) -> Report:
        return config.report(file, runtime="/tmp/dd-test", wanted=Wanted(name, table))

    return ask


def told(report: Report) -> list[str]:
    return [fault.text("f") for fault in report.faults]


def through_a_process(*words: str) -> Report:
    done = subprocess.run(Source(list(words)).command([]), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    return Source.parse(done.stdout)


# --- one actor --------------------------------------------------------------------------------------------


def test_an_actor_of_the_file_comes_as_the_tree_has_it(ask) -> None:
    for name, full in [
        ("ops/x", "ops/x"),
        ("x", "ops/x"),
        ("writer-trades", "store/writer-trades"),
        ("w@3", "pool/w@3"),
    ]:
        report = ask(name)
        assert report.actor in report.tree.actors
        assert report.actor.name == full


def test_a_table_makes_an_actor_that_the_file_does_not_have(ask) -> None:
    report = ask("ops/new", {"command": ["/bin/true"], "nice": 5, "memory_hard": "1G", "drain_s": 3})
    spec = report.actor
    assert (spec.name, spec.group, spec.role) == ("ops/new", "ops", "foreign")
    assert (spec.command, spec.nice, spec.memory_hard, spec.drain_s) == (("/bin/true",), 5, 1 << 30, 3.0)
    assert spec in report.tree.actors


def test_a_table_is_in_place_of_the_files_own_and_may_be_a_built_in_actors(ask) -> None:
    assert ask("pool/w@1", {"command": ["/bin/true"]}).actor.nice == 0
    assert ask("store/writer-trades", {"nice": 7}).actor.nice == 7


@pytest.mark.parametrize("name", ["pool/w@4", "pool/w@004"])
def test_an_instance_beyond_the_files_has_the_keys_of_its_template(ask, name: str) -> None:
    spec = ask(name).actor
    assert (spec.name, spec.nice, spec.command) == ("pool/w@4", 2, ("/bin/cat",))


@pytest.mark.parametrize(
    ("name", "table", "lines"),
    [
        ("ops/y", None, ["""f: actors."ops/y": there is no actor 'ops/y' in this file (did you mean 'ops/x'?)"""]),
        ("zzz", None, ["f: actors.zzz: there is no actor 'zzz' in this file (give its specification)"]),
        ("pool/w", None, ["""f:4: actors."pool/w": pool/w is a template, not an actor (name an instance, pool/w@1)"""]),
        ("pool/w@x", None, ["""f: actors."pool/w@x": cannot use the instance 'x' of pool/w: instances are numbered from 1"""]),
        ("ops/x@1", None, ["""f: actors."ops/x@1": there is no template 'ops/x' (instances belong to a simple_one_for_one group)"""]),
        ("ops/y", {}, ["""f: actors."ops/y": there is no actor 'ops/y', and it has no command (a program of your own needs command)"""]),
        (
            "ops/x",
            {"command": "x", "restrat": 1, "nice": 99},
            [
                """f: actors."ops/x".nice: cannot use 99: input should be less than or equal to 19""",
                """f: actors."ops/x".command: cannot use 'x': input should be a valid list (a list stands in brackets: ["x"])""",
                """f: actors."ops/x".restrat: unknown key 'restrat' (did you mean 'restart'?)""",
            ],
        ),
        ("opps/y", {"command": ["x"]}, ["""f: actors."opps/y": there is no group 'opps' (did you mean 'ops'?)"""]),
        ("y", {"command": ["x"]}, ["""f: actors.y: the actor 'y' names no group (write [actors."ops/y"])"""]),
        ("store/writer-trades", {"args": []}, None),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_told_without_lines_that_are_not_the_files(
    ask, name: str, table: dict[str, Any] | None, lines: list[str] | None
) -> None:
    report = ask(name, table)
    assert (report.actor, report.tree, len(report.faults) > 0) == (None, None, True)
    if lines is not None:
        assert told(report) == lines


def test_a_file_with_faults_gives_no_actor(file: Path, ask) -> None:
    file.write_text(FILE + "[link]\nspool_mb = 0\n")
    report = ask("ops/x")
    assert (report.actor, [fault.path for fault in report.faults]) == (None, ["link.spool_mb"])


def test_an_actor_may_be_added_to_the_demo() -> None:
    wanted = Wanted("ops/new", {"command": ["/bin/true"]})
    report = config.report(None, demo=True, port=4711, runtime="/tmp/dd-test", wanted=wanted)
    assert report.actor.name == "ops/new"
    assert report.facts == {"simulator": "http://127.0.0.1:4711/ctl"}


# --- the loader as a process ------------------------------------------------------------------------------


def test_the_loader_gives_the_tree_and_the_actor_that_were_asked_for(file: Path) -> None:
    source = Source([f"--config={file}", "--runtime=/tmp/dd-test"])
    done = subprocess.run(
        source.command(source.actor("ops/-n", {"command": ["/bin/echo", "ä"]})),
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    report = source.parse(done.stdout)
    assert told(report) == [
        """f: actors."ops/-n": cannot use the actor name '-n': a name begins with a letter or digit, has letters, digits, '_', '.' and '-' only, and at most 60 characters"""
    ]
    done = subprocess.run(
        source.command(source.actor("ops/n", {"command": ["/bin/echo", "ä"]})),
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert source.parse(done.stdout).actor.command == ("/bin/echo", "ä")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table={}"], "cannot use --table: it needs --actor"),
        (["--actor=ops/n", "--table={"], "cannot use the specification of ops/n: not valid JSON"),
        (["--actor=ops/n", "--table=[1]"], "a JSON object with the keys of an actor's table is needed, not [1]"),
        (["--actor=ops/n", '--table={"nice": NaN}'], "not valid JSON: NaN is no JSON number"),
        (["--actor=ops/n", '--table={"nice": 1e999}'], "cannot use inf"),
        (["--actor=ops/n", '--table={"\\ud800": 1}'], "not valid JSON"),
        (["--actor=ops/n", "--table=" + "[" * 9000], "not valid JSON"),
        (["--actor=ops/n", '--table={"instances": ' + "9" * 30 + ', "command": ["x"]}'], "less than or equal to 1000"),
        (["--actor=\udcff"], "cannot use --actor: it is not UTF-8"),
        (["--actor", "-x"], "there is no actor '-x' in this file"),
        (["--actor", "--table", "--table", "{}"], "there is no actor '--table', and it has no command"),
        (["--config=/nowhere.toml"], "no such file: /nowhere.toml"),
        (["--config=/"], "/ is a directory"),
        (["--config=\udcff"], "cannot use --config: it is not UTF-8"),
    ],
)  # fmt: skip
def test_whatever_the_loader_is_given_wrong_is_a_fault(file: Path, words: list[str], message: str) -> None:
    first = [] if words[0].startswith("--config") else [f"--config={file}"]
    report = through_a_process("--runtime=/tmp/dd-test", *first, *words)
    assert report.tree is None
    assert any(message in fault.message for fault in report.faults), told(report)


def test_the_demo_keeps_the_port_it_is_given() -> None:
    report = through_a_process("--demo", "--port=4711", "--runtime=/tmp/dd-test")
    assert report.facts == {"simulator": "http://127.0.0.1:4711/ctl"}


def test_modules_in_the_working_directory_are_not_the_loaders(tmp_path: Path, file: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)\n")
    command = Source([f"--config={file}", "--runtime=/tmp/dd-test"]).command([])
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert Source.parse(done.stdout).tree is not None, done.stderr


# --- what the supervisor's own process holds of it --------------------------------------------------------


def test_the_source_imports_neither_pydantic_nor_anything_heavy() -> None:
    code = (
        "import sys, daedalus.config.source\n"
        "print(sorted({'pydantic', 'tomllib', 'asyncio', 'difflib', 'zmq'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    "output", [b"", b"Traceback", b"\x80", msgspec.msgpack.encode({"file": 1}), b"\x81\xa4file\xa1\xff"]
)
def test_output_that_is_no_report_is_a_fault(output: bytes) -> None:
    report = Source.parse(output)
    assert report.tree is None
    assert report.faults[0].message.startswith("cannot load the configuration: ")


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("a\0b", None, "cannot use the actor's name: it holds the character NUL"),
        ("\ud800", None, "cannot use the actor's name: it is not text"),
        ("a/b", {"args": ["x" * 200_000]}, "cannot use the actor's specification: it has 200"),
    ],
)
def test_what_cannot_be_an_argument_is_refused_before_the_loader_starts(
    name: str, table: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Source.actor(name, table)


# --- anything at all --------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["command", "env", "backoff", "shutdown_s", "requires", "memory_hard", "cpus", "instances", "x"]
)
SNIPPETS = st.sampled_from(
    ["[supervisor]", "[", "]]", "x = 1", 'a = """', "'''", "backoff = {", "}", "intensity = -1", "\n", '[actors."a/b"]', "=", "\\", "\x00", "\ufeff", "[[groups.a]]", 'groups.a = "x"', "parent = 'a'", "actors = 5"]
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=6) | st.sampled_from(["ops/n", "pool/w@9", "x"]),
    table=st.dictionaries(KEYS, JSON, max_size=4),
)
def test_any_table_is_an_actor_or_faults(ask, name: str, table: dict[str, Any]) -> None:
    report = ask(name, json.loads(json.dumps(table)))
    assert (report.actor is None) is bool(report.faults) or name == ""
    msgspec.msgpack.encode(report)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(SNIPPETS | st.text(max_size=8), max_size=8), glue=st.sampled_from(["\n", " ", ""]))
def test_any_text_is_a_tree_or_faults(file: Path, parts: list[str], glue: str) -> None:
    file.write_bytes(glue.join(parts).encode("utf-8", "surrogatepass"))
    report = config.report(file, runtime="/tmp/dd-test")
    assert (report.tree is None) is bool(report.faults)
    msgspec.msgpack.encode(report)
