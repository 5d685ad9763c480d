"""Real ccxt classes of four exchanges, offline: what they say becomes the right rows of the right stream."""

from typing import Any

import pytest

from daedalus.exchanges.adapter import Stream
from daedalus.records import Flag, unpack_side
from tests.exchanges.ccxt_kit import (
    Desk,
    binance_trade,
    coinbase,
    coinbase_book,
    coinbase_trades,
    okx,
    okx_book,
    with_desk,
)


def delta(first: int, last: int, before: int | None = None, bids: list[list[str]] | None = None) -> Any:
    message = {"e": "depthUpdate", "E": 5, "s": "BTCUSDT", "U": first, "u": last, "b": bids or [], "a": []}
    return message if before is None else message | {"pu": before}


@pytest.mark.parametrize(("exchange", "symbol"), [("binance", "BTC/USDT"), ("binanceusdm", "BTC/USDT:USDT")])
def test_binance_spot_and_usdm_trades_and_books(exchange: str, symbol: str) -> None:
    async def work(desk: Desk) -> None:
        snapshot = {"bids": [[100.0, 1.0]], "asks": [[101.0, 2.0]], "nonce": 10, "symbol": symbol}
        desk.answer(fetch_rest_order_book_safe=lambda *_: dict(snapshot, timestamp=None, datetime=None))
        await desk.start(lines=2)
        books, trades = (
            next(line for line in desk.lines if line.requests(word)) for word in ("@depth", "@trade")
        )
        futures = exchange == "binanceusdm"
        await desk.say(books, {"result": None, "id": books.sent[0]["id"]})
        await desk.until(lambda: desk.sink.books)
        await desk.say(
            books,
            delta(9, 12, 8 if futures else None, [["100.5", "3"]]),
            delta(13, 14, 12 if futures else None),
        )
        assert [(book.symbol, book.nonce) for book in desk.sink.books] == [
            (symbol, 10),
            (symbol, 12),
            (symbol, 14),
        ]
        assert unpack_side(desk.sink.books[-1].bids) == [(100.5, 3.0), (100.0, 1.0)]
        await desk.say(trades, {"result": None, "id": trades.sent[0]["id"]}, binance_trade(7))
        (trade,) = desk.sink.trades
        assert (trade.symbol, trade.trade_id, trade.side, trade.side_raw) == (symbol, "7", "sell", "m=true")
        assert trade.ts_event == 1_007_000_000
        assert desk.sink.faults == []

    with_desk(exchange, {"orderbook": [symbol], "trades": [symbol]})(work)


def test_coinbase_takes_the_takers_side_and_flags_what_came_before() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        line = desk.line
        await desk.until(lambda: len(line.requests("product_ids", "BTC-USD")) == 2)
        assert line.requests("heartbeats")
        await desk.say(
            line,
            coinbase("subscriptions", 0, {"subscriptions": {"heartbeats": ["heartbeats"]}}),
            coinbase("subscriptions", 1, {"subscriptions": {"level2": ["BTC-USD"]}}),
            coinbase(
                "l2_data",
                2,
                coinbase_book("BTC-USD", ("bid", "100", "1"), ("offer", "101", "2"), kind="snapshot"),
            ),
            coinbase("l2_data", 3, coinbase_book("BTC-USD", ("bid", "100.5", "4"))),
            coinbase(
                "market_trades", 4, coinbase_trades(("8", "BTC-USD"), ("7", "BTC-USD"), kind="snapshot")
            ),
            coinbase("market_trades", 5, coinbase_trades(("10", "BTC-USD"), ("9", "BTC-USD"))),
        )
        assert desk.sink.faults == []
        assert [unpack_side(book.bids) for book in desk.sink.books] == [
            [(100.0, 1.0)],
            [(100.5, 4.0), (100.0, 1.0)],
        ]
        assert [(t.trade_id, t.flags, t.side, t.side_raw) for t in desk.sink.trades] == [
            ("7", Flag.BACKFILLED, "sell", "BUY"),
            ("8", Flag.BACKFILLED, "sell", "BUY"),
            ("9", 0, "sell", "BUY"),
            ("10", 0, "sell", "BUY"),
        ]

    with_desk("coinbase", {"orderbook": ["BTC/USD"], "trades": ["BTC/USD"]})(work)


