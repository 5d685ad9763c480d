"""The simulated exchanges on a stage: two small recordings, a clock in the hand, no sockets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daedalus.kernel.clock import ManualClock
from daedalus.simulator.exchange import Exchange
from daedalus.simulator.hub import Connection
from daedalus.simulator.menu import read_order
from daedalus.simulator.sources import Settings
from tests.simulator.makings import binance_lines, coinbase_lines, received, write

DEPTH, TRADES = "btcusdt@depth@100ms", "btcusdt@trade"


class FakeEffects:
    """Notes what faults ask of sockets; time goes by when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def close(self, number: int, code: int) -> None:
        self.asked.append(("close", number, code))

    def abort(self, number: int) -> None:
        self.asked.append(("abort", number))

    def deafen(self, number: int, *, deaf: bool) -> None:
        self.asked.append(("deafen", number, deaf))

    def later(self, delay_s: float, then: Callable[[], None]) -> None:
        self.timers.append((delay_s, then))

    def ring(self) -> None:
        """Let every timer run out."""
        timers, self.timers = self.timers, []
        for _, then in timers:
            then()


class Stage:
    """An exchange of two small recordings and a clock in the hand."""

    def __init__(self, tmp_path: Path, **more: Any) -> None:
        self.truth = tmp_path / "truth.jsonl"
        self.clock = ManualClock()
        settings = {
            "recordings": (
                f"{write(tmp_path / 'b', binance_lines())}:BTC/USDT",
                f"{write(tmp_path / 'c', coinbase_lines())}:SKL/USD",
            ),
            "truth": str(self.truth),
        }
        self.exchange = Exchange(Settings(**{**settings, **more}), self.clock)
        self.effects = self.exchange.faults.effects = FakeEffects()

    def binance(self, *streams: str) -> Connection:
        connection = self.exchange.hub.connect("binance", combined=True)
        request = {"method": "SUBSCRIBE", "params": streams, "id": 1}
        self.exchange.binance.request(connection, json.dumps(request))
        received(connection)
        return connection

    def coinbase(self, *channels: str) -> Connection:
        connection = self.exchange.hub.connect("coinbase")
        for channel in channels:
            request = {"type": "subscribe", "channel": channel, "product_ids": ["SKL-USD"]}
            self.exchange.coinbase.request(connection, json.dumps(request))
        return connection

    def order(self, fault: str, **what: Any) -> list[int]:
        return self.exchange.order(read_order({"fault": fault, **what}, self.exchange.places))

    def wait(self, seconds: float) -> str:
        """Let time go by; return the state then."""
        self.exchange.consider_start()
        self.clock.advance(seconds)
        self.exchange.consider_start()
        return str(self.exchange.playhead.state)

    def play(self, seconds: float = 3.0) -> None:
        for _ in range(round(seconds * 10)):
            self.exchange.play()
            self.clock.advance(0.1)
            self.exchange.playhead.due_ns()
