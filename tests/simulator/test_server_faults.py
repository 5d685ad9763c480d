"""Faults as a real client meets them: sockets that stop answering, refused handshakes, spoilt answers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daedalus.simulator.server import Server
from daedalus.simulator.sources import Settings
from daedalus.simulator.truth import TruthError
from tests.loops import drive, until
from tests.simulator.makings import truth_lines

SUBSCRIBE = {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 1}
LISTEN = {"type": "subscribe", "channel": "level2", "product_ids": ["BTC-USDT"]}


@contextlib.asynccontextmanager
async def _serving(**more: Any) -> AsyncIterator[tuple[Server, aiohttp.ClientSession]]:
    server = Server(Settings(**{"symbols": ("BTC/USDT",), "rate": 500.0, **more}))
    await server.start()
    running = asyncio.get_running_loop().create_task(server.run())
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            yield server, session
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await server.stop()


async def _order(session: aiohttp.ClientSession, fault: str, **what: Any) -> tuple[int, dict[str, Any]]:
    async with session.post("/ctl", json={"fault": fault, **what}) as reply:
        return reply.status, await reply.json()


async def _quiet(ws: aiohttp.ClientWebSocketResponse, calls: int = 30) -> bool:
    """Return whether nothing arrives for a while."""
    reading = asyncio.get_running_loop().create_task(ws.receive())
    for _ in range(calls):
        await asyncio.sleep(0.005)
    if reading.done():
        return False
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    return True


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"fault": "abort", "exchange": "kraken"}, "there are binance, coinbase"),
        ({"fault": "meteor"}, "there are close, abort"),
        ({"cmd": "fault", "kind": "abort", "exchange": "binanse"}, "there are binance, coinbase"),
        ({"cmd": "fault"}, "the fault None"),
        ({"fault": "gap", "count": "many"}, "cannot order gap"),
    ],
)
def test_an_order_that_makes_no_sense_is_a_400_in_words(what: dict[str, Any], words: str) -> None:
    async def work() -> None:
        async with _serving() as (server, session), session.post("/ctl", json=what) as reply:
            answer = await reply.json()
            assert reply.status == 400
            assert words in answer["error"]
            assert not server.exchange.faults.ordered

    drive(work)


def test_a_frozen_socket_answers_no_ping_and_a_silent_one_does() -> None:
    async def work() -> None:
        async with (
            _serving() as (_, session),
            session.ws_connect("/ws", autoping=False) as spot,
            session.ws_connect("/coinbase", autoping=False) as advanced,
        ):
            await spot.send_json(SUBSCRIBE)
            await advanced.send_json(LISTEN)
            await spot.receive()
            await advanced.receive()
            await _order(session, "freeze", exchange="binance", for_s=60)
            await _order(session, "silence", exchange="coinbase", for_s=60)
            await spot.ping(b"spot")
            await advanced.ping(b"advanced")
            while (message := await advanced.receive()).type is aiohttp.WSMsgType.TEXT:
                pass  # what was on its way
            assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"advanced")
            assert await _quiet(advanced)
            heard = []
            with contextlib.suppress(TimeoutError):
                while True:
                    heard.append((await spot.receive(timeout=0.2)).type)
            assert set(heard) <= {aiohttp.WSMsgType.TEXT}
            assert not spot.closed

    drive(work)


def test_what_a_freeze_withheld_comes_when_it_ends() -> None:
    async def work() -> None:
        async with _serving() as (_, session), session.ws_connect("/ws") as ws:
            await ws.send_json(SUBSCRIBE)
            await ws.receive()
            await _order(session, "freeze", for_s=0.3)
            last = None
            for _ in range(300):
                data = await ws.receive_json()
                assert last is None or data["U"] == last + 1
                last = data["u"]

    drive(work)


def test_a_client_that_does_not_answer_pings_is_cut_and_a_frozen_one_is_not() -> None:
    async def work() -> None:
        async with (
            _serving() as (server, session),
            session.ws_connect("/ws", autoping=False) as mute,
            session.ws_connect("/ws", autoping=False),
            session.ws_connect("/ws") as good,
        ):
            frozen = list(server.exchange.hub.connections)[1]
            server.sockets.deafen(frozen, deaf=True)
            reading = asyncio.get_running_loop().create_task(good.receive())
            for _ in range(20):
                server.sockets.beat()
            assert (await mute.receive()).type is aiohttp.WSMsgType.PING
            await until(lambda: [mine.pinged for mine in server.sockets._open.values()] == [20, None, None])
            for _ in range(11):
                server.sockets.beat()
            await until(lambda: len(server.exchange.hub.connections) == 2)
            assert frozen in server.exchange.hub.connections
            server.sockets.deafen(frozen, deaf=False)
            reading.cancel()

    drive(work)


def test_handshakes_are_refused_and_slow_as_often_as_ordered() -> None:
    async def work() -> None:
        async with _serving() as (_, session):
            await _order(session, "handshake_refused", exchange="binance", status=429)
            with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                await session.ws_connect("/ws")
            assert error.value.status == 429
            await _order(session, "handshake_slow", exchange="coinbase", delay_s=0.3)
            began = asyncio.get_running_loop().time()
            async with session.ws_connect("/ws"):
                pass
            async with session.ws_connect("/coinbase"):
                pass
            assert asyncio.get_running_loop().time() - began > 0.29

    drive(work)


@pytest.mark.parametrize(
    ("exchange", "path"), [("binance", "depth?symbol=BTCUSDT"), ("coinbase", "brokerage/time")]
)
def test_rest_fails_with_status_and_advice_then_works_again(exchange: str, path: str) -> None:
    async def work() -> None:
        async with _serving() as (_, session):
            await _order(session, "rest_error", exchange=exchange, status=429, retry_after_s=3)
            async with session.get(f"/api/v3/{path}") as reply:
                assert (reply.status, reply.headers["Retry-After"]) == (429, "3")
                assert (await reply.json())["code"] == -1003
            async with session.get(f"/api/v3/{path}") as reply:
                assert reply.status == 200
            await _order(session, "rest_error", status=503, path="nothing-like-it")
            async with session.get(f"/api/v3/{path}") as reply:
                assert reply.status == 200

    drive(work)


@pytest.mark.parametrize("how", ["html", "truncated", "shape", "empty"])
def test_a_body_is_spoilt_though_the_status_is_200(how: str) -> None:
    async def work() -> None:
        async with _serving() as (_, session):
            await _order(session, "rest_body", how=how)
            async with session.get("/api/v3/depth?symbol=BTCUSDT") as reply:
                body = await reply.read()
                assert reply.status == 200
            try:
                assert "lastUpdateId" not in json.loads(body)
            except ValueError:
                assert how != "shape"

    drive(work)


def test_an_oversize_frame_is_refused_by_a_client_with_a_bound() -> None:
    async def work() -> None:
        async with _serving() as (_, session), session.ws_connect("/ws", max_msg_size=1 << 20) as ws:
            await ws.send_json(SUBSCRIBE)
            await ws.receive()
            await _order(session, "oversize", size=1 << 30)
            while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.type in (aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSED)

    drive(work)


def test_a_schedule_is_carried_out_and_the_truth_tells_it(tmp_path: Path) -> None:
    schedule, truth = tmp_path / "faults", tmp_path / "truth"
    lines = [{"at_s": 0.02 * n, "fault": "gap", "exchange": "binance", "count": 1} for n in range(5)]
    schedule.write_text("\n".join(map(json.dumps, lines)))

    async def work() -> None:
        async with (
            _serving(faults=str(schedule), truth=str(truth)) as (server, session),
            session.ws_connect("/ws"),
        ):
            await until(lambda: server.exchange.faults.ordered["gap"] == 5)
            async with session.get("/ctl") as reply:
                assert (await reply.json())["faults"]["ordered"] == {"gap": 5}
            async with session.post("/ctl", json={"cmd": "pause"}) as reply:
                assert (await reply.json())["state"] == "paused"

    drive(work)
    told = truth_lines(truth)
    assert [entry["order"]["fault"] for entry in told["fault"]] == ["gap"] * 5
    assert len(told["connected"]) == len(told["gone"]) == 1


def test_a_truth_log_on_a_full_disk_ends_the_playback_in_words() -> None:
    async def work() -> None:
        server = Server(Settings(symbols=("BTC/USDT",), rate=500.0, truth="/dev/full"))
        await server.start()
        try:
            with pytest.raises(
                TruthError, match="cannot write the truth log /dev/full: No space left on device"
            ):
                await server.run()
        finally:
            await server.stop()

    drive(work)
