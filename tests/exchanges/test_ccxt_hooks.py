"""What ccxt does wrong, and what the hooks make of it. Offline: the real class, fed by hand."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from daedalus.exchanges.adapter import Control, Stream
from daedalus.exchanges.ccxt_pro import CcxtOptions, build, check_symbols
from daedalus.kernel.errors import FatalError
from daedalus.records import Flag, unpack_side
from tests.exchanges.fakes import HandFed, ListSink

SYMBOL = "BTC/USDT"
BOOK, TRADES, TICKER = (Stream(SYMBOL, channel) for channel in ("orderbook", "trades", "ticker"))
SNAPSHOT = {"lastUpdateId": 10, "bids": [["100", "1"], ["99", "2"]], "asks": [["101", "3"]]}


def delta(first: int, last: int, bids: list[list[str]] | None = None) -> dict[str, Any]:
    return {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": bids or [], "a": []}


def trade(number: int, *, buyer_was_maker: bool = True) -> dict[str, Any]:
    head = {"e": "trade", "E": 5, "s": "BTCUSDT", "t": number, "p": "100.10000000", "q": "0.50000000"}
    return head | {"T": 4, "m": buyer_was_maker, "M": True}


def with_fed(work: Callable[[HandFed, ListSink], Awaitable[None]]) -> None:
    async def main() -> None:
        sink = ListSink()
        fed = HandFed(sink, [SYMBOL])
        try:
            await work(fed, sink)
        finally:
            await fed.close()

    asyncio.run(main())


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def opened_book(fed: HandFed, number: int = 0) -> Any:
    client = fed.open(number, BOOK)
    fed.feed(client, {"result": None, "id": 1})
    fed.answer(SYMBOL, SNAPSHOT)
    await turns()
    return client


def test_the_first_row_is_the_snapshot_with_the_deltas_that_came_before_it() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, BOOK)
        fed.feed(client, {"result": None, "id": 1})
        fed.feed(client, delta(8, 10, [["98", "9"]]))  # older than the snapshot
        fed.feed(client, delta(11, 12, [["100", "5"]]))
        fed.feed(client, delta(13, 13, [["99", "0"]]))
        assert sink.books == []
        fed.answer(SYMBOL, SNAPSHOT)
        await turns()
        (book,) = sink.books
        assert unpack_side(book.bids) == [(100.0, 5.0)]
        assert (book.nonce, book.exch_seq, book.flags) == (13, 13, Flag.SNAPSHOT)

    with_fed(work)


def test_a_stored_book_does_not_change_under_later_messages() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = await opened_book(fed)
        before = [(book.bids, book.asks) for book in sink.books]
        for n in range(11, 60):
            fed.feed(client, delta(n, n, [["100", str(n)]]))
        assert [(book.bids, book.asks) for book in sink.books][: len(before)] == before
        assert [unpack_side(book.bids)[0][1] for book in sink.books[1:]] == list(range(11, 60))

    with_fed(work)


def test_a_hole_in_the_sequence_drops_the_connection_and_says_since_when() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = await opened_book(fed)
        fed.feed(client, delta(11, 11))
        last = sink.taken[-1][0].ts_recv
        fed.feed(client, delta(13, 13))
        (fault, since), *_ = sink.faults
        assert (fault.reason, fault.streams, since) == ("sequence", (BOOK,), last)
        assert fed.ended == [(BOOK, fault)]
        count = len(sink.books)
        fed.feed(client, delta(14, 14))
        assert len(sink.books) == count

        fed.snapshots.clear()
        client = await opened_book(fed, 1)
        fed.feed(client, delta(11, 12))
        assert [b.flags for b in sink.books[count:]] == [Flag.SNAPSHOT | Flag.RESYNC, 0]

    with_fed(work)


@pytest.mark.parametrize("raw", ["{broken", '{"e":"depthUpdate","s":"BTCUSDT","u":"x"', "[[["])
def test_what_ccxt_chokes_on_ends_the_connection(raw: str) -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, TRADES)
        fed.feed(client, trade(1))
        fed.feed(client, raw)
        ((fault, since),) = sink.faults
        assert (fault.reason, since is None) == ("error", False)
        assert client.url not in fed.exchange.clients
        assert fed.hooks.parse_errors == 1

    with_fed(work)


def test_a_refused_subscription_ends_the_connection() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, TRADES)
        client.subscriptions["trade::BTC/USDT"] = {"id": 3}
        fed.feed(client, {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 3})
        ((fault, _),) = sink.faults
        assert fault.streams == (TRADES,)
        assert "invalid stream" in fault.detail

    with_fed(work)


def test_an_error_of_our_own_is_raised_and_not_mistaken_for_the_exchanges() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        def broken(*_: Any) -> None:
            raise RuntimeError("our own")

        sink.take = broken  # type: ignore[method-assign]
        client = fed.open(0, TRADES)
        fed.feed(client, trade(1))
        with pytest.raises(RuntimeError, match="our own"):
            await fed.hooks.failed
        assert sink.faults == []

    with_fed(work)


def test_trades_come_once_also_when_the_cache_has_wrapped() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, TRADES)
        for n in range(2500):
            fed.feed(client, trade(n))
        assert [t.trade_id for t in sink.trades] == [str(n) for n in range(2500)]
        assert sink.trades[0].side_raw == "m=true"
        assert sink.trades[0].side == "sell"
        assert sink.trades[0].ts_event == 4_000_000

    with_fed(work)


def test_quotes_and_summary_are_merged_into_one_row() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, TICKER)
        quote = {"u": 7, "s": "BTCUSDT", "b": "100", "B": "1", "a": "101", "A": "2"}
        summary = {"e": "24hrTicker", "E": 9, "s": "BTCUSDT", "p": "1", "P": "2", "w": "100.4", "c": "100.5"}
        summary |= {"o": "99", "h": "103", "l": "98", "v": "10", "q": "1000", "C": 8, "b": "90", "a": "110"}
        fed.feed(client, quote)
        fed.feed(client, summary)
        fed.feed(client, quote | {"u": 8, "b": "100.2"})
        first, second, third = sink.tickers
        assert (first.bid, first.last, first.exch_seq, first.ts_event) == (100.0, None, 7, None)
        assert (second.bid, second.ask, second.last, second.vwap) == (100.0, 101.0, 100.5, 100.4)
        assert second.ts_event == 8_000_000
        assert (third.bid, third.high, third.exch_seq, third.ts_event) == (100.2, 103.0, 8, None)

    with_fed(work)


def test_the_sockets_of_one_stream_live_and_die_together() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        summary, quotes = fed.open(0, TICKER), fed.open(1, TICKER)
        fed.feed(summary, {"result": None, "id": 1})
        assert sink.of(Control) == []
        fed.feed(quotes, {"result": None, "id": 1})
        assert sink.of(Control)[-1] == Control("subscribed", (TICKER,))
        fed.feed(quotes, "{broken")
        assert fed.exchange.clients == {}
        assert {fault.streams for fault, _ in sink.faults} == {(TICKER,)}

    with_fed(work)


def test_a_snapshot_without_id_and_levels_is_no_book_and_ends_the_connection() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, BOOK)
        fed.feed(client, {"result": None, "id": 1})
        await turns(3)
        fed.answer(SYMBOL, {"lastUpdateId": None, "unexpected": "maintenance"})
        await turns()
        assert sink.books == []
        ((fault, _),) = sink.faults
        assert (fault.streams, fault.reason) == ((BOOK,), "error")
        assert "holds no book" in fault.detail
        assert fed.exchange.clients == {}

    with_fed(work)


def test_a_snapshot_for_a_connection_that_is_gone_is_no_row() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, BOOK)
        fed.feed(client, {"result": None, "id": 1})
        await turns(3)
        fed.feed(client, "{broken")
        fed.answer(SYMBOL, SNAPSHOT)
        await turns()
        assert sink.books == []

    with_fed(work)


def test_half_a_ticker_does_not_outlive_its_connection() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, TICKER)
        quote = {"u": 7, "s": "BTCUSDT", "b": "100", "B": "1", "a": "101", "A": "2"}
        fed.feed(client, quote)
        fed.feed(client, {"e": "24hrTicker", "E": 9, "s": "BTCUSDT", "c": "100.5", "C": 8})
        fed.feed(client, "{broken")
        fed.feed(fed.open(1, TICKER), quote)
        assert [ticker.last for ticker in sink.tickers] == [None, 100.5, None]

    with_fed(work)


def test_a_silent_connection_is_dropped_by_its_own_pace() -> None:
    async def work(fed: HandFed, sink: ListSink) -> None:
        client = fed.open(0, TRADES)
        fed.feed(client, trade(1))
        connections = fed.hooks.connections.values()
        watch = fed.hooks.watch
        assert watch.suspicions(connections, sink.capture().mono_ns + 9_000_000_000) == []
        (suspicion,) = watch.suspicions(connections, sink.capture().mono_ns + 11_000_000_000)
        assert (suspicion.streams, suspicion.frozen, suspicion.certain) == ((TRADES,), False, False)
        assert suspicion.connection.client is client

    with_fed(work)


def test_an_unknown_exchange_is_named_with_its_neighbours() -> None:
    with pytest.raises(FatalError, match=r"'binanse'.*binance"):
        build(CcxtOptions(id="binanse", channels={}))


def test_an_unknown_symbol_is_named_with_its_neighbours() -> None:
    exchange = build(CcxtOptions(id="binance", channels={}))
    exchange.markets = {"BTC/USDT": {"symbol": "BTC/USDT"}, "ETH/USDT": {"symbol": "ETH/USDT"}}
    with pytest.raises(FatalError, match=r"'BTC/USTD' among 2; near matches: BTC/USDT"):
        check_symbols(exchange, {"trades": ["BTC/USTD"]})
    assert check_symbols(exchange, {"trades": ["BTC/USDT"]}) == {"BTC/USDT": "BTC/USDT"}


def test_what_the_user_sets_reaches_the_instance_deeply(tmp_path: Any) -> None:
    key = tmp_path / "key"
    key.write_text('{"name": "abc", "privateKey": "xyz"}')
    key.chmod(0o600)
    overrides = {
        "urls": {"api": {"ws": {"spot": "ws://localhost:1/stream/ws"}}},
        "options": {"tradesLimit": 5, "fetchMarkets": {"types": ["spot"]}},
        "has": {"fetchCurrencies": False},
        "timeout": 1234,
    }
    exchange = build(CcxtOptions(id="binance", channels={}, overrides=overrides, api_key_file=str(key)))
    assert exchange.urls["api"]["ws"]["spot"] == "ws://localhost:1/stream/ws"
    assert exchange.urls["api"]["ws"]["linear"].startswith("wss://")
    assert exchange.options["fetchMarkets"]["types"] == ["spot"]
    assert exchange.has["fetchCurrencies"] is False
    assert exchange.has["watchTrades"] is True
    assert (exchange.timeout, exchange.apiKey, exchange.secret) == (1234, "abc", "xyz")
    assert exchange.options["tradesLimit"] == 1000
    assert exchange.streaming["keepAlive"] == 12_000


@pytest.mark.parametrize(
    ("symbol", "overrides", "levels"),
    [
        ("BTC/USDT", {}, 5000),
        ("BTC/USDT:USDT", {}, 1000),  # derivatives refuse more
        ("BTC/USDT", {"options": {"watchOrderBookLimit": 500}}, 500),  # what the user says stands
    ],
)
def test_the_first_snapshot_of_a_spot_book_is_the_deepest_there_is(
    symbol: str, overrides: dict[str, Any], levels: int
) -> None:
    exchange = build(CcxtOptions(id="binance", channels={"orderbook": [symbol]}, overrides=overrides))
    assert exchange.options["watchOrderBookLimit"] == levels
