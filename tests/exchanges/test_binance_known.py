"""A market that Binance does not know is refused also where no book is wanted; a delisted one harms none."""

import asyncio

import pytest
from aiohttp import web

from daedalus.exchanges.adapter import Stream
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.exchanges.binance_usdm import BinanceUsdmAdapter
from daedalus.kernel.errors import FatalError
from tests.exchanges.binance_kit import BTC, ETH, asks, opened, quote, trade
from tests.exchanges.shellkit import Exchange, Rig, play

REFUSAL = b'{"code":-1121,"msg":"Invalid symbol."}'
WORDS = "the exchange does not know BTC/USDT: -1121 Invalid symbol."
MESSAGES = {"trades": trade(1), "ticker": quote(7)}


class Plain(BinanceAdapter):
    """At the address of the kit's exchange."""

    def address(self, ws_url: str) -> str:
        return ws_url


@pytest.mark.parametrize("channels", [("trades",), ("ticker",), ("trades", "ticker")])
@pytest.mark.parametrize(
    ("make", "path"),
    [
        (BinanceAdapter, "/api/v3/ticker/bookTicker?symbol=BTCUSDT"),
        (BinanceUsdmAdapter, "/fapi/v1/ticker/bookTicker?symbol=BTCUSDT"),
    ],
)
def test_an_unknown_symbol_without_a_book_is_fatal(make, path, channels) -> None:
    adapter, (ask,) = opened(make, channels=channels)
    assert (ask.path, ask.weight, ask.delay_s, ask.streams) == (path, 2, 0, ())
    (fault,) = adapter.answer(ask.key, 400, REFUSAL)
    assert (fault.fatal, fault.local, fault.reason, fault.detail) == (True, False, "error", WORDS)
    assert fault.streams == tuple(Stream(BTC, channel) for channel in channels)


def test_each_market_without_a_book_is_asked_for_and_one_with_a_book_is_not() -> None:
    adapter = BinanceAdapter({"orderbook": [BTC], "trades": [BTC, ETH], "ticker": ["SOL/USDT"]})
    depth, *known = asks(adapter.subscribe())
    assert "/depth?symbol=BTCUSDT" in depth.path
    assert [ask.path.partition("symbol=")[2] for ask in known] == ["ETHUSDT", "SOLUSDT"]
    assert adapter.answer(known[0].key, 200, b'{"symbol":"ETHUSDT","bidPrice":"0"}') == []
    (fault,) = adapter.answer(known[1].key, 400, REFUSAL)
    assert fault.streams == (Stream("SOL/USDT", "ticker"),)


@pytest.mark.parametrize("channel", list(MESSAGES))
def test_a_market_that_was_heard_and_then_delisted_is_its_own_affair(channel) -> None:
    adapter, (ask,) = opened(channels=(channel,))
    adapter.feed(MESSAGES[channel])
    (ask,) = asks(adapter.subscribe())  # another connection
    fault, again = adapter.answer(ask.key, 400, REFUSAL)
    assert (fault.streams, fault.local, fault.fatal) == ((Stream(BTC, channel),), True, False)
    assert fault.detail == WORDS
    assert (again.path, again.delay_s) == (ask.path, 300)
    assert again.streams == fault.streams  # nobody takes its silence for a fault of the connection
    (again,) = adapter.answer(again.key, 400, REFUSAL)  # said once
    assert adapter.answer(again.key, 200, b"{}") == []
    (ask,) = asks(adapter.subscribe())
    assert len(adapter.answer(ask.key, 400, REFUSAL)) == 2


@pytest.mark.parametrize(
    ("status", "body"), [(403, b"<html>"), (400, b'{"code":-1100,"msg":"Illegal characters"}'), (404, b"")]
)
def test_another_refusal_says_nothing_about_the_market(status, body) -> None:
    adapter, (ask,) = opened(channels=("trades",))
    (fault,) = adapter.answer(ask.key, status, body)
    assert (fault.streams, fault.local, fault.fatal) == ((), True, False)
    assert fault.detail.startswith("cannot find out whether there is a market BTC/USDT: ")


def test_a_collector_of_trades_of_no_market_ends() -> None:
    exchange = Exchange()

    async def work(rig: Rig) -> None:
        exchange.rest = {"/api/v3/ticker/bookTicker": [web.Response(status=400, body=REFUSAL)]}
        with pytest.raises(FatalError, match=r"cannot subscribe at .*: the exchange does not know BTC/USDT"):
            await asyncio.wait_for(rig.start(), 20)

    play(exchange, work, channels={"trades": [BTC]}, make=Plain, start=False)
