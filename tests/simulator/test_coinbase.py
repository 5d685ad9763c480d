"""Coinbase's dialect: every message is numbered, snapshots come first, sides are the maker's."""

import json
from pathlib import Path
from typing import Any

import pytest

from daedalus.simulator import coinbase_rest
from daedalus.simulator.coinbase import Coinbase, format_time
from daedalus.simulator.coinbase_tape import CoinbaseTape, parse_time
from daedalus.simulator.hub import Hub, Sent
from daedalus.simulator.market import Market, Trade, Trades
from daedalus.simulator.recording import align
from tests.simulator.makings import coinbase_lines, received, write

NOW = 1_700_000_000_123_456_000


class Stage:
    """A hub, the dialect, and one small recorded product."""

    def __init__(self, tmp_path: Path) -> None:
        self.hub = Hub()
        self.tape = CoinbaseTape("SKL/USD", [write(tmp_path / "c", coinbase_lines())])
        align([self.tape], loop=False)
        self.market = Market(self.tape)
        self.opened: list[tuple[int, int, str]] = []
        self.dialect = Coinbase(self.hub, {"SKL-USD": self.market}, lambda: NOW, self._note)
        self.connection = self.hub.connect("coinbase")

    def _note(self, _: Market, channel: str, sent: Sent) -> None:
        self.opened.append((sent.connection, sent.sequence, channel))

    def ask(self, channel: str, *products: str, kind: str = "subscribe") -> list[dict[str, Any]]:
        self.dialect.request(
            self.connection, json.dumps({"type": kind, "product_ids": products, "channel": channel})
        )
        return self.heard()

    def heard(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in received(self.connection)]

    def play(self) -> list[list[tuple[int, int | None]]]:
        told = [self.dialect.emit(self.market, self.market.apply(event)) for event in self.tape.events()]
        return [[(sent.connection, sent.sequence) for sent in each] for each in told]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_level2_begins_with_the_whole_book_and_is_acknowledged(stage: Stage) -> None:
    book, ack = stage.ask("level2", "SKL-USD")
    assert (book["channel"], book["sequence_num"]) == ("l2_data", 0)
    event = book["events"][0]
    assert (event["type"], event["product_id"]) == ("snapshot", "SKL-USD")
    assert [(u["side"], u["price_level"], u["new_quantity"]) for u in event["updates"]] == [
        ("bid", "0.7910", "450.0"),
        ("offer", "0.7912", "5.0"),
    ]
    assert (ack["channel"], ack["sequence_num"]) == ("subscriptions", 1)
    assert ack["events"] == [{"subscriptions": {"level2": ["SKL-USD"]}}]
    assert stage.opened == [(1, 0, "level2")]


def test_market_trades_begin_with_the_trades_before(stage: Stage) -> None:
    first, _ = stage.ask("market_trades", "SKL-USD")
    assert first["events"][0]["type"] == "snapshot"
    assert [(t["trade_id"], t["side"]) for t in first["events"][0]["trades"]] == [("70", "SELL")]


def test_every_message_of_a_connection_is_numbered(stage: Stage) -> None:
    messages = stage.ask("heartbeats") + stage.ask("level2", "SKL-USD") + stage.ask("market_trades")
    messages += stage.ask("ticker", "SKL-USD")
    stage.dialect.beat()
    stage.play()
    stage.dialect.beat()
    messages += stage.heard()
    assert [message["sequence_num"] for message in messages] == list(range(len(messages)))
    channels = {message["channel"] for message in messages}
    assert channels == {"l2_data", "market_trades", "ticker", "heartbeats", "subscriptions"}


def test_emit_returns_the_numbers_it_sent(stage: Stage) -> None:
    stage.ask("level2", "SKL-USD")
    other = stage.hub.connect("coinbase")
    stage.dialect.request(other, '{"type":"subscribe","channel":"level2","product_ids":["SKL-USD"]}')
    received(other)
    sent = stage.play()
    assert sent == [[(1, 2), (2, 2)], [], [(1, 3), (2, 3)]]
    assert [json.loads(message)["sequence_num"] for message in received(other)] == [2, 3]


