"""Coinbase Advanced Trade, message by message."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.exchanges.adapter import BookFact, Control, Fault, Send, Stream, TickerFact, TradeFact
from daedalus.exchanges.coinbase import CoinbaseAdapter
from daedalus.records import Flag, unpack_side

CHANNELS = {"orderbook": ["BTC/USD"], "trades": ["BTC/USD"], "ticker": ["BTC/USD"]}
ALL = tuple(Stream("BTC/USD", channel) for channel in CHANNELS)


def opened(**options: Any) -> CoinbaseAdapter:
    adapter = CoinbaseAdapter(options.pop("channels", CHANNELS), **options)
    adapter.subscribe()
    return adapter


def message(channel: str, number: int, *events: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "channel": channel,
            "client_id": "",
            "timestamp": "2026-04-07T14:30:01.456789Z",
            "sequence_num": number,
            "events": list(events),
        }
    ).encode()


def book(kind: str, *levels: tuple[str, str, str], product: str = "BTC-USD") -> dict[str, Any]:
    updates = [
        {"side": side, "event_time": "2026-04-07T14:30:01.4Z", "price_level": price, "new_quantity": size}
        for side, price, size in levels
    ]
    return {"type": kind, "product_id": product, "updates": updates}


SNAPSHOT = book("snapshot", ("bid", "100", "1"), ("bid", "99", "2"), ("offer", "101", "3"))


@pytest.fixture(scope="module")
def frames(recordings: Path) -> dict[str, bytes]:
    found = {}
    for line in (recordings / "samples" / "api_frames.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["exchange"] == "coinbase":
            found[entry["name"]] = json.dumps(entry["frame"]).encode()
    return found


def test_the_recorded_frames_are_understood(frames: dict[str, bytes]) -> None:
    (beat,) = opened().feed(frames["ws_heartbeats"])
    assert beat == Control("heartbeat")
    (ack,) = opened().feed(frames["ws_subscriptions"])
    assert ack == Control("subscribed", (Stream("BTC/USD", "orderbook"), Stream("BTC/USD", "trades")))

    adapter = opened()
    (snapshot,) = adapter.feed(frames["ws_l2_data_snapshot"])
    assert isinstance(snapshot, BookFact)
    assert unpack_side(snapshot.bids) == [(68900.0, 1.5), (68899.5, 0.75), (68899.0, 2.3)]
    assert unpack_side(snapshot.asks) == [(68901.0, 0.5), (68901.5, 1.2), (68902.0, 0.8)]
    assert snapshot.flags == Flag.SNAPSHOT | Flag.COMPLETE
    assert snapshot.ts_event == 1_775_572_200_123_456_000
    (update,) = adapter.feed(frames["ws_l2_data_update"])
    assert isinstance(update, BookFact)
    assert (update.nonce, update.exch_seq, update.flags) == (None, 1, Flag.COMPLETE)
    assert unpack_side(update.bids)[0] == (68900.0, 2.0)
    assert unpack_side(update.asks) == [(68901.5, 1.2), (68902.0, 0.8)]

    (ticker,) = opened().feed(frames["ws_ticker"])
    assert isinstance(ticker, TickerFact)
    assert (ticker.bid, ticker.ask, ticker.last) == (68900.0, 68901.0, 68900.5)
    assert (ticker.base_volume, ticker.percentage) == (15328.12345678, 1.85)
    assert (ticker.open, ticker.vwap) == (None, None)


def test_the_makers_side_is_turned_into_the_takers(frames: dict[str, bytes]) -> None:
    trades = opened().feed(frames["ws_market_trades"])
    assert [(t.trade_id, t.side, t.side_raw) for t in trades if isinstance(t, TradeFact)] == [
        ("995098700", "sell", "BUY"),
        ("995098701", "buy", "SELL"),
    ]
    as_it_is = opened(side="taker").feed(frames["ws_market_trades"])
    assert [t.side for t in as_it_is if isinstance(t, TradeFact)] == ["buy", "sell"]


def trade(number: int, side: str = "BUY") -> dict[str, str]:
    return {
        "trade_id": str(number),
        "product_id": "BTC-USD",
        "price": "100.5",
        "size": "0.1",
        "side": side,
        "time": "2026-04-07T14:30:01.4Z",
    }


def test_a_snapshot_of_recent_trades_is_backfilled_and_comes_oldest_first() -> None:
    adapter = opened()
    early = adapter.feed(message("market_trades", 0, {"type": "snapshot", "trades": [trade(9), trade(8)]}))
    live = adapter.feed(message("market_trades", 1, {"type": "update", "trades": [trade(11), trade(10)]}))
    facts = [fact for fact in early + live if isinstance(fact, TradeFact)]
    assert [(fact.trade_id, fact.flags) for fact in facts] == [
        ("8", Flag.BACKFILLED),
        ("9", Flag.BACKFILLED),
        ("10", 0),
        ("11", 0),
    ]


@pytest.mark.parametrize("number", [7, 4, 0])
def test_a_broken_sequence_is_a_fault_of_the_whole_connection(number: int) -> None:
    adapter = opened()
    adapter.feed(message("l2_data", 5, SNAPSHOT))
    (fault,) = adapter.feed(message("heartbeats", number))
    assert fault == Fault(ALL, "sequence", f"sequence_num {number}, expected 6")


def test_nothing_is_emitted_after_a_fault_until_the_next_snapshot() -> None:
    adapter = opened()
    adapter.feed(message("l2_data", 0, SNAPSHOT))
    adapter.feed(message("heartbeats", 2))
    update = book("update", ("bid", "100.5", "1"))
    assert adapter.feed(message("l2_data", 3, update)) == []
    adapter.subscribe()
    assert adapter.feed(message("l2_data", 0, update)) == []  # a delta before its snapshot
    (fresh,) = adapter.feed(message("l2_data", 1, SNAPSHOT))
    assert isinstance(fresh, BookFact)
    assert fresh.flags & (Flag.SNAPSHOT | Flag.RESYNC) == Flag.SNAPSHOT | Flag.RESYNC
    assert unpack_side(fresh.bids) == [(100.0, 1.0), (99.0, 2.0)]


@pytest.mark.parametrize("number_of", ["heartbeats", "subscriptions", "status", "ticker_batch"])
def test_every_message_counts_whatever_its_channel(number_of: str) -> None:
    adapter = opened()
    adapter.feed(message("l2_data", 0, SNAPSHOT))
    assert not any(isinstance(item, Fault) for item in adapter.feed(message(number_of, 1)))
    assert isinstance(adapter.feed(message("l2_data", 2, book("update", ("bid", "100", "4"))))[0], BookFact)


@pytest.mark.parametrize(
    ("levels", "flags"),
    [
        ([("bid", "101", "1"), ("offer", "101", "1")], Flag.LOCKED),
        ([("bid", "102", "1"), ("offer", "101", "1")], Flag.CROSSED),
        ([("bid", "102", "1")], Flag.ONE_SIDED),
        ([], Flag.ONE_SIDED),
        ([("bid", "100", "1"), ("offer", "101", "1")], 0),
    ],
)
def test_the_state_of_the_top_is_in_the_flags(levels: list[tuple[str, str, str]], flags: int) -> None:
    (fact,) = opened().feed(message("l2_data", 0, book("snapshot", *levels)))
    assert isinstance(fact, BookFact)
    assert fact.flags == flags | Flag.SNAPSHOT | Flag.COMPLETE


def test_a_book_deeper_than_stored_is_not_called_complete() -> None:
    deep = book("snapshot", *(("bid", str(100 - i), "1") for i in range(3)), ("offer", "101", "1"))
    (fact,) = opened(levels=2).feed(message("l2_data", 0, deep))
    assert isinstance(fact, BookFact)
    assert fact.flags == Flag.SNAPSHOT
    assert len(unpack_side(fact.bids)) == 2


def test_a_book_that_stays_crossed_is_resynchronised() -> None:
    adapter = opened()
    adapter.feed(message("l2_data", 0, SNAPSHOT))
    seen = [
        adapter.feed(message("l2_data", n, book("update", ("bid", "102", str(n))))) for n in range(1, 300)
    ]
    faults = [items[0] for items in seen if items and isinstance(items[0], Fault)]
    assert [fault.reason for fault in faults] == ["error"]
    assert seen[-1] == []


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"garbage", b"{", b'{"channel":"l2_data"}', b"[1]"),
        *(b'{"type":"error","message":"slow down"}', b'{"channel":"\xff\xfe"}'),
    ],
)
def test_what_cannot_be_understood_is_a_fault(raw: bytes) -> None:
    adapter = opened()
    adapter.feed(message("heartbeats", 0))
    (fault,) = adapter.feed(raw)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.streams, fault.fatal) == ("error", ALL, False)


def test_an_unknown_product_is_fatal() -> None:
    (fault,) = opened().feed(b'{"type":"error","message":"BTC-USX is not a valid product"}')
    assert isinstance(fault, Fault)
    assert fault.fatal
    assert "BTC-USX" in fault.detail


def test_the_subscription_asks_for_heartbeats_and_for_each_channel_its_products() -> None:
    adapter = CoinbaseAdapter({"orderbook": ["BTC/USD", "ETH/USD"], "trades": ["ETH/USD"]})
    assert [json.loads(send.data) for send in adapter.subscribe() if isinstance(send, Send)] == [
        {"type": "subscribe", "channel": "heartbeats"},
        {"type": "subscribe", "channel": "level2", "product_ids": ["BTC-USD", "ETH-USD"]},
        {"type": "subscribe", "channel": "market_trades", "product_ids": ["ETH-USD"]},
    ]


def test_a_channel_it_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="coinbase has orderbook, depth, trades, ticker"):
        CoinbaseAdapter({"ohlcv": ["BTC/USD"]})


PRICES = st.decimals(min_value="0.00000001", max_value="9999999", places=8, allow_nan=False)


@given(
    st.lists(
        st.tuples(st.sampled_from(["bid", "offer"]), PRICES, st.one_of(st.just("0"), PRICES)), max_size=40
    )
)
def test_any_run_of_updates_leaves_the_book_that_a_dict_would_hold(
    updates: list[tuple[str, Any, Any]],
) -> None:
    adapter = opened(levels=1000)
    adapter.feed(message("l2_data", 0, SNAPSHOT))
    sides: dict[str, dict[float, float]] = {"bid": {100.0: 1.0, 99.0: 2.0}, "offer": {101.0: 3.0}}
    for number, (side, price, size) in enumerate(updates, 1):
        sides[side][float(str(price))] = float(str(size))
        if not float(str(size)):
            del sides[side][float(str(price))]
        (fact,) = adapter.feed(message("l2_data", number, book("update", (side, str(price), str(size)))))
        assert isinstance(fact, BookFact)
        assert unpack_side(fact.bids) == sorted(sides["bid"].items(), reverse=True)
        assert unpack_side(fact.asks) == sorted(sides["offer"].items())
