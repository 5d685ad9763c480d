"""Coinbase over its whole recording: the full book from `depth` at every update, every trade, every hole."""

import json
from pathlib import Path
from typing import Any

import pytest

from daedalus.exchanges.adapter import Ask, BookFact, Control, DepthFact, Fault, Send, Stream, TradeFact
from daedalus.exchanges.coinbase import CoinbaseAdapter
from daedalus.records import Flag, unpack_side
from tests.exchanges.coinbase_old import Truth, products, put, recording
from tests.exchanges.test_coinbase import SNAPSHOT, book, message, opened, trade


def all_of(names: list[str]) -> CoinbaseAdapter:
    symbols = [name.replace("-", "/") for name in names]
    adapter = CoinbaseAdapter(dict.fromkeys(("depth", "orderbook", "trades"), symbols))
    adapter.subscribe()
    return adapter


def test_the_full_book_from_depth_is_the_truth_at_every_update(recordings: Path) -> None:
    names = products(recordings)
    adapter = all_of(names)
    truths = {name: Truth() for name in names}
    rebuilt = {name: Truth() for name in names}
    checked = 0
    for old, raw in recording(recordings):
        items = adapter.feed(raw)
        assert not any(isinstance(item, Fault) for item in items)
        if old["type"] not in ("snapshot", "l2update"):
            continue
        name = old["product_id"]
        truths[name].take(old)
        depth, top = items
        assert isinstance(depth, DepthFact)
        assert isinstance(top, BookFact)
        assert (depth.exch_seq, depth.first_exch_seq, depth.nonce) == (top.exch_seq, None, None)
        mine = rebuilt[name]
        if depth.kind == "snapshot":
            mine.bids, mine.asks = dict(unpack_side(depth.bids)), dict(unpack_side(depth.asks))
            assert list(mine.bids) == sorted(mine.bids, reverse=True)
            assert list(mine.asks) == sorted(mine.asks)
            assert depth.flags == Flag.SNAPSHOT | Flag.COMPLETE
        else:
            for side, levels in ((mine.bids, depth.bids), (mine.asks, depth.asks)):
                for price, size in unpack_side(levels):
                    put(side, price, size)
        assert mine.bids == truths[name].bids
        assert mine.asks == truths[name].asks
        checked += 1
        if checked % 25 == 0:
            assert unpack_side(top.bids) == sorted(mine.bids.items(), reverse=True)[:50]
            assert unpack_side(top.asks) == sorted(mine.asks.items())[:50]
    assert checked > 4000
    wholes = {whole.symbol: whole for whole in adapter.snapshots()}
    assert len(wholes) == len(names)
    for name in names:
        whole = wholes[name.replace("-", "/")]
        assert dict(unpack_side(whole.bids)) == truths[name].bids
        assert dict(unpack_side(whole.asks)) == truths[name].asks


def test_d09_every_recorded_trade_is_the_takers_and_no_id_is_missing(recordings: Path) -> None:
    names = products(recordings)
    adapter = all_of(names)
    live: dict[str, list[int]] = {}
    for old, raw in recording(recordings):
        if old["type"] not in ("match", "last_match"):
            adapter.feed(raw)
            continue
        (fact,) = adapter.feed(raw)  # ids are contiguous: a fault would be a second item
        assert isinstance(fact, TradeFact)
        assert (fact.side_raw, fact.side) == (
            old["side"].upper(),
            {"buy": "sell", "sell": "buy"}[old["side"]],
        )
        assert fact.flags == (Flag.BACKFILLED if old["type"] == "last_match" else 0)
        live.setdefault(fact.symbol, []).append(int(fact.trade_id or 0))
    assert sum(map(len, live.values())) > 70
    for ids in live.values():
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_d05_a_lost_frame_is_noticed_wherever_it_is_lost(recordings: Path) -> None:
    names = products(recordings)
    frames = [raw for _, raw in recording(recordings)]
    for lost in range(10, len(frames) - 1, 500):
        adapter = all_of(names)
        for raw in frames[lost - 10 : lost]:
            adapter.feed(raw)
        (fault,) = adapter.feed(frames[lost + 1])
        assert isinstance(fault, Fault)
        assert (fault.reason, fault.local, fault.streams) == ("sequence", False, adapter.streams)
        assert adapter.feed(frames[lost + 2]) == []
        assert adapter.snapshots() == []