def test_updates_and_trades_in_the_exchange_s_words(stage: Stage) -> None:
    stage.ask("level2", "SKL-USD")
    stage.ask("market_trades", "SKL-USD")
    stage.play()
    removal, trade, change = stage.heard()
    assert removal["timestamp"] == "2021-04-17T16:43:37.078627Z"
    update = removal["events"][0]["updates"][0]
    assert update == {
        "side": "offer",
        "event_time": "2021-04-17T16:43:37.078627Z",
        "price_level": "0.7912",
        "new_quantity": "0.0",
    }
    assert trade["events"][0]["trades"] == [
        {
            "trade_id": "71",
            "product_id": "SKL-USD",
            "price": "0.791",
            "size": "450",
            "side": "SELL",
            "time": "2021-04-17T16:43:37.121358Z",
        }
    ]
    assert [u["side"] for u in change["events"][0]["updates"]] == ["bid", "offer"]


def test_trades_of_one_moment_come_newest_first(stage: Stage) -> None:
    stage.ask("market_trades", "SKL-USD")
    pair = [Trade(number, "1", "2", "buy", NOW) for number in (1, 2)]
    stage.dialect.emit(stage.market, stage.market.apply(Trades(0, NOW, pair)))
    assert [t["trade_id"] for t in stage.heard()[0]["events"][0]["trades"]] == ["2", "1"]


def test_tickers_tell_the_last_price_and_the_best(stage: Stage) -> None:
    first, _ = stage.ask("ticker", "SKL-USD")
    assert first["events"][0]["tickers"][0]["price"] == "0.791"
    stage.play()
    (update,) = stage.heard()
    ticker = update["events"][0]["tickers"][0]
    assert (update["events"][0]["type"], ticker["price"], ticker["best_bid"]) == ("update", "0.791", "0.7910")


def test_unsubscribing_ends_a_channel_and_is_acknowledged(stage: Stage) -> None:
    stage.ask("level2", "SKL-USD")
    (ack,) = stage.ask("level2", "SKL-USD", kind="unsubscribe")
    assert ack["events"] == [{"subscriptions": {}}]
    stage.play()
    assert stage.heard() == []


def test_subscribing_again_gives_the_book_again(stage: Stage) -> None:
    stage.ask("level2", "SKL-USD")
    stage.play()
    stage.heard()
    again, _ = stage.ask("level2", "SKL-USD")
    assert {u["price_level"] for u in again["events"][0]["updates"]} == {"0.7910", "0.7909", "0.7913"}


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"type":"login"}',
        '{"type":"subscribe","channel":"candles","product_ids":["SKL-USD"]}',
        '{"type":"subscribe","channel":"level2","product_ids":["NO-PE"]}',
    ],
)
def test_a_bad_request_gets_an_error(stage: Stage, text: str) -> None:
    stage.dialect.request(stage.connection, text)
    (answer,) = stage.heard()
    assert answer["type"] == "error"
    assert answer["message"]
    assert not list(stage.hub.topics())


def test_times_go_to_text_and_back() -> None:
    for ns in (0, 1_700_000_000_000_001_000, 1_618_677_817_121_358_000, NOW):
        assert parse_time(format_time(ns)) == ns


def _rest(stage: Stage, path: str, **query: str) -> tuple[int, Any]:
    status, body = coinbase_rest.answer({"SKL-USD": stage.market}, path, query, NOW)
    return status, json.loads(body)


def test_rest_answers(stage: Stage) -> None:
    stage.play()
    assert _rest(stage, "time")[1]["epochSeconds"] == "1700000000"
    (product,) = _rest(stage, "market/products")[1]["products"]
    assert (product["product_id"], product["base_currency_id"]) == ("SKL-USD", "SKL")
    assert _rest(stage, "market/products/SKL-USD")[1]["product_id"] == "SKL-USD"
    trades = _rest(stage, "market/products/SKL-USD/ticker", limit="5")[1]["trades"]
    assert [(trade["trade_id"], trade["side"]) for trade in trades] == [("71", "SELL"), ("70", "SELL")]
    later = _rest(stage, "market/products/SKL-USD/ticker", start="1618677817")[1]["trades"]
    assert [trade["trade_id"] for trade in later] == ["71"]
    book = _rest(stage, "market/product_book", product_id="SKL-USD", limit="1")[1]["pricebook"]
    assert book["asks"] == [{"price": "0.7913", "size": "7.5"}]
    for path in ("market/products/NO-PE", "market/product_book", "market/products/SKL-USD/candles"):
        assert _rest(stage, path)[0] == 404
