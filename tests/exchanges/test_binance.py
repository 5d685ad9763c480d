"""Binance spot, message by message: streams, tickers, requests, and what is hostile."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daedalus.exchanges.adapter import Ask, Control, Fault, InstrumentFact, Send, Stream, TickerFact
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.exchanges.binance_dialect import market_id
from daedalus.exchanges.binance_usdm import BinanceUsdmAdapter
from tests.exchanges import binance_kit as kit
from tests.exchanges.binance_kit import BTC, ETH, E, delta, opened, quote, snapshot, synced, trade, wrapped

DAY: dict[str, Any] = {
    "e": "24hrTicker", "E": E, "s": "BTCUSDT", "p": "-15.5", "P": "-0.25", "w": "100.2", "x": "1", "Q": "1",
    "c": "100.7",
    "b": "100.6", "B": "3", "a": "100.8", "A": "4", "o": "116.2", "h": "120", "l": "99", "v": "10",
    "q": "1002", "O": 0, "C": 1, "F": 0, "L": 9, "n": 10,
}  # fmt: skip
ACK = Control("subscribed", (Stream(BTC, "trades"), Stream(BTC, "ticker")))


def day(**changes: Any) -> bytes:
    return wrapped("btcusdt@ticker", DAY | changes)


# -- streams and symbols


def test_the_address_names_each_stream_once() -> None:
    adapter, _ = opened(symbols=(BTC, ETH))
    assert adapter.address("wss://stream.binance.com:9443/") == (
        "wss://stream.binance.com:9443/stream?streams="
        "btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker/btcusdt@ticker/"
        "ethusdt@depth@100ms/ethusdt@trade/ethusdt@bookTicker/ethusdt@ticker"
    )
    assert adapter.address("ws://localhost:1/stream").startswith("ws://localhost:1/stream?streams=btcusdt@")
    assert adapter.streams[:2] == (Stream(BTC, "orderbook"), Stream(ETH, "orderbook"))
    assert adapter.ping() is None


def test_streams_that_do_not_fit_into_the_address_are_subscribed_by_message() -> None:
    symbols = [f"COIN{n}/USDT" for n in range(300)]
    adapter = BinanceAdapter({"trades": symbols})
    address = adapter.address("wss://x")
    assert len(address) < 4_200
    *subscriptions, listing = [json.loads(m.data) for m in adapter.subscribe() if isinstance(m, Send)]
    named = address.partition("?streams=")[2].split("/")
    sent = [name for message in subscriptions for name in message["params"]]
    assert named + sent == [f"coin{n}usdt@trade" for n in range(300)]
    assert {m["method"] for m in subscriptions} == {"SUBSCRIBE"}
    assert all(len(m["params"]) <= 100 for m in subscriptions)
    assert listing["method"] == "LIST_SUBSCRIPTIONS"

    (ack, _) = adapter.feed(trade(1, market="COIN0USDT"))
    assert ack == Control("subscribed", tuple(Stream(s, "trades") for s in symbols[: len(named)]))
    assert not adapter.ready()
    for message in subscriptions:
        (ack,) = adapter.feed(json.dumps({"result": None, "id": message["id"]}).encode())
        assert len(ack.streams) == len(message["params"])
    assert adapter.ready()


def test_a_listing_that_names_all_streams_opens_them_on_a_quiet_market() -> None:
    adapter, (ask,) = opened()
    names = adapter.address("").partition("?streams=")[2].split("/")
    assert adapter.feed(json.dumps({"result": names[1:], "id": 1}).encode()) == [Control("heartbeat")]
    assert adapter.feed(json.dumps({"result": names, "id": 1}).encode()) == [ACK]
    assert not adapter.ready()
    adapter.answer(ask.key, 200, snapshot(100))
    assert adapter.ready()


@pytest.mark.parametrize(
    ("symbol", "settled", "market"),
    [
        ("BTC/USDT", False, "BTCUSDT"),
        ("1000sats/usdt", False, "1000SATSUSDT"),
        ("BTC/USDT:USDT", True, "BTCUSDT"),
        ("BTC/USDT:USDT-261225", True, "BTCUSDT_261225"),
    ],
)
def test_a_symbol_is_named_as_the_exchange_names_it(symbol: str, market: str, *, settled: bool) -> None:
    assert market_id(symbol, settled=settled) == market


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTC-USDT", "/USDT", "BTC/", "", "BTC/USDT:USDT", "BTC/:X"])
def test_a_symbol_of_another_form_is_refused_by_name(symbol: str) -> None:
    with pytest.raises(ValueError, match="BASE/QUOTE") as error:
        BinanceAdapter({"trades": [symbol]})
    assert repr(symbol) in str(error.value)


def test_what_cannot_be_carried_is_refused() -> None:
    with pytest.raises(ValueError, match="binance has orderbook, depth, trades, ticker"):
        BinanceAdapter({"ohlcv": [BTC]})
    with pytest.raises(ValueError, match="both are BTCUSDT"):
        BinanceUsdmAdapter({"trades": ["BTC/USDT:USDT", "BTC/USDT"]})
    with pytest.raises(ValueError, match="1026 streams on one connection: binance allows 1024"):
        BinanceAdapter({"ticker": [f"C{n}/USDT" for n in range(513)]})


# -- tickers


def test_a_ticker_is_the_quote_merged_with_the_day() -> None:
    adapter, _ = opened(channels=("ticker",))
    ack, first = adapter.feed(day())
    assert ack == Control("subscribed", (Stream(BTC, "ticker"),))
    assert first == TickerFact(
        symbol=BTC, ts_event=E * 1_000_000, bid=100.6, ask=100.8, bid_volume=3, ask_volume=4, last=100.7,
        open=116.2, high=120, low=99, close=100.7, vwap=100.2, base_volume=10, quote_volume=1002,
        change=-15.5, percentage=-0.25,
    )  # fmt: skip
    (second,) = adapter.feed(quote(7, 100, 101))
    assert (second.bid, second.ask, second.bid_volume, second.ask_volume) == (100, 101, 1.5, 2.5)
    assert (second.exch_seq, second.ts_event, second.last, second.vwap) == (7, None, 100.7, 100.2)
    (third,) = adapter.feed(day(c="100.9"))
    assert (third.bid, third.ask, third.exch_seq, third.last) == (100, 101, None, 100.9)


def test_a_quote_that_is_late_or_doubled_is_no_row() -> None:
    adapter, _ = opened(channels=("ticker",))
    adapter.feed(quote(7))
    assert adapter.feed(quote(7)) == []
    assert adapter.feed(quote(6)) == []
    assert len(adapter.feed(quote(8))) == 1


def test_a_price_of_zero_is_missing_and_a_volume_of_zero_is_zero() -> None:
    adapter, _ = opened(channels=("ticker",))
    (_, row) = adapter.feed(day(c="0", o="0", h="0.00000000", l="0", w="0", v="0", q="0", b="0", B="0"))
    assert (row.last, row.open, row.high, row.low, row.close, row.vwap) == (None,) * 6
    assert (row.bid, row.bid_volume, row.base_volume, row.quote_volume) == (None, None, 0, 0)
    (row,) = adapter.feed(quote(1, 0, 101))
    assert (row.bid, row.bid_volume, row.ask) == (None, None, 101)


def test_the_raw_object_is_kept_word_for_word_where_it_is_wanted() -> None:
    adapter, _ = opened(channels=("trades", "ticker"), raw_info=True)
    raw = trade(5, Z="kept too")
    (_, fact) = adapter.feed(raw)
    assert fact.info_json == raw[raw.index(b'"data":') + 7 : -1].decode()
    (row,) = adapter.feed(day())
    assert json.loads(row.info_json) == DAY


# -- what is hostile or broken


def test_broken_json_is_a_fault_of_the_connection() -> None:
    adapter, _ = opened()
    for raw in (b'{"stream":"btcusdt@tra', b"[]", b"\xff", b"", b"7"):
        adapter.subscribe()
        (fault,) = adapter.feed(raw)
        assert (fault.streams, fault.reason, fault.local) == (adapter.streams, "error", False)
        assert adapter.feed(trade(1)) == []
        assert not adapter.ready()
    adapter.subscribe()
    assert len(adapter.feed(trade(1))) == 2


def test_what_the_exchange_refuses_is_a_fault_and_what_nobody_asked_for_is_none() -> None:
    adapter, _ = opened()
    assert adapter.feed(wrapped("dogeusdt@trade", {"e": "trade"})) == [Control("heartbeat")]
    assert adapter.feed(b'{"e":"serverShutdown","E":1}') == [Control("heartbeat")]
    assert adapter.feed(b'{"error":{"code":2,"msg":"no listing"},"id":1}') == [Control("heartbeat")]
    (fault,) = adapter.feed(b'{"error":{"code":3,"msg":"Invalid JSON"},"id":9}')
    assert fault == Fault(adapter.streams, "error", "the exchange says: Invalid JSON")


@pytest.mark.parametrize(
    ("raw", "channel"),
    [
        (trade(2, "nan"), "trades"),
        (trade(2, "0"), "trades"),
        (trade(2, "abc"), "trades"),
        (trade(2, T=-1), "trades"),
        (trade(2**63), "trades"),
        (trade(2, s="ETHUSDT"), "trades"),
        (quote(2, float("nan")), "ticker"),
        (quote(2, float("inf")), "ticker"),
        (day(c="x"), "ticker"),
        (day(w="nan"), "ticker"),
    ],
)
def test_c05_a_damaged_message_is_a_fault_of_its_own_stream_and_said_once(raw: bytes, channel: str) -> None:
    adapter, _ = synced(symbols=(BTC,))
    adapter.feed(trade(1))
    (fault,) = adapter.feed(raw)
    assert (fault.streams, fault.reason, fault.local) == ((Stream(BTC, channel),), "error", True)
    assert adapter.feed(raw) == []
    assert len(adapter.feed(delta(101, 101, [(100, 5)]))) == 2
    assert adapter.ready()


def test_c05_a_damaged_trade_is_missing_and_asked_for_when_the_next_one_comes() -> None:
    adapter, _ = opened(channels=("trades",))
    adapter.feed(trade(1))
    adapter.feed(trade(2, "nan"))
    fault, ask, fact = adapter.feed(trade(3))
    assert (fault.reason, fact.trade_id) == ("sequence", "3")
    (filled,) = adapter.answer(ask.key, 200, kit.rest_trades(2, 3))
    assert filled.trade_id == "2"


def fuzzed(adapter: BinanceAdapter, raw: bytes) -> None:
    for item in adapter.feed(raw):
        if isinstance(item, Fault) and not item.local:
            adapter.subscribe()
    assert adapter.feed(memoryview(raw)) is not None
    adapter.subscribe()


WORDS = st.sampled_from(
    [
        *("stream", "data", "btcusdt@trade", "btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@ticker"),
        *("BTCUSDT", "1", "-1", "nan", "1e400", "id", "result", "error", "lastUpdateId", "bids", "asks"),
        *"eEsUubapqTmX",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=8),
    max_leaves=20,
)
GOOD = [
    trade(2),
    delta(101, 102, [(100, 5)], [(101, 0)]),
    quote(3),
    day(),
    snapshot(200),
    kit.rest_trades(2, 3),
]


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"stream":"btcusdt@trade","data":' + b"[" * 200_000)
@example(b'{"stream":"btcusdt@trade","data":{"x":' + b"[" * 200_000)
@example(b'{"x":' + b"[" * 200_000)
@example(b'{"stream":"' + b"a" * 500 + b'"}')
@example(b'{"stream":"\\ud800@trade","data":{}}')
@example(b'{"id":' + b"9" * 10_000 + b"}")
def test_any_bytes_never_raise(raw: bytes) -> None:
    for make in (BinanceAdapter, BinanceUsdmAdapter):
        fuzzed(opened(make, raw_info=True)[0], raw)
        for path in ("depth", "rades", "exchangeInfo"):
            adapter, _ = opened(make)
            requests = [*kit.asks(adapter.subscribe()), *adapter.backfill(BTC, "5"), *adapter.instruments()]
            (ask,) = [ask for ask in requests if path in ask.path.partition("?")[0]]
            assert adapter.answer(ask.key, 200, raw) is not None


@settings(max_examples=200)
@given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_any_damage_to_a_good_message_never_raises(good: bytes, flips: list[tuple[int, int]]) -> None:
    raw = bytearray(good)
    for at, byte in flips:
        raw[at % len(raw)] = byte
    for make in (BinanceAdapter, BinanceUsdmAdapter):
        adapter, (ask,) = opened(make)
        adapter.feed(trade(1))
        assert adapter.answer(ask.key, 200, bytes(raw)) is not None
        fuzzed(adapter, bytes(raw))


# -- requests


def test_an_answer_to_no_request_is_a_fault_of_no_stream() -> None:
    adapter, (ask,) = opened()
    (fault,) = adapter.answer("nobody", 200, b"")
    assert (fault.streams, fault.local) == ((), True)
    adapter.answer(ask.key, 200, snapshot(100))
    assert kit.faults(adapter.answer(ask.key, 200, snapshot(100)))[0].streams == ()


def test_instruments_come_from_the_listing() -> None:
    adapter, _ = opened(symbols=(BTC, ETH))
    (ask,) = adapter.instruments()
    assert ask == Ask(
        ask.key, "/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22,%22ETHUSDT%22%5D", (), weight=20
    )
    listed = {
        "symbol": "BTCUSDT",
        "status": "BREAK",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000",
                "tickSize": "0.01000000",
            },
            {"filterType": "LOT_SIZE", "minQty": "0.00002", "maxQty": "9000", "stepSize": "0.00001000"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
            {"filterType": "TRAILING_DELTA", "minTrailingAboveDelta": 10},
        ],
    }
    body = json.dumps({"timezone": "UTC", "symbols": [listed, {"symbol": "OTHER", "filters": []}]})
    adapter.subscribe()  # a new connection does not make the answer wrong
    (fact,) = adapter.answer(ask.key, 200, body.encode())
    assert fact == InstrumentFact(
        symbol=BTC, exchange_symbol="BTCUSDT", kind="spot", base="BTC", quote="USDT", tick_size=0.01,
        lot_size=0.00001, min_amount=0.00002, min_cost=5, active=False, info_json=json.dumps(listed),
    )  # fmt: skip
    (ask,) = adapter.instruments()
    (fault,) = adapter.answer(ask.key, 400, b'{"code":-1100,"msg":"Illegal characters."}')
    assert (fault.streams, fault.local) == ((), True)
    assert "Illegal characters" in fault.detail


def test_the_limits_are_those_of_the_documents() -> None:
    limits = BinanceAdapter.limits
    assert (limits.connects, limits.sends, limits.rest) == ((300, 300.0), (5, 1.0), (6000, 60.0))
    assert limits.age_s == 86_400
    _, (ask,) = opened()
    assert (ask.path, ask.weight) == ("/api/v3/depth?symbol=BTCUSDT&limit=5000", 250)
    assert ask.delay_s > 0.1  # a busy stream is buffered before its snapshot is made