def test_one_subscription_serves_the_top_and_the_depth() -> None:
    adapter = CoinbaseAdapter({"depth": ["BTC/USD"], "orderbook": ["BTC/USD", "ETH/USD"]})
    sends = [item.data for item in adapter.subscribe() if isinstance(item, Send)]
    assert [raw for raw in sends if b"level2" in raw] == [
        b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD","ETH-USD"]}'
    ]
    adapter.feed(message("l2_data", 0, SNAPSHOT))
    assert [whole.symbol for whole in adapter.snapshots()] == ["BTC/USD"]
    depth, top = adapter.feed(
        message("l2_data", 1, book("update", ("bid", "100", "0"), ("offer", "100.5", "2")))
    )
    assert isinstance(depth, DepthFact)
    assert isinstance(top, BookFact)
    assert (depth.kind, unpack_side(depth.bids), unpack_side(depth.asks)) == (
        "update",
        [(100.0, 0.0)],
        [(100.5, 2.0)],
    )
    assert unpack_side(top.bids) == [(99.0, 2.0)]


def test_it_is_ready_when_everything_is_acknowledged_and_every_book_is_there() -> None:
    adapter = opened()
    assert not adapter.ready()
    subscribed = {"level2": ["BTC-USD"], "market_trades": ["BTC-USD"], "ticker": ["BTC-USD"]}
    adapter.feed(message("subscriptions", 0, {"subscriptions": subscribed}))
    assert not adapter.ready()
    adapter.feed(message("l2_data", 1, SNAPSHOT))
    assert adapter.ready()
    adapter.feed(message("heartbeats", 7))
    assert not adapter.ready()


def test_c05_d06_a_book_that_stays_crossed_is_subscribed_anew_and_harms_no_other() -> None:
    adapter = opened(channels={"orderbook": ["BTC/USD", "ETH/USD"]})
    adapter.feed(message("l2_data", 0, SNAPSHOT))
    adapter.feed(message("l2_data", 1, {**SNAPSHOT, "product_id": "ETH-USD"}))
    number, items = 2, adapter.feed(b'{"channel":"status","sequence_num":2}')
    while not items or not isinstance(items[0], Fault):
        number += 1
        items = adapter.feed(message("l2_data", number, book("update", ("bid", "102", str(number)))))
        assert number < 300
    fault, *sends = items
    assert isinstance(fault, Fault)
    assert (fault.local, fault.streams) == (True, (Stream("BTC/USD", "orderbook"),))
    assert [item.data for item in sends if isinstance(item, Send)] == [
        b'{"type":"unsubscribe","channel":"level2","product_ids":["BTC-USD"]}',
        b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD"]}',
    ]
    assert adapter.feed(message("l2_data", number + 1, book("update", ("bid", "90", "1")))) == []
    (other,) = adapter.feed(
        message("l2_data", number + 2, book("update", ("bid", "90", "1"), product="ETH-USD"))
    )
    assert isinstance(other, BookFact)
    (again,) = adapter.feed(message("l2_data", number + 3, SNAPSHOT))
    assert isinstance(again, BookFact)
    assert again.flags & Flag.RESYNC


def test_c05_a_book_that_is_crossed_again_and_again_has_one_resubscription_open() -> None:
    adapter = opened(channels={"orderbook": ["BTC/USD", "ETH/USD"]})
    items: list[object] = []
    number = -1
    for _ in range(4):
        number += 1
        items += adapter.feed(message("l2_data", number, SNAPSHOT))
        for _ in range(202):
            number += 1
            items += adapter.feed(message("l2_data", number, book("update", ("bid", "102", str(number)))))
    assert sum(isinstance(item, Fault) for item in items) == 4
    (first,) = [item for item in items if isinstance(item, Ask)]
    assert sum(isinstance(item, Send) for item in items) == 2
    assert len(adapter.answer(first.key, 200, b"")) == 2


