"""Every watch method is a channel: refused where it is not there, frozen in its own step where it is."""

import json
from typing import Any

import pytest

from daedalus.exchanges.adapter import Stream
from daedalus.exchanges.ccxt_channels import method_of
from daedalus.exchanges.ccxt_events import Events
from daedalus.kernel.errors import FatalError
from daedalus.records import Flag
from tests.exchanges.ccxt_kit import Desk, okx, turns, with_desk

CANDLES = Stream("BTC/USD", "ohlcv")


def kline(start: int, close: str, *, final: bool = False) -> dict[str, Any]:
    candle = {"t": start, "s": "BTCUSDT", "i": "1m", "o": "1", "h": "3", "l": "1", "c": close, "v": "5"}
    return {"e": "kline", "E": start + 5, "s": "BTCUSDT", "k": candle | {"x": final}}


@pytest.mark.parametrize(
    ("channel", "method"),
    [
        ("orderbook", "watchOrderBook"),
        ("trades", "watchTrades"),
        ("ticker", "watchTicker"),
        ("bidask", "watchBidsAsks"),
        ("ohlcv", "watchOHLCV"),
        ("mark_price", "watchMarkPrice"),
        ("liquidations", "watchLiquidations"),
    ],
)
def test_a_channel_is_a_watch_method(channel: str, method: str) -> None:
    assert method_of(channel) == method


def test_depth_is_refused_because_ccxt_folds_it_away() -> None:
    async def work(desk: Desk) -> None:
        with pytest.raises(FatalError, match="only native adapters have it"):
            await desk.shell.run()

    with_desk("binance", {"depth": ["BTC/USDT"]})(work)


def test_a_channel_the_exchange_does_not_have_is_refused_with_what_it_has() -> None:
    async def work(desk: Desk) -> None:
        with pytest.raises(FatalError) as refused:
            await desk.shell.run()
        assert "coinbase has no watchFundingRate for the channel 'funding_rate'" in str(refused.value)
        assert "coinbase has no watchOHLCV for the channel 'ohlcv'" in str(refused.value)
        assert "it has watchOrderBook, watchOrders, watchTicker, watchTickers, watchTrades" in str(
            refused.value
        )

    with_desk("coinbase", {"funding_rate": ["BTC/USD"], "ohlcv": ["BTC/USD"]})(work)


def test_a_call_that_can_never_succeed_is_fatal_and_names_its_stream() -> None:
    async def work(desk: Desk) -> None:  # a spot market has no mark price, which ccxt knows when it is called
        with pytest.raises(FatalError, match=r"cannot subscribe mark_price BTC/USDT: NotSupported"):
            await desk.shell.run()

    with_desk("binance", {"mark_price": ["BTC/USDT"]})(work)


def test_candles_are_told_when_they_change() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        assert desk.line.sent[0]["params"] == ["btcusdt@kline_1m"]
        await desk.say(
            desk.line,
            kline(60_000, "2"),
            kline(60_000, "2"),  # nothing new
            kline(60_000, "2.5", final=True),
            kline(120_000, "2.5"),
        )
        assert [(event.ts_event, json.loads(event.data_json)) for event in desk.sink.events] == [
            (60_000_000_000, [60_000, 1.0, 3.0, 1.0, 2.0, 5.0]),
            (60_000_000_000, [60_000, 1.0, 3.0, 1.0, 2.5, 5.0]),
            (120_000_000_000, [120_000, 1.0, 3.0, 1.0, 2.5, 5.0]),
        ]
        assert {(e.symbol, e.channel, e.method) for e in desk.sink.events} == {
            ("BTC/USDT", "ohlcv", "watchOHLCV")
        }

    with_desk("binance", {"ohlcv": ["BTC/USDT"]})(work)


