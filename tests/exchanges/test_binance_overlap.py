"""C08 with Binance's own numbers: a second connection takes over only where no book goes back."""

import asyncio

import pytest
from aiohttp import web

from daedalus.exchanges.adapter import DepthFact
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.exchanges.binance_usdm import BinanceUsdmAdapter
from tests.exchanges.binance_kit import BTC, SWAP, delta, snapshot
from tests.exchanges.shellkit import Exchange, Rig, play
from tests.loops import until

SOON = 0.2 / 3600  # hours


class Spot(BinanceAdapter):
    """At the address of the kit's exchange."""

    def address(self, ws_url: str) -> str:
        return ws_url


class Usdm(BinanceUsdmAdapter):
    """The same."""

    def address(self, ws_url: str) -> str:
        return ws_url


@pytest.mark.parametrize(
    ("make", "symbol", "path"), [(Spot, BTC, "/api/v3/depth"), (Usdm, SWAP, "/fapi/v1/depth")]
)
def test_c08_a_second_connection_that_lags_behind_stores_no_older_book(make, symbol, path) -> None:
    exchange = Exchange()
    wholes = [snapshot(100), snapshot(105)]

    async def whole() -> web.Response:
        return web.Response(body=wholes.pop(0)) if wholes else web.Response(status=503)

    async def say(peer: int, *updates: tuple[int, int]) -> None:
        for first, last in updates:
            raw = delta(first, last, [(100, last)], pu=first - 1)  # the time is always the same
            await exchange.peers[peer].send_str(raw.decode())

    async def work(rig: Rig) -> None:
        def numbers() -> list[int | None]:
            return [fact.nonce for fact in rig.sink.books]

        exchange.rest = {path: [whole]}
        rig.start()
        await until(lambda: numbers() == [100])
        await say(0, (101, 101), (102, 110))
        await until(lambda: numbers() == [100, 101, 110])
        await until(lambda: len(exchange.peers) == 2)
        await say(1, (106, 107))
        await until(rig.adapters[1].ready)  # its book is valid, and three updates behind
        await say(1, (108, 109))
        await until(lambda: rig.adapters[1].snapshots()[0].nonce == 109)
        await asyncio.sleep(0)
        assert rig.shared.rotations == 0
        await say(0, (111, 111))
        await until(lambda: numbers()[-1] == 111)
        await say(1, (110, 110), (111, 113))
        await until(lambda: rig.shared.rotations == 1)
        await say(1, (114, 114))
        await until(lambda: numbers()[-1] == 114)
        assert numbers() == [100, 101, 110, 111, 113, 114]
        assert [(fact.kind, fact.nonce) for fact in rig.sink.of(DepthFact)] == [
            ("snapshot", 100),
            ("update", 101),
            ("update", 110),
            ("update", 111),
            ("snapshot", 113),
            ("update", 114),
        ]
        assert rig.sink.faults == []

    channels = {"orderbook": [symbol], "depth": [symbol]}
    play(exchange, work, channels=channels, make=make, start=False, rotate_after_h=SOON)
