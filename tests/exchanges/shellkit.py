"""What tests of the shell share: an exchange in the same loop, and an adapter that believes every word of it.

The exchange speaks JSON of our own: each message is a list of items, [["trade", "BTC/USD", "17"], …], and
the adapter says exactly those. So a test writes down what an adapter would say, and looks at what the shell
makes of it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Self

from aiohttp import WSMsgType, web
from msgspec.structs import replace

from daedalus.exchanges.adapter import (
    Ask,
    BookFact,
    Control,
    DepthFact,
    EventFact,
    Fact,
    Fault,
    InstrumentFact,
    Item,
    Limits,
    Now,
    Send,
    Stream,
    TickerFact,
    TradeFact,
)
from daedalus.exchanges.shared import Shared, SocketOptions
from daedalus.exchanges.socket import NativeConnection
from daedalus.records import Flag, pack_side
from tests.exchanges.fakes import ListSink

BTC = "BTC/USD"
BOOK, DEPTH, TRADES, TICKER = (Stream(BTC, c) for c in ("orderbook", "depth", "trades", "ticker"))
SIDE = pack_side([(1.0, 1.0)])
FREE = Limits(connects=(100_000, 1.0), sends=(100_000, 1.0), rest=(100_000, 1.0))


class Sink(ListSink):
    """Keeps everything, in one order as well."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.frames: list[tuple[int, bytes, bool]] = []
        self.markets: list[InstrumentFact] = []
        self.last: dict[str, str] = {}
        self.wall_ms: int | None = None

    def capture(self) -> Now:
        now = super().capture()
        return now if self.wall_ms is None else now._replace(wall_ms=self.wall_ms)

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        super().take(now, items)
        self.log += items

    def lost(self, fault: Fault, since: int | None) -> None:
        super().lost(fault, since)
        self.log.append(fault)

    def instruments(self, facts: Sequence[InstrumentFact]) -> None:
        self.markets += facts

    def frame(self, _now: Now, connection: int, payload: bytes | memoryview, *, text: bool) -> None:
        self.frames.append((connection, bytes(payload), text))

    def last_trade(self, symbol: str) -> str | None:
        return self.last.get(symbol)

    def last_trade_at(self, _symbol: str) -> int | None:
        return None

    def unfilled(self, stream: Stream, since: int, until: int | None, detail: str) -> None:
        raise AssertionError((stream, since, until, detail))

    @property
    def ids(self) -> list[str | None]:
        return [trade.trade_id for trade in self.trades]


def trade(symbol: str, number: str | None, flags: int = 0) -> TradeFact:
    return TradeFact(
        symbol=symbol,
        trade_id=number,
        ts_event=None,
        side=None,
        side_raw=None,
        price=1.0,
        amount=1.0,
        cost=None,
        flags=flags,
    )


def book(symbol: str, nonce: int | None) -> BookFact:
    return BookFact(symbol=symbol, ts_event=None, nonce=nonce, bids=SIDE, asks=SIDE)


def depth(kind: Any, symbol: str, nonce: int | None) -> DepthFact:
    return DepthFact(
        symbol=symbol, ts_event=None, nonce=nonce, kind=kind, first_exch_seq=None, bids=SIDE, asks=SIDE
    )


def event(symbol: str) -> EventFact:
    return EventFact(symbol=symbol, channel="bidask", method="x", ts_event=None, data_json="{}")


def fault(streams: list[Any] | None = None, *, fatal: bool = False) -> Fault:
    """Return a local fault of `streams`; None: of the whole connection."""
    lost = () if streams is None else tuple(Stream(*one) for one in streams)
    return Fault(lost, "sequence", "told to", fatal=fatal, local=streams is not None)


_WORDS: dict[str, Callable[..., Item]] = {
    "trade": trade,
    "old": lambda symbol, number: trade(symbol, number, int(Flag.BACKFILLED)),
    "book": book,
    "snapshot": lambda symbol, nonce: depth("snapshot", symbol, nonce),
    "update": lambda symbol, nonce: depth("update", symbol, nonce),
    "ticker": lambda symbol: TickerFact(symbol=symbol, last=1.0),
    "event": event,
    "fault": fault,
    "fatal": lambda: fault(fatal=True),
    "subscribed": lambda streams: Control("subscribed", tuple(Stream(*one) for one in streams)),
    "heartbeat": lambda streams=(): Control("heartbeat", tuple(Stream(*one) for one in streams)),
    "send": lambda text: Send(text.encode()),
    "ask": lambda key, path, streams: Ask(key, path, tuple(Stream(*one) for one in streams)),
    "market": lambda symbol: InstrumentFact(symbol=symbol),
}


def item(word: list[Any]) -> Item:
    """Return what one item of a message is."""
    return _WORDS[word[0]](*word[1:])


