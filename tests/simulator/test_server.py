"""The sockets: every path a client connects to, the control endpoint, slow and vanishing clients."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daedalus.kernel.errors import ConfigError
from daedalus.simulator import hub
from daedalus.simulator.server import Server
from daedalus.simulator.sources import Settings
from tests.loops import drive, until
from tests.simulator.makings import binance_lines, coinbase_lines, write

SUBSCRIBE = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}


@contextlib.asynccontextmanager
async def _serving(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[Server, aiohttp.ClientSession]]:
    recordings = (
        f"{write(tmp_path / 'b', binance_lines())}:BTC/USDT",
        f"{write(tmp_path / 'c', coinbase_lines())}:SKL/USD",
    )
    settings = Settings(**{"recordings": recordings, "speed": 50.0, "start": "on-command", **more})
    server = Server(settings)
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


async def _control(session: aiohttp.ClientSession, **command: Any) -> tuple[int, dict[str, Any]]:
    async with session.post("/ctl", json=command) as reply:
        return reply.status, await reply.json()


@pytest.mark.parametrize(
    ("path", "combined"),
    [
        ("/stream/ws", False),
        ("/stream/ws/3", False),
        ("/ws", False),
        ("/ws/7", False),
        ("/stream", True),
    ],
)
def test_every_path_of_binance_speaks_in_its_form(tmp_path: Path, path: str, combined: bool) -> None:
    async def work() -> None:
        async with _serving(tmp_path) as (_, session), session.ws_connect(path) as ws:
            await ws.send_json(SUBSCRIBE)
            assert await ws.receive_json() == {"result": None, "id": 1}
            assert (await _control(session, cmd="start"))[1]["ok"]
            message = await ws.receive_str()
            line = next(line for line in binance_lines() if "@trade" in line).partition(" ")[2]
            assert message == (line if combined else line.partition('"data":')[2][:-1])

    drive(work)


@pytest.mark.parametrize(
    ("path", "combined"), [("/ws/btcusdt@trade", False), ("/stream?streams=btcusdt@trade", True)]
)
def test_streams_can_be_named_in_the_address(tmp_path: Path, path: str, combined: bool) -> None:
    async def work() -> None:
        async with _serving(tmp_path) as (_, session), session.ws_connect(path) as ws:
            await _control(session, cmd="start")
            assert ("stream" in await ws.receive_json()) == combined

    drive(work)


def test_coinbase_speaks_and_beats(tmp_path: Path) -> None:
    async def work() -> None:
        async with _serving(tmp_path) as (_, session), session.ws_connect("/coinbase") as ws:
            for channel in ("heartbeats", "level2", "market_trades"):
                await ws.send_json({"type": "subscribe", "channel": channel, "product_ids": ["SKL-USD"]})
            heard = [await ws.receive_json() for _ in range(5)]
            await _control(session, cmd="start")
            while heard[-1]["channel"] != "heartbeats":
                heard.append(await ws.receive_json())
            assert [message["sequence_num"] for message in heard] == list(range(len(heard)))
            kinds = [message["channel"] for message in heard]
            assert kinds.count("l2_data") == 3
            assert kinds.count("market_trades") == 2

    drive(work)


def test_rest_of_both_exchanges_is_on_one_port(tmp_path: Path) -> None:
    async def work() -> None:
        async with _serving(tmp_path) as (server, session):
            async with session.get("/api/v3/depth?symbol=BTCUSDT&limit=5") as reply:
                assert (await reply.json())["lastUpdateId"] == 11
            async with session.get("/api/v3/depth?symbol=NOPE") as reply:
                assert reply.status == 400
            async with session.get("/api/v3/brokerage/market/products") as reply:
                assert (await reply.json())["products"][0]["product_id"] == "SKL-USD"
            async with session.get("/v2/currencies") as reply:
                assert await reply.json() == {"data": []}
            addresses = server.addresses()
            assert addresses["symbols"] == {"binance": ["BTC/USDT"], "coinbase": ["SKL/USD"]}
            assert addresses["binance"]["ws"] == f"ws://127.0.0.1:{server.port}/stream/ws"

    drive(work)


def test_the_state_goes_from_waiting_to_ended_and_sockets_stay_open(tmp_path: Path) -> None:
    async def work() -> None:
        async with _serving(tmp_path) as (server, session), session.ws_connect("/ws") as ws:
            async with session.get("/ctl") as reply:
                assert (await reply.json())["state"] == "waiting"
            await _control(session, cmd="start")
            await until(server.ended)
            async with session.get("/ctl") as reply:
                status = await reply.json()
            assert (status["state"], status["clients"]) == ("ended", 1)
            await ws.send_json(SUBSCRIBE)
            assert await ws.receive_json() == {"result": None, "id": 1}

    drive(work)


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b'{"cmd":"fly"}', b'{"cmd":"fault","kind":"meteor"}', b"{}"]
)
def test_a_bad_command_is_refused_in_words(tmp_path: Path, body: bytes) -> None:
    async def work() -> None:
        async with _serving(tmp_path) as (_, session), session.post("/ctl", data=body) as reply:
            answer = await reply.json()
            assert reply.status == 400
            assert not answer["ok"]
            assert answer["error"]

    drive(work)


@pytest.mark.parametrize("kind", ["close", "abort"])
def test_connections_can_be_cut(tmp_path: Path, kind: str) -> None:
    async def work() -> None:
        async with (
            _serving(tmp_path) as (server, session),
            session.ws_connect("/ws") as ws,
            session.ws_connect("/coinbase") as other,
        ):
            cutting = asyncio.get_running_loop().create_task(
                _control(session, cmd="fault", kind=kind, exchange="binance")
            )
            message = await ws.receive()
            assert message.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            )
            assert (await cutting)[1] == {"ok": True, "connections": 1}
            await until(lambda: len(server.exchange.hub.connections) == 1)
            await other.send_json({"type": "subscribe", "channel": "heartbeats"})
            assert (await other.receive_json())["channel"] == "subscriptions"

    drive(work)


def test_a_client_that_reads_too_slowly_is_cut_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUEUE_MESSAGES", 3)

    async def work() -> None:
        async with (
            _serving(tmp_path) as (server, session),
            session.ws_connect("/ws") as slow,
            session.ws_connect("/ws") as ws,
        ):
            first = next(iter(server.exchange.hub.connections.values()))
            for _ in range(5):
                first.push(b"{}")
            await until(lambda: len(server.exchange.hub.connections) == 1)
            await ws.send_json(SUBSCRIBE)
            assert await ws.receive_json() == {"result": None, "id": 1}
            while (await slow.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert slow.closed

    drive(work)


def test_a_recording_waits_for_slow_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost although the whole file is due at once and is longer than the queue."""
    monkeypatch.setattr(hub, "QUEUE_MESSAGES", 520)
    lines = binance_lines()[:4]
    for number in range(3000):
        lines.append(binance_lines()[1].replace('"t":500', f'"t":{501 + number}'))
    path = write(tmp_path / "long", lines)

    async def work() -> None:
        async with _serving(tmp_path, recordings=(f"{path}:BTC/USDT",), speed=1000) as (server, session):
            slow = server.exchange.hub.connect("binance")  # without a socket: it reads when the test does
            server.exchange.binance.open(slow, ["btcusdt@trade"])
            await _control(session, cmd="start")
            await until(lambda: slow.backlog() > 0.5)
            for _ in range(50):
                await asyncio.sleep(0)
            ids = []
            while len(ids) < 3001:
                assert not slow.overflowed
                message = slow.pop()
                if message is None:
                    await asyncio.sleep(0.001)
                else:
                    ids.append(json.loads(message)["t"])
            assert ids == list(range(500, 3501))

    drive(work)


def test_a_port_in_use_is_told_in_words(tmp_path: Path) -> None:
    async def work() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: the port is in use"):
                async with _serving(tmp_path, port=port):
                    pass

    drive(work)


def test_stopping_closes_the_sockets_of_clients(tmp_path: Path) -> None:
    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            async with _serving(tmp_path) as (server, _):
                ws = await session.ws_connect(f"http://127.0.0.1:{server.port}/coinbase")
                reading = asyncio.get_running_loop().create_task(ws.receive())
                await until(lambda: server.exchange.hub.connections)
            assert (await reading).type is aiohttp.WSMsgType.CLOSE

    drive(work)


def test_the_truth_is_written_by_the_time_the_playback_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "truth"

    async def work() -> None:
        async with _serving(tmp_path, truth=str(path)) as (server, session):
            await _control(session, cmd="start")
            await until(server.ended)
            kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
            assert sorted(kinds) == ["book"] * 5 + ["opening"] * 2 + ["trade"] * 3

    drive(work)
