"""Coinbase's requests: trades that were missed, products, and whatever else an answer may hold."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.exchanges.adapter import Ask, Fault, InstrumentFact, Stream, TradeFact
from daedalus.records import Flag
from tests.exchanges.test_coinbase import SNAPSHOT, book, message, opened, trade

TRADES = (Stream("BTC/USD", "trades"),)


def live(number: int, *ids: int) -> bytes:
    return message("market_trades", number, {"type": "update", "trades": [trade(n) for n in ids]})


def past(*ids: int, **more: str) -> bytes:
    return json.dumps(
        {"trades": [{**trade(n), **more} for n in ids], "best_bid": "1", "best_ask": ""}
    ).encode()


def ids(items: list[Any]) -> list[str | None]:
    assert all(item.flags == Flag.BACKFILLED for item in items if isinstance(item, TradeFact))
    return [item.trade_id for item in items if isinstance(item, TradeFact)]


def test_a_hole_in_the_trade_ids_is_a_fault_of_that_stream_and_is_filled() -> None:
    adapter = opened()
    adapter.feed(live(0, 10))
    fault, ask, fact = adapter.feed(live(1, 13))
    assert fault == Fault(TRADES, "sequence", "trade 13 follows 10: 2 missing", local=True)
    assert ask == Ask("trades/1", "/api/v3/brokerage/market/products/BTC-USD/ticker?limit=1000", TRADES)
    assert isinstance(fact, TradeFact)
    assert fact.flags == 0
    filled = adapter.answer("trades/1", 200, past(14, 13, 12, 11, 10, 9, side="SELL"))
    assert ids(filled) == ["11", "12"]
    assert [item.side for item in filled if isinstance(item, TradeFact)] == ["buy", "buy"]
    assert len(adapter.feed(live(2, 14))) == 1


def test_late_and_repeated_trades_are_no_holes() -> None:
    adapter = opened()
    adapter.feed(live(0, 10))
    adapter.feed(live(1, 12))
    assert [type(item) for item in adapter.feed(live(2, 11))] == [TradeFact]
    assert [type(item) for item in adapter.feed(live(3, 12))] == [TradeFact]
    assert [type(item) for item in adapter.feed(live(4, 13))] == [TradeFact]


def test_one_id_far_ahead_hides_no_hole_after_it() -> None:
    adapter = opened()
    adapter.feed(live(0, 100))
    for number, trade_id in enumerate((9 * 10**17, 9 * 10**17, 101), 1):
        assert [type(item) for item in adapter.feed(live(number, trade_id))] == [TradeFact]
    fault, *_ = adapter.feed(live(4, 105))
    assert fault == Fault(TRADES, "sequence", "trade 105 follows 101: 3 missing", local=True)


def test_a_connection_that_begins_with_an_id_far_ahead_finds_holes_after_two_more() -> None:
    adapter = opened()
    for number, trade_id in enumerate((9 * 10**17, 100, 101)):
        assert [type(item) for item in adapter.feed(live(number, trade_id))] == [TradeFact]
    fault, *_ = adapter.feed(live(3, 105))
    assert fault == Fault(TRADES, "sequence", "trade 105 follows 101: 3 missing", local=True)


def test_a_second_id_far_ahead_makes_it_the_one_to_follow() -> None:
    adapter = opened()
    adapter.feed(live(0, 100))
    assert len(adapter.feed(live(1, 10**12))) == 1
    assert len(adapter.feed(live(2, 10**12 + 1))) == 1  # numbers begin anew: nobody lost 10^12 trades
    assert len(adapter.feed(live(3, 10**12 + 2))) == 1
    fault, *_ = adapter.feed(live(4, 10**12 + 4))
    assert isinstance(fault, Fault)


def test_backfill_goes_back_page_by_page_to_the_last_trade_that_is_known() -> None:
    adapter = opened()
    assert adapter.backfill("BTC/USD", None) == []
    adapter.feed(message("market_trades", 0, {"type": "snapshot", "trades": [trade(101), trade(100)]}))
    (ask,) = adapter.backfill("BTC/USD", "50")
    *found, more = adapter.answer(ask.key, 200, past(*range(101, 70, -1)))
    assert ids(found) == [str(n) for n in range(71, 100)]  # 100 and 101 were streamed
    assert isinstance(more, Ask)
    assert more.path.endswith("limit=1000&end=1775572201")
    assert ids(adapter.answer(more.key, 200, past(*range(72, 40, -1)))) == [str(n) for n in range(51, 73)]


def test_backfill_ends_where_the_exchange_has_no_more() -> None:
    adapter = opened()
    (ask,) = adapter.backfill("BTC/USD", "50")
    for _ in range(9):
        *_, more = adapter.answer(ask.key, 200, past(99, 98))
        assert isinstance(more, Ask)
        ask = more
    assert len(adapter.answer(ask.key, 200, past(99, 98))) == 2
    (ask,) = adapter.backfill("BTC/USD", "50")
    assert adapter.answer(ask.key, 200, past()) == []


def test_holes_that_rest_says_are_none_are_no_longer_looked_for() -> None:
    adapter = opened()
    adapter.feed(live(0, 10))
    for number, n in enumerate((12, 14, 16), 1):
        _, ask, _ = adapter.feed(live(number, n))
        assert isinstance(ask, Ask)
        assert adapter.answer(ask.key, 200, past(n, n - 2)) == []
    assert len(adapter.feed(live(4, 18))) == 1


def test_a_new_connection_begins_a_new_chain_of_ids() -> None:
    adapter = opened()
    adapter.feed(live(0, 10))
    adapter.subscribe()
    assert len(adapter.feed(live(0, 99))) == 1


@pytest.mark.parametrize(
    ("key", "status", "body"),
    [
        ("trades/1", 404, b""),
        ("trades/1", 200, b"{"),
        ("trades/1", 200, b'{"trades":[{"price":"NaN"}]}'),
        ("trades/7", 200, b'{"trades":[]}'),
        ("instruments", 403, b""),
        ("instruments", 200, b'{"products":[{}]}'),
        ("", 200, b""),
    ],
)
def test_an_answer_that_cannot_be_used_is_a_fault_that_harms_no_stream(
    key: str, status: int, body: bytes
) -> None:
    adapter = opened()
    adapter.backfill("BTC/USD", "50")
    (fault,) = adapter.answer(key, status, body)
    assert isinstance(fault, Fault)
    assert (fault.streams, fault.local, fault.fatal) == ((), True, False)
    assert adapter.feed(message("heartbeats", 0))


def test_products_come_under_the_configured_name() -> None:
    adapter = opened(channels={"trades": ["BTC/USD", "ETH/USD"]})
    (ask,) = adapter.instruments()
    assert ask.path == "/api/v3/brokerage/market/products?product_ids=BTC-USD&product_ids=ETH-USD"
    product = {
        "product_id": "BTC-USD",
        "product_type": "SPOT",
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "price_increment": "0.01",
        "base_min_size": "0.00001",
        "quote_min_size": "1",
        "base_currency_id": "BTC",
        "quote_currency_id": "USD",
    }
    body = json.dumps({"products": [product, {"product_id": "OTHER"}], "num_products": 2}).encode()
    (fact,) = adapter.answer(ask.key, 200, body)
    assert isinstance(fact, InstrumentFact)
    assert (fact.symbol, fact.exchange_symbol, fact.kind) == ("BTC/USD", "BTC-USD", "spot")
    assert (fact.tick_size, fact.lot_size, fact.min_amount, fact.min_cost) == (0.01, 1e-8, 1e-5, 1.0)
    assert (fact.active, fact.contract_size) == (True, None)
    assert json.loads(fact.info_json or "") == product


KEYS = ["channel", "timestamp", "sequence_num", "events", "type", "product_id", "updates", "side", "trades"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["l2_data", "bid", "BTC-USD", "NaN", "1e999", "2026-04-07T14:30:01Z", "snapshot"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
NUMBERS = st.sampled_from(["1", "0", "-1", "1e400", "NaN", "inf", "", "1_0", "1e-300", " 1", "\uff11"])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), JSON, NUMBERS, NUMBERS, st.text(max_size=9))
def test_no_bytes_ever_raise(junk: bytes, tree: Any, price: str, size: str, key: str) -> None:
    one = {**trade(1), "price": price, "size": size}
    quote = {"product_id": "BTC-USD", "best_bid": price}
    frames = [
        junk,
        json.dumps(tree).encode(),
        *(message(channel, 1, tree) for channel in ("l2_data", "market_trades", "ticker", "subscriptions")),
        message("l2_data", 1, book("update", ("bid", price, size))),
        message("market_trades", 1, {"type": "update", "trades": [one]}),
        message("ticker", 1, {"type": "update", "tickers": [quote]}),
        message("ticker", 1, {"type": "x", "tickers": []}).replace(
            b"2026-04-07", size.encode() or b"0001-01-01"
        ),
        past(1, price=price, size=size, trade_id=size),
    ]
    for raw in frames:
        adapter = opened()
        adapter.feed(message("l2_data", 0, SNAPSHOT))
        assert isinstance(adapter.feed(raw), list)
        assert isinstance(adapter.feed(memoryview(raw)), list)
        (ask,) = adapter.backfill("BTC/USD", "1")
        for name in (ask.key, key, "instruments", "resync/BTC/USD"):
            assert isinstance(adapter.answer(name, 200, raw), list)


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_d01_a_time_that_no_exchange_lives_in_is_no_time(year: str) -> None:
    raw = live(0, 1).replace(b'"time": "2026', f'"time": "{year}'.encode())
    (fact,) = opened().feed(raw)
    assert isinstance(fact, TradeFact)
    assert fact.ts_event is None


def test_a_time_without_a_zone_is_a_fault() -> None:
    for raw in (message("l2_data", 0, SNAPSHOT), live(0, 1)):
        (fault,) = opened().feed(raw.replace(b'Z"', b'"'))
        assert isinstance(fault, Fault)


def test_a_book_too_deep_to_be_json_is_a_fault() -> None:
    (fault,) = opened().feed(b"[" * 99_999)
    assert isinstance(fault, Fault)