@pytest.mark.parametrize("asked", [["BTC/USDC"], ["BTC/USD", "BTC/USDC"], ["BTC/USDC", "BTC/USD"]])
def test_c15_usdc_and_usd_are_two_streams_of_one_market(asked: list[str]) -> None:
    adapter = CoinbaseAdapter(dict.fromkeys(("orderbook", "trades"), asked))
    sends = [item.data for item in adapter.subscribe() if isinstance(item, Send)]
    told = b'["BTC-USDC"]' if asked == ["BTC/USDC"] else b'["BTC-USD"]'
    assert all(raw.endswith(b'"product_ids":' + told + b"}") for raw in sends[1:])
    books = adapter.feed(message("l2_data", 0, SNAPSHOT))  # it says BTC-USD, whatever was asked for
    assert [item.symbol for item in books if isinstance(item, BookFact)] == asked
    trades = adapter.feed(message("market_trades", 1, {"type": "update", "trades": [trade(5)]}))
    assert [item.symbol for item in trades if isinstance(item, TradeFact)] == asked
    adapter.feed(message("l2_data", 2, book("update", ("bid", "99", "0"))))
    books = adapter.feed(message("l2_data", 3, book("update", ("bid", "100", "7"))))
    assert [unpack_side(item.bids) for item in books if isinstance(item, BookFact)] == [[(100.0, 7.0)]] * len(
        asked
    )
    (ask,) = adapter.backfill("BTC/USDC", "4")
    assert isinstance(ask, Ask)
    assert "/BTC-USDC/" in ask.path


def test_c15_the_two_bases_with_a_usdc_market_of_their_own_are_left_alone() -> None:
    adapter = CoinbaseAdapter({"orderbook": ["USDT/USDC", "USDT/USD"]})
    assert b'["USDT-USDC","USDT-USD"]' in [i.data for i in adapter.subscribe() if isinstance(i, Send)][1]
    (fact,) = adapter.feed(message("l2_data", 0, {**SNAPSHOT, "product_id": "USDT-USD"}))
    assert isinstance(fact, BookFact)
    assert fact.symbol == "USDT/USD"


def subscriptions(items: list[Any]) -> list[tuple[str, list[str]]]:
    messages = [json.loads(item.data) for item in items if isinstance(item, Send)]
    return [(m["channel"], m["product_ids"]) for m in messages if "product_ids" in m]


def test_c05_a_product_that_is_refused_does_not_take_the_others_with_it() -> None:
    adapter = opened(channels={"orderbook": ["BTC/USD", "NOP/USD"], "trades": ["NOP/USD", "BTC/USD"]})
    error = b'{"type":"error","message":"NOP-USD is not a valid product"}'
    fault, later, *sends = adapter.feed(error)
    assert isinstance(fault, Fault)
    nop = (Stream("NOP/USD", "orderbook"), Stream("NOP/USD", "trades"))
    assert (fault.local, fault.fatal, set(fault.streams)) == (True, False, set(nop))
    assert isinstance(later, Ask)
    assert later.delay_s == 300
    good = [("level2", ["BTC-USD"]), ("market_trades", ["BTC-USD"])]
    assert subscriptions(sends) == good  # the whole message was refused: the others are asked for again
    assert adapter.feed(error) == [Control("heartbeat")]  # the other channel, for the same product
    adapter.feed(message("subscriptions", 0, {"subscriptions": dict(good)}))
    adapter.feed(message("l2_data", 1, SNAPSHOT))
    assert adapter.ready()

    alone = adapter.answer(later.key, 200, b"")
    assert subscriptions(list(alone)) == [("level2", ["NOP-USD"]), ("market_trades", ["NOP-USD"])]
    again = adapter.feed(error)
    assert subscriptions(list(again)) == []  # nobody was refused with it
    assert isinstance(adapter.feed(message("l2_data", 2, SNAPSHOT))[0], BookFact)

    reconnected = adapter.subscribe()  # should the exchange end a connection for it
    assert subscriptions(list(reconnected)) == good
    assert isinstance(reconnected[-1], Ask)
    assert set(reconnected[-1].streams) == set(nop)
