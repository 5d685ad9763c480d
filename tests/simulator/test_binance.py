"""Binance's dialect: requests, the two forms of a message, byte-for-byte bodies, REST."""

import json
from pathlib import Path
from typing import Any

import pytest

from daedalus.simulator import binance_rest
from daedalus.simulator.binance import Binance
from daedalus.simulator.binance_tape import BinanceTape
from daedalus.simulator.hub import QUEUE_MESSAGES, Connection, Hub
from daedalus.simulator.market import Market
from daedalus.simulator.recording import align
from tests.simulator.makings import Follower, binance_lines, received, write


class Stage:
    """A hub, the dialect, and one small recorded market."""

    def __init__(self, tmp_path: Path) -> None:
        self.hub = Hub()
        self.dialect = Binance(self.hub)
        self.tape = BinanceTape("BTC/USDT", [write(tmp_path / "a", binance_lines())])
        align([self.tape], loop=False)
        self.market = Market(self.tape)

    def connect(self, *streams: str, combined: bool = False) -> Connection:
        connection = self.hub.connect("binance", combined=combined)
        if streams:
            self.ask(connection, method="SUBSCRIBE", params=list(streams), id=1)
            assert received(connection) == [b'{"result":null,"id":1}']
        return connection

    def ask(self, connection: Connection, **request: Any) -> None:
        self.dialect.request(connection, json.dumps(request))

    def play(self) -> None:
        for event in self.tape.events():
            self.dialect.emit(self.market, self.market.apply(event))

    def rest(self, path: str, **query: str) -> tuple[int, Any]:
        status, body = binance_rest.answer(
            {self.market.id: self.market}, path, query, 1_700_000_000_123_000_000
        )
        return status, json.loads(body)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def _recorded(kind: str) -> list[str]:
    return [line.partition(" ")[2] for line in binance_lines() if f"@{kind}" in line]


@pytest.mark.parametrize("kind", ["depth@100ms", "trade", "bookTicker"])
def test_raw_and_combined_forms_are_the_recorded_bytes(stage: Stage, kind: str) -> None:
    raw, combined = stage.connect(f"btcusdt@{kind}"), stage.connect(f"btcusdt@{kind}", combined=True)
    stage.play()
    recorded = _recorded(kind)
    assert [message.decode() for message in received(combined)] == recorded
    inner = [line.partition('"data":')[2][:-1] for line in recorded]
    assert [message.decode() for message in received(raw)] == inner


def test_only_what_is_subscribed_is_sent(stage: Stage) -> None:
    connection = stage.connect("btcusdt@trade", "ethusdt@trade")
    stage.ask(connection, method="LIST_SUBSCRIPTIONS", id=2)
    assert json.loads(received(connection)[0]) == {"result": ["btcusdt@trade", "ethusdt@trade"], "id": 2}
    stage.ask(connection, method="UNSUBSCRIBE", params=["btcusdt@trade"], id=3)
    assert received(connection) == [b'{"result":null,"id":3}']
    stage.play()
    assert received(connection) == []


def test_emit_counts_who_was_told(stage: Stage) -> None:
    connection = stage.connect("btcusdt@trade")
    sent = [stage.dialect.emit(stage.market, event) for event in stage.tape.events()]
    assert sum(map(len, sent)) == 2
    stage.hub.disconnect(connection)
    assert not list(stage.hub.topics())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", 3),
        ("[1]", 2),
        ('{"method":"JUMP","id":4}', 2),
        ('{"method":"SUBSCRIBE","params":["nonsense"],"id":4}', 2),
        ('{"method":"SUBSCRIBE","params":"btcusdt@trade","id":4}', 2),
        ('{"method":"SUBSCRIBE","params":[7],"id":4}', 2),
    ],
)
def test_a_bad_request_gets_an_error_and_the_connection_goes_on(stage: Stage, text: str, code: int) -> None:
    connection = stage.connect()
    stage.dialect.request(connection, text)
    answer = json.loads(received(connection)[0])
    assert answer["error"]["code"] == code
    stage.ask(connection, method="LIST_SUBSCRIPTIONS", id=5)
    assert json.loads(received(connection)[0])["id"] == 5


def test_the_form_can_be_asked_for(stage: Stage) -> None:
    connection = stage.connect()
    stage.ask(connection, method="SET_PROPERTY", params=["combined", True], id=1)
    stage.ask(connection, method="GET_PROPERTY", params=["combined"], id=2)
    assert [json.loads(message)["result"] for message in received(connection)] == [None, True]


