"""Real adapters on the real shell against the simulator: replaced in time, frozen, cut, lied to, whole."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daedalus.exchanges.adapter import BookFact, Control, Fact, Now, Stream, TradeFact
from daedalus.exchanges.native import NativeExchange, NativeOptions
from tests.exchanges.shellkit import Sink
from tests.loops import until
from tests.system.tree import Simulator

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

MARKETS = {"binance": ["BTC/USDT"], "coinbase": ["BTC/USD", "ETH/USD"]}


class Collecting(Sink):
    """A sink with a real clock that takes each trade once, as the collector does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[str, str | None], None] = {}
        self.backwards: list[BookFact] = []
        self._newest: dict[str, int] = {}

    def capture(self) -> Now:
        return Now(time.time_ns() // 1000 * 1000, time.monotonic_ns(), time.time_ns() // 1_000_000)

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        fresh: list[Fact | Control] = []
        for item in items:
            if isinstance(item, TradeFact):
                if (item.symbol, item.trade_id) in self.seen:
                    continue
                self.seen[item.symbol, item.trade_id] = None
                self.last[item.symbol] = str(item.trade_id)
            elif isinstance(item, BookFact):
                number = item.nonce or item.ts_event or 0
                if number < self._newest.get(item.symbol, 0):
                    self.backwards.append(item)
                self._newest[item.symbol] = number
            fresh.append(item)
        super().take(now, fresh)

    def missing(self, symbol: str) -> int:
        """Return how many trade ids between the first and the last never came."""
        ids = [int(number or 0) for name, number in self.seen if name == symbol]
        return max(ids) - min(ids) + 1 - len(ids)


@contextmanager
def simulator(folder: Path) -> Iterator[Simulator]:
    markets = ",".join(f"{name}:{symbol}" for name, symbols in MARKETS.items() for symbol in symbols)
    running = Simulator("--model", "--symbols", markets, "--rate", "100", log=folder / "simulator.log")
    try:
        yield running
    finally:
        running.close()


def collect(
    folder: Path, name: str, work: Callable[[NativeExchange, Collecting, Any], Awaitable[None]], **more: Any
) -> tuple[NativeExchange, Collecting]:
    symbols = MARKETS[name]
    sink = Collecting()
    kept = []

    async def main(running: Simulator) -> None:
        addresses = running.addresses[name]
        options = NativeOptions(
            id=name,
            channels=dict.fromkeys(("orderbook", "depth", "trades", "ticker"), symbols),
            ws_url=addresses["ws"].removesuffix("/stream/ws"),
            rest_url=addresses["rest"].removesuffix("/api/v3"),
            reconnect_base_s=0.05,
            reconnect_cap_s=0.2,
            **more,
        )

        async def order(**what: Any) -> None:
            request = urllib.request.Request(
                running.addresses["ctl"], data=json.dumps(what | {"exchange": name}).encode()
            )
            answer = await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).read())
            assert json.loads(answer)["ok"]

        exchange = NativeExchange(options, sink)
        kept.append(exchange)
        task = asyncio.ensure_future(exchange.run())
        try:
            async with asyncio.timeout(60):
                await work(exchange, sink, order)
        finally:
            await exchange.close()
            await asyncio.wait([task])
        task.result()

    with simulator(folder) as running:
        asyncio.run(main(running))
    return kept[0], sink


def flowing(sink: Collecting, streams: Sequence[Stream]) -> Callable[[], bool]:
    """Return what says whether every book and every trades stream was heard since now."""
    before = len(sink.log)

    def heard() -> bool:
        said = sink.log[before:]
        books = {item.symbol for item in said if isinstance(item, BookFact)}
        trades = {item.symbol for item in said if isinstance(item, TradeFact)}
        return {stream.symbol for stream in streams} == books == trades

    return heard


@pytest.mark.parametrize("name", list(MARKETS))
def test_c08_planned_replacements_of_real_adapters_lose_nothing_and_say_nothing(
    name: str, short_tmp: Path
) -> None:
    async def work(exchange: NativeExchange, sink: Collecting, _order: Any) -> None:
        await until(lambda: exchange.shared.rotations >= 3)
        await until(flowing(sink, exchange.connections[0].adapter.streams))

    exchange, sink = collect(short_tmp, name, work, rotate_after_h=1.0 / 3600)
    assert sink.faults == []
    assert sink.backwards == []
    assert [sink.missing(symbol) for symbol in MARKETS[name]] == [0] * len(MARKETS[name])
    assert exchange.shared.faults == 0


# (order, the reason that a gap row will have)
_MENU: list[tuple[dict[str, Any], str]] = [
    ({"fault": "close"}, "disconnect"),
    ({"fault": "abort"}, "disconnect"),
    ({"fault": "silence", "for_s": 6.0}, "stale"),
    ({"fault": "stream_silence", "stream": "orderbook", "for_s": 8.0}, "stale"),
    ({"fault": "garbage"}, "error"),
    ({"fault": "gap"}, "sequence"),
]


@pytest.mark.parametrize("name", list(MARKETS))
def test_each_fault_of_a_socket_is_told_with_its_reason_and_no_trade_is_missing(
    name: str, short_tmp: Path
) -> None:
    async def work(exchange: NativeExchange, sink: Collecting, order: Any) -> None:
        streams = exchange.connections[0].adapter.streams
        await until(flowing(sink, streams))
        for what, reason in _MENU:
            before = len(sink.faults)
            await order(**what)
            # a busy machine may be silent for a second by itself: another fault is none of this one's
            await until(lambda n=before, reason=reason: any(f.reason == reason for f, _ in sink.faults[n:]))
            await until(flowing(sink, streams))
        # what was asked for by REST is answered by now, or soon
        await until(lambda: not any(sink.missing(symbol) for symbol in MARKETS[name]))

    _, sink = collect(
        short_tmp, name, work, stale_min_s=1.0, stale_max_s=2.0, keepalive_s=1.0, rotate_after_h=10.0
    )
    assert sink.backwards == []