def test_c15_an_alias_is_stored_under_the_symbol_that_was_asked_for() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        await desk.until(lambda: len(desk.line.requests("BTC-USDC")) == 3)
        await desk.say(
            desk.line,  # the exchange speaks of BTC-USD
            coinbase(
                "l2_data",
                0,
                coinbase_book("BTC-USD", ("bid", "100", "1"), ("offer", "101", "2"), kind="snapshot"),
            ),
            coinbase("market_trades", 1, coinbase_trades(("9", "BTC-USD"))),
            coinbase(
                "ticker",
                2,
                {"type": "update", "tickers": [{"type": "ticker", "product_id": "BTC-USD", "price": "5"}]},
            ),
        )
        assert {book.symbol for book in desk.sink.books} == {"BTC/USDC"}
        assert [trade.symbol for trade in desk.sink.trades] == ["BTC/USDC"]
        assert [ticker.symbol for ticker in desk.sink.tickers] == ["BTC/USDC"]

    with_alias(work)


def with_alias(work: Any) -> None:
    channels = {"orderbook": ["BTC/USDC"], "trades": ["BTC/USDC"], "ticker": ["BTC/USDC"]}

    async def prepared(desk: Desk) -> None:
        from tests.exchanges.ccxt_kit import market_of

        desk.markets.append(market_of(desk.exchange, "BTC/USD"))
        await work(desk)

    with_desk("coinbase", channels)(prepared)


def test_d11_two_products_that_are_aliases_keep_their_own_rows() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        await desk.until(lambda: len(desk.line.requests("market_trades")) == 2)
        await desk.say(desk.line, coinbase("market_trades", 0, coinbase_trades(("9", "BTC-USD"))))
        assert sorted(trade.symbol for trade in desk.sink.trades) == ["BTC/USD", "BTC/USDC"]

    with_desk("coinbase", {"trades": ["BTC/USD", "BTC/USDC"]})(work)


def test_trades_of_several_products_in_one_message_are_shared_out() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        await desk.until(lambda: len(desk.line.requests("market_trades")) == 2)
        event = coinbase_trades(("4", "BTC-USD"), ("3", "ETH-USD"), ("2", "BTC-USD"))
        await desk.say(desk.line, coinbase("market_trades", 0, event))
        assert [(t.symbol, t.trade_id) for t in desk.sink.trades] == [
            ("BTC/USD", "2"),
            ("BTC/USD", "4"),
            ("ETH/USD", "3"),
        ]

    with_desk("coinbase", {"trades": ["BTC/USD", "ETH/USD"]})(work)


