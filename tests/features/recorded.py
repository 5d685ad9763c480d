"""Real market records for the engine, made without the product's code: a dict book over a recording."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daedalus.records import BookSnapshot, Trade, pack_side
from tests.conftest import recordings_path
from tests.system.truth import PlainBook, lines

Record = BookSnapshot | Trade
_SAME = {"exchange": "binance", "symbol": "X", "collected_at": 0, "symbol_raw": "X", "capture_mono_ns": 0}
_SAME |= {"clock_ok": True, "exch_seq": None, "ts_event": None, "seq": 1}


@dataclass
class Clock:
    """Capture times: whole microseconds, strictly increasing over all channels."""

    last_us: int = 0

    def at(self, ns: int) -> int:
        self.last_us = max(ns // 1000, self.last_us + 1)
        return self.last_us * 1000


def make_book(ns: int, bids: Any, asks: Any, flags: int = 0, session: str = "s") -> BookSnapshot:
    sides = {"bids": pack_side(bids), "asks": pack_side(asks)}
    return BookSnapshot(**_SAME, ts_recv=ns, nonce=None, **sides, session_id=session, flags=flags)


def make_trade(
    ns: int, price: float, amount: float, side: str | None, flags: int = 0, session: str = "s"
) -> Trade:
    rest = {"trade_id": None, "cost": None, "info_json": None, "side_raw": None}
    return Trade(
        **_SAME,
        **rest,
        ts_recv=ns,
        price=price,
        amount=amount,
        side=side,
        session_id=session,
        flags=flags,
    )


@functools.cache
def events(name: str, books: int, levels: int = 20) -> tuple[Record, ...]:
    """Return the first `books` books of a Binance spot recording, and the trades between them."""
    return tuple(_events(recordings_path() / "binance_spot" / f"{name}_20240808.gz", books, levels))


def _events(path: Path, books: int, levels: int) -> Iterator[Record]:
    book, clock, seen = PlainBook(), Clock(), None
    early: list[dict[str, Any]] = []  # the recorder asked for the snapshot late
    for ns, message in lines(path):
        data = message.get("data", message)
        if "lastUpdateId" in data:
            seen = data["lastUpdateId"]
            _apply(book, data["bids"], data["asks"])
            for delta in early:
                if delta["u"] > seen:
                    _apply(book, delta["b"], delta["a"])
        elif seen is None:
            early += [data] if data.get("e") == "depthUpdate" else []
            continue
        elif data.get("e") == "trade":
            side = "sell" if data["m"] else "buy"
            yield make_trade(clock.at(ns), float(data["p"]), float(data["q"]), side)
            continue
        elif data.get("e") == "depthUpdate" and data["u"] > seen:
            _apply(book, data["b"], data["a"])
        else:
            continue
        yield make_book(clock.at(ns), *book.top(levels))
        books -= 1
        if not books:
            return


def _apply(book: PlainBook, bids: list[list[str]], asks: list[list[str]]) -> None:
    for side, changes in (("b", bids), ("a", asks)):
        for price, size in changes:
            book.set(side, float(price), float(size))
