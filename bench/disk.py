"""What a record costs on the disk: in the journal, in the published segment, and how often it is written.

A recorded market goes through the native Binance adapter, the session and the journal in commit groups of
100 ms, as live, and through the real sealer. The same updates are stored twice: as the top 20 of the book at
every update (`orderbook`) and as the exchange's own changes of the full book (`depth`), so that the bytes of
both can be held against each other. Write amplification is what was written, journal and segment, over what
stays: SD cards wear.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figure import figure

LEVELS = 20
COMMIT_NS = 100_000_000
FRAME_RECORDS = 64
CHANNELS = ("orderbook", "depth", "trades", "ticker")
MARKETS = (("BTC/USDT", "btcusdt_20240808.gz"), ("ETH/USDT", "ethusdt_20240808.gz"))


def run() -> dict[str, Any]:
    """Store two recorded markets and read what lies on the disk."""
    folder = os.environ.get("DAEDALUS_RECORDINGS")
    root = Path(folder) if folder else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (root / "binance_spot").exists():
        return {"note": "no recording: set DAEDALUS_RECORDINGS"}
    result: dict[str, Any] = {}
    for symbol, name in MARKETS:
        with tempfile.TemporaryDirectory(prefix="dd-bench-disk-") as data:
            rows = _journals(Path(data), symbol, root / "binance_spot" / name)
            result |= _sealed(Path(data), symbol, rows)
    return result


def _messages(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (receive time, ns; message) of a recording; the REST snapshot is a line of its own."""
    with gzip.open(path, "rb") as file:
        for line in file:
            at, _, message = line.rstrip(b"\n").partition(b" ")
            yield int(at), message


def _records(symbol: str, path: Path) -> Iterator[tuple[int, str, Any]]:
    """Yield (capture time, channel, record) as a collector makes them."""
    from daedalus.actors.session import Session
    from daedalus.exchanges.adapter import Ask, Control, Fault, Now, Send, Stream, stream_of
    from daedalus.exchanges.binance import BinanceAdapter

    adapter = BinanceAdapter({channel: [symbol] for channel in CHANNELS}, levels=LEVELS)
    streams = [Stream(symbol, channel) for channel in CHANNELS]
    session: Session | None = None
    asked = [item.key for item in adapter.subscribe() if isinstance(item, Ask)]
    for at, message in _messages(path):
        now = Now(at - at % 1000, at, at // 1_000_000)
        session = session or Session("binance", streams, "20240808T000000-00000000", now.ts_recv)
        snapshot = message.startswith(b'{"lastUpdateId"')
        items = adapter.answer(asked.pop(0), 200, message) if snapshot else adapter.feed(message)
        for item in items:
            if isinstance(item, Ask | Send | Control):
                continue
            if isinstance(item, Fault):
                raise RuntimeError(f"{path.name}: {item}")  # noqa: TRY004 - the recording has none
            state = session.streams[stream_of(item)]  # type: ignore[arg-type]
            row = session.row(state, item, now)  # type: ignore[arg-type]
            session.stored(state, row)
            yield now.ts_recv, state.channel, row


def _journals(data: Path, symbol: str, path: Path) -> dict[str, int]:
    """Write one closed journal per channel; return the rows of each."""
    import msgspec

    from daedalus.dataset.layout import Layout
    from daedalus.kernel.journal import Entry, Journal, Mark

    encode = msgspec.msgpack.Encoder().encode
    layout = Layout(data=str(data))
    journals: dict[str, Journal] = {}
    for channel in CHANNELS:
        layout.active(channel).mkdir(parents=True)
        journals[channel] = Journal(layout.active(channel), 1, {})
    rows: dict[str, int] = defaultdict(int)
    waiting: dict[str, list[Any]] = defaultdict(list)

    def commit(channel: str) -> None:
        records = waiting.pop(channel, [])
        group = []
        for first in range(0, len(records), FRAME_RECORDS):
            frame = records[first : first + FRAME_RECORDS]
            marks = {frame[-1].symbol: Mark(frame[-1].ts_recv, frame[-1].seq, frame[-1].session_id)}
            group.append(
                Entry("binance", "native", 7, rows[channel] + 1, len(frame), 0, marks, encode(frame))
            )
            rows[channel] += len(frame)
        if group:
            journals[channel].append(group)

    due = 0
    for at, channel, record in _records(symbol, path):
        if at >= due:
            due = at + COMMIT_NS
            for each in CHANNELS:
                commit(each)
        waiting[channel].append(record)
    for channel, journal in journals.items():
        commit(channel)
        journal.close()
    return rows


def _sealed(data: Path, symbol: str, rows: dict[str, int]) -> dict[str, Any]:
    """Seal the journals and account for them."""
    found: dict[str, Any] = {}
    segments: dict[str, int] = {}
    for channel in CHANNELS:
        journal = sum(file.stat().st_size for file in (data / "raw" / "active" / channel).iterdir())
        command = [sys.executable, "-m", "daedalus.dataset.seal", "--data", str(data), "--channel", channel]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        summary = json.loads(done.stdout)
        if summary["rows"] != rows[channel]:
            raise RuntimeError(f"{channel}: {summary['rows']} rows sealed of {rows[channel]}")
        segments[channel] = summary["bytes_out"]
        name = f"{symbol} {channel}"
        found[f"{name}: journal"] = figure(journal / rows[channel], "B/row", table=False)
        wanted = 76.0 if (symbol, channel) == ("BTC/USDT", "orderbook") else None
        found[f"{name}: segment"] = figure(summary["bytes_out"] / rows[channel], "B/row", wanted)
        amplified = (journal + summary["bytes_out"]) / summary["bytes_out"]
        found[f"{name}: written for each byte that stays"] = figure(amplified, "B", table=False)
    found[f"{symbol}: depth to orderbook, bytes per update"] = figure(
        (segments["depth"] / rows["depth"]) / (segments["orderbook"] / rows["orderbook"]), "times"
    )
    return found


if __name__ == "__main__":
    print(json.dumps(run(), indent=1, ensure_ascii=False))
