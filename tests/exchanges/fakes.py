"""A sink that keeps what it is told, and a ccxt Binance that is fed by hand."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import WSMessage, WSMsgType

from daedalus.exchanges.adapter import (
    BookFact,
    Control,
    Fact,
    Fault,
    InstrumentFact,
    Now,
    Stream,
    TickerFact,
    TradeFact,
)

BASE = 1_700_000_000_000_000_000


class ListSink:
    """Keeps facts, controls and faults in order; time moves 1 µs with every capture."""

    def __init__(self) -> None:
        self.taken: list[tuple[Now, Fact | Control]] = []
        self.faults: list[tuple[Fault, int | None]] = []
        self.frames: list[tuple[Now, int, bytes, bool]] = []
        self.markets: list[InstrumentFact] = []
        self.last: dict[str, str] = {}  # symbol -> id of the last trade stored
        self.last_at: dict[str, int] = {}  # symbol -> exchange time of it, ns
        self.left_out: list[tuple[Stream, int, int | None, str]] = []  # what REST did not fill
        self.captures = 0

    def capture(self) -> Now:
        self.captures += 1
        return Now(BASE + self.captures * 1000, self.captures * 1000, BASE // 1_000_000)

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        self.taken += [(now, item) for item in items]

    def lost(self, fault: Fault, since: int | None) -> None:
        self.faults.append((fault, since))

    def instruments(self, facts: Sequence[InstrumentFact]) -> None:
        self.markets += facts

    def frame(self, now: Now, connection: int, payload: bytes | memoryview, *, text: bool) -> None:
        self.frames.append((now, connection, bytes(payload), text))

    def last_trade(self, symbol: str) -> str | None:
        return self.last.get(symbol)

    def last_trade_at(self, symbol: str) -> int | None:
        return self.last_at.get(symbol)

    def unfilled(self, stream: Stream, since: int, until: int | None, detail: str) -> None:
        self.left_out.append((stream, since, until, detail))

    def of(self, kind: type) -> list[Any]:
        return [item for _, item in self.taken if isinstance(item, kind)]

    @property
    def books(self) -> list[BookFact]:
        return self.of(BookFact)

    @property
    def trades(self) -> list[TradeFact]:
        return self.of(TradeFact)

    @property
    def tickers(self) -> list[TickerFact]:
        return self.of(TickerFact)


def market(symbol: str) -> dict[str, Any]:
    base, quote = symbol.split("/")
    return {
        "id": base + quote,
        "lowercaseId": (base + quote).lower(),
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "baseId": base,
        "quoteId": quote,
        "type": "spot",
        "spot": True,
        "margin": False,
        "swap": False,
        "future": False,
        "option": False,
        "contract": False,
        "active": True,
        "precision": {"amount": 1e-5, "price": 0.01},
        "limits": {},
        "info": {},
    }


HASHES = {
    "orderbook": ("orderbook::",),
    "trades": ("trade::",),
    "ticker": ("ticker:ticker@", "bidask:bookTicker@"),
}  # what the watch calls of ccxt's binance wait for


class HandFed:
    """The real ccxt.pro Binance class with hooks, its sockets replaced by the test's hand."""

    def __init__(self, sink: ListSink, symbols: Sequence[str], levels: int = 20) -> None:
        from daedalus.exchanges.ccxt_facts import Translator
        from daedalus.exchanges.ccxt_hooks import Hooks
        from daedalus.exchanges.ccxt_pro import CcxtOptions, build, check_symbols
        from daedalus.exchanges.ccxt_results import Results
        from daedalus.exchanges.ccxt_watch import Watch

        channels = {"orderbook": list(symbols), "trades": list(symbols), "ticker": list(symbols)}
        self.exchange = build(CcxtOptions(id="binance", channels=channels))
        self.exchange.set_markets([self.exchange.safe_market_structure(market(s)) for s in symbols])
        self.exchange.fetch_rest_order_book_safe = self._snapshot
        self.snapshots: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.ended: list[tuple[Stream, Fault]] = []
        self.heard: list[Stream] = []
        self.holes: list[tuple[Stream, int, int]] = []
        translator = Translator(levels=levels, side="taker")
        results = Results("binance", translator, check_symbols(self.exchange, channels))
        self.hooks = Hooks(self.exchange, sink, results, Watch(10, 120), self)

    def stream_ended(self, stream: Stream, fault: Fault) -> None:
        self.ended.append((stream, fault))

    def stream_heard(self, stream: Stream) -> None:
        self.heard.append(stream)

    def hole(self, stream: Stream, after: int, before: int) -> None:
        self.holes.append((stream, after, before))

    async def _snapshot(self, symbol: str, _limit: Any = None, _params: Any = None) -> dict[str, Any]:
        future = self.snapshots.setdefault(symbol, asyncio.get_running_loop().create_future())
        raw = await asyncio.shield(future)
        return self.exchange.parse_order_book(raw, symbol, None, "bids", "asks") | {
            "nonce": raw["lastUpdateId"]
        }

    def answer(self, symbol: str, raw: dict[str, Any]) -> None:
        """Let the REST snapshot of a symbol arrive."""
        future = self.snapshots.setdefault(symbol, asyncio.get_running_loop().create_future())
        future.set_result(raw)

    def open(self, number: int, *streams: Stream) -> Any:
        """Return the client of a connection that carries `streams`: their SUBSCRIBE, id 1, has left."""
        from daedalus.exchanges.ccxt_hooks import SUBSCRIBING

        for stream in streams:
            token = SUBSCRIBING.set((stream,))
            client = self.exchange.client(f"ws://localhost/stream/ws/{number}")
            for message_hash in HASHES[stream.channel]:
                client.future(message_hash + stream.symbol)
            SUBSCRIBING.reset(token)
            connection = self.hooks.connections[id(client)]
            connection.sent([stream], {"method": "SUBSCRIBE", "id": 1}, connection.opened_ns)
            if stream.channel == "orderbook":
                client.subscriptions["orderbook::" + stream.symbol] = {
                    "id": "1",
                    "name": "depth",
                    "symbols": [stream.symbol],
                    "method": self.exchange.handle_order_book_subscription,
                    "type": "spot",
                    "params": {},
                }
        return client

    def feed(self, client: Any, message: str | dict[str, Any]) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        client.handle_message(WSMessage(WSMsgType.TEXT, text, None))

    async def close(self) -> None:
        for connection in self.hooks.connections.values():
            connection.dropped = True
        for client in self.exchange.clients.values():
            for future in client.futures.values():
                future.cancel()
        await self.exchange.close()
