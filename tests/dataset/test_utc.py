"""D-31: time is UTC and text is the same everywhere, whatever the machine thinks of zones and languages."""

import ast
import locale
import re
import time
from datetime import date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

import daedalus
from daedalus.cli.coverage import command
from daedalus.dataset.layout import HOUR_NS, Layout, Partition
from daedalus.dataset.scan import instant
from tests.dataset.makings import sealed, trade

ROOT = Path(__file__).resolve().parent.parent.parent
SPRING = 1_772_928_000 // 3600  # 2026-03-08 00:00 UTC: New York loses the hour from 2 to 3
AUTUMN = 1_793_491_200 // 3600  # 2026-11-01 00:00 UTC: it has the hour from 1 to 2 twice


@pytest.fixture(autouse=True, params=["America/New_York", "Asia/Kolkata"])
def elsewhere(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("first", [SPRING, AUTUMN])
def test_d31_every_day_has_24_directories(first) -> None:
    layout = Layout(data="d")
    hours = [Partition("ccxt", "trades", "x", "A-B", first + hour) for hour in range(24)]
    assert [hour.stamp[-2:] for hour in hours] == [f"{hour:02d}" for hour in range(24)]
    assert len({layout.partition(hour) for hour in hours}) == 24
    assert len({hour.stamp[:8] for hour in hours}) == 1


def test_d31_a_time_without_a_zone_is_utc() -> None:
    for at in ("2026-03-08T02:30", datetime(2026, 3, 8, 2, 30)):  # noqa: DTZ001 - that is the question
        assert instant(at).isoformat() == "2026-03-08T02:30:00+00:00"
    assert instant(date(2026, 3, 8)).isoformat() == "2026-03-08T00:00:00+00:00"
    assert instant("2026-03-08T02:30-05:00").isoformat() == "2026-03-08T07:30:00+00:00"


def test_d31_rows_are_found_and_told_in_utc(tmp_path) -> None:
    rows = [trade(hour + 1, ts=(SPRING + hour) * HOUR_NS) for hour in range(24)]
    sealed(tmp_path, "trades", rows)
    found = daedalus.scan(tmp_path, "trades", start="2026-03-08T06:00", end="2026-03-08T09:00").collect()
    assert found["hour"].to_list() == [6, 7, 8]
    done = CliRunner().invoke(command, ["binance:BTC/USDT", "--data", str(tmp_path)])
    assert "2026-03-08T00:00:00.000000Z to 2026-03-08T23:00:00.000000Z" in done.output


def test_d31_a_language_with_decimal_commas_changes_no_number() -> None:
    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in ("de_DE.UTF-8", "C.UTF-8", "C"):
            try:
                locale.setlocale(locale.LC_ALL, name)
            except locale.Error:
                continue
            assert Partition("a", "b", "c", "d", SPRING).stamp == "20260308T00"
    finally:
        locale.setlocale(locale.LC_ALL, before)


def test_d31_no_format_of_ours_depends_on_the_language() -> None:
    loose = re.compile(r"%[-#0^_]*[aAbBcpxX]")
    found = []
    for path in (ROOT / "daedalus").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("strftime", "strptime"):
                words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                found += [
                    f"{path.name}: {word}" for word in words if isinstance(word, str) and loose.search(word)
                ]
    assert found == []
