"""The menu as it is ordered: by hand, from files and from seeds."""

from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.menu import MENU, STREAMS, Order, read_order
from daedalus.simulator.schedule import WEIGHTS, Step, generate, read_schedule
from tests.conftest import ROOT

MARKETS = [("binance", "BTC/USDT"), ("binance", "ETH/USDT"), ("coinbase", "BTC/USD")]


@pytest.mark.parametrize("fault", MENU)
def test_every_fault_has_defaults_that_make_an_order(fault: str) -> None:
    more = {"stream": "trades"} if fault == "stream_silence" else {}
    order = read_order({"fault": fault, **more}, MARKETS)
    assert order.fault == fault
    for name, value in MENU[fault].arguments.items():
        assert value is None or getattr(order, name) == value
    assert (order.count is not None or order.for_s is not None) or MENU[fault].befalls == "connections"


def test_with_a_time_a_fault_of_requests_is_not_counted() -> None:
    assert read_order({"fault": "rest_error", "for_s": 3}, MARKETS).count is None
    assert read_order({"fault": "rest_error", "for_s": 3, "count": 2}, MARKETS).count == 2


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({}, "the fault None: there are close, abort"),
        ({"fault": "meteor"}, "the fault 'meteor': there are close, abort"),
        ({"fault": ["gap"]}, "the fault ['gap']"),
        ({"fault": "abort", "exchange": "kraken"}, "exchange 'kraken': there are binance, coinbase"),
        (
            {"fault": "abort", "symbol": "DOGE/USD"},
            "symbol 'DOGE/USD': there are BTC/USDT, ETH/USDT, BTC/USD",
        ),
        ({"fault": "abort", "exchange": "coinbase", "symbol": "ETH/USDT"}, "there are BTC/USD"),
        ({"fault": "gap", "stream": "candles"}, "stream 'candles': there are orderbook, trades"),
        ({"fault": "garbage", "how": "loud"}, "how 'loud': there are json, binary, utf8, shape"),
        ({"fault": "abort", "for_s": 3}, "abort with for_s: it knows exchange, symbol, pick"),
        (
            {"fault": "rest_error", "symbol": "BTC/USDT"},
            "rest_error with symbol: it knows exchange, path, count",
        ),
        ({"fault": "freeze", "for_s": -1}, "freeze with for_s -1: 0 to 3600 s"),
        ({"fault": "freeze", "for_s": float("nan")}, "freeze with for_s nan: 0 to 3600 s"),
        ({"fault": "gap", "count": 0}, "gap with count 0: 1 to 1e+06"),
        ({"fault": "gap", "count": "3"}, "cannot order gap: Expected `int | null`, got `str`"),
        ({"fault": "rest_error", "status": 200}, "rest_error with status 200: 400 to 599"),
        ({"fault": "stream_silence"}, "stream_silence without a stream or a symbol"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_in_words(what: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_order(what, MARKETS)
    assert words in str(error.value)


def test_the_same_seed_gives_the_same_schedule_and_another_another() -> None:
    first, again, other = (list(islice(generate(seed, MARKETS), 200)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert all(a.at_s < b.at_s for a, b in pairwise(first))
    mean = first[-1].at_s / len(first)
    assert 1.3 < mean < 1.7


def test_a_schedule_comes_to_every_fault_exchange_and_stream() -> None:
    assert set(WEIGHTS) == set(MENU)
    steps = list(islice(generate(1, MARKETS), 1000))
    assert {step.order.fault for step in steps} == set(MENU)
    assert {step.order.exchange for step in steps} == {"binance", "coinbase"}
    assert {step.order.stream for step in steps} == set(STREAMS) - {"heartbeats"} | {""}
    assert {step.order.how for step in steps if step.order.fault == "garbage"} == set(MENU["garbage"].hows)


def test_a_seed_is_written_with_pace_and_ends() -> None:
    steps = list(read_schedule("seed=3,every_s=0.5,from_s=10,until_s=20", MARKETS))
    assert 10 < steps[0].at_s < 11
    assert 19 < steps[-1].at_s <= 20
    assert steps == list(islice(generate(3, MARKETS, 0.5, 10), len(steps)))


@pytest.mark.parametrize("text", ["seed=x", "seed=1,pace=2", "every_s=1", "seed=1,every_s=0", "seed="])
def test_a_seed_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"of the faults|use the faults"):
        read_schedule(text, MARKETS)


def test_a_file_of_lines_is_played_by_its_times(tmp_path: Path) -> None:
    path = tmp_path / "faults.ndjson"
    path.write_text('{"at_s": 2.5, "fault": "abort"}\n\n{"at_s": 1, "fault": "gap", "count": 2}\n')
    assert list(read_schedule(str(path), MARKETS)) == [
        Step(1.0, Order(fault="gap", count=2)),
        Step(2.5, Order(fault="abort")),
    ]


def test_a_file_of_tables_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('[[fault]]\nat_s = 2.5\nfault = "freeze"\nexchange = "binance"\nfor_s = 4\n')
    assert list(read_schedule(str(path), MARKETS)) == [
        Step(2.5, Order(fault="freeze", exchange="binance", for_s=4.0))
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("f.ndjson", '{"fault": "abort"}', "line 1 of the faults {path}: at_s None is no time"),
        (
            "f.ndjson",
            '{"at_s": 1, "fault": "abort"}\n{"at_s": 1}',
            "line 2 of the faults {path}: cannot order",
        ),
        ("f.ndjson", "abort", "cannot read line 1 of the faults {path}"),
        ("f.ndjson", "[1]", "line 1 of the faults {path}: it is no object"),
        ("f.toml", "[[fault]\n", "cannot read the faults {path}"),
        ("f.toml", "x = 1", "write tables [[fault]] and nothing else"),
        ("f.toml", '[[fault]]\nat_s = 1\nfault = "abort"\npitch = 2', "fault 1 of the faults {path}"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_its_place(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_schedule(str(path), MARKETS)
    assert words.format(path=path) in str(error.value)


def test_a_file_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(ConfigError, match="cannot read the faults /nowhere/f: No such file"):
        read_schedule("/nowhere/f", MARKETS)


def test_the_page_on_the_simulator_names_every_fault_and_argument() -> None:
    page = (ROOT / "docs" / "simulator.md").read_text()
    for name, dish in MENU.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert [word for word in dish.arguments if f"`{word}`" not in row] == [], name
