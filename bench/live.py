"""Record captured → row published: latency at a set rate, and CPU per record of feature actor and gateway.

Both actors are processes of their own; the bench plays the collector (20-level books, emit_interval_s 0, so
every record makes a row) and listens at the gateway. Latency is the header's ts_pub - ts_recv: collector's
socket to the row being handed to the gateway, decode and whole catalogue included.

`waited` is how long the threads of both were ready to run and did not (/proc/PID/task/*/schedstat): latency
that other work on the machine caused. In bursts one wake-up serves many records; the difference to the same
rate one by one is the price of waking up.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from daedalus import wire
from daedalus.actors import endpoints
from daedalus.kernel.topic import Publisher
from daedalus.records import BookSnapshot, encode, pack_side

STEPS = ((100, 1, 8.0), (1000, 1, 4.0), (1000, 50, 4.0))  # records/s, of these at once, seconds
_WARM = 50
_RUN = (
    "import sys; from importlib import import_module; from daedalus.kernel.actor import Context, run;"
    "module, cls, settings, runtime = sys.argv[1:];"
    "cls = getattr(import_module(module), cls);"
    "sys.exit(run(cls, bytes.fromhex(settings), Context(name='live/bench', runtime=runtime)))"
)


def run() -> dict[str, Any]:
    return asyncio.run(_measure())


async def _measure() -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as runtime:
        heard: list[bytes] = []
        publisher = Publisher(bind_to=endpoints.pub(runtime, "bench"), on_subscribe=heard.append)
        gateway = _start("gateway", "Gateway", {"exchanges": []}, runtime)
        told = {"exchange": "bench", "symbol": "A-B", "channels": ["orderbook"]}
        feature = _start("feature", "Feature", {**told, "params": {"emit_interval_s": 0}}, runtime)
        try:
            while not heard:  # noqa: ASYNC110 - a list, filled by a socket
                await asyncio.sleep(0.01)
            with zmq.Context.instance().socket(zmq.SUB) as strategy:
                strategy.setsockopt(zmq.SUBSCRIBE, wire.topic("feature", "bench", "A-B"))
                strategy.connect(endpoints.gateway(runtime))
                await asyncio.sleep(0.5)
                seq = await _send(publisher, strategy, 0, _WARM, 100, 1, [])
                for rate, burst, seconds in STEPS:
                    before = [_ran_s(process.pid) for process in (feature, gateway)]
                    headers: list[wire.Header] = []
                    count = int(rate * seconds)
                    seq = await _send(publisher, strategy, seq, count, rate, burst, headers)
                    after = [_ran_s(process.pid) for process in (feature, gateway)]
                    step = f"at_{rate}" + (f"_in_{burst}s" if burst > 1 else "")
                    if burst == 1:
                        lags = sorted((header.ts_pub_ns - header.ts_recv_ns) / 1e6 for header in headers)
                        for name, at, target in (("p50", 0.5, 0.5), ("p99", 0.99, 3.0)):
                            value = lags[int(len(lags) * at)]
                            figures[f"latency_{name}_{step}"] = {
                                "value": value, "target": target, "unit": "ms", "better": "lower",
                            }  # fmt: skip
                    figures[f"lost_{step}"] = {"value": count - len(headers), "unit": "rows"}
                    for name, (ran, waited), (ran_before, waited_before) in zip(
                        ("feature", "gateway"), after, before, strict=True
                    ):
                        for what, spent in (("cpu", ran - ran_before), ("waited", waited - waited_before)):
                            figures[f"{name}_{what}_{step}"] = {
                                "value": spent / count * 1e6, "unit": "us/record", "better": "lower",
                            }  # fmt: skip
        finally:
            for process in (feature, gateway):
                process.terminate()
                process.wait(10)
            publisher.close()
    return figures


def _start(module: str, cls: str, settings: dict[str, Any], runtime: str) -> "subprocess.Popen[bytes]":
    told = msgspec.msgpack.encode(settings).hex()
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, f"daedalus.actors.{module}", cls, told, runtime],
        cwd=Path(__file__).parent.parent,
        stderr=subprocess.DEVNULL,
    )


async def _send(
    publisher: Publisher,
    strategy: "zmq.Socket[bytes]",
    seq: int,
    count: int,
    rate: int,
    burst: int,
    headers: list[wire.Header],
) -> int:
    """Publish `count` books, `burst` at once, `rate` per second; gather the rows; return the last seq."""
    topic = wire.topic("book", "bench", "A-B")
    start = time.monotonic()
    for n in range(0, count, burst):
        delay = start + n / rate - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        for _ in range(burst):
            seq += 1
            publisher.publish([topic, encode(_book(seq))])
        if n % 20 == 0:
            _receive(strategy, headers)
    for _ in range(20):
        await asyncio.sleep(0.02)
        _receive(strategy, headers)
    return seq


def _receive(strategy: "zmq.Socket[bytes]", headers: list[wire.Header]) -> None:
    while strategy.poll(0):
        headers.append(wire.decode_header(strategy.recv_multipart()[1]))


def _book(seq: int) -> BookSnapshot:
    mid = 60_000 + seq % 50 * 0.5
    now = time.time_ns() // 1000 * 1000
    return BookSnapshot(
        exchange="bench", symbol="A-B", collected_at=now // 1_000_000, ts_recv=now, ts_event=now, nonce=seq,
        bids=pack_side([(mid - 0.5 - level, 1.0 + level) for level in range(20)]),
        asks=pack_side([(mid + 0.5 + level, 1.0 + seq % 7) for level in range(20)]),
        symbol_raw="A/B", seq=seq, session_id="b", capture_mono_ns=now, clock_ok=True, exch_seq=seq, flags=0,
    )  # fmt: skip


def _ran_s(pid: int) -> tuple[float, float]:
    """Return how long the threads of a process have run, and how long they waited for a core."""
    threads = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(thread[0]) for thread in threads) / 1e9, sum(int(thread[1]) for thread in threads) / 1e9
