"""The exchanges put together, without sockets: when playback begins, and what the truth log says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daedalus.kernel.errors import ConfigError
from daedalus.simulator import binance_rest
from daedalus.simulator.exchange import SETTLE_NS, SNAPSHOT_NS, Exchange
from daedalus.simulator.sources import Settings
from tests.simulator.makings import Follower, binance_lines, received, truth_lines, write
from tests.simulator.stage import DEPTH, TRADES, Stage


def test_a_recording_begins_a_second_after_every_symbol_has_a_listener(make: Callable[..., Stage]) -> None:
    stage = make()
    assert stage.wait(60) == "waiting"
    stage.binance(TRADES)
    assert stage.wait(60) == "waiting", "nobody listens to the other symbol"
    stage.coinbase("level2")
    assert stage.wait(0.9 * SETTLE_NS / 1e9) == "waiting"
    stage.coinbase("market_trades")
    assert stage.wait(0.9 * SETTLE_NS / 1e9) == "waiting", "a subscription came lately"
    assert stage.wait(SETTLE_NS / 1e9) == "playing"


def test_subscribers_of_depth_are_given_time_to_ask_for_the_snapshot(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.binance(DEPTH)
    stage.coinbase("level2")
    assert stage.wait(0.9 * SNAPSHOT_NS / 1e9) == "waiting"
    stage.exchange.asked("BTCUSDT")
    assert stage.wait(0.0) == "playing"


def test_a_client_that_never_asks_for_the_snapshot_does_not_hold_up_the_others(
    make: Callable[..., Stage],
) -> None:
    stage = make()
    stage.binance(DEPTH)
    stage.coinbase("level2")
    assert stage.wait(SNAPSHOT_NS / 1e9) == "playing"


@pytest.mark.parametrize(("start", "state"), [("immediately", "playing"), ("on-command", "waiting")])
def test_the_start_can_be_chosen(make: Callable[..., Stage], start: str, state: str) -> None:
    stage = make(start=start)
    stage.binance(TRADES)
    stage.coinbase("level2")
    assert stage.wait(60) == state
    stage.exchange.start()
    assert stage.exchange.status()["state"] == "playing"


def test_a_model_begins_at_once_and_its_ids_come_from_the_wall_clock(make: Callable[..., Stage]) -> None:
    stage = make(recordings=(), symbols=("binance:BTC/USDT",), rate=100)
    assert stage.exchange.status()["state"] == "playing"
    stage.play(2)
    first = truth_lines(stage.truth)["trade"][0]
    assert int(first["id"]) == stage.clock.wall_ns() // 1000 - round(2e6)
    later = Exchange(Settings(symbols=("binance:BTC/USDT",)), stage.clock)
    assert later.markets[0].book.last_id > stage.exchange.markets[0].book.last_id


def test_a_symbol_without_exchange_is_one_market_behind_both(make: Callable[..., Stage]) -> None:
    stage = make(recordings=(), symbols=("BTC/USD",))
    stage.play(1)
    binance, coinbase = stage.exchange.markets
    assert (binance.id, coinbase.id) == ("BTCUSD", "BTC-USD")
    assert binance.book.bids(50) == coinbase.book.bids(50)


def test_the_truth_names_every_trade_and_who_heard_it(make: Callable[..., Stage]) -> None:
    stage = make(start="on-command")
    stage.binance(TRADES)
    stage.binance(TRADES)
    stage.coinbase("market_trades")
    stage.exchange.start()
    stage.play()
    trades = truth_lines(stage.truth)["trade"]
    binance = [entry for entry in trades if entry["exchange"] == "binance"]
    assert [(t["id"], t["side"], t["price"], t["amount"], t["sockets"]) for t in binance] == [
        ("500", "sell", 100.1, 0.5, 2),
        ("501", "buy", 100.3, 0.5, 2),
    ]
    (coinbase,) = [entry for entry in trades if entry["exchange"] == "coinbase"]
    assert (coinbase["id"], coinbase["side"], coinbase["sent"]) == ("71", "buy", [[3, 2]])
    assert coinbase["ts_ns"] == 1_618_677_817_121_358_000


def test_the_truth_of_every_binance_book_is_what_a_client_builds(make: Callable[..., Stage]) -> None:
    stage = make(start="on-command")
    connection = stage.binance(DEPTH)
    follower = Follower()
    follower.join(binance_rest.answer(stage.exchange.by_id["binance"], "depth", {"symbol": "BTCUSDT"}, 0)[1])
    stage.exchange.start()
    stage.play()
    books = {}
    for message in received(connection):
        data = json.loads(message)["data"]
        follower.take(data)
        books[data["u"]] = follower.top()
    truth = [entry for entry in truth_lines(stage.truth)["book"] if entry["exchange"] == "binance"]
    assert [entry["u"] for entry in truth] == [12, 13, 17]
    for entry in truth:
        assert [entry["bids"], entry["asks"]] == list(books[entry["u"]])
        assert entry["sockets"] == 1


def test_the_truth_of_every_coinbase_book_is_keyed_by_connection_and_sequence(
    make: Callable[..., Stage],
) -> None:
    stage = make(start="on-command")
    connection = stage.coinbase("heartbeats", "level2")
    stage.exchange.start()
    stage.play()
    follower = Follower()
    tops = {}
    for message in map(json.loads, received(connection)):
        for event in message["events"]:
            for update in event.get("updates", []):
                side = "b" if update["side"] == "bid" else "a"
                follower.set(side, float(update["price_level"]), float(update["new_quantity"]))
            if message["channel"] == "l2_data":
                tops[connection.number, message["sequence_num"]] = follower.top()
    found = truth_lines(stage.truth)
    entries = found["snapshot"] + [e for e in found["book"] if e["exchange"] == "coinbase"]
    assert {tuple(e["sent"][0]): (e["bids"], e["asks"]) for e in entries} == tops
    assert len(tops) == 3


def test_what_nobody_heard_is_in_the_truth_with_no_socket(make: Callable[..., Stage]) -> None:
    stage = make(start="immediately")
    stage.play()
    found = truth_lines(stage.truth)
    assert {entry["sockets"] for entry in found["trade"] + found["book"]} == {0}


def test_the_status_counts_what_was_played(make: Callable[..., Stage]) -> None:
    stage = make(start="immediately")
    stage.binance(TRADES)
    stage.play()
    status = stage.exchange.status()
    assert status["state"] == "ended"
    assert status["sent"] == {"trades": 3, "books": 6, "quotes": 2}
    assert status["clients"] == 1
    assert status["connections"][0]["topics"] == [TRADES]


def test_skipping_begins_later_with_the_book_of_then(make: Callable[..., Stage], tmp_path: Path) -> None:
    stage = make(
        skip_s=1.0,
        start="on-command",
        recordings=(f"{write(tmp_path / 'b', binance_lines())}:BTC/USDT",),
    )
    connection = stage.binance(DEPTH, TRADES)
    body = binance_rest.answer(stage.exchange.by_id["binance"], "depth", {"symbol": "BTCUSDT"}, 0)[1]
    assert json.loads(body)["lastUpdateId"] == 13
    stage.exchange.start()
    stage.play()
    streams = [json.loads(message)["stream"] for message in received(connection)]
    assert streams == [TRADES, DEPTH]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"recordings": ()}, "cannot simulate nothing"),
        ({"speed": 0}, "speed 0 is not above 0"),
        ({"rate": -1}, "rate -1 per second"),
        ({"skip_s": float("nan")}, "skip nan s"),
        ({"port": 70_000}, "port 70000"),
        ({"start": "later"}, "start 'later' is not one of"),
        ({"symbols": ("btc",)}, "BASE/QUOTE"),
        ({"symbols": ("kraken:BTC/USD",)}, "cannot simulate the exchange 'kraken'"),
        ({"symbols": ("binance:BTC/USDT",)}, "BTC/USDT of binance twice"),
        ({"truth": "/nowhere/truth"}, "cannot write the truth log /nowhere/truth"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(
    make: Callable[..., Stage], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        make(**more)
    assert words in str(error.value)


def test_every_fault_of_the_settings_is_told_at_once(make: Callable[..., Stage]) -> None:
    with pytest.raises(ConfigError) as error:
        make(speed=-1, rate=0, port=-1)
    assert len(error.value.faults) == 3