def test_the_second_stream_folds_the_updates_of_a_second(stage: Stage) -> None:
    slow = stage.connect("btcusdt@depth", "btcusdt@depth@1000ms", combined=True)
    fast = stage.connect("btcusdt@depth@100ms")
    follower, folded = Follower(), Follower()
    follower.join(binance_rest.answer({"BTCUSDT": stage.market}, "depth", {"symbol": "BTCUSDT"}, 0)[1])
    folded.join(binance_rest.answer({"BTCUSDT": stage.market}, "depth", {"symbol": "BTCUSDT"}, 0)[1])
    stage.play()
    stage.dialect.second(stage.market)
    for message in received(fast):
        follower.take(json.loads(message))
    messages = [json.loads(message) for message in received(slow)]
    assert [message["stream"] for message in messages] == ["btcusdt@depth", "btcusdt@depth@1000ms"]
    folded.take(messages[0]["data"])
    assert folded.top() == follower.top()
    assert (messages[0]["data"]["U"], messages[0]["data"]["u"]) == (8, 17)
    stage.dialect.second(stage.market)
    assert not [m for m in received(slow) if b"depth" in m], "nothing changed, nothing is said"


def test_tickers_summarise_the_trades_and_are_silent_without(stage: Stage) -> None:
    connection = stage.connect("btcusdt@ticker", "btcusdt@miniTicker")
    stage.dialect.second(stage.market)
    assert received(connection) == []
    stage.play()
    stage.dialect.second(stage.market)
    full, mini = (json.loads(message) for message in received(connection))
    assert (full["e"], full["o"], full["c"], full["n"], full["v"]) == (
        "24hrTicker",
        "100.10",
        "100.30",
        2,
        "1.00000000",
    )
    assert (full["b"], full["a"]) == ("100.15", "100.30")
    assert (mini["e"], mini["h"], mini["l"]) == ("24hrMiniTicker", "100.30", "100.10")


def test_a_client_may_join_at_any_event(tmp_path: Path) -> None:
    for moment in range(len(binance_lines())):
        folder = tmp_path / str(moment)
        folder.mkdir()
        stage = Stage(folder)
        connection = stage.connect("btcusdt@depth@100ms")
        follower = Follower()
        for number, event in enumerate(stage.tape.events()):
            if number == moment:
                follower.join(json.dumps(stage.rest("depth", symbol="BTCUSDT")[1]).encode())
            stage.dialect.emit(stage.market, stage.market.apply(event))
        if follower.last == 0:
            follower.join(json.dumps(stage.rest("depth", symbol="BTCUSDT")[1]).encode())
        for message in received(connection):
            follower.take(json.loads(message))
        book = stage.market.book
        assert follower.last == 17
        assert follower.top() == (
            [[float(p), float(s)] for p, s in book.bids(20)],
            [[float(p), float(s)] for p, s in book.asks(20)],
        )


def test_rest_answers(stage: Stage) -> None:
    assert stage.rest("ping") == (200, {})
    assert stage.rest("time") == (200, {"serverTime": 1_700_000_000_123})
    stage.play()
    status, book = stage.rest("depth", symbol="BTCUSDT", limit="1")
    assert (status, book) == (
        200,
        {"lastUpdateId": 17, "bids": [["100.15", "4.0"]], "asks": [["100.30", "3.5"]]},
    )
    assert [trade["id"] for trade in stage.rest("trades", symbol="BTCUSDT")[1]] == [500, 501]
    assert [trade["id"] for trade in stage.rest("historicalTrades", symbol="BTCUSDT", fromId="501")[1]] == [
        501
    ]
    assert [trade["isBuyerMaker"] for trade in stage.rest("trades", symbol="BTCUSDT")[1]] == [True, False]
    assert stage.rest("ticker/24hr", symbol="BTCUSDT")[1]["lastPrice"] == "100.30"
    assert stage.rest("ticker/bookTicker", symbol="BTCUSDT")[1]["bidPrice"] == "100.15"
    listing = stage.rest("exchangeInfo")[1]["symbols"][0]
    assert (listing["symbol"], listing["baseAsset"], listing["status"]) == ("BTCUSDT", "BTC", "TRADING")


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("depth", {}, 400, -1121),
        ("depth", {"symbol": "NOPE"}, 400, -1121),
        ("exchangeInfo", {"symbol": "NOPE"}, 400, -1121),
        ("depth", {"symbol": "BTCUSDT", "limit": "-1"}, 400, -1100),
        ("depth", {"symbol": "BTCUSDT", "limit": "0"}, 400, -1100),
        ("klines", {"symbol": "BTCUSDT"}, 404, -1),
    ],
)
def test_bad_rest_requests_are_refused(
    stage: Stage, path: str, query: dict[str, str], status: int, code: int
) -> None:
    answer = stage.rest(path, **query)
    assert (answer[0], answer[1]["code"]) == (status, code)


def test_a_full_queue_ends_the_connection_and_takes_no_more(stage: Stage) -> None:
    connection = stage.connect()
    for _ in range(QUEUE_MESSAGES):
        connection.push(b"x")
    assert connection.backlog() == 1.0
    assert not connection.overflowed
    connection.push(b"x")
    assert connection.overflowed
    assert len(received(connection)) == QUEUE_MESSAGES
