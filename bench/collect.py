"""What does a raw message cost in the collector, through ccxt and through a native adapter?

The same recorded messages of Binance spot, through the hooked ccxt.pro class and through the native adapter,
from the text of the message to the record in the spool; the socket is not part of it (aiohttp and picows
differ by about 10 µs on their own), nor are link and PUB.
"""

import asyncio
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from daedalus.actors.session import Session
from daedalus.exchanges.adapter import Ask, Control, Fact, Fault, Now, Send, Stream, stream_of
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.kernel.clock import CaptureClock, SystemClock
from daedalus.kernel.spool import Spool
from daedalus.records import encode

MESSAGES = 12_000
LEVELS = 20
ROOT = Path(__file__).resolve().parent.parent
STREAM = {"book": "depth@100ms", "trade": "trade", "quote": "bookTicker"}
KIND = {"depthUpdate": "book", "trade": "trade"}


class StoringSink:
    """Does with a fact what the collector does, up to the spool."""

    def __init__(self, symbol: str, directory: str) -> None:
        streams = [Stream(symbol, channel) for channel in ("orderbook", "trades", "ticker")]
        self.clock = CaptureClock(SystemClock())
        self.session = Session("bench", streams, "s", self.capture().ts_recv)
        self.spool = Spool.open(f"{directory}/{symbol.replace('/', '-')}", 64 << 20)
        self.rows = 0

    def capture(self) -> Now:
        ts_recv, mono_ns = self.clock.now()
        return Now(ts_recv, mono_ns, time.time_ns() // 1_000_000)

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        session = self.session
        for item in items:
            if isinstance(item, Control | Send | Ask):
                continue
            if isinstance(item, Fault):
                raise RuntimeError(str(item))  # noqa: TRY004 - the recording has none
            if session.is_duplicate(item):
                continue
            state = session.streams[stream_of(item)]
            if state.last_at is None:
                session.found(state.key, now)
            row = session.row(state, item, now)
            self.spool.append(encode(row))
            session.stored(state, row)
            self.spool.acknowledge(self.spool.next_seq - 1)
            self.rows += 1

    def lost(self, fault: Fault, _since: int | None) -> None:
        raise AssertionError(fault)


def recorded() -> list[dict[str, Any]]:
    """Return messages of the recording, the snapshot among them; [] where there is none."""
    import gzip

    folder = Path(os.environ.get("DAEDALUS_RECORDINGS", ROOT.parent / "shared" / "data"))
    path = folder / "binance_spot" / "btcusdt_20240808.gz"
    if not path.exists():
        return []
    found = []
    with gzip.open(path, "rt") as file:
        for line in file:
            if len(found) == MESSAGES:
                break
            message = json.loads(line[line.index("{") :])
            found.append(message.get("data", message))
    return found


def _kind(data: dict[str, Any]) -> str:
    return KIND.get(data.get("e", ""), "quote")


def _timed(costs: dict[str, list[int]], kind: str, work: Callable[[], None]) -> None:
    begin = time.thread_time_ns()
    work()
    costs[kind].append(time.thread_time_ns() - begin)


async def _ccxt(messages: list[dict[str, Any]], directory: str) -> tuple[dict[str, list[int]], int]:
    from tests.exchanges.fakes import HandFed

    sink = StoringSink("BTC/USDT", directory)
    fed = HandFed(sink, ["BTC/USDT"], LEVELS)  # type: ignore[arg-type]
    streams = [Stream("BTC/USDT", channel) for channel in ("orderbook", "trades", "ticker")]
    client = fed.open(0, *streams)
    fed.feed(client, {"result": None, "id": 1})
    costs: dict[str, list[int]] = defaultdict(list)
    ready = False
    for data in messages:
        if "lastUpdateId" in data:
            fed.answer("BTC/USDT", data)
            for _ in range(20):
                await asyncio.sleep(0)
            ready = True
        elif ready:
            text = json.dumps(data, separators=(",", ":"))
            _timed(costs, _kind(data), lambda text=text: fed.feed(client, text))
        else:
            fed.feed(client, data)
    await fed.close()
    sink.spool.close()
    return costs, sink.rows


def _native(messages: list[dict[str, Any]], directory: str) -> tuple[dict[str, list[int]], int]:
    """Feed the same messages, in the envelope of the combined stream, to the native adapter."""
    sink = StoringSink("BTC/USDT", directory)
    channels = {channel: ["BTC/USDT"] for channel in ("orderbook", "trades", "ticker")}
    adapter = BinanceAdapter(channels, levels=LEVELS)
    asked = [item.key for item in adapter.subscribe() if isinstance(item, Ask)]
    costs: dict[str, list[int]] = defaultdict(list)

    def feed(raw: bytes) -> None:
        now = sink.capture()
        sink.take(now, adapter.feed(raw))  # type: ignore[arg-type]

    ready = False
    for data in messages:
        if "lastUpdateId" in data:
            body = json.dumps(data, separators=(",", ":")).encode()
            sink.take(sink.capture(), adapter.answer(asked.pop(0), 200, body))  # type: ignore[arg-type]
            ready = True
            continue
        stream = f"btcusdt@{STREAM[_kind(data)]}"
        raw = json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()
        if ready:
            _timed(costs, _kind(data), lambda raw=raw: feed(raw))
        else:
            feed(raw)
    sink.spool.close()
    return costs, sink.rows


def _mean_us(costs: list[int]) -> float:
    return round(sum(costs) / len(costs) / 1000, 2)


def run() -> dict[str, Any]:
    """Return µs of CPU per message and kind, both ways, and how many times less the native one needs."""
    messages = recorded()
    if not messages:
        return {"note": "no recording: set DAEDALUS_RECORDINGS"}
    with tempfile.TemporaryDirectory(prefix="dd-collect-") as directory:
        ccxt, ccxt_rows = asyncio.run(_ccxt(messages, directory))
        native, native_rows = _native(messages, directory)
    out: dict[str, Any] = {"messages": len(messages), "rows_ccxt": ccxt_rows, "rows_native": native_rows}
    totals = []
    for name, costs in (("ccxt", ccxt), ("native", native)):
        every = [cost for kind in ("book", "trade", "quote") for cost in costs[kind]]
        totals.append(_mean_us(every))
        for kind in ("book", "trade", "quote"):
            out[f"{name}_{kind}"] = {"value": _mean_us(costs[kind]), "unit": "µs", "better": "lower"}
        out[f"{name}_message"] = {"value": totals[-1], "unit": "µs", "better": "lower"}
    ratio = round(totals[0] / totals[1], 1)
    out["ccxt_to_native"] = {"value": ratio, "unit": "times", "target": 3.0, "better": "higher"}
    return out


if __name__ == "__main__":
    print(json.dumps(run(), indent=1, ensure_ascii=False))
