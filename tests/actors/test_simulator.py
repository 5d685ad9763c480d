"""The simulator as an actor: the demo's exchanges, with the life of every actor."""

import json
import socket
from pathlib import Path

import aiohttp
import msgspec
import pytest

from daedalus.actors.simulator import Simulator, SimulatorSettings
from daedalus.kernel.actor import Context, run
from daedalus.kernel.errors import EXIT_CONFIG, EXIT_FAILED, FatalError
from tests.loops import drive, until

CONTEXT = Context(name="demo/simulator")
DEMO = ("binance:BTC/USDT", "binance:ETH/USDT", "coinbase:BTC/USD", "coinbase:ETH/USD")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_demo_s_exchanges_play_until_the_actor_stops() -> None:
    port = _free_port()
    actor = Simulator(SimulatorSettings(port=port, symbols=DEMO, rate=200), CONTEXT)

    async def work() -> None:
        await actor.start()
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                async with session.ws_connect("/stream/ws") as ws:
                    await ws.send_json({"method": "SUBSCRIBE", "params": ["ethusdt@depth@100ms"], "id": 1})
                    await ws.receive()
                    assert json.loads(await ws.receive_str())["s"] == "ETHUSDT"
                    assert actor.stats()["clients"] == 1
                await until(lambda: actor.stats()["trades"])
        finally:
            for task in actor._tasks:
                task.cancel()
            await actor.stop()

    drive(work)
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0, "nobody listens any more"


def test_settings_that_no_restart_mends_are_fatal(tmp_path: Path) -> None:
    actor = Simulator(SimulatorSettings(recordings=(f"{tmp_path}/none:BTC/USDT",)), CONTEXT)
    with pytest.raises(FatalError, match="no such file"):
        drive(actor.start)
    drive(actor.stop)
    assert actor.stats() == {}


def test_a_bad_recording_exits_78_and_a_port_in_use_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = msgspec.msgpack.encode
    assert (
        run(Simulator, encode(SimulatorSettings(recordings=(f"{tmp_path}/none:A/B",))), CONTEXT)
        == EXIT_CONFIG
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = SimulatorSettings(port=taken.getsockname()[1], symbols=DEMO)
        assert run(Simulator, encode(settings), CONTEXT) == EXIT_FAILED, "the one before may still be leaving"
    assert "the port is in use" in capsys.readouterr().err


def test_settings_survive_the_wire() -> None:
    settings = SimulatorSettings(
        port=1, recordings=("a:A/B",), symbols=DEMO, speed=10.0, loop=True, truth="t"
    )
    encoded = msgspec.msgpack.encode(settings)
    assert msgspec.msgpack.decode(encoded, type=Simulator.Settings) == settings
