"""How much a writer takes for a whole minute: 20,000 books a second from a real sender to sealed Parquet.

The writer is the real program, with its commits, rotations and seals; sender and writer have the machine to
themselves, as far as it lets them. What counts is that nothing is refused and all of it is stored.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daedalus.actors import endpoints
from daedalus.kernel.journal import Entry, Mark
from daedalus.kernel.link import LinkSender
from daedalus.kernel.spool import Spool
from daedalus.records import BookSnapshot, decode, encode

RATE = 20_000  # records per second
SECONDS = float(os.environ.get("DAEDALUS_BENCH_SECONDS", "60"))
TICK_S = 0.002
_MIB = 1 << 20


def _cpu_s(pid: int) -> float:
    """CPU of a process and of its children that are gone, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[at]) for at in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def _pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _records() -> list[BookSnapshot]:
    from bench.link import books

    found = [decode(data) for data in books(4096)]
    return [record for record in found if isinstance(record, BookSnapshot)]


async def _offer(link: LinkSender, watch: Callable[[], None]) -> tuple[int, int]:
    """Offer at the rate; return what was taken and what was refused."""
    made = _records()
    base_ns = 1_700_000_000_000_000_000
    encoded = [encode(record) for record in made]
    session = made[0].session_id
    taken = refused = 0
    began = time.monotonic()
    looked = began
    while (elapsed := time.monotonic() - began) < SECONDS:
        for number in range(taken + refused, int(RATE * elapsed)):
            at = base_ns + number * 50_000
            if link.append(encoded[number & 4095], "BTC-USDT", Mark(at, number + 1, session)):
                taken += 1
            else:
                refused += 1
        if time.monotonic() - looked > 1:
            looked = time.monotonic()
            watch()
        await asyncio.sleep(TICK_S)
    return taken, refused


def run() -> dict[str, Any]:
    """Run it, stop the writer in good order, count the rows."""
    folder = Path(tempfile.mkdtemp(prefix="dd-bench-"))
    memory = Path("/dev/shm")
    runtime = Path(tempfile.mkdtemp(prefix="dd-bench-", dir=memory if memory.is_dir() else None))
    root = Path(__file__).resolve().parents[1]
    with (folder / "log").open("wb") as log:
        writer = subprocess.Popen(
            [
                *(sys.executable, str(root / "tests" / "system" / "writer_process.py")),
                *(str(folder / "d"), str(runtime), "orderbook"),
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
    found: dict[str, float] = {"pss": 0.0, "spool": 0.0}

    async def work() -> tuple[int, int, float]:
        spool = Spool.open(endpoints.spool(str(runtime), "binance", "orderbook"), 64 << 20)
        link = LinkSender(
            endpoints.link(str(runtime), "orderbook"), sender="binance", source="ccxt", spool=spool
        )

        def watch() -> None:
            found["pss"] = max(found["pss"], _pss_mib(writer.pid))
            found["spool"] = max(found["spool"], spool.fill)

        await link.start()
        began = time.process_time()
        taken, refused = await _offer(link, watch)
        await link.drain()
        spent = time.process_time() - began
        link.close()
        spool.close()
        return taken, refused, spent

    try:
        taken, refused, own_s = asyncio.run(work())
        writer_s = _cpu_s(writer.pid)
        writer.send_signal(signal.SIGTERM)
        writer.wait(120)
        rows = _rows(folder / "d")
        unsealed = _unsealed(folder / "d")
        if rows != taken:
            sys.stderr.write((folder / "log").read_text(errors="replace")[-4000:])
    finally:
        if writer.poll() is None:
            writer.kill()
            writer.wait()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(runtime, ignore_errors=True)
    return {
        "rate": {"value": RATE, "unit": "records/s", "target": 20_000, "better": "higher"},
        "seconds": {"value": SECONDS, "unit": "s"},
        "refused": {"value": refused, "unit": "records"},
        "lost": {"value": taken - rows - unsealed, "unit": "records"},
        "unsealed": {"value": unsealed, "unit": "records"},
        "sender": {"value": round(own_s / SECONDS * 100, 1), "unit": "% of a core"},
        "writer_and_sealers": {"value": round(writer_s / SECONDS * 100, 1), "unit": "% of a core"},
        "writer_pss": {"value": round(found["pss"], 1), "unit": "MiB", "target": 25.0},
        "spool_fill_max": {"value": round(found["spool"] * 100, 1), "unit": "%"},
    }


def _unsealed(data: Path) -> int:
    """Records in journals that were not sealed in the time that a stop has."""
    from daedalus.kernel.journal import read

    return sum(
        item.count - item.skip
        for path in data.rglob("journal_*.*")
        if path.suffix in {".open", ".closed"}
        for item in read(path)
        if isinstance(item, Entry)
    )


def _rows(data: Path) -> int:
    from pyarrow.parquet import read_metadata

    return sum(int(read_metadata(path).num_rows) for path in data.rglob("*.parquet"))


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