def test_kraken_books_trades_and_tickers() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        line = desk.line
        await desk.until(lambda: len(line.requests("subscribe")) == 3)
        (request,) = line.requests('"book"')
        assert request["params"]["depth"] == 100  # the smallest that has 50 levels
        levels = {
            "bids": [{"price": 100.1, "qty": 0.5}],
            "asks": [{"price": 100.2, "qty": 0.25}],
            "checksum": 1,
        }
        trade = {"symbol": "BTC/USD", "side": "buy", "price": 100.2, "qty": 0.1, "ord_type": "limit"}
        trade |= {"trade_id": 5, "timestamp": "2023-10-06T17:35:55.440295Z"}
        ticker = {"symbol": "BTC/USD", "bid": 100.1, "bid_qty": 2.5, "ask": 100.2, "ask_qty": 3.2}
        await desk.say(
            line,
            {"channel": "book", "type": "snapshot", "data": [{"symbol": "BTC/USD"} | levels]},
            {
                "channel": "book",
                "type": "update",
                "data": [
                    {
                        "symbol": "BTC/USD",
                        "bids": [{"price": 100.1, "qty": 0.75}],
                        "asks": [],
                        "timestamp": trade["timestamp"],
                    }
                ],
            },
            {"channel": "trade", "type": "snapshot", "data": [trade | {"trade_id": 4}]},
            {"channel": "trade", "type": "update", "data": [trade]},
            {"channel": "ticker", "type": "update", "data": [ticker | {"last": 100.15}]},
        )
        first, second = desk.sink.books
        # D-01: what the exchange does not say is missing, not 0 and not our own time
        assert (first.ts_event, first.nonce, second.nonce) == (None, None, None)
        assert unpack_side(second.bids) == [(100.1, 0.75)]
        assert [(t.trade_id, t.flags) for t in desk.sink.trades] == [("4", Flag.BACKFILLED), ("5", 0)]
        assert [(t.bid, t.ask, t.last) for t in desk.sink.tickers] == [(100.1, 100.2, 100.15)]

    with_desk("kraken", {c: ["BTC/USD"] for c in ("orderbook", "trades", "ticker")})(work)


def test_okx_books_trades_and_tickers() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        await desk.until(lambda: len(desk.line.requests("subscribe")) == 3)
        trade = {"instId": "BTC-USDT", "tradeId": "5", "px": "100.2", "sz": "0.1", "side": "buy"}
        trade |= {"ts": "1630048897897", "count": "1"}
        ticker = {"instType": "SPOT", "instId": "BTC-USDT", "last": "100.1", "askPx": "100.2", "askSz": "1"}
        ticker |= {"bidPx": "100", "bidSz": "5", "ts": "1597026383085"}
        await desk.say(
            desk.line,
            okx("books", "BTC-USDT", okx_book(10, -1, [("100", "1")], [("101", "2")]), action="snapshot"),
            okx("books", "BTC-USDT", okx_book(15, 10, [("100", "3")], []), action="update"),
            okx("trades", "BTC-USDT", trade, trade | {"tradeId": "6", "count": "3"}),
            okx("tickers", "BTC-USDT", ticker),
        )
        assert desk.sink.faults == []
        assert [(b.nonce, unpack_side(b.bids)) for b in desk.sink.books] == [
            (10, [(100.0, 1.0)]),
            (15, [(100.0, 3.0)]),
        ]
        # C03: three trades told as one are flagged
        assert [(t.trade_id, t.flags) for t in desk.sink.trades] == [("5", 0), ("6", Flag.CONFLATED)]
        assert [(t.bid, t.ask, t.last) for t in desk.sink.tickers] == [(100.0, 100.2, 100.1)]

    with_desk("okx", {c: ["BTC/USDT"] for c in ("orderbook", "trades", "ticker")})(work)


def test_a_gap_ends_at_the_acknowledgement_of_its_own_subscription() -> None:
    book, trades = Stream("BTC/USD", "orderbook"), Stream("BTC/USD", "trades")

    async def work(desk: Desk) -> None:
        await desk.start()
        await desk.until(lambda: len(desk.line.requests("BTC-USD")) == 2)
        await desk.say(
            desk.line,
            coinbase("heartbeats", 0, {"heartbeat_counter": 1}),
            coinbase("subscriptions", 1, {"subscriptions": {"level2": ["BTC-USD"]}}),
        )
        assert desk.sink.confirmed == [book]  # whatever else arrives on the socket says nothing of trades
        await desk.say(
            desk.line,
            coinbase("subscriptions", 2, {"subscriptions": {"level2": ["BTC-USD"], "market_trades": []}}),
        )
        assert desk.sink.confirmed == [book]
        await desk.say(
            desk.line,
            coinbase("subscriptions", 3, {"subscriptions": {"market_trades": ["BTC-USD"]}}),
        )
        assert desk.sink.confirmed == [book, trades]

    with_desk("coinbase", {"orderbook": ["BTC/USD"], "trades": ["BTC/USD"]})(work)
