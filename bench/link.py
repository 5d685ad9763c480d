"""What does a record cost between the collector's spool and the writer's disk?

Sender and receiver run in processes of their own, on books of 20 levels. CPU is that of the whole process
(ZeroMQ's threads and the journal's included), taken over rounds at a set rate; the median of the rounds
counts. Encoding the record is not part of it.
"""

import asyncio
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daedalus.kernel.journal import Entry, Journal, Mark
from daedalus.kernel.link import LinkReceiver, LinkSender
from daedalus.kernel.mailbox import ipc_address
from daedalus.kernel.spool import Spool
from daedalus.records import BookSnapshot, encode, pack_side

ROUNDS = 7
RATE = 20_000  # records per second
ROUND_S = 1.0
LEVELS = 20
TICK_S = 0.002  # records are offered in gulps, as from a socket


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def books(count: int, seed: int = 1) -> list[bytes]:
    """Return encoded records: a book of 20 levels that moves the way books do, a few levels at a time."""
    rng = random.Random(seed)
    middle = 6_000_000  # cents
    sizes = {}
    found = []
    for number in range(count):
        middle += rng.choice((-1, 0, 0, 0, 1))
        bids = [(middle - 1 - level) / 100 for level in range(LEVELS)]
        asks = [(middle + 1 + level) / 100 for level in range(LEVELS)]
        for price in rng.sample(bids + asks, 4):
            sizes[price] = round(rng.expovariate(1), 5)
        now = 1_700_000_000_000_000_000 + number * 50_000_000
        found.append(
            encode(
                BookSnapshot(
                    exchange="binance",
                    symbol="BTC-USDT",
                    collected_at=now // 1_000_000,
                    ts_recv=now,
                    ts_event=now - 5_000_000,
                    nonce=number,
                    bids=pack_side([(price, sizes.get(price, 0.5)) for price in bids]),
                    asks=pack_side([(price, sizes.get(price, 0.5)) for price in asks]),
                    symbol_raw="BTC/USDT",
                    seq=number + 1,
                    session_id="0123456789abcdef",
                    capture_mono_ns=now,
                    clock_ok=True,
                    exch_seq=number,
                    flags=0,
                )
            )
        )
    return found


async def _receive(folder: Path) -> None:
    journal = Journal(folder, 1, {})
    loop = asyncio.get_running_loop()

    async def commit(entries: list[Entry]) -> None:
        await loop.run_in_executor(None, journal.append, entries)

    receiver = LinkReceiver(ipc_address(f"{folder}/l.sock"), cursors={}, commit=commit)
    await receiver.start()
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        answer = {"cpu_s": _cpu_s(), "stored": receiver.stats()["stored"], "bytes": journal.bytes}
        print(json.dumps(answer), flush=True)
    await receiver.close()
    journal.close()


class _Receiver:
    """The receiving process, asked over its standard input."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.link", "receive", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def ask(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate(timeout=10)


async def _offer(append: Callable[[bytes], bool], records: list[bytes]) -> tuple[int, int]:
    """Offer records at the set rate for one round; return how many, and how many were refused."""
    count = refused = 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < ROUND_S:
        due = int(RATE * elapsed)
        for number in range(count, due):
            if not append(records[number & 4095]):
                refused += 1
        count = max(count, due)
        await asyncio.sleep(TICK_S)
    return count, refused


async def _send(folder: Path, spool: Spool) -> dict[str, Any]:
    records = books(4096)
    mark = Mark(1, 1, "0123456789abcdef")
    receiver = _Receiver(folder)
    sender = LinkSender(ipc_address(f"{folder}/l.sock"), sender="binance", source="ccxt", spool=spool)
    await sender.start()

    def append(record: bytes) -> bool:
        return sender.append(record, "BTC-USDT", mark)

    own, sending, receiving = [], [], []
    sent = lost = 0
    try:
        for number in range(ROUNDS + 1):  # the first warms up
            cpu = _cpu_s()
            count, _ = await _offer(lambda _: True, records)
            own.append((_cpu_s() - cpu) / count * 1e6)
            peer, cpu = receiver.ask(), _cpu_s()
            count, refused = await _offer(append, records)
            await sender.drain()
            cpu, peer_cpu = _cpu_s() - cpu, receiver.ask()["cpu_s"] - peer["cpu_s"]
            sent += count
            lost += refused
            if number:
                sending.append(cpu / count * 1e6)
                receiving.append(peer_cpu / count * 1e6)
        stored = receiver.ask()
    finally:
        sender.close()
        receiver.close()
    return {
        "own_us": statistics.median(own),
        "send_us": statistics.median(sending) - statistics.median(own),
        "receive_us": statistics.median(receiving),
        "sent": sent,
        "lost": sent - stored["stored"] + lost,
        "bytes": stored["bytes"] / sent,
        "record_bytes": statistics.mean(map(len, records)),
    }


def run() -> dict[str, Any]:
    """Measure both sides at 20 k records/s; the target is bronze's: 4 us of CPU, both together."""
    folder = Path(tempfile.mkdtemp(prefix="dd-bench-"))
    memory = Path("/dev/shm")  # where a runtime directory is: tmpfs
    runtime = Path(tempfile.mkdtemp(prefix="dd-bench-", dir=memory if memory.is_dir() else None))
    spool = Spool.open(runtime / "s.spool", 8 << 20)  # small: in use it has been round many times
    try:
        found = asyncio.run(_send(folder, spool))
    finally:
        spool.close()
        shutil.rmtree(runtime)
        shutil.rmtree(folder)
    both = found["send_us"] + found["receive_us"]
    return {
        "both_sides": {"value": round(both, 3), "unit": "us CPU/record", "target": 4.0},
        "spool_and_send": {"value": round(found["send_us"], 3), "unit": "us CPU/record"},
        "receive_and_journal": {"value": round(found["receive_us"], 3), "unit": "us CPU/record"},
        "sustained": {"value": RATE, "unit": "records/s", "target": 20_000, "better": "higher"},
        "lost": {"value": found["lost"], "unit": "records"},
        "journal": {"value": round(found["bytes"], 1), "unit": "bytes/record"},
        "notes": {
            "levels": LEVELS,
            "record_bytes": round(found["record_bytes"]),
            "records": found["sent"],
            "measuring_us": round(found["own_us"], 3),
        },
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["receive"]:
        asyncio.run(_receive(Path(sys.argv[2])))
    else:
        print(json.dumps(run(), indent=1))
