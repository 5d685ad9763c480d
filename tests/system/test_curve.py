"""Subscribers over TCP: one with a key, and every kind that has none or abuses it. A real gateway process.

The gateway runs as its own process and is fed as a feature actor feeds it; its statistics come over the
notify socket, as the supervisor gets them. A subscriber on the Unix socket is told every row, whatever the
others do.
"""

import asyncio
import contextlib
import json
import os
import socket as sockets
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from daedalus import wire
from daedalus.actors import endpoints, keyring
from daedalus.client import subscribe
from tests.conftest import ROOT
from tests.ports import free_pair

pytestmark = pytest.mark.system
BOUND_S = 40
RUNNER = (
    "import sys; import daedalus.kernel.actor as actor; actor.STATS_TELL_S = 0.05; sys.argv.pop(0); "
    "import runpy; sys.argv.insert(0, ''); runpy.run_module('tests.system.live_actor', run_name='__main__')"
)
TOPIC = b"feature/binance/BTC-USDT/"
COLUMNS = 266


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + BOUND_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
    return found


class Gate:
    """A gateway process with keys, who feeds it, and who reads its rows on the Unix socket."""

    def __init__(self, runtime: Path) -> None:
        self.runtime, self.keys = str(runtime), runtime / "keys"
        self.port = free_pair()
        self.context = zmq.Context()
        self.key = keyring.make(self.keys, "desk")
        self.server_key = keyring.public_of(keyring.server_secret(self.keys))
        self.notify = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM)
        self.notify.bind(f"{runtime}/notify.sock")
        settings = {"tcp": f"tcp://127.0.0.1:{self.port}", "keys_dir": str(self.keys), "send_hwm": 1000}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, "live/gateway", "daedalus.actors.gateway:Gateway",
             json.dumps(settings), self.runtime],
            cwd=ROOT,
            env={**os.environ, "NOTIFY_SOCKET": f"{runtime}/notify.sock"},
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self.seq = 0
        self.stats: dict[str, Any] = {}
        self.feeder = self.context.socket(zmq.XPUB)
        self.feeder.setsockopt(zmq.SNDHWM, 0)
        self.feeder.connect(endpoints.gateway_in(self.runtime))
        assert self.feeder.poll(BOUND_S * 1000)
        self.feeder.recv()
        self._announce()
        self.got: list[tuple[int, int]] = []  # seq, lost before it
        self._reader = threading.Thread(target=self._read)
        self._feed = subscribe("binance", "BTC/USDT", runtime=self.runtime, timeout_s=BOUND_S)
        self._feed.__enter__()
        self._reader.start()
        eventually(lambda: (self.tell(), self.got)[1])

    def _announce(self) -> None:
        header = wire.Header(1, "schema", 0, "f", None, 1, 2, "s")
        names = [f"c{n}" for n in range(COLUMNS)]
        schema = msgspec.json.encode({"id": "s", "names": names, "units": names, "windows": [None] * COLUMNS})
        self.feeder.send_multipart([b"schema/binance/BTC-USDT/", wire.encode_header(header), schema])

    def tell(self, rows: int = 1) -> None:
        for _ in range(rows):
            self.seq += 1
            now = time.time_ns()
            header = wire.Header(1, "feature", self.seq, "f", None, now, now, "s")
            values = array("d", [float(self.seq)] * COLUMNS).tobytes()
            self.feeder.send_multipart([TOPIC, wire.encode_header(header), values])

    def _read(self) -> None:
        with contextlib.suppress(zmq.ZMQError):
            for row in self._feed:
                self.got.append((row.seq, row.gap))
                if row[f"c{COLUMNS - 1}"] < 0:
                    return

    def counted(self, **wanted: int) -> dict[str, Any]:
        """Wait until each of these statistics is at least so much, and return all."""

        def enough() -> bool:
            with contextlib.suppress(BlockingIOError):
                while True:
                    for line in self.notify.recv(65536, sockets.MSG_DONTWAIT).decode().splitlines():
                        if line.startswith("X_DAEDALUS_STATS="):
                            self.stats = json.loads(line.partition("=")[2])
            return all(self.stats.get(name, 0) >= number for name, number in wanted.items())

        eventually(enough)
        return self.stats

    def all_told(self) -> None:
        """Every row so far reached the reader on the Unix socket, in order, with nothing lost."""
        eventually(lambda: self.got[-1][0] == self.seq)
        first = self.got[0][0]
        assert self.got == [(seq, 0) for seq in range(first, self.seq + 1)]

    def subscriber(self, keys: tuple[str, str] | None, **options: Any) -> Any:
        made = self.context.socket(zmq.SUB)
        made.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            made.setsockopt(getattr(zmq, name), value)
        if keys:
            made.curve_serverkey = self.server_key.encode()
            made.curve_publickey, made.curve_secretkey = (key.encode() for key in keys)
        made.setsockopt(zmq.SUBSCRIBE, b"")
        made.connect(f"tcp://127.0.0.1:{self.port}")
        return made

    @property
    def pair(self) -> tuple[str, str]:
        return self.key.public, self.key.secret

    def client(self, pair: tuple[str, str] | None = None, **options: Any) -> Any:
        options = {"timeout_s": BOUND_S, "idle_timeout_s": BOUND_S, **options}
        return subscribe(
            "binance",
            "BTC/USDT",
            endpoint=f"tcp://127.0.0.1:{self.port}",
            server_key=self.server_key,
            client_keys=pair or self.pair,
            **options,
        )

    def close(self) -> str:
        self.process.terminate()
        said = self.process.communicate(timeout=BOUND_S)[1].decode()
        self._feed._closed = True
        self.context.destroy(0)
        return said


