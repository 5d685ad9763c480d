"""Hooks in a ccxt.pro instance: every update is taken in the very step its message arrives.

ccxt hands out live objects, and to a consumer that awaits only the latest of them (25 of 1,218 updates in
one measurement). Two gates of its client see everything instead:

    handle_message   each raw message: here the capture time is taken, and every exception of ccxt's ends
                     the connection, which on its own would stay open and silent for ever
    resolve          each result of each handler, in the same step: books are frozen, new trades taken
    reject           each failure ccxt notices: checksum, subscription refused, socket gone

Buffered deltas, snapshots and caches are ccxt's business and never touched.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from daedalus.exchanges.adapter import BookFact, Control, Fact, Fault, Now, Sink, Stream
from daedalus.exchanges.ccxt_facts import SNAPSHOT_WORD, Translator
from daedalus.exchanges.freshness import Freshness
from daedalus.records import Flag

__all__ = ["SUBSCRIBING", "Connection", "Hooks"]

SUBSCRIBING: ContextVar[Stream | None] = ContextVar("subscribing", default=None)
"""The stream whose watch call is running: tells which connection carries it."""

_CHECKSUMS = {"kraken", "okx", "bitget", "bitfinex"}  # elsewhere a ChecksumError is a hole in the sequence
_DETAIL_MAX = 300


class Connection:
    """What is known of one of ccxt's websocket clients."""

    __slots__ = ("client", "dropped", "freshness", "messages", "since", "streams", "tasks", "unconfirmed")

    def __init__(self, client: Any, freshness: Freshness) -> None:
        self.client = client
        self.freshness = freshness
        self.streams: set[Stream] = set()
        self.unconfirmed: set[Stream] = set()  # subscribed, nothing heard since
        self.tasks: set[asyncio.Task[Any]] = set()
        self.since: int | None = None  # capture of the last good message, ns
        self.messages = 0
        self.dropped = False


class _Message:
    """The raw message in hand, and what has been made of it so far."""

    __slots__ = ("books", "connection", "items", "now", "text")

    def __init__(self, connection: Connection, now: Now, text: object) -> None:
        self.connection = connection
        self.now = now
        self.text = text
        self.items: list[Fact | Control] = []
        self.books: dict[str, BookFact] = {}


class Keeper(Protocol):
    """Who keeps streams subscribed."""

    def stream_ended(self, stream: Stream, fault: Fault) -> None:
        """The connection of a stream was dropped: subscribe it again."""
        ...

    def stream_heard(self, stream: Stream) -> None:
        """A message came after the stream was subscribed."""
        ...


