"""What sealing costs: CPU per row of a 20-level book, bytes per row in the segment, peak memory.

The rows are the top 20 of a real BTC/USDT recording (depth at 100 ms) at every update, repeated with later
times until the journal is as large as a writer lets it become. Without recordings: a seeded model, whose
sizes are random and compress worse.
"""

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from bisect import insort
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEVELS = 20
ROWS = 300_000
_T0 = 1_772_000_000_000_000_000
_STEP_NS = 10_000_000


def run() -> dict[str, Any]:
    """Seal one large journal in the real program and read its own account of it."""
    tops, origin = _tops()
    with tempfile.TemporaryDirectory(prefix="dd-bench-seal-") as data:
        size = _write(Path(data), tops)
        command = [sys.executable, "-m", "daedalus.dataset.seal", "--data", data, "--channel", "orderbook"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        summary = json.loads(done.stdout)
        shutil.rmtree(Path(data, "raw", "ready"))
        _write(Path(data), tops[: len(tops) // 4] or tops, symbols=60, rows=ROWS // 4)
        many = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    rows = summary["rows"]
    return {
        "cpu_per_row": _figure(summary["cpu_s"] / rows * 1e6, "us", 4.0),
        "bytes_per_row": _figure(summary["bytes_out"] / rows, "B", 76.0),
        "journal_bytes_per_row": {"value": size / rows, "unit": "B"},
        "peak_rss": _figure(summary["peak_rss_bytes"] / 2**20, "MiB", 200.0),
        "cpu_per_row_60_symbols": {"value": many["cpu_s"] / many["rows"] * 1e6, "unit": "us"},
        "peak_rss_60_symbols": _figure(many["peak_rss_bytes"] / 2**20, "MiB", 200.0),
        "rows": rows,
        "origin": origin,
    }


def _figure(value: float, unit: str, target: float) -> dict[str, Any]:
    return {"value": value, "unit": unit, "target": target, "better": "lower"}


def _write(data: Path, tops: list[tuple[bytes, bytes]], symbols: int = 1, rows: int = ROWS) -> int:
    """Write a closed journal of `rows` books; return its size in bytes."""
    import msgspec

    from daedalus.dataset.layout import Layout
    from daedalus.kernel.journal import Entry, Journal, Mark
    from daedalus.records import BookSnapshot

    active = Layout(data=str(data)).active("orderbook")
    active.mkdir(parents=True, exist_ok=True)
    journal = Journal(active, 1, {})
    encode = msgspec.msgpack.Encoder().encode
    names = [f"S{number}-USDT" for number in range(symbols)]
    group: list[Entry] = []
    for first in range(0, rows, 64):
        frame = [
            BookSnapshot(
                exchange="binance",
                symbol=names[number % symbols],
                collected_at=(_T0 + number * _STEP_NS) // 1_000_000,
                ts_recv=_T0 + number * _STEP_NS + number * 7919 % 5000 * 1000,
                ts_event=_T0 + number * _STEP_NS - 5_000_000,
                nonce=51_000_000_000 + number * 7,
                bids=tops[number % len(tops)][0],
                asks=tops[number % len(tops)][1],
                symbol_raw=names[number % symbols].replace("-", "/"),
                seq=number // symbols + 1,
                session_id="01J0SESSION",
                capture_mono_ns=number * _STEP_NS + number * 104_729 % 1_000_000,
                clock_ok=True,
                exch_seq=51_000_000_000 + number * 7,
                flags=64,
            )
            for number in range(first, min(first + 64, rows))
        ]
        marks = {record.symbol: Mark(record.ts_recv, record.seq, record.session_id) for record in frame}
        group.append(Entry("binance", "ccxt", 7, first + 1, len(frame), 0, marks, encode(frame)))
        if len(group) == 15:
            journal.append(group)
            group = []
    journal.append(group)
    return journal.close().stat().st_size


def _tops() -> tuple[list[tuple[bytes, bytes]], str]:
    """The packed top of the book after each update, and where it comes from."""
    root = Path(
        os.environ.get("DAEDALUS_RECORDINGS", Path(__file__).resolve().parents[2] / "shared" / "data")
    )
    recording = root / "binance_spot" / "btcusdt_20240808.gz"
    if recording.exists():
        return list(_recorded(recording)), recording.name
    return list(_model(3000)), "model"


class _Side:
    """One side as a sorted list of prices; `sign` -1 makes the best bid the first."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.prices: list[float] = []
        self.sizes: dict[float, float] = {}

    def apply(self, levels: list[list[str]]) -> None:
        for price, size in ((self.sign * float(price), float(size)) for price, size in levels):
            if size == 0:
                if self.sizes.pop(price, None) is not None:
                    self.prices.remove(price)
                continue
            if price not in self.sizes:
                insort(self.prices, price)
            self.sizes[price] = size

    def top(self) -> bytes:
        from daedalus.records import pack_side

        return pack_side([(self.sign * price, self.sizes[price]) for price in self.prices[:LEVELS]])


def _recorded(path: Path) -> Iterator[tuple[bytes, bytes]]:
    bids, asks = _Side(-1), _Side(1)
    known = 0
    waiting: list[dict[str, Any]] = []
    with gzip.open(path, "rt") as file:
        for line in file:
            message = json.loads(line.partition(" ")[2])
            update = message.get("data", {})
            if "lastUpdateId" in message:
                known = message["lastUpdateId"]
                bids.apply(message["bids"])
                asks.apply(message["asks"])
            elif update.get("e") == "depthUpdate":
                waiting.append(update)
            if known:
                for found in waiting:
                    if found["u"] > known:
                        bids.apply(found["b"])
                        asks.apply(found["a"])
                        yield bids.top(), asks.top()
                waiting.clear()


def _model(rows: int) -> Iterator[tuple[bytes, bytes]]:
    from daedalus.records import pack_side

    seeded = random.Random(1)
    middle = 60_000.0
    for _ in range(rows):
        middle += seeded.choice((-0.01, 0.0, 0.01))
        yield (
            pack_side([(round(middle - k * 0.01, 2), round(seeded.random(), 5)) for k in range(LEVELS)]),
            pack_side(
                [(round(middle + k * 0.01 + 0.01, 2), round(seeded.random(), 5)) for k in range(LEVELS)]
            ),
        )