@pytest.fixture
def gate(runtime_dir: Path) -> Iterator[Gate]:
    made = Gate(runtime_dir)
    try:
        yield made
    finally:
        # the reader leaves by itself at a negative value
        now = time.time_ns()
        header = wire.Header(1, "feature", made.seq + 1, "f", None, now, now, "s")
        made.feeder.send_multipart(
            [TOPIC, wire.encode_header(header), array("d", [-1.0] * COLUMNS).tobytes()]
        )
        made._reader.join(BOUND_S)
        said = made.close()
        made._feed.close()
        made.notify.close()
        assert made.key.secret not in said
        assert keyring.server_secret(made.keys) not in said
        assert made.process.returncode == 0


def test_with_its_key_a_client_on_tcp_gets_what_one_on_the_unix_socket_gets(gate: Gate) -> None:
    with gate.client(features=["c3"]) as feed:
        first = next(feed)
        gate.tell(50)
        rows = [next(feed) for _ in range(50)]
        assert [row.seq for row in rows] == list(range(first.seq + 1, first.seq + 51))
        assert all((row["c3"], row.gap) == (float(row.seq), 0) for row in rows)

    async def work() -> int:
        async with gate.client() as feed:
            async for row in feed:
                return row.seq
        return 0

    assert asyncio.run(work()) == gate.seq
    gate.all_told()


def test_a_revoked_key_is_cut_off_at_once_while_another_goes_on(gate: Gate) -> None:
    other = keyring.make(gate.keys, "other")
    with gate.client() as kept, gate.client((other.public, other.secret)) as lost:
        assert next(kept).seq == next(lost).seq == gate.seq
        keyring.revoke(gate.keys, "other")
        gate.counted(tcp_cut_off=1, tcp_keys=1)
        gate.tell(100)
        rows = [next(kept) for _ in range(100)]
        assert [(row.seq, row.gap) for row in rows] == [(n, 0) for n in range(gate.seq - 99, gate.seq + 1)]
        gate.counted(tcp_denied_key=1)
        lost._idle_ms = 0
        with pytest.raises(TimeoutError, match="no row for"):
            next(lost)
    with pytest.raises(TimeoutError, match="cannot reach the gateway"):
        gate.client((other.public, other.secret), timeout_s=0.5).__enter__()
    gate.all_told()


def test_who_has_no_key_gets_nothing_harms_nobody_and_is_counted(gate: Gate) -> None:
    strangers = [gate.subscriber(None), gate.subscriber(tuple(key.decode() for key in zmq.curve_keypair()))]
    garbage = [sockets.create_connection(("127.0.0.1", gate.port + n % 2)) for n in range(8)]
    for raw in garbage:
        with contextlib.suppress(OSError):
            raw.sendall(os.urandom(10_000))
    gate.counted(tcp_strangers=10, tcp_denied_key=1)
    gate.tell(200)
    gate.all_told()
    assert [stranger.poll(0) for stranger in strangers] == [0, 0]
    for stranger in [*strangers, *garbage]:
        stranger.close()
    with gate.client() as feed:
        assert next(feed).seq == gate.seq


def test_a_flood_of_subscriptions_is_cut_off_and_everybody_else_told_every_row(gate: Gate) -> None:
    other = keyring.make(gate.keys, "other")
    gate.counted(tcp_keys=2)
    with gate.client() as kept:
        first = next(kept).seq
        flood = gate.subscriber((other.public, other.secret), SNDHWM=0)
        for n in range(30_000):
            flood.setsockopt(zmq.SUBSCRIBE, b"feature/binance/%d" % n)
            if n % 300 == 0:
                gate.tell()
        gate.counted(tcp_cut_off=1, tcp_refused=100)
        flood.close(0)
        gate.tell(100)
        wanted = gate.seq - first
        rows = [next(kept) for _ in range(wanted)]
        assert [(row.seq, row.gap) for row in rows] == [(n, 0) for n in range(first + 1, gate.seq + 1)]
    gate.all_told()


def test_a_reader_that_stops_loses_what_is_over_its_mark_and_alone(gate: Gate) -> None:
    """A minute at 300 rows a second: 18,000 rows of 2 KB, more than its queue and the kernel's hold."""
    with gate.client() as stopped:
        before = next(stopped).seq
        for _ in range(60):
            gate.tell(300)
            eventually(lambda: gate.got[-1][0] == gate.seq)
        gate.all_told()
        found = lost = 0
        while found + lost < gate.seq - before:
            while not stopped._socket.poll(20):
                gate.tell()  # so that the loss shows, by the next number that finds room
            row = next(stopped)
            found, lost = found + 1, lost + row.gap
        assert lost > 0
        assert row.seq == before + found + lost
    gate.all_told()
    assert gate.counted(rows=18_000)["rows"] >= 18_000
