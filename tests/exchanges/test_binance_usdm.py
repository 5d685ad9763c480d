"""Binance USD-M futures: what differs from spot, message by message."""

import json

import pytest

from daedalus.exchanges.adapter import Ask, InstrumentFact, Item
from daedalus.exchanges.binance import BinanceAdapter
from tests.exchanges import binance_kit as kit
from tests.exchanges.binance_kit import SWAP, BinanceUsdmAdapter, E, delta, opened, quote, snapshot, wrapped

DEPTHS = ("orderbook", "depth")


def nonces(items: list[Item]) -> list[int | None]:
    return [book.nonce for book in kit.books(items)]


def usdm(*messages: bytes) -> tuple[BinanceAdapter, Ask, list[Item]]:
    adapter, (ask,) = opened(BinanceUsdmAdapter, symbols=(SWAP,), channels=DEPTHS)
    return adapter, ask, [item for message in messages for item in adapter.feed(message)]


@pytest.mark.parametrize(
    ("last", "joins"), [(94, False), (95, True), (97, True), (100, True), (103, True), (110, True)]
)
def test_d05_binance_usdm_joins_where_nothing_lies_between(last: int, *, joins: bool) -> None:
    adapter, ask, _ = usdm(delta(100, 103, [(100, 7)], pu=95), delta(105, 108, pu=103))
    items = adapter.answer(ask.key, 200, snapshot(last))
    assert bool(kit.books(items)) is joins
    if joins:
        assert nonces(items) == [max(last, 108)]
        assert nonces(adapter.feed(delta(109, 112, pu=108))) == [112]


def test_d05_binance_usdm_each_update_names_the_last() -> None:
    adapter, ask, _ = usdm(delta(100, 103, pu=95))
    body = json.loads(snapshot(101)) | {"E": E + 5, "T": E}
    first, update, book = adapter.answer(ask.key, 200, json.dumps(body).encode())
    assert (first.ts_event, update.first_exch_seq, book.nonce) == ((E + 5) * 1_000_000, 100, 103)
    assert nonces(adapter.feed(delta(120, 130, pu=103))) == [130]
    assert adapter.feed(delta(120, 130, pu=103)) == []
    fault, ask = adapter.feed(delta(131, 140, pu=129))
    assert (fault.reason, fault.local) == ("sequence", True)
    assert ask.path == "/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    (again,) = adapter.answer(ask.key, 200, snapshot(128))
    assert nonces(adapter.answer(again.key, 200, snapshot(131))) == [140]


def test_a_usdm_update_that_names_nothing_is_damaged() -> None:
    adapter, ask, _ = usdm()
    adapter.answer(ask.key, 200, snapshot(100))
    fault, _ = adapter.feed(delta(101, 101))
    assert (fault.reason, fault.detail) == ("error", "a depth update without `pu`")


def test_the_public_address_carries_books_trades_and_quotes() -> None:
    adapter, (ask,) = opened(BinanceUsdmAdapter, symbols=(SWAP,))
    assert adapter.address(adapter.default_ws_url) == (
        "wss://fstream.binance.com/public/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker"
    )
    assert (ask.path, ask.weight) == ("/fapi/v1/depth?symbol=BTCUSDT&limit=1000", 20)
    assert adapter.limits.rest == (2400, 60.0)
    assert adapter.limits.sends == (10, 1.0)


def test_a_quote_has_a_time_and_a_day_is_merged_where_one_comes() -> None:
    adapter, _ = opened(BinanceUsdmAdapter, symbols=(SWAP,), channels=("ticker",))
    _, row = adapter.feed(quote(5, e="bookTicker", T=E, E=E + 1))
    assert (row.symbol, row.ts_event, row.exch_seq, row.last) == (SWAP, (E + 1) * 1_000_000, 5, None)
    day = dict.fromkeys("pPwcohlvq", "2.5") | {"e": "24hrTicker", "E": E, "s": "BTCUSDT"}
    (row,) = adapter.feed(wrapped("btcusdt@ticker", day))
    assert (row.bid, row.ask, row.last, row.exch_seq) == (100, 101, 2.5, None)


def test_instruments_are_picked_from_the_whole_listing() -> None:
    adapter, _ = opened(BinanceUsdmAdapter, symbols=(SWAP, "BTC/USDT:USDT-261225"))
    (ask,) = adapter.instruments()
    assert (ask.path, ask.weight) == ("/fapi/v1/exchangeInfo", 1)
    common = {"status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "marginAsset": "USDT"}
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001"},
        {"filterType": "MIN_NOTIONAL", "notional": "100"},
    ]
    listed = [
        {"symbol": "BTCUSDT", "contractType": "PERPETUAL", "filters": filters, **common},
        {"symbol": "BTCUSDT_261225", "contractType": "CURRENT_QUARTER", "filters": [], **common},
        {"symbol": "ETHUSDT", "contractType": "PERPETUAL", "filters": [], **common},
    ]
    swap, future = adapter.answer(ask.key, 200, json.dumps({"symbols": listed}).encode())
    assert swap == InstrumentFact(
        symbol=SWAP, exchange_symbol="BTCUSDT", kind="swap", base="BTC", quote="USDT", settle="USDT",
        tick_size=0.1, lot_size=0.001, min_amount=0.001, min_cost=100, contract_size=1, active=True,
        info_json=json.dumps(listed[0]),
    )  # fmt: skip
    assert (future.symbol, future.kind, future.tick_size) == ("BTC/USDT:USDT-261225", "future", None)