class Hooks:
    """The hooks of one exchange instance."""

    def __init__(
        self,
        exchange: Any,
        sink: Sink,
        translator: Translator,
        streams: Mapping[str, str],
        freshness: Callable[[], Freshness],
        keeper: Keeper,
    ) -> None:
        """Install the hooks.

        Args:
            exchange: a ccxt.pro instance.
            sink: where facts and faults go.
            translator: makes the facts.
            streams: ccxt's unified symbol -> symbol as configured.
            freshness: makes the watch of one connection.
            keeper: told what becomes of every stream.
        """
        from ccxt.async_support.base.ws.cache import ArrayCache
        from ccxt.async_support.base.ws.order_book import OrderBook

        self.connections: dict[int, Connection] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.parse_errors = 0
        self._exchange = exchange
        self._sink = sink
        self._translator = translator
        self._symbols = streams
        self._freshness = freshness
        self._keeper = keeper
        self._book_class = OrderBook
        self._cache_class = ArrayCache
        self._marks_snapshots = exchange.id in SNAPSHOT_WORD
        self._message: _Message | None = None
        self._last_trade: dict[str, Any] = {}  # unified symbol -> the newest trade object taken
        self._books_seen: set[str] = set()  # valid since their last subscription
        self._resyncs: set[str] = set()  # were valid before
        self._open = exchange.client
        self._spawn = exchange.spawn
        exchange.client = self._client
        exchange.spawn = self._spawned

    # -- connections

    def _client(self, url: str) -> Any:
        client = self._open(url)
        connection = self.connections.get(id(client))
        if connection is None:
            connection = self.connections[id(client)] = Connection(client, self._freshness())
            connection.freshness.opened(self._sink.capture().mono_ns)
            self._hook(client, connection)
        stream = SUBSCRIBING.get()
        if stream is not None and stream not in connection.streams:
            connection.streams.add(stream)
            connection.unconfirmed.add(stream)
        return client

    def _hook(self, client: Any, connection: Connection) -> None:
        handle, resolve, reject = client.handle_message, client.resolve, client.reject

        def on_message(message: Any) -> None:
            self._on_message(connection, handle, message)

        def on_resolve(result: Any, message_hash: str) -> Any:
            if not connection.dropped:
                self._on_result(connection, result, message_hash)
            return resolve(result, message_hash)

        def on_reject(error: Any, message_hash: str | None = None) -> Any:
            answer = reject(error, message_hash)
            self.drop(connection, _fault_of(connection, self._exchange.id, error))
            return answer

        client.handle_message, client.resolve, client.reject = on_message, on_resolve, on_reject

    def _spawned(self, method: Callable[..., Any], *args: Any) -> Any:
        connection = self.connections.get(id(args[0])) if args else None
        if connection is None:
            return self._spawn(method, *args)

        async def tracked(*args: Any) -> Any:  # a snapshot on its way, for a connection that may be dropped
            task = asyncio.current_task()
            assert task is not None
            connection.tasks.add(task)
            try:
                return await method(*args)
            finally:
                connection.tasks.discard(task)

        return self._spawn(tracked, *args)

    def drop(self, connection: Connection, fault: Fault) -> None:
        """Give a connection up: close it, say what was lost, have its streams subscribed again."""
        if connection.dropped:
            return
        connection.dropped = True
        self.connections.pop(id(connection.client), None)
        self._forget(connection)
        self._close(connection, fault)
        if connection.streams:
            self._safely(lambda: self._sink.lost(fault, connection.since))
        # the sockets of one stream live and die together
        for other in list(self.connections.values()):
            if not other.streams.isdisjoint(connection.streams):
                self.drop(other, Fault(tuple(other.streams), fault.reason, fault.detail))
        for stream in connection.streams:
            self._keeper.stream_ended(stream, fault)

    def _forget(self, connection: Connection) -> None:
        """Throw away what belongs to a dropped connection, so that the next begins with nothing."""
        for task in tuple(connection.tasks):
            task.cancel()
        for unified in list(self._exchange.orderbooks or ()):
            stream = Stream(self._symbols.get(unified, ""), "orderbook")
            if stream in connection.streams:
                del self._exchange.orderbooks[unified]
        for stream in connection.streams:
            if stream.channel == "orderbook":
                self._books_seen.discard(stream.symbol)
            elif stream.channel == "ticker":
                self._translator.forget(stream.symbol)

    def _close(self, connection: Connection, fault: Fault) -> None:
        from ccxt import NetworkError

        client = connection.client
        if self._exchange.clients.get(client.url) is client:
            del self._exchange.clients[client.url]
        if client.error is None:
            client.on_error(NetworkError(f"dropped: {fault.reason}: {fault.detail}"))

    def stale(self, mono_ns: int) -> None:
        """Drop every connection that has been silent beyond its limit."""
        for connection in list(self.connections.values()):
            limit_s = connection.freshness.limit_s
            if connection.freshness.stale(mono_ns):
                detail = f"no message for {limit_s:.1f} s"
                self.drop(connection, Fault(tuple(connection.streams), "stale", detail))

    # -- messages

    def _on_message(self, connection: Connection, handle: Callable[[Any], None], message: Any) -> None:
        if connection.dropped:
            return
        text = message.data if message.type in (1, 2) else None  # TEXT, BINARY: the others carry no data
        if text is None:
            handle(message)
            return
        now = self._sink.capture()
        current = self._message = _Message(connection, now, text)
        try:
            handle(message)
        except Exception as error:  # noqa: BLE001 - ccxt raises anything; swallowed it would freeze the stream
            self.parse_errors += 1
            detail = f"{type(error).__name__}: {error}"[:_DETAIL_MAX]
            self.drop(connection, Fault(tuple(connection.streams), "error", detail))
        finally:
            self._message = None
        if self._gone(connection):
            return
        connection.messages += 1
        connection.since = now.ts_recv
        connection.freshness.seen(now.mono_ns)
        if connection.unconfirmed:
            current.items.insert(0, self._confirmed(connection))
        if current.items:
            self._safely(lambda: self._sink.take(now, current.items))

    def _gone(self, connection: Connection) -> bool:
        return connection.dropped

    def _confirmed(self, connection: Connection) -> Control:
        streams, connection.unconfirmed = connection.unconfirmed, set()
        for stream in streams:
            self._keeper.stream_heard(stream)
        waiting = {stream for other in self.connections.values() for stream in other.unconfirmed}
        return Control("subscribed", tuple(streams - waiting))

    def _on_result(self, connection: Connection, result: Any, message_hash: str) -> None:
        if isinstance(result, self._book_class):
            self._on_book(connection, result)
        elif isinstance(result, self._cache_class):
            self._on_trades(connection, result)
        elif type(result) is dict and "bid" in result and "symbol" in result:
            self._on_ticker(connection, result, message_hash)

    def _stream(self, connection: Connection, unified: object, channel: str) -> Stream | None:
        stream = Stream(self._symbols.get(unified, ""), channel)  # type: ignore[call-overload]
        return stream if stream in connection.streams else None

    def _on_book(self, connection: Connection, book: Any) -> None:
        unified = book.get("symbol")
        if unified is None:
            unified = next((name for name, one in self._exchange.orderbooks.items() if one is book), None)
        stream = self._stream(connection, unified, "orderbook")
        if stream is None:
            return
        flags = 0
        if stream.symbol not in self._books_seen:
            flags = Flag.SNAPSHOT | (Flag.RESYNC if stream.symbol in self._resyncs else 0)
        fact = self._translator.book(stream.symbol, book, int(flags))
        message = self._message
        if message is not None and message.books.get(stream.symbol) == fact:
            return  # the same update under a second hash
        self._books_seen.add(stream.symbol)
        self._resyncs.add(stream.symbol)
        if message is None:  # a snapshot by REST: its own step, its own capture time
            self._safely(lambda: self._sink.take(self._sink.capture(), [fact]))
        else:
            message.books[stream.symbol] = fact
            message.items.append(fact)

    def _on_trades(self, connection: Connection, cache: Any) -> None:
        if not cache or self._message is None:
            return
        newest = cache[-1]
        stream = self._stream(connection, newest.get("symbol"), "trades")
        if stream is None:
            return
        last = self._last_trade.get(stream.symbol)
        fresh = []
        for trade in reversed(cache):
            if trade is last:
                break
            fresh.append(trade)
        self._last_trade[stream.symbol] = newest
        flags = 0
        if self._marks_snapshots and '"snapshot"' in str(self._message.text):
            flags = int(Flag.BACKFILLED)
        self._message.items += self._translator.trades(stream.symbol, fresh[::-1], flags)

    def _on_ticker(self, connection: Connection, ticker: Mapping[str, Any], message_hash: str) -> None:
        stream = self._stream(connection, ticker["symbol"], "ticker")
        if stream is None or self._message is None:
            return
        quote = message_hash.startswith("bidask")
        make = self._translator.quote if quote else self._translator.summary
        self._message.items.append(make(stream.symbol, ticker))

    def _safely(self, work: Callable[[], None]) -> None:
        """Do our own work inside ccxt's callbacks: what it raises is carried to `failed`, not to ccxt."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again by who awaits `failed`
            if not self.failed.done():
                self.failed.set_exception(error)


def _fault_of(connection: Connection, exchange_id: str, error: Any) -> Fault:
    names = {kind.__name__ for kind in type(error).__mro__}
    if "InvalidNonce" in names:  # ccxt says ChecksumError for a broken sequence too
        reason = "checksum" if exchange_id in _CHECKSUMS and "ChecksumError" in names else "sequence"
    else:
        reason = "disconnect" if names & {"NetworkError", "OSError"} else "error"
    detail = f"{type(error).__name__}: {error}"[:_DETAIL_MAX]
    return Fault(tuple(connection.streams), reason, detail)  # type: ignore[arg-type]
