"""Faults of messages, connections and markets: what the client gets, and what the truth log says of it."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from daedalus.simulator import binance_rest
from daedalus.simulator.hub import Connection, Odd
from tests.simulator.makings import Follower, received, truth_lines
from tests.simulator.stage import DEPTH, TRADES, Stage

MODEL: dict[str, Any] = {"recordings": (), "symbols": ("BTC/USDT", "ETH/USDT"), "rate": 100}
CALM, ROUGH = 1.0, 1.0  # seconds of playback


@pytest.fixture
def stage(make: Callable[..., Stage]) -> Stage:
    return make(**MODEL)


def _advanced(stage: Stage, *channels: str, product: str = "BTC-USDT") -> Connection:
    connection = stage.exchange.hub.connect("coinbase")
    for channel in channels:
        request = {"type": "subscribe", "channel": channel, "product_ids": [product]}
        stage.exchange.coinbase.request(connection, json.dumps(request))
    return connection


def _bodies(messages: Iterable[Any]) -> list[dict[str, Any]]:
    return [json.loads(message) for message in messages]


def _ids(messages: Iterable[Any]) -> list[int]:
    return [body["data"]["t"] for body in _bodies(messages) if body["stream"].endswith("@trade")]


def _fates(stage: Stage, kind: str, exchange: str) -> dict[str, str]:
    """Return trade id or update id -> fate, of what was not simply sent."""
    stage.exchange.truth.flush()
    found = {}
    for entry in truth_lines(stage.truth)[kind]:
        if entry["exchange"] == exchange and "fates" in entry:
            (found[entry.get("id", entry.get("u"))],) = entry["fates"].values()
    return found


def test_a_gap_loses_messages_and_the_truth_marks_them(stage: Stage) -> None:
    connection = stage.binance(TRADES)
    stage.play(CALM)
    before = _ids(received(connection))
    assert stage.order("gap", exchange="binance", stream="trades", count=3) == [connection.number]
    stage.play(ROUGH)
    after = _ids(received(connection))
    assert after[0] == before[-1] + 4
    lost = _fates(stage, "trade", "binance")
    assert lost == dict.fromkeys(map(str, range(before[-1] + 1, before[-1] + 4)), "lost")
    entries = {
        entry["id"]: entry for entry in truth_lines(stage.truth)["trade"] if entry["exchange"] == "binance"
    }
    assert {entries[number]["sockets"] for number in lost} == {0}


def test_a_gap_of_coinbase_is_a_hole_in_its_numbers(stage: Stage) -> None:
    connection = _advanced(stage, "level2", "market_trades")
    stage.play(CALM)
    last = _bodies(received(connection))[-1]["sequence_num"]
    stage.order("gap", exchange="coinbase", count=4)
    stage.play(ROUGH)
    assert _bodies(received(connection))[0]["sequence_num"] == last + 5


def test_a_gap_of_depth_is_a_hole_in_its_update_ids(stage: Stage) -> None:
    connection = stage.binance(DEPTH)
    stage.play(CALM)
    last = _bodies(received(connection))[-1]["data"]["u"]
    stage.order("gap", stream="orderbook", symbol="BTC/USDT", count=1)
    stage.play(ROUGH)
    assert _bodies(received(connection))[0]["data"]["U"] > last + 1


def test_a_duplicate_comes_twice_under_its_own_number(stage: Stage) -> None:
    spot, advanced = stage.binance(TRADES, DEPTH), _advanced(stage, "market_trades")
    received(advanced)
    stage.order("duplicate", count=2)
    stage.play(CALM)
    ids = _ids(received(spot))
    assert ids[:4] == [ids[0], ids[0], ids[2], ids[2]]
    assert len(set(ids[3:])) == len(ids[3:])
    first, second, *_ = _bodies(received(advanced))
    assert first["events"] == second["events"]
    assert second["sequence_num"] == first["sequence_num"] + 1
    assert list(_fates(stage, "trade", "binance").values()) == ["twice"] * 2


def test_a_reordered_message_comes_after_the_next_of_its_stream(stage: Stage) -> None:
    connection = stage.binance(TRADES, DEPTH)
    stage.order("reorder", stream="trades", count=1)
    stage.play(CALM)
    ids = _ids(received(connection))
    assert ids[0] == ids[1] + 1
    assert ids[2:] == sorted(ids[2:])
    assert _fates(stage, "trade", "binance") == {str(ids[1]): "late"}


@pytest.mark.parametrize("how", ["json", "binary", "utf8", "shape"])
def test_garbage_stands_in_the_place_of_a_message(stage: Stage, how: str) -> None:
    connection = stage.binance(TRADES)
    stage.order("garbage", exchange="binance", how=how)
    stage.play(CALM)
    odd, *rest = received(connection)
    if how == "binary":
        assert isinstance(odd, Odd)
        assert not odd.raw
    elif how == "shape":
        assert "stream" not in json.loads(odd)
    else:
        with pytest.raises(ValueError, match=r"."):
            json.loads(odd)
    assert _fates(stage, "trade", "binance") == {str(_ids(rest)[0] - 1): "garbled"}


def test_after_an_oversize_frame_everything_is_its_payload(stage: Stage) -> None:
    connection = stage.binance(TRADES)
    stage.order("oversize", size=1 << 40)
    stage.play(CALM)
    head, *rest = received(connection)
    assert isinstance(head, Odd)
    assert (head.raw, head.data) == (True, b"\x81\x7f" + (1 << 40).to_bytes(8, "big"))
    assert rest
    assert set(_fates(stage, "trade", "binance").values()) == {"garbled"}


def test_silence_withholds_everything_and_then_it_comes(stage: Stage) -> None:
    connection = _advanced(stage, "level2")
    received(connection)
    stage.order("silence", exchange="coinbase", for_s=7)
    stage.play(ROUGH)
    assert received(connection) == []
    assert connection.unsent() > 10
    assert [delay for delay, _ in stage.effects.timers] == [7]
    stage.effects.ring()
    numbers = [body["sequence_num"] for body in _bodies(received(connection))]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_freeze_is_deaf_as_well_and_two_freezes_end_with_the_later(stage: Stage) -> None:
    connection = stage.binance(TRADES)
    stage.order("freeze", for_s=1)
    stage.order("freeze", for_s=2)
    assert stage.effects.asked == [("deafen", connection.number, True)] * 2
    stage.play(CALM)
    (_, first), (_, second) = stage.effects.timers
    first()
    assert received(connection) == []
    second()
    assert received(connection)
    assert stage.effects.asked[2:] == [("deafen", connection.number, False)] * 2


def test_one_stream_falls_silent_and_the_others_go_on(stage: Stage) -> None:
    connection = _advanced(stage, "level2", "market_trades")
    received(connection)
    stage.order("stream_silence", exchange="coinbase", stream="trades", for_s=5)
    stage.play(ROUGH)
    bodies = _bodies(received(connection))
    assert {body["channel"] for body in bodies} == {"l2_data"}
    numbers = [body["sequence_num"] for body in bodies]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "nothing was numbered and not sent"
    stage.effects.ring()
    late = _bodies(received(connection))
    assert {body["channel"] for body in late} == {"market_trades"}
    assert late[0]["sequence_num"] == numbers[-1] + 1
    stage.exchange.truth.flush()
    released = truth_lines(stage.truth)["released"]
    told = [str(trade["trade_id"]) for body in late for trade in reversed(body["events"][0]["trades"])]
    assert [number for entry in released for number in entry["ids"]] == told
    assert [entry["sequence"] for entry in released] == [body["sequence_num"] for body in late]


def test_what_a_silent_stream_held_is_lost_when_its_client_leaves(stage: Stage) -> None:
    connection = stage.binance(TRADES)
    stage.order("stream_silence", stream="trades", for_s=5)
    stage.play(ROUGH)
    stage.exchange.hub.disconnect(connection)
    stage.effects.ring()
    stage.exchange.truth.flush()
    lines = truth_lines(stage.truth)
    assert not lines["released"]
    assert "held" in _fates(stage, "trade", "binance").values()


def test_a_fault_befalls_who_is_connected_and_spares_who_comes(stage: Stage) -> None:
    old = stage.binance(TRADES)
    stage.order("gap", exchange="binance", count=100)
    new = stage.binance(TRADES)
    stage.play(CALM)
    assert received(old) == []
    assert received(new)


def test_a_pick_befalls_one_connection(stage: Stage) -> None:
    connections = [stage.binance(TRADES) for _ in range(3)]
    assert stage.order("abort", pick=4) == [connections[1].number]
    assert stage.effects.asked == [("abort", connections[1].number)]


def test_a_symbol_befalls_those_who_listen_to_it(stage: Stage) -> None:
    btc, eth = stage.binance(TRADES), stage.binance("ethusdt@trade")
    assert stage.order("close", symbol="ETH/USDT", exchange="binance", code=1012) == [eth.number]
    assert stage.effects.asked == [("close", eth.number, 1012)]
    assert btc.topics


@pytest.mark.parametrize(("ticks", "count"), [(3, 1), (1, 4), (0, 2)])
def test_a_crossed_book_is_crossed_for_everybody_and_heals(stage: Stage, ticks: int, count: int) -> None:
    connection = stage.binance(DEPTH)
    markets = stage.exchange.by_id["binance"]
    follower = Follower()
    follower.join(binance_rest.answer(markets, "depth", {"symbol": "BTCUSDT", "limit": "5000"}, 0)[1])
    stage.play(CALM)
    stage.order("crossed", symbol="BTC/USDT", exchange="binance", ticks=ticks, count=count)
    stage.play(ROUGH)
    stage.exchange.truth.flush()
    books = [
        e for e in truth_lines(stage.truth)["book"] if (e["exchange"], e["symbol"]) == ("binance", "BTC/USDT")
    ]
    told = {entry["u"]: (entry["bids"], entry["asks"]) for entry in books}
    crossed = []
    for body in _bodies(received(connection)):
        follower.take(body["data"])
        bids, asks = follower.top()
        assert (bids, asks) == told[body["data"]["u"]]
        crossed.append(bids[0][0] >= asks[0][0])
    assert 1 <= sum(crossed) <= count
    first = crossed.index(True)
    assert not any(crossed[first + count :])


def test_a_stale_snapshot_is_the_book_of_the_order(stage: Stage) -> None:
    def asked() -> int:
        answer = binance_rest.answer(
            stage.exchange.faults.books("binance"), "depth", {"symbol": "BTCUSDT"}, 0
        )
        return int(json.loads(answer[1])["lastUpdateId"])

    stage.play(CALM)
    then = asked()
    stage.order("stale_snapshot", exchange="binance", symbol="BTC/USDT", for_s=5)
    stage.play(ROUGH)
    assert asked() == then
    stage.play(5)
    assert asked() == stage.exchange.by_id["binance"]["BTCUSDT"].book.last_id > then


@pytest.mark.parametrize("exchange", ["binance", "coinbase"])
def test_a_subscription_is_refused_as_often_as_ordered(stage: Stage, exchange: str) -> None:
    stage.order("subscribe_error", exchange=exchange, count=2)
    connection = stage.exchange.hub.connect(exchange)
    requests = {
        "binance": {"method": "SUBSCRIBE", "params": [TRADES], "id": 1},
        "coinbase": {"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USDT"]},
    }
    dialect = stage.exchange.binance if exchange == "binance" else stage.exchange.coinbase
    answers = []
    for _ in range(3):
        dialect.request(connection, json.dumps(requests[exchange]))
        answers.append(_bodies(received(connection)))
    assert [any("error" in (*body, body.get("type")) for body in answer) for answer in answers] == [
        True,
        True,
        False,
    ]
    assert len(connection.topics) == 1


def test_the_truth_notes_orders_and_whom_they_befell(stage: Stage) -> None:
    connection = stage.binance(TRADES)
    stage.order("freeze", exchange="binance", for_s=2)
    stage.exchange.truth.flush()
    (entry,) = truth_lines(stage.truth)["fault"]
    assert entry["order"] == {"fault": "freeze", "exchange": "binance", "for_s": 2.0}
    assert entry["connections"] == [connection.number]
    status = stage.exchange.status()["faults"]
    assert (status["ordered"], status["withheld"]) == ({"freeze": 1}, 1)


def test_a_pause_holds_the_playback_and_loses_nothing(stage: Stage) -> None:
    connection = stage.binance(TRADES)
    stage.play(CALM)
    before = _ids(received(connection))
    stage.exchange.pause()
    stage.play(30)
    assert received(connection) == []
    stage.exchange.start()
    stage.play(CALM)
    assert _ids(received(connection))[0] == before[-1] + 1
