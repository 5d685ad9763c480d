"""A feature actor's checkpoint, with windows that are full: what it takes of the loop, and of a restart.

900 s of a market with 10 books and 50 trades a second. `snapshot` is the only part on the actor's loop;
packing and writing are a thread's. `tail` is the errand of a restart whose collector has no answer: a fresh
process that reads a minute of one of 10 symbols from the rings.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.figure import figure

SECONDS = 900
BOOKS, TRADES = 10, 50  # a second
ROUNDS = 9
RING_BYTES = 38 << 20
SYMBOLS = 10


def run() -> dict[str, Any]:
    """Return CPU and wall times in ms, and the size in MB."""
    from daedalus.actors.checkpoints import Checkpoint, Checkpoints, pack
    from daedalus.features import FeatureEngine

    engine = FeatureEngine(trades=True)
    _fill(engine)
    blob = engine.snapshot()
    head = Checkpoint(
        exchange="bench", symbol="A-B", session_id="s", seq=1, since_ns=0, positions={"orderbook": ("s", 1)},
        owed=(), last_session="s", last_ts=1,
    )  # fmt: skip
    fresh = FeatureEngine(trades=True)
    with tempfile.TemporaryDirectory(prefix="dd-") as folder:
        files = Checkpoints(Path(folder), "bench", "A-B")
        return {
            "snapshot, on the loop, CPU": figure(_best(engine.snapshot, time.process_time), "ms", 3.0),
            "restore, CPU": figure(_best(lambda: fresh.restore(blob), time.process_time), "ms"),
            "pack, CPU": figure(_best(lambda: pack(head, blob), time.process_time), "ms"),
            "save, durable": figure(_best(lambda: files.save(head, blob), time.perf_counter), "ms"),
            "load and restore": figure(
                _best(lambda: files.load(fresh.restore, lambda *_: None), time.perf_counter), "ms"
            ),
            "size": figure(len(pack(head, blob)) / 1e6, "MB", 3.0),
            "tail from the rings, a process": figure(_tail(Path(folder)), "ms"),
        }


def _best(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Return the median of some rounds, ms."""
    taken = []
    for _ in range(ROUNDS):
        began = clock()
        work()
        taken.append((clock() - began) * 1e3)
    return statistics.median(taken)


def _fill(engine: Any) -> None:
    from tests.market import Tape

    tape = Tape()
    for number in range(SECONDS * BOOKS):
        mid = 100.0 + number % 7 * 0.5
        engine.update(tape.book(mid))
        for _ in range(TRADES // BOOKS):
            engine.update(tape.trade(mid))
        tape.us += 1_000_000 // BOOKS - 1000 * (1 + TRADES // BOOKS)


def _tail(folder: Path) -> float:
    """Return how long the errand takes, ms, where a minute of all symbols lies behind the checkpoint."""
    from daedalus.kernel.spool import Spool
    from daedalus.records import encode
    from tests.market import Tape

    ring = Spool.open(folder / "ring", RING_BYTES)
    tapes = [Tape(symbol=f"A{number}-B") for number in range(SYMBOLS)]
    for number in range(120 * BOOKS):
        for tape in tapes:
            ring.append(encode(tape.book(100.0 + number % 7)))
            tape.us += 1_000_000 // BOOKS - 1000
    wanted = {
        "exchange": "binance", "symbol": "A0-B", "channels": ["orderbook"], "session_id": "s1",
        "after": tapes[0].us * 1000 - 60_000_000_000, "rings": {"orderbook": str(ring.path)},
    }  # fmt: skip
    command = [sys.executable, "-m", "daedalus.dataset.tail", "--data", str(folder), "--wanted"]

    def errand() -> None:
        told = msgspec.json.encode(wanted).decode()
        done = subprocess.run([*command, told], capture_output=True, check=True)
        assert len(done.stdout) > 60 * BOOKS

    took = _best(errand, time.perf_counter)
    ring.close()
    return took
