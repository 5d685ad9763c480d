"""Gateway and feature actor as real processes, killed at will, before a client that is told everything."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from daedalus.actors import endpoints
from daedalus.client import subscribe
from tests.conftest import ROOT
from tests.loops import until
from tests.market import Collector, Tape

pytestmark = pytest.mark.system
RUNNER = (sys.executable, "-m", "tests.system.live_actor")


class Live:
    """A fake collector on a thread of the test, gateway and feature actor as processes."""

    def __init__(self, runtime: Path) -> None:
        self.runtime = str(runtime)
        self.tape = Tape()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.collector = self.call(lambda: Collector(self.runtime))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def call(self, work: Callable[[], Any]) -> Any:
        async def once() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(once(), self.loop).result(15)

    def start(self, name: str, **settings: Any) -> None:
        heard = len(self.collector.heard)
        targets = {
            "gateway": ("daedalus.actors.gateway:Gateway", {"exchanges": ["binance"]}, 5),
            "feature": ("tests.backstage:FakeFeature", {"exchange": "binance", "symbol": "BTC-USDT"}, 3),
        }
        target, told, topics = targets[name]
        self.processes[name] = subprocess.Popen(
            [*RUNNER, f"live/{name}", target, json.dumps({**told, **settings}), self.runtime],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        self.call(lambda: until(lambda: len(self.collector.heard) >= heard + topics))

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(10)

    def publish(self, letters: str) -> None:
        # as a live market does: the capture time is now
        import time

        self.tape.us = max(self.tape.us, time.time_ns() // 1000)
        self.call(lambda: self.collector.publish(*self.tape.of(letters)))

    def feed(self, **options: Any) -> Any:
        return subscribe(
            "binance", "BTC/USDT", runtime=self.runtime, timeout_s=10, idle_timeout_s=10, **options
        )

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.call(self.collector.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def live(runtime_dir: Path) -> Iterator[Live]:
    made = Live(runtime_dir)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("order", [("gateway", "feature"), ("feature", "gateway")])
def test_actors_may_start_in_any_order_and_stop_cleanly(live: Live, order: tuple[str, str]) -> None:
    for name in order:
        live.start(name)
    with live.feed() as feed:
        live.publish("tbb")
        assert [(row.seq, row["trades"]) for row in (next(feed), next(feed))] == [(1, 1.0), (2, 1.0)]
    assert live.kill("feature", signal.SIGTERM) == 0
    assert live.kill("gateway", signal.SIGTERM) == 0


def test_a_killed_gateway_comes_back_to_its_subscribers_and_what_was_lost_is_told(live: Live) -> None:
    live.start("gateway")
    live.start("feature")
    with live.feed() as feed:
        live.publish("bbb")
        assert [next(feed).seq for _ in range(3)] == [1, 2, 3]
        for round_ in range(3):
            live.kill("gateway")
            live.publish("bb")
            live.start("gateway")
            live.publish("b")
            seen, lost, wanted = 3 + 3 * round_, 0, 6 + 3 * round_
            while seen < wanted:
                row = next(feed)
                lost += row.gap
                assert row.seq == seen + row.gap + 1
                seen = row.seq
            assert lost <= 2
        with live.feed() as late:
            assert (next(late).seq, late.schema.names[0]) == (12, "mid_price")


def test_a_killed_feature_actor_is_warm_again_from_the_spool(live: Live) -> None:
    live.start("gateway")
    live.start("feature")
    with live.feed() as feed:
        live.publish("tttb")
        assert next(feed)["trades"] == 3.0
        live.kill("feature")
        live.publish("tt")
        live.start("feature")
        live.publish("tb")
        rows = [next(feed)]
        while rows[-1]["trades"] < 6.0:  # a row within the allowance before the start may come first
            rows.append(next(feed))
        assert rows[-1]["trades"] == 6.0
        assert len({row.session_id for row in rows}) == 1
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))


def test_a_restarted_collector_is_taken_up(live: Live) -> None:
    live.start("gateway")
    live.start("feature")
    with live.feed() as feed:
        live.publish("b")
        assert next(feed).seq == 1
        live.call(live.collector.close)
        live.collector = live.call(lambda: Collector(live.runtime))
        live.tape = Tape(session_id="s2")
        live.publish("tb")
        live.call(lambda: until(lambda: len(live.collector.heard) >= 8))
        live.publish("tb")
        row = next(feed)
        while row["trades"] < 2.0:
            row = next(feed)
        assert row.gap == 0


def test_d23_a_slow_subscriber_loses_and_is_told_while_a_quick_one_is_not_held_up(live: Live) -> None:
    live.start("gateway", send_hwm=200)
    live.start("feature")
    total = 60_000
    slow, quick = live.feed(), live.feed()
    with slow, quick:
        slow._socket.setsockopt(zmq.RCVHWM, 200)
        quick_seen = 0
        for _ in range(total // 100):
            live.publish("b" * 100)
            while quick_seen < live.tape.seq["orderbook"]:
                row = next(quick)
                quick_seen = row.seq
        first, told, seen = next(slow), 0, 1
        assert first.seq == 1
        while not told:
            if seen % 50 == 0:
                live.publish("b")  # what follows the loss tells of it
            row = next(slow)
            assert row.seq == seen + row.gap + 1, "a loss that was not told"
            told += row.gap
            seen = row.seq
        assert told > 0


def test_tcp_on_loopback_works_and_elsewhere_is_refused_with_exit_78(live: Live) -> None:
    with zmq.Context.instance().socket(zmq.PUB) as probe:
        port = probe.bind_to_random_port("tcp://127.0.0.1")
    live.start("gateway", tcp=f"tcp://127.0.0.1:{port}")
    live.start("feature")
    live.publish("b")
    with subscribe("binance", "BTC-USDT", endpoint=f"tcp://127.0.0.1:{port}", idle_timeout_s=10) as feed:
        assert next(feed).seq == 1
    live.kill("gateway")
    told = json.dumps({"tcp": "tcp://0.0.0.0:5555"})
    command = [*RUNNER, "live/gateway", "daedalus.actors.gateway:Gateway", told, live.runtime]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=20)
    assert refused.returncode == 78
    assert "needs CURVE keys" in refused.stderr
    assert endpoints.gateway(live.runtime).startswith("ipc://")
