"""A collector and its writers as real processes, without a supervisor: start, hurt, stop, read."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from daedalus.dataset.layout import Layout
from daedalus.kernel import journal
from tests.system.tree import BIN

RUN = """
import sys, msgspec
from importlib import import_module
from daedalus.kernel.actor import Context, run
target, settings, name, runtime, data = sys.argv[1:]
module, _, cls = target.partition(":")
actor = getattr(import_module(module), cls)
context = Context(name=name, runtime=runtime, data=data, drain_s=60)
sys.exit(run(actor, msgspec.msgpack.encode(msgspec.json.decode(settings)), context))
"""
CHANNELS = ("orderbook", "trades", "ticker")
DRAIN_S = 60  # as in RUN: what a loaded machine has not stored and sealed by then is not looked at


class Cell:
    """One simulator, one writer per channel, one collector."""

    def __init__(self, base: Path, *simulation: str, channels: tuple[str, ...] = CHANNELS) -> None:
        self.base, self.channels = base, channels
        self.runtime, self.data = base / "r", base / "d"
        self.runtime.mkdir(mode=0o700)
        self.data.mkdir()
        self.truth_file = base / "truth"
        self.log = base / "log"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.simulator = self._simulate(*simulation, "--truth", str(self.truth_file))
        self.addresses: dict[str, Any] = json.loads(self.simulator.stdout.readline())
        for channel in channels:
            self.start_writer(channel)

    def _simulate(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(BIN / "daedalus"), "simulate", *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)

    def ask(self) -> dict[str, Any]:
        """Return the simulator's state."""
        with urllib.request.urlopen(self.addresses["ctl"], timeout=5) as reply:
            state: dict[str, Any] = json.load(reply)
        return state

    def _end_simulator(self) -> None:
        if self.simulator.poll() is None:
            self.simulator.send_signal(signal.SIGINT)
            self.simulator.wait(30)
        self.simulator.stdout.close()

    def spawn(self, name: str, target: str, settings: dict[str, Any]) -> None:
        arguments = [target, json.dumps(settings), name, str(self.runtime), str(self.data)]
        command = [sys.executable, "-c", RUN, *arguments]
        with self.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)

    def start_writer(self, channel: str) -> None:
        settings = {"channel": channel, "data": str(self.data), "runtime": str(self.runtime)}
        self.spawn(f"writer-{channel}", "daedalus.actors.writer:Writer", settings)

    def start_collector(self, exchange: str, *symbols: str, **options: Any) -> None:
        settings: dict[str, Any] = {
            "exchange": exchange,
            "channels": {channel: list(symbols) for channel in self.channels},
            "runtime": str(self.runtime),
            "data": str(self.data),
        }
        if exchange == "coinbase":
            place = self.addresses["coinbase"]
            settings |= {"adapter": "native", "ws_url": place["ws"], "rest_url": place["rest"]}
        else:
            urls = {
                "public": self.addresses["binance"]["rest"],
                "ws": {"spot": self.addresses["binance"]["ws"]},
            }
            markets = {"fetchMarkets": {"types": ["spot"]}}
            override = {"urls": {"api": urls}, "options": markets, "has": {"fetchCurrencies": False}}
            settings |= {"adapter": "ccxt", "ccxt": override}
        self.spawn("collector", "daedalus.actors.collector:Collector", settings | options)

    def fault(self, kind: str, exchange: str) -> None:
        body = json.dumps({"cmd": "fault", "kind": kind, "exchange": exchange}).encode()
        request = urllib.request.Request(self.addresses["ctl"], data=body, method="POST")
        with urllib.request.urlopen(request, timeout=5) as reply:
            assert reply.status == 200

    def signal(self, name: str, number: int) -> None:
        os.kill(self.processes[name].pid, number)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(DRAIN_S + 20)

    def stop_all(self) -> None:
        """Stop collector, then writers: what is stored is complete afterwards."""
        if "collector" in self.processes:
            assert self.stop("collector") == 0, self.tail()
        for name in [name for name in self.processes if name.startswith("writer-")]:
            assert self.stop(name) == 0, self.tail()
        self._end_simulator()

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        self._end_simulator()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith(f'{{"event": "{name}"')]

    def truth(self, kind: str) -> list[dict[str, Any]]:
        lines = self.truth_file.read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]

    def journalled(self, channel: str) -> int:
        """Return how many records of a channel are in its journals, not sealed yet."""
        active = Layout(data=str(self.data)).active(channel)
        read = (entry for _, path in journal.journals(active) for entry in journal.read(path))
        return sum(entry.count for entry in read if isinstance(entry, journal.Entry))

    def sessions(self, channel: str) -> set[str]:
        """Return the sessions of which a record of a channel is stored by now, sealed or not."""
        active = Layout(data=str(self.data)).active(channel)
        read = (entry for _, path in journal.journals(active) for entry in journal.read(path))
        found = [entry.marks.values() for entry in read if isinstance(entry, journal.Entry)]
        journalled = {mark.session_id for marks in found for mark in marks}
        return journalled | {row["session_id"] for row in self.rows(channel)}

    def rows(self, channel: str) -> list[dict[str, Any]]:
        """Return the stored rows of a channel, by capture time."""
        found: list[dict[str, Any]] = []
        for path in sorted((self.data / "raw" / "ready").glob(f"*/{channel}/**/*.parquet")):
            found += pq.ParquetFile(path).read().to_pylist()
        key = "started_at" if channel == "gaps" else "capture_ts"
        return sorted(found, key=lambda row: row[key])

    def gaps(self, channel: str) -> list[dict[str, Any]]:
        return [row for row in self.rows("gaps") if row["channel"] == channel]
