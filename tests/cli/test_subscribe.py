"""`daedalus subscribe`: what it prints and how it exits, before a real gateway."""

import contextlib
import json
import math
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from daedalus.cli.subscribe import command, table
from tests.backstage import Backstage


@pytest.fixture
def stage(runtime_dir: Path) -> Iterator[Backstage]:
    backstage = Backstage(runtime_dir)
    try:
        yield backstage
    finally:
        backstage.close()


def run(stage: Backstage, *options: str) -> tuple[int, list[str], str]:
    arguments = ["binance", "BTC/USDT", "--runtime", stage.runtime, "--timeout", "1", *options]
    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.stdout.splitlines(), result.stderr


def test_rows_are_columns_with_a_dash_for_no_value(stage: Backstage) -> None:
    stage.publish("tb")
    code, lines, _ = run(stage, "--count", "1", "--features", "mid_price,nothing")
    assert code == 0
    assert lines[0].split() == ["time", "seq", "mid_price", "nothing"]
    assert lines[1].split()[1:] == ["1", "100", "-"]
    assert len(lines) == 2


def test_json_lines_have_every_feature_and_null_for_no_value(stage: Backstage) -> None:
    stage.publish("tb")
    code, lines, _ = run(stage, "--count", "1", "--json")
    row = json.loads(lines[0])
    assert code == 0
    assert row["features"] == {"mid_price": 100.0, "trades": 1.0, "after_gap": 0.0, "nothing": None}
    assert (row["exchange"], row["symbol"], row["seq"], row["gap"]) == ("binance", "BTC-USDT", 1, 0)
    assert row["ts_pub_ns"] > row["ts_recv_ns"]
    assert {"ts_event_ns", "session_id"} < set(row)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--bars", "0"], 2, "--bars"),
        (["--bars", "60"], 1, "cannot subscribe to binance/BTC-USDT/60: not published within 1 s"),
        (["--count", "0"], 2, "--count"),
        (["--features", ","], 2, "names no column"),
        (["--endpoint", "http://x"], 2, "must be ipc://PATH or tcp://HOST:PORT"),
        (["--features", "mid_prise"], 1, "did you mean mid_price?"),
        (["--runtime", "/tmp/no-such-runtime"], 1, "cannot reach the gateway at ipc:///tmp/no-such-runtime/"),
    ],
)
def test_every_fault_has_one_message_and_its_exit_code(
    stage: Backstage, options: list[str], code: int, message: str
) -> None:
    found, lines, errors = run(stage, *options)
    assert found == code
    assert message in errors
    assert lines == []
    assert "Traceback" not in errors


def test_an_unknown_symbol_exits_1_and_lists_what_there_is(stage: Backstage) -> None:
    arguments = ["binance", "XRP/USDT", "--runtime", stage.runtime, "--timeout", "1"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1
    assert "known: binance/BTC-USDT" in result.stderr


@pytest.mark.system
@pytest.mark.parametrize(("options", "code"), [([], 0), (["--count", "1000"], 130)])
def test_an_interrupt_ends_it_without_a_traceback(stage: Backstage, options: list[str], code: int) -> None:
    stage.publish("b")
    program = "from daedalus.cli.subscribe import command; command()"
    arguments = ["binance", "BTC/USDT", "--runtime", stage.runtime, "--json", *options]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["seq"] == 1
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (code, "")


class Told:
    """A row as the table needs it."""

    def __init__(self, names: tuple[str, ...], ts_recv_ns: int = 45_296_000_007_000) -> None:
        self.exchange, self.symbol, self.seq, self.ts_recv_ns = "binance", "BTC-USDT", 7, ts_recv_ns
        self.names = names

    def __getitem__(self, name: str) -> float:
        return math.nan if name == "nothing" else float(len(name))


def test_the_table_fits_the_terminal_and_says_what_is_left_out() -> None:
    names = ("mid_price", "nothing", *(f"column_{n}" for n in range(30)))
    row: Any = Told(names)
    lines = table(row, 3, names, (80, 24))
    assert lines[0] == "binance BTC-USDT  12:34:56.000007  seq 7  lost 3"
    shown = " ".join(lines[2:]).split()
    assert shown[:2] == ["mid_price", "9"]
    assert dict(zip(shown[::2], shown[1::2], strict=True))["nothing"] == "-"
    assert set(shown[::2]) == set(names)
    for size in ((80, 24), (80, 8), (40, 5), (10, 3), (500, 100)):
        lines = table(row, 0, names, size)
        assert len(lines) <= size[1]
        assert max(len(line) for line in lines) <= size[0]
    assert table(row, 0, names, (80, 8))[-1] == "and 22 more: choose with --features, or --json"


@pytest.mark.system
def test_on_a_terminal_one_table_is_drawn_over_and_over(stage: Backstage) -> None:
    stage.publish("tb")
    ours, theirs = pty.openpty()
    program = "from daedalus.cli.subscribe import command; command()"
    arguments = ["binance", "BTC/USDT", "--runtime", stage.runtime, "--count", "3"]
    environment = {**os.environ, "COLUMNS": "60", "LINES": "20", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        while b"seq 1 " not in seen:
            seen += os.read(ours, 4096)
        stage.publish("bb")
        with contextlib.suppress(OSError):  # the terminal is gone when the program is
            while part := os.read(ours, 4096):
                seen += part
    os.close(ours)
    assert process.returncode == 0
    screens = seen.decode().split("\x1b[H")[1:]
    assert "seq 3  lost 0" in screens[-1]
    assert [line.split() for line in screens[-1].replace("\x1b[K", "").split("\r\n")[2:5]] == [
        ["mid_price", "100"],
        ["trades", "1"],
        ["after_gap", "0"],
    ]
    assert "nothing" in screens[-1]
