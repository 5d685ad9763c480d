"""A sending process for the kill tests: a stand-in for a collector, numbering what its spool accepted.

    python link_sender.py RUNTIME RATE [SESSION]

Each record carries the number it has in the spool; a restarted sender goes on behind it. Prints
`ready`, and a line of JSON when everything is acknowledged, after SIGTERM. A sender that lost its spool has
another session, "s2" and so on.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time

from daedalus.actors import endpoints
from daedalus.kernel.journal import Mark
from daedalus.kernel.link import LinkSender
from daedalus.kernel.spool import Spool
from daedalus.records import Trade, decode, encode

TICK_S = 0.002
BASE_NS = 1_700_000_000_000_000_000


def trade(number: int, session: str = "s1") -> bytes:
    """Return the record that stands at `number` in the spool."""
    now = BASE_NS + number * 1000
    return encode(
        Trade(
            exchange="binance",
            symbol="BTC-USDT",
            collected_at=now // 1_000_000,
            ts_recv=now,
            trade_id=str(number),
            ts_event=now,
            side="buy",
            price=100.0 + number % 7,
            amount=1.0,
            cost=None,
            info_json=None,
            symbol_raw="BTC/USDT",
            seq=number,
            session_id=session,
            capture_mono_ns=now,
            clock_ok=True,
            exch_seq=None,
            flags=0,
            side_raw=None,
        )
    )


def describe(record: bytes) -> tuple[str, Mark]:
    """Return stream and mark of a record."""
    made = decode(record)
    assert isinstance(made, Trade)
    return made.symbol, Mark(made.ts_recv, made.seq, made.session_id)


async def send(runtime: str, rate: int, session: str) -> None:
    """Offer records at `rate` until SIGTERM; a full spool is waited for, so that nothing is shed."""
    spool = Spool.open(endpoints.spool(runtime, "binance", "trades"), 16 << 20)
    link = LinkSender(
        endpoints.link(runtime, "trades"), sender="binance", source="ccxt", spool=spool, describe=describe
    )
    await link.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    worst_ms = 0.0
    count, began = 0, time.monotonic()
    while not ended.is_set():
        while count < rate * (time.monotonic() - began):
            number = spool.next_seq
            mark = Mark(BASE_NS + number * 1000, number, session)
            at = time.perf_counter()
            if not link.append(trade(number, session), "BTC-USDT", mark):
                break
            worst_ms = max(worst_ms, (time.perf_counter() - at) * 1000)
            count += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), TICK_S)
    left = await link.drain()
    stats = {"accepted": spool.next_seq - 1, "left": left, "worst_append_ms": round(worst_ms, 3)}
    sys.stdout.write(json.dumps(stats | link.stats()) + "\n")
    link.close()
    spool.close()


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "s1"))