@pytest.mark.parametrize("exchange", ["kraken", "okx"])
def test_candles_of_other_exchanges(exchange: str) -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        start = {"kraken": "2023-10-06T17:35:00.000000000Z", "okx": "1696613700000"}[exchange]
        if exchange == "kraken":
            candle = {"symbol": "BTC/USD", "open": 1, "high": 3, "low": 1, "close": 2, "volume": 5}
            candle |= {"interval_begin": start, "interval": 1}
            message: Any = {"channel": "ohlc", "type": "snapshot", "data": [candle]}
        else:
            message = okx("candle1m", "BTC-USD", ["1696613700000", "1", "3", "1", "2", "5", "5", "5", "0"])  # type: ignore[arg-type]
        await desk.say(desk.line, message)
        (event,) = desk.sink.events
        assert json.loads(event.data_json) == [1_696_613_700_000, 1.0, 3.0, 1.0, 2.0, 5.0]
        assert event.ts_event == 1_696_613_700_000_000_000

    with_desk(exchange, {"ohlcv": ["BTC/USD"]})(work)


def test_candles_that_ended_while_nobody_listened_are_flagged() -> None:
    events = Events()
    first = events.candles(CANDLES, "watchOHLCV", [[n * 60_000, 1, 1, 1, 1, 1] for n in range(5)])
    assert [(event.ts_event, event.flags) for event in first] == [(240_000_000_000, 0)]
    later = [[n * 60_000, 1, 1, 1, 1, 2] for n in range(8)]
    assert [
        (e.ts_event // 60_000_000_000, e.flags) for e in events.candles(CANDLES, "watchOHLCV", later)
    ] == [
        (4, 0),
        (5, Flag.BACKFILLED),
        (6, Flag.BACKFILLED),
        (7, 0),
    ]
    assert events.candles(CANDLES, "watchOHLCV", later) == []


def test_best_bid_and_ask_are_events_and_a_ticker_beside_them_is_merged() -> None:
    async def work(desk: Desk) -> None:
        await desk.start(lines=2)
        quotes = next(line for line in desk.lines if line.requests("@bookTicker"))
        await desk.say(quotes, {"u": 7, "s": "BTCUSDT", "b": "100", "B": "1", "a": "101", "A": "2"})
        (event,) = desk.sink.events
        data = json.loads(event.data_json)
        assert (event.channel, event.method, event.ts_event) == ("bidask", "watchBidsAsks", None)
        assert (data["bid"], data["ask"], data["symbol"]) == (100.0, 101.0, "BTC/USDT")
        assert [(ticker.bid, ticker.last) for ticker in desk.sink.tickers] == [(100.0, None)]

    with_desk("binance", {"bidask": ["BTC/USDT"], "ticker": ["BTC/USDT"]})(work)


def test_mark_prices_and_liquidations_are_events() -> None:
    async def work(desk: Desk) -> None:
        await desk.start(lines=2)
        marks = next(line for line in desk.lines if line.requests("markPrice"))
        forced = next(line for line in desk.lines if line.requests("forceOrder"))
        order = {"s": "BTCUSDT", "S": "SELL", "o": "LIMIT", "q": "1.5", "p": "100", "ap": "99", "T": 9}
        order |= {"X": "FILLED", "l": "1.5", "z": "1.5", "f": "IOC"}
        mark = {
            "e": "markPriceUpdate",
            "E": 8,
            "s": "BTCUSDT",
            "p": "100.5",
            "i": "100",
            "r": "0.0001",
            "T": 9,
        }
        await desk.say(marks, mark)
        await desk.say(
            forced, {"e": "forceOrder", "E": 10, "o": order}, {"e": "forceOrder", "E": 11, "o": order}
        )
        assert [(event.channel, event.method, event.symbol) for event in desk.sink.events] == [
            ("mark_price", "watchMarkPrice", "BTC/USDT:USDT"),
            ("liquidations", "watchLiquidations", "BTC/USDT:USDT"),
            ("liquidations", "watchLiquidations", "BTC/USDT:USDT"),
        ]
        assert json.loads(desk.sink.events[0].data_json)["markPrice"] == 100.5
        assert json.loads(desk.sink.events[1].data_json)["price"] == 99.0
        assert [event.ts_event for event in desk.sink.events] == [8_000_000, 9_000_000, 9_000_000]

    with_desk("binanceusdm", {c: ["BTC/USDT:USDT"] for c in ("mark_price", "liquidations")})(work)


def test_events_of_a_cache_are_told_once_and_again_when_they_change() -> None:
    events, stream = Events(), Stream("BTC/USDT", "orders")
    first = {"id": "1", "symbol": "BTC/USDT", "status": "open", "timestamp": 5}
    second = {"id": "2", "symbol": "BTC/USDT", "status": "open", "timestamp": 6}

    def told(cache: list[Any]) -> list[str]:
        return [
            "{id} {status}".format(**json.loads(event.data_json))
            for event in events.fresh(stream, "watchOrders", cache)
        ]

    assert told([first, second]) == ["1 open", "2 open"]
    assert told([first, second]) == []
    first["status"] = "closed"  # ccxt changes its own object and moves it to the end
    assert told([second, first]) == ["1 closed"]


def test_bulk_subscriptions_for_trades_and_tickers_and_single_ones_for_books() -> None:
    async def work(desk: Desk) -> None:
        desk.answer(fetch_rest_order_book_safe=lambda *_: OSError())
        await desk.start(lines=6)
        params = sorted(sorted(line.sent[0]["params"]) for line in desk.lines)
        assert params == [
            ["btcusdt@bookTicker", "ethusdt@bookTicker", "xrpusdt@bookTicker"],
            ["btcusdt@depth@100ms"],
            ["btcusdt@ticker", "ethusdt@ticker", "xrpusdt@ticker"],
            ["btcusdt@trade", "ethusdt@trade"],
            ["ethusdt@depth@100ms"],
            ["xrpusdt@trade"],
        ]
        tickers = next(line for line in desk.lines if line.requests("btcusdt@ticker"))
        quotes = next(line for line in desk.lines if line.requests("@bookTicker"))
        for number, name in enumerate(("ETH", "XRP", "BTC")):
            head = {"e": "24hrTicker", "E": 9, "s": f"{name}USDT", "c": f"{number}.5", "C": 8}
            await desk.say(tickers, head)
            await desk.say(quotes, {"u": 1, "s": f"{name}USDT", "b": "1", "B": "1", "a": "2", "A": "1"})
        assert [(t.symbol, t.bid, t.last) for t in desk.sink.tickers[1::2]] == [
            ("ETH/USDT", 1.0, 0.5),
            ("XRP/USDT", 1.0, 1.5),
            ("BTC/USDT", 1.0, 2.5),
        ]

    names = ["BTC/USDT", "ETH/USDT", "XRP/USDT"]
    channels = {"orderbook": names[:2], "trades": names, "ticker": names}
    with_desk("binance", channels, bulk={"trades": 2, "ticker": 10})(work)


def test_coinbase_tickers_are_never_in_bulk_because_those_come_every_five_seconds() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        await desk.until(lambda: len(desk.line.requests('"ticker"')) == 2)
        assert not desk.line.requests("ticker_batch")

    with_desk("coinbase", {"ticker": ["BTC/USD", "ETH/USD"]}, bulk={"ticker": 10})(work)


def test_books_in_bulk_where_the_user_wants_them() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        (request,) = desk.line.requests("books")
        assert [arg["instId"] for arg in request["args"]] == ["BTC-USDT", "ETH-USDT"]
        acks = [{"event": "subscribe", "arg": arg} for arg in request["args"]]
        await desk.say(desk.line, acks[0])
        assert desk.sink.confirmed == []
        await desk.say(desk.line, acks[1])
        assert sorted(stream.symbol for stream in desk.sink.confirmed) == ["BTC/USDT", "ETH/USDT"]

    with_desk("okx", {"orderbook": ["BTC/USDT", "ETH/USDT"]}, bulk={"orderbook": 20})(work)


def test_a_bulk_subscription_that_is_refused_twice_is_split() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        for count in (1, 2):
            await desk.until(lambda n=count: len(desk.lines) == n and desk.line.sent)
            request = desk.line.sent[0]
            assert len(request["params"]) == 2
            desk.line.push(
                {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": request["id"]}
            )
        await desk.until(lambda: len(desk.lines) == 4 and all(line.sent for line in desk.lines))
        await turns()
        assert sorted(line.sent[0]["params"] for line in desk.lines[2:]) == [
            ["btcusdt@trade"],
            ["ethusdt@trade"],
        ]

    with_desk("binance", {"trades": ["BTC/USDT", "ETH/USDT"]}, bulk={"trades": 10})(work)
