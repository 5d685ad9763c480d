"""From capture to durable: a real writer process, fed at a set rate, and how soon it is back after a SIGKILL.

The writer is forked from a process that has imported it, as a zygote does.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from daedalus.actors import endpoints
from daedalus.kernel.link import LinkSender, Mark
from daedalus.kernel.spool import Spool
from daedalus.records import BookSnapshot, encode, pack_side
from tests.system.cell import RUN

FORK = RUN.replace(
    "sys.exit(run(",
    """import os, signal, zstandard  # the zygote has it as well: it is among its preloads
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in sys.stdin:
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os._exit(run(""",
)
RATE = 1000  # records per second
SECONDS = 10.0
KILLS = 5


class TimedSender(LinkSender):
    """A sender that remembers when each record was appended and when it was acknowledged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.appended: dict[int, float] = {}
        self.waits_ms: list[float] = []
        self.acks: list[tuple[float, int]] = []
        self._seen = 0

    def _acknowledged(self, seq: int) -> None:
        super()._acknowledged(seq)
        now = time.perf_counter()
        self.acks.append((now, seq))
        for number in range(self._seen + 1, seq + 1):
            self.waits_ms.append((now - self.appended.pop(number)) * 1000)
        self._seen = max(self._seen, seq)


def book(seq: int) -> bytes:
    """Return one record of 20 levels a side."""
    side = pack_side([(60000.0 + level / 10, 0.5 + (seq + level) % 7) for level in range(20)])
    return encode(
        BookSnapshot(
            exchange="bench", symbol="BTC-USDT", collected_at=0, ts_recv=seq * 1000, ts_event=None, nonce=seq,
            bids=side, asks=side, symbol_raw="BTC/USDT", seq=seq, session_id="bench", capture_mono_ns=0,
            clock_ok=True, exch_seq=seq, flags=0,
        )
    )  # fmt: skip


class Image:
    """A process that has imported the writer and forks it on demand."""

    def __init__(self, base: Path) -> None:
        settings = {"channel": "orderbook", "data": str(base / "d"), "runtime": str(base)}
        arguments = ["daedalus.actors.writer:Writer", json.dumps(settings), "store/writer-orderbook"]
        with (base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", FORK, *arguments, str(base), str(base / "d")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def fork(self) -> int:
        """Return the pid of a new writer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=10)


async def feed(sender: TimedSender, spool: Spool, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    while sent < seconds * RATE:
        due = int((loop.time() - began) * RATE)
        while sent < due:
            sent += 1
            seq = spool.next_seq
            sender.appended[seq] = time.perf_counter()
            sender.append(book(seq), "BTC-USDT", Mark(seq * 1000, seq, "bench"))
        await asyncio.sleep(0.001)


async def measure(base: Path) -> tuple[TimedSender, float, list[float]]:
    spool = Spool.open(endpoints.spool(str(base), "bench", "orderbook"), 64 << 20)
    sender = TimedSender(endpoints.link(str(base), "orderbook"), sender="bench", source="native", spool=spool)
    image = Image(base)
    pid = image.fork()
    back_ms = []
    try:
        await sender.start()
        await feed(sender, spool, 1.0)
        await sender.drain()
        sender.waits_ms.clear()
        before = resource_s(pid)
        await feed(sender, spool, SECONDS)
        await sender.drain()
        spent = resource_s(pid) - before
        waits = list(sender.waits_ms)
        for _ in range(KILLS):
            feeding = asyncio.create_task(feed(sender, spool, 1.0))
            await asyncio.sleep(0.5)
            os.kill(pid, signal.SIGKILL)
            killed, after = time.perf_counter(), spool.next_seq  # captured while no writer lives
            pid = image.fork()
            await feeding
            await sender.drain()
            back_ms.append((next(at for at, seq in sender.acks if seq >= after) - killed) * 1000)
        sender.waits_ms = waits
        return sender, spent, back_ms
    finally:
        sender.close()
        spool.close()
        os.kill(pid, signal.SIGTERM)
        image.close()


def resource_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run() -> dict[str, Any]:
    """Measure at 1,000 records a second, with the default commit group."""
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as folder:
        sender, spent, back_ms = asyncio.run(measure(Path(folder)))
    waits = sorted(sender.waits_ms)
    return {
        "rate": {"value": RATE, "unit": "1/s"},
        "capture to acknowledged, p50": {"value": round(waits[len(waits) // 2], 1), "unit": "ms"},
        "capture to acknowledged, p99": {"value": round(waits[len(waits) * 99 // 100], 1), "unit": "ms"},
        "writer CPU per million records": {"value": round(spent / len(waits) * 1e6, 1), "unit": "s"},
        "killed writer acknowledges again, median": {
            "value": round(statistics.median(back_ms), 1), "unit": "ms", "target": 100,
        },
        "note": "commit groups of 100 ms or 1,000 records decide the wait",
    }  # fmt: skip
