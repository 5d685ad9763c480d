"""Real ccxt classes against the simulator, over loopback: faults come, every trade is there in the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest

from daedalus.exchanges import ccxt_pro, ccxt_verify
from daedalus.exchanges.adapter import Now
from daedalus.exchanges.ccxt_pro import CcxtExchange, CcxtOptions
from daedalus.kernel.clock import CaptureClock, SystemClock
from daedalus.records import Flag
from daedalus.simulator.menu import read_order
from daedalus.simulator.server import Server
from daedalus.simulator.sources import Settings
from tests.exchanges.fakes import ListSink

pytestmark = pytest.mark.timeout(120)

CHANNELS = ("orderbook", "trades", "ticker")
BOUND_S = 60


class RealTimeSink(ListSink):
    """A sink with a clock."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = CaptureClock(SystemClock())

    def capture(self) -> Now:
        return Now(*self._clock.now(), 0)


@contextlib.asynccontextmanager
async def collecting(
    exchange: str, symbols: list[str], **more: Any
) -> AsyncIterator[tuple[Server, CcxtExchange, RealTimeSink]]:
    server = Server(Settings(symbols=tuple(f"{exchange}:{symbol}" for symbol in symbols), rate=40.0))
    await server.start()
    base = f"127.0.0.1:{server.port}"
    urls: dict[str, Any] = {
        "binance": {"public": f"http://{base}/api/v3", "ws": {"spot": f"ws://{base}/stream/ws"}},
        "coinbase": {"rest": f"http://{base}", "ws": f"ws://{base}/coinbase"},
    }
    overrides = {
        "urls": {"api": urls[exchange]},
        "options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}},
        "has": {"fetchCurrencies": False},
    }
    sink = RealTimeSink()
    channels = dict.fromkeys(CHANNELS, symbols)
    options = CcxtOptions(
        id=exchange, channels=channels, overrides=overrides, stagger_ms=1, reconnect_base_s=0.05, **more
    )
    shell = CcxtExchange(options, sink)
    playing = asyncio.get_running_loop().create_task(server.run())
    running = asyncio.get_running_loop().create_task(shell.run())
    try:
        yield server, shell, sink
        assert not running.done() or running.result() is None
    finally:
        await shell.close()
        for task in (running, playing):
            task.cancel()
        await asyncio.gather(running, playing, return_exceptions=True)
        await server.stop()


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not true():  # noqa: ASYNC110 - the conditions are sockets and counters, not events
            await asyncio.sleep(0.01)


def live(sink: RealTimeSink) -> list[int]:
    """Return how many rows came live, by kind and symbol."""
    symbols = sorted({fact.symbol for fact in sink.markets})
    return [
        len([fact for fact in facts if fact.symbol == symbol and not fact.flags & Flag.BACKFILLED])
        for facts in (sink.books, sink.trades, sink.tickers)
        for symbol in symbols
    ]


async def flowing(sink: RealTimeSink) -> None:
    """Wait until every stream has told something new."""
    before = live(sink)
    await until(lambda: all(now > then + 3 for now, then in zip(live(sink), before, strict=True)))


async def fault(server: Server, sink: RealTimeSink, **order: Any) -> None:
    """Order a fault and wait until it is a gap that is over."""
    before = len(sink.faults)
    server.exchange.order(read_order(order, server.exchange.places))
    await until(lambda: len(sink.faults) > before)
    await flowing(sink)


def numbers(sink: RealTimeSink, symbol: str) -> list[int]:
    """Return the ids of a symbol's trades, each once, as the collector stores them."""
    return sorted({int(trade.trade_id) for trade in sink.trades if trade.symbol == symbol})


def check_books(sink: RealTimeSink) -> None:
    for symbol in {book.symbol for book in sink.books}:
        books = [book for book in sink.books if book.symbol == symbol]
        assert books[0].flags & Flag.SNAPSHOT
        for before, after in pairwise(books):
            assert after.flags & Flag.RESYNC or before.nonce is None or after.nonce > before.nonce
        assert not [book for book in books if book.flags & Flag.CROSSED]


@pytest.mark.parametrize(
    ("exchange", "symbols", "bulk"),
    [("binance", ["BTC/USDT", "ETH/USDT"], 10), ("coinbase", ["BTC/USD", "ETH/USD"], 0)],
)
def test_every_trade_is_there_after_every_fault(exchange: str, symbols: list[str], bulk: int) -> None:
    async def work() -> None:
        more = {"trades": bulk, "ticker": bulk}
        async with collecting(exchange, symbols, bulk=more) as (server, shell, sink):
            await until(lambda: sink.markets)
            await flowing(sink)
            assert {fact.symbol for fact in sink.markets} == set(symbols)
            for order in (
                {"fault": "abort"},
                {"fault": "close"},
                {"fault": "garbage", "how": "json"},
                {"fault": "garbage", "how": "utf8"},
                {"fault": "gap", "stream": "trades", "count": 3},
                {"fault": "gap", "stream": "orderbook", "count": 2},
            ):
                await fault(server, sink, exchange=exchange, **order)
            await until(lambda: all(_contiguous(numbers(sink, symbol)) for symbol in symbols))
            check_books(sink)
            stats = shell.stats()
            assert stats["ccxt_rejections"] == 0
            assert stats["backfilled"] > 0

    asyncio.run(work())


def _contiguous(ids: list[int]) -> bool:
    return ids == list(range(ids[0], ids[-1] + 1))


def test_a_stream_that_falls_silent_is_found_and_a_quiet_one_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ccxt_pro, "_WATCH_S", 0.05)
    monkeypatch.setattr(ccxt_verify, "_GRACE_S", 0.2)

    async def work() -> None:
        wanted = {"stale_min_s": 0.5, "stale_max_s": 1.0}
        async with collecting("binance", ["BTC/USDT"], **wanted) as (server, shell, sink):
            await until(lambda: len(sink.trades) > 40 and len(sink.books) > 40 and sink.tickers)
            before = len(sink.faults)
            server.exchange.pause()  # nobody trades
            await until(lambda: shell.stats()["quiet_spells"] >= 3)
            assert len(sink.faults) == before
            server.exchange.start()
            order = {"fault": "stream_silence", "stream": "trades", "for_s": 30, "exchange": "binance"}
            await fault(server, sink, **order)
            assert "stale" in {one.reason for one, _ in sink.faults}
            await until(lambda: _contiguous(numbers(sink, "BTC/USDT")))

    asyncio.run(work())