class Credulous:
    """An adapter that says what it hears."""

    source = "native"
    default_ws_url = "ws://127.0.0.1:1"
    default_rest_url = "http://127.0.0.1:1"
    limits = FREE
    channels = ("orderbook", "depth", "trades", "ticker")
    made: ClassVar[list["Credulous"]] = []

    def __init__(self, channels: dict[str, list[str]], **options: Any) -> None:
        self.streams = tuple(Stream(symbol, c) for c, names in channels.items() for symbol in names)
        self.options = options
        self.opening: list[Send | Ask] = [Send(b"hello")]
        self.fed: list[bytes] = []
        self.answers: list[tuple[str, int, bytes]] = []
        self.is_ready = False
        self.ping_text: bytes | None = None
        self.subscribed = 0
        Credulous.made.append(self)

    def address(self, ws_url: str) -> str:
        return ws_url

    def subscribe(self) -> list[Send | Ask]:
        self.is_ready = False
        self.subscribed += 1
        return self.opening

    def feed(self, raw: bytes | memoryview) -> list[Item]:
        self.fed.append(bytes(raw))
        return self._items(json.loads(bytes(raw)))

    def _items(self, words: list[list[Any]]) -> list[Item]:
        self.is_ready = self.is_ready or ["ready"] in words
        return [self._whole(item(word)) for word in words if word != ["ready"]]

    def _whole(self, said: Item) -> Item:
        """A fault that names no streams is one of all."""
        if isinstance(said, Fault) and not said.local:
            return replace(said, streams=self.streams)
        return said

    def answer(self, key: str, status: int, body: bytes) -> list[Item]:
        self.answers.append((key, status, body))
        if status != 200:
            return [Fault((), "error", f"status {status}", local=True)]
        return self._items(json.loads(body))

    def ping(self) -> bytes | None:
        return self.ping_text

    def ready(self) -> bool:
        return self.is_ready

    def snapshots(self) -> list[DepthFact]:
        return [
            item(["snapshot", s.symbol, 99])
            for s in self.streams
            if s.channel == "depth"  # type: ignore[misc]
        ]

    def backfill(self, symbol: str, last_id: str | None) -> list[Ask]:
        return [Ask(f"backfill/{symbol}", f"/trades?from={last_id}", (Stream(symbol, "trades"),))]

    def instruments(self) -> list[Ask]:
        return [Ask("instruments", "/instruments", self.streams)]


class Exchange:
    """A websocket and a REST server on loopback. It says what it is told, to whom it is told.

    `scripts`: what each connection is sent at once, in the order they come. `rest`: path -> what each request
    is answered, in the order they come; the last again and again.
    """

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = list(scripts)
        self.peers: list[web.WebSocketResponse] = []
        self.requests: list[web.Request] = []
        self.heard: list[str] = []
        self.goodbyes: list[int | None] = []
        self.rest: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.handshakes: list[Any] = []  # answers instead of websockets, first come first served
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/ws", self._websocket)
        app.router.add_get("/{path:.*}", self._request)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = site._server.sockets[0].getsockname()  # type: ignore[union-attr]
        self.url = f"//{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self.peers:
            self.cut(peer)
        await self._runner.cleanup()

    def cut(self, peer: Any) -> None:
        """Drop a connection without a word."""
        request = self.requests[self.peers.index(peer)]
        if request.transport is not None:
            request.transport.abort()

    async def say(self, peer: int, *words: list[Any]) -> None:
        """Send one message with these items."""
        await self.peers[peer].send_str(json.dumps(words))

    async def _websocket(self, request: web.Request) -> Any:
        if self.handshakes:
            answer = self.handshakes.pop(0)
            return await answer() if callable(answer) else answer
        peer = web.WebSocketResponse(autoping=True, max_msg_size=0)
        await peer.prepare(request)
        self.peers.append(peer)
        self.requests.append(request)
        for word in self.scripts.pop(0) if self.scripts else []:
            if isinstance(word, bytes):
                await peer.send_bytes(word)
            else:
                await peer.send_str(word if isinstance(word, str) else json.dumps(word))
        async for message in peer:
            if message.type is WSMsgType.TEXT:
                self.heard.append(message.data)
        self.goodbyes.append(peer.close_code)
        return peer

    async def _request(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        answers = self.rest.get(request.path, [web.Response(status=404)])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer = await answer()
        if isinstance(answer, list):
            return web.json_response(answer)
        return answer if isinstance(answer, web.StreamResponse) else web.Response(status=answer)


CHANNELS = {"orderbook": [BTC], "trades": [BTC]}
_QUICK: dict[str, Any] = {"reconnect_base_s": 0.001, "reconnect_cap_s": 0.002, "instruments_after_s": 0.001}


class Rig:
    """A connection, its exchange and its sink."""

    def __init__(
        self,
        exchange: Exchange,
        sink: Sink,
        channels: dict[str, list[str]],
        limits: Limits,
        make: Callable[..., Any],
        **options: Any,
    ) -> None:
        self.exchange = exchange
        self.sink = sink
        self.adapters: list[Any] = []
        self.shared = Shared(
            SocketOptions(url=f"ws:{exchange.url}/ws", rest_url=f"http:{exchange.url}", **(_QUICK | options)),
            limits,
        )

        def keep() -> Any:
            adapter = make(channels)
            self.adapters.append(adapter)
            return adapter

        self.connection = NativeConnection(keep, sink, self.shared, uniform=lambda _low, high: high)
        self.task: asyncio.Task[None] | None = None

    def start(self) -> "asyncio.Task[None]":
        self.task = asyncio.ensure_future(self.connection.run())
        return self.task

    async def stop(self) -> None:
        await self.connection.close()
        await self.shared.rest.close()
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)


def play(
    exchange: Exchange,
    work: Callable[[Rig], Awaitable[None]],
    *,
    channels: dict[str, list[str]] | None = None,
    limits: Limits = FREE,
    make: Callable[..., Any] = Credulous,
    start: bool = True,
    **options: Any,
) -> Rig:
    """Run `work` with a connection to `exchange`, and close everything."""
    rigs = []

    async def main() -> None:
        async with asyncio.timeout(20), exchange:
            rig = Rig(exchange, Sink(), channels or CHANNELS, limits, make, **options)
            rigs.append(rig)
            try:
                if start:
                    rig.start()
                await work(rig)
            finally:
                await rig.stop()

    asyncio.run(main())
    return rigs[0]
