"""A native exchange: its adapters, how many connections it opens, what it does at each hour and each day."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from daedalus.exchanges import native as module
from daedalus.exchanges.adapter import DepthFact
from daedalus.exchanges.native import NativeExchange, NativeOptions, native, natives
from daedalus.exchanges.socket import NativeConnection
from daedalus.kernel.errors import FatalError
from tests.exchanges.shellkit import BTC, Exchange, Sink
from tests.loops import until

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOON = 1_700_000_000_000 // DAY_MS * DAY_MS + 12 * HOUR_MS


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    known = natives() | {"credulous": "tests.exchanges.shellkit:Credulous"}
    monkeypatch.setattr(module, "natives", lambda: known)


def options(exchange: Exchange | None = None, **more: Any) -> NativeOptions:
    url = "//127.0.0.1:1" if exchange is None else exchange.url
    settings: dict[str, Any] = {
        "id": "credulous",
        "channels": {"trades": [BTC], "depth": [BTC]},
        "ws_url": f"ws:{url}/ws",
        "rest_url": f"http:{url}",
        "reconnect_base_s": 0.001,
        "reconnect_cap_s": 0.002,
        "stagger_ms": 1.0,
    }
    return NativeOptions(**(settings | more))


def play(
    exchange: Exchange,
    work: Callable[[NativeExchange, Sink], Awaitable[None]],
    sink: Sink | None = None,
    **more: Any,
) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), exchange:
            kept = sink or Sink()
            collected = NativeExchange(options(exchange, **more), kept, uniform=lambda low, _high: low)
            task = asyncio.ensure_future(collected.run())
            try:
                await work(collected, kept)
            finally:
                await collected.close()
                await asyncio.wait([task])

    asyncio.run(main())


@pytest.mark.parametrize("name", ["binance", "binanceusdm", "coinbase", "kraken", "okx"])
def test_every_adapter_says_where_it_is_and_what_it_may_do(name: str) -> None:
    adapter = native(name)
    assert adapter.source == "native"
    assert adapter.default_ws_url.startswith("wss://")
    assert adapter.default_rest_url.startswith("https://")
    assert {"orderbook", "trades", "ticker", "depth"} <= set(adapter.channels)
    assert all(
        count > 0 and period_s > 0 for count, period_s in (adapter.limits.connects, adapter.limits.rest)
    )


def test_an_adapter_is_imported_only_when_it_is_asked_for_and_libraries_when_they_are_used() -> None:
    code = (
        "from daedalus.exchanges.native import native, natives; natives(); import sys;"
        "known = tuple('daedalus.exchanges.' + name for name in natives());"
        "assert not [name for name in sys.modules if name.startswith(known)];"
        "native('coinbase'); assert 'daedalus.exchanges.okx' not in sys.modules;"
        "assert not {'aiohttp', 'picows', 'ccxt', 'yarl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_native_adapter_is_fatal() -> None:
    with pytest.raises(FatalError, match="'coinbse' natively: adapters are coinbase"):
        NativeExchange(NativeOptions(id="coinbse", channels={}), Sink())


def test_a_channel_the_exchange_does_not_have_is_fatal() -> None:
    with pytest.raises(FatalError, match="cannot subscribe to nonsense"):
        NativeExchange(options(id="coinbase", channels={"nonsense": [BTC]}), Sink())


def test_a_key_without_a_secret_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEDALUS_MINE_API_KEY", "key")
    with pytest.raises(FatalError, match="no secret"):
        NativeExchange(replace(options(id="coinbase"), exchange="mine"), Sink())


def test_c16_symbols_are_spread_over_connections_with_a_cap_each() -> None:
    channels = {"orderbook": ["A/B", "C/D", "E/F"], "trades": ["E/F", "G/H"]}
    exchange = NativeExchange(options(channels=channels, symbols_per_connection=2), Sink())
    assert [sorted(connection.adapter.streams) for connection in exchange.connections] == [
        [("A/B", "orderbook"), ("C/D", "orderbook")],
        [("E/F", "orderbook"), ("E/F", "trades"), ("G/H", "trades")],
    ]


def test_c16_hundreds_of_symbols_start_one_connection_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = Exchange()
    begun: list[float] = []

    def noted(_connection: NativeConnection) -> None:  # called just before it is started
        begun.append(asyncio.get_running_loop().time())

    monkeypatch.setattr(NativeConnection, "ask_instruments", noted)

    async def work(collected: NativeExchange, _sink: Sink) -> None:
        await until(lambda: collected.stats()["connections"] == 8)
        assert len(exchange.heard) <= 8  # each has subscribed once
        assert all(b - a >= 0.019 for a, b in pairwise(begun))

    channels = {"trades": [f"{n}/USD" for n in range(200)]}
    play(exchange, work, channels=channels, symbols_per_connection=25, stagger_ms=20.0)


def test_the_full_books_are_stored_at_each_hour_by_the_wall_clock() -> None:
    sink = Sink()
    sink.wall_ms = NOON - 30  # 30 ms before the hour

    async def work(_collected: NativeExchange, sink: Sink) -> None:
        await until(lambda: exchange.peers)
        await asyncio.sleep(0.1)
        assert sink.of(DepthFact) == []  # the timer was early: the wall clock has not moved
        sink.wall_ms = NOON + 1
        await until(lambda: sink.of(DepthFact))
        (fact,) = sink.of(DepthFact)
        assert (fact.kind, fact.symbol) == ("snapshot", BTC)

    exchange = Exchange()
    play(exchange, work, sink)


def test_the_markets_are_asked_for_once_the_subscriptions_are_up() -> None:
    exchange = Exchange()
    exchange.rest = {"/instruments": [[["market", BTC]]]}

    async def work(collected: NativeExchange, sink: Sink) -> None:
        await until(lambda: sink.markets)
        assert exchange.heard == ["hello"]  # before it
        assert exchange.asked == ["/instruments"]
        assert collected.stats()["rest_requests"] == 1

    play(exchange, _hurried(work))


def test_d32_the_markets_are_asked_for_again_after_each_midnight_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AFTER_MIDNIGHT_S", (0.01, 0.02))
    exchange = Exchange()
    exchange.rest = {"/instruments": [[["market", BTC]]]}
    sink = Sink()
    sink.wall_ms = NOON + 12 * HOUR_MS - 50

    async def work(_collected: NativeExchange, sink: Sink) -> None:
        await until(lambda: len(exchange.asked) == 1)
        sink.wall_ms = NOON + 12 * HOUR_MS + 1
        await until(lambda: len(exchange.asked) == 2)

    play(exchange, _hurried(work), sink)


def test_markets_that_cannot_be_had_are_a_warning_and_another_try(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("daedalus.exchanges.errands._RETRY_S", 0.01)
    monkeypatch.setattr("daedalus.exchanges.errands._RETRY_S_MAX", 0.02)
    exchange = Exchange()
    exchange.rest = {"/instruments": [403, [["market", BTC]]]}

    async def work(_collected: NativeExchange, sink: Sink) -> None:
        await until(lambda: sink.markets)
        assert sink.faults == []
        assert len(exchange.peers) == 1

    play(exchange, _hurried(work))
    assert "instruments_unavailable" in "".join(capsys.readouterr())


def test_markets_still_owed_are_asked_for_on_the_next_connection() -> None:
    exchange = Exchange()
    release = asyncio.Event()

    async def slow() -> list[Any]:
        await release.wait()
        return [["market", BTC]]

    exchange.rest = {"/instruments": [slow, [["market", BTC]]]}

    async def work(_collected: NativeExchange, sink: Sink) -> None:
        await until(lambda: exchange.asked)
        exchange.cut(exchange.peers[0])
        await until(lambda: sink.markets)
        release.set()
        assert exchange.asked == ["/instruments"] * 2

    play(exchange, _hurried(work))


def test_statistics_are_counters() -> None:
    async def work(collected: NativeExchange, sink: Sink) -> None:
        await exchange_ready(collected)
        await until(lambda: len(sink.ids) == 1)
        assert collected.stats() == {
            "connections": 1,
            "connects": 1,
            "messages": 1,
            "faults": 0,
            "resyncs": 0,
            "rotations": 0,
            "backfilled": 0,
            "rest_requests": 0,
            "rest_retries": 0,
            "sends_waited": 0,
            "symbols_missing": None,
        }

    play(Exchange([[["trade", BTC, "1"]]]), work)


def test_a_fault_of_ours_in_one_connection_ends_the_others() -> None:
    async def main() -> None:
        async with asyncio.timeout(20), Exchange([], [[["fatal"]]]) as exchange:
            collected = NativeExchange(
                options(exchange, channels={"trades": ["A/B", "C/D"]}, symbols_per_connection=1), Sink()
            )
            with pytest.raises(FatalError, match="told to"):
                await collected.run()
            assert collected.stats()["connections"] == 0

    asyncio.run(main())


async def exchange_ready(collected: NativeExchange) -> None:
    await until(lambda: all(connection.open for connection in collected.connections))


def _hurried(
    work: Callable[[NativeExchange, Sink], Awaitable[None]],
) -> Callable[[NativeExchange, Sink], Awaitable[None]]:
    """Ask for the markets at once instead of in some seconds."""

    async def hurried(collected: NativeExchange, sink: Sink) -> None:
        collected.shared.options = replace(collected.shared.options, instruments_after_s=0.001)
        await work(collected, sink)

    return hurried


def test_channels_that_cannot_share_a_connection_get_one_each() -> None:
    channels = {"orderbook": ["BTC/USDT", "ETH/USDT"], "trades": ["BTC/USDT"]}
    options = NativeOptions(id="okx", channels=channels)
    alone, trades = module.divided(native("okx"), channels, 50)
    assert (alone, trades) == ({"orderbook": ["BTC/USDT", "ETH/USDT"]}, {"trades": ["BTC/USDT"]})
    assert len(NativeExchange(options, Sink()).connections) == 2
    assert len(NativeExchange(replace(options, id="kraken"), Sink()).connections) == 1
