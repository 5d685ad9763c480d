"""Binance by hand: its messages, its recordings, and a book of plain dicts that knows none of our code."""

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daedalus.exchanges.adapter import Ask, BookFact, DepthFact, Fault, Item, TradeFact
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.exchanges.binance_usdm import BinanceUsdmAdapter as BinanceUsdmAdapter  # noqa: PLC0414
from daedalus.records import unpack_side
from tests.system.truth import PlainBook

BTC, ETH, SWAP = "BTC/USDT", "ETH/USDT", "BTC/USDT:USDT"
E = 1_700_000_000_000  # ms


class Spot1000(BinanceAdapter):
    """As the recordings were made: snapshots of 1000 levels, which are not the whole book."""

    dialect = msgspec.structs.replace(BinanceAdapter.dialect, depth_levels=1000)


def only(items: Sequence[Any], kind: type) -> list[Any]:
    return [item for item in items if isinstance(item, kind)]


def books(items: Sequence[Item]) -> list[BookFact]:
    return only(items, BookFact)


def depths(items: Sequence[Item]) -> list[DepthFact]:
    return only(items, DepthFact)


def trades(items: Sequence[Item]) -> list[TradeFact]:
    return only(items, TradeFact)


def faults(items: Sequence[Item]) -> list[Fault]:
    return only(items, Fault)


def asks(items: Sequence[Any]) -> list[Ask]:
    return only(items, Ask)


# -- messages

Levels = Sequence[tuple[float, float]]


def _texts(levels: Levels) -> list[list[str]]:
    return [[f"{price:.8f}", f"{size:.8f}"] for price, size in levels]


def wrapped(stream: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def delta(
    first: int,
    last: int,
    bids: Levels = (),
    asks: Levels = (),
    *,
    pu: int | None = None,
    market: str = "BTCUSDT",
    at_ms: int = E,
) -> bytes:
    data = {"e": "depthUpdate", "E": at_ms, "s": market, "U": first, "u": last}
    data |= {"b": _texts(bids), "a": _texts(asks)} | ({} if pu is None else {"pu": pu})
    return wrapped(f"{market.lower()}@depth@100ms", data)


def snapshot(last: int, bids: Levels = ((100, 1), (99, 2)), asks: Levels = ((101, 3), (102, 4))) -> bytes:
    return json.dumps({"lastUpdateId": last, "bids": _texts(bids), "asks": _texts(asks)}).encode()


def trade(
    number: int, price: str = "100.5", *, maker: bool = True, market: str = "BTCUSDT", **more: Any
) -> bytes:
    data = {
        "e": "trade",
        "E": E,
        "s": market,
        "t": number,
        "p": price,
        "q": "0.5",
        "T": E,
        "m": maker,
        **more,
    }
    return wrapped(f"{market.lower()}@trade", data)


def rest_trades(*numbers: int) -> bytes:
    return json.dumps(
        [
            {
                "id": number,
                "price": "100.5",
                "qty": "0.5",
                "quoteQty": "50.25",
                "time": E,
                "isBuyerMaker": False,
                "isBestMatch": True,
            }
            for number in numbers
        ]
    ).encode()


def quote(last: int, bid: float = 100, ask: float = 101, *, market: str = "BTCUSDT", **more: Any) -> bytes:
    data = {"u": last, "s": market, "b": f"{bid:.8f}", "B": "1.5", "a": f"{ask:.8f}", "A": "2.5", **more}
    return wrapped(f"{market.lower()}@bookTicker", data)


# -- recordings


@cache
def raw_lines(path: Path) -> list[bytes]:
    """Return the messages of a recording, byte for byte as they came."""
    with gzip.open(path) as file:
        return [line[line.index(b"{") :].rstrip(b"\n") for line in file]


def recorded(recordings: Path, name: str) -> list[bytes]:
    path = recordings / name
    if not path.exists():
        pytest.skip(f"no recording {path}")
    return raw_lines(path)


def is_snapshot(raw: bytes) -> bool:
    return raw.startswith(b'{"lastUpdateId"')


class DictBook:
    """A book by the obvious way, that follows stored `depth` rows as `records.Depth` says."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.last = 0

    def take(self, fact: DepthFact) -> None:
        if fact.kind == "snapshot":
            self.bids, self.asks = {}, {}
        for side, packed in ((self.bids, fact.bids), (self.asks, fact.asks)):
            for price, size in unpack_side(packed):
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
        self.last = fact.nonce or 0


class Truth:
    """The true full book of a recording, straight from its JSON: at every message, how it is by then."""

    def __init__(self) -> None:
        self.book = PlainBook()
        self.last = 0
        self._early: list[dict[str, Any]] | None = []

    def see(self, raw: bytes) -> None:
        if is_snapshot(raw):
            found = msgspec.json.decode(raw)
            self._set(found["bids"], found["asks"])
            self.last = found["lastUpdateId"]
            for data in self._early or ():
                self._apply(data)
            self._early = None
        elif b"@depth" in raw[:40]:
            data = msgspec.json.decode(raw)["data"]
            if self._early is None:
                self._apply(data)
            else:
                self._early.append(data)

    def _apply(self, data: dict[str, Any]) -> None:
        if data["u"] > self.last:
            self._set(data["b"], data["a"])
            self.last = data["u"]

    def _set(self, bids: Sequence[Any], asks: Sequence[Any]) -> None:
        for side, levels in (("b", bids), ("a", asks)):
            for price, size in levels:
                self.book.set(side, float(price), float(size))

    def rest(self, levels: int) -> bytes:
        """Return what REST would say of this book."""
        bids, asks = self.book.top(levels)
        body = {"lastUpdateId": self.last, "bids": [[repr(p), repr(s)] for p, s in bids]}
        return json.dumps(body | {"asks": [[repr(p), repr(s)] for p, s in asks]}).encode()


def replay(
    adapter: BinanceAdapter, lines: Sequence[bytes], truth: Truth
) -> Iterator[tuple[bytes, list[Item]]]:
    """Yield each recorded message with what the adapter made of it; `truth` has seen it by then.

    The recorded snapshot answers the first request for one; later ones are answered from the truth, ten
    messages after they were made.
    """
    (first,) = asks(adapter.subscribe())
    due: list[tuple[int, Ask]] = []
    for at, raw in enumerate(lines):
        truth.see(raw)
        items = adapter.answer(first.key, 200, raw) if is_snapshot(raw) else adapter.feed(raw)
        if due and due[0][0] <= at:
            items = items + adapter.answer(due.pop(0)[1].key, 200, truth.rest(1000))
        due += [(at + 10, ask) for ask in asks(items)]
        yield raw, items


# -- an adapter with a valid book


def opened(
    make: Callable[..., BinanceAdapter] = BinanceAdapter, *, symbols: Sequence[str] = (BTC,), **options: Any
) -> tuple[BinanceAdapter, list[Ask]]:
    channels = options.pop("channels", ("orderbook", "depth", "trades", "ticker"))
    adapter = make({channel: list(symbols) for channel in channels}, **options)
    return adapter, asks(adapter.subscribe())


def synced(**options: Any) -> tuple[BinanceAdapter, list[Item]]:
    """Return an adapter whose book is at update 100, and what it said at that."""
    adapter, (ask,) = opened(options.pop("make", BinanceAdapter), **options)
    return adapter, adapter.answer(ask.key, 200, snapshot(100))
