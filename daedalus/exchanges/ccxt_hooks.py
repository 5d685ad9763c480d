"""Hooks in a ccxt.pro instance: every update is taken in the very step its message arrives.

ccxt hands out live objects, and to a consumer that awaits only the latest of them (25 of 1,218 updates in
one measurement). The gates of its client see everything instead:

    handle_message   each raw message: here the capture time is taken, and every exception of ccxt's ends
                     the connection, which on its own would stay open and silent for ever
    on_message       the same, decoded, before the exchange's handler: numbers are checked here
    future           which watch call waits for which hash: so a result is known by who asked for it, however
                     the exchange calls the symbol
    resolve          each result of each handler, in the same step: what it means is `ccxt_results`
    reject           each failure ccxt notices: checksum, subscription refused, socket gone
    send, receive    when a subscription left; that the receive loop did not end in silence

Buffered deltas, snapshots and caches are ccxt's business and never touched. A watch call is made once per
subscription, not per message, so the futures of a client do not grow.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Protocol

from daedalus.exchanges.adapter import Control, Fault, Sink, Stream, stream_of
from daedalus.exchanges.ccxt_connection import Connection, Message
from daedalus.exchanges.ccxt_guards import HEARTBEATS, BrokenSequenceError
from daedalus.exchanges.ccxt_limits import sends
from daedalus.exchanges.ccxt_redact import Redactor
from daedalus.exchanges.ccxt_results import Kinds, Results
from daedalus.exchanges.ccxt_watch import Watch

__all__ = ["SUBSCRIBING", "Hooks", "Keeper"]

SUBSCRIBING: ContextVar[tuple[Stream, ...]] = ContextVar("subscribing", default=())
"""The streams whose watch call is running: tells which connection carries them."""

_CHECKSUMS = {"kraken", "okx", "bitget", "bitfinex"}  # elsewhere a ChecksumError is a hole in the sequence
_TEXT, _BINARY = 1, 2  # of aiohttp's message types


class Keeper(Protocol):
    """Who keeps streams subscribed."""

    def stream_ended(self, stream: Stream, fault: Fault) -> None:
        """The connection of a stream was dropped: subscribe it again."""
        ...

    def stream_heard(self, stream: Stream) -> None:
        """The subscription of a stream is in force."""
        ...

    def hole(self, stream: Stream, after: int, before: int) -> None:
        """Live trades are missing between two ids: fetch them."""
        ...


class Hooks:
    """The hooks of one exchange instance."""

    def __init__(
        self,
        exchange: Any,
        sink: Sink,
        results: Results,
        watch: Watch,
        keeper: Keeper,
        *,
        redactor: Redactor | None = None,
        raw_frames: bool = False,
    ) -> None:
        """Install the hooks.

        Args:
            exchange: a ccxt.pro instance.
            sink: where facts and faults go.
            results: makes facts of ccxt's results.
            watch: knows when silence is a fault.
            keeper: told what becomes of every stream.
            redactor: takes secrets out of what ccxt's exceptions say.
            raw_frames: hand every raw message to the sink first.
        """
        from ccxt.async_support.base.ws.cache import ArrayCache, ArrayCacheByTimestamp
        from ccxt.async_support.base.ws.order_book import OrderBook

        results.kinds = Kinds(OrderBook, ArrayCache, ArrayCacheByTimestamp)
        self.connections: dict[int, Connection] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.parse_errors = 0
        self.results = results
        self.watch = watch
        self.redactor = redactor or Redactor()
        self._exchange = exchange
        self._sink = sink
        self._keeper = keeper
        self._raw_frames = raw_frames
        self._opened = 0  # connections since start
        self._message: Message | None = None
        self._open = exchange.client
        self._spawn = exchange.spawn
        exchange.client = self._client
        exchange.spawn = self._spawned

    # -- connections

    def _client(self, url: str) -> Any:
        client = self._open(url)
        connection = self.connections.get(id(client))
        if connection is None:
            self._opened += 1
            connection = Connection(client, self._opened, self._exchange.id, self.watch.fresh())
            self.connections[id(client)] = connection
            connection.opened_ns = self._sink.capture().mono_ns
            connection.freshness.opened(connection.opened_ns)
            self._hook_results(client, connection)
            self._hook_transport(client, connection)
            client.throttle = sends(self._exchange.id) or client.throttle
        if streams := SUBSCRIBING.get():
            new = connection.asked(streams)
            if new:
                self.watch.opened(new, self._sink.capture().mono_ns)
        return client

    def _hook_results(self, client: Any, connection: Connection) -> None:
        resolve, reject, future, decoded = (
            client.resolve,
            client.reject,
            client.future,
            client.on_message_callback,
        )

        def on_decoded(client: Any, message: Any) -> None:
            if self._message is not None:
                self._message.decoded = message
            connection.guard.check(message)
            decoded(client, message)

        def on_resolve(result: Any, message_hash: str) -> Any:
            if not connection.dropped:
                self._on_result(connection, result, message_hash)
            return resolve(result, message_hash)

        def on_reject(error: Any, message_hash: str | None = None) -> Any:
            answer = reject(error, message_hash)
            self.drop(connection, self._fault_of(connection, error))
            return answer

        def on_future(message_hash: str) -> Any:
            if streams := SUBSCRIBING.get():
                asked = self.results.asked(streams, message_hash)
                known = connection.hashes.get(message_hash, ())
                connection.hashes[message_hash] = tuple(dict.fromkeys(known + asked))
            return future(message_hash)

        client.resolve, client.reject, client.future = on_resolve, on_reject, on_future
        client.on_message_callback = on_decoded

    def _hook_transport(self, client: Any, connection: Connection) -> None:
        handle, send, receive, loop = client.handle_message, client.send, client.receive, client.receive_loop
        connected = client.on_connected_callback

        async def on_send(message: Any) -> Any:
            connection.sent(SUBSCRIBING.get(), message, self._sink.capture().mono_ns)
            return await send(message)

        async def on_receive() -> Any:
            try:
                return await receive()
            except asyncio.CancelledError:  # ccxt's loop would end here and tell nobody
                self.drop(connection, self._fault(connection, "disconnect", "the receive loop was cancelled"))
                raise

        def on_connected(client: Any, message: Any = None) -> None:
            connected(client, message)
            if connection.dropped:  # given up while it was being opened: nobody else would close it
                self._exchange.spawn(client.close)
            elif self._exchange.id in HEARTBEATS:
                self._exchange.spawn(beat)

        async def beat() -> None:  # a quiet connection shows that it lives, and its numbers are checked
            with contextlib.suppress(ConnectionError, RuntimeError):
                await send(HEARTBEATS[self._exchange.id])

        client.handle_message = lambda message: self._on_message(connection, handle, message)
        client.receive_loop = lambda: self._guarded(connection, loop)
        client.send, client.receive, client.on_connected_callback = on_send, on_receive, on_connected

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

    def drop(self, connection: Connection, fault: Fault, frozen: Iterable[Stream] = ()) -> None:
        """Give a connection up: close it, say what was lost, have its streams subscribed again.

        Args:
            connection: which.
            fault: of all its streams.
            frozen: streams that fell silent while the others did not: they are lost since their own last
                message, not since the connection's.
        """
        if connection.dropped:
            return
        connection.dropped = True
        self.connections.pop(id(connection.client), None)
        self._forget(connection)
        self._close(connection, fault)
        silent = tuple(stream for stream in frozen if stream in connection.streams)
        others = tuple(stream for stream in connection.streams if stream not in silent)
        for streams, since in ((silent, None), (others, connection.since)):
            if streams:
                self._lost(Fault(streams, fault.reason, fault.detail), since)
        # the sockets of one stream live and die together
        for other in list(self.connections.values()):
            if not other.streams.isdisjoint(connection.streams):
                self.drop(other, self._fault(other, fault.reason, fault.detail))
        for stream in connection.streams:
            self._keeper.stream_ended(stream, fault)

    def _lost(self, fault: Fault, since: int | None) -> None:
        self._safely(lambda: self._sink.lost(fault, since))

    def _forget(self, connection: Connection) -> None:
        """Throw away what belongs to a dropped connection, so that the next begins with nothing."""
        for task in tuple(connection.tasks):
            task.cancel()
        for unified in self.results.forget(connection.streams):
            (self._exchange.orderbooks or {}).pop(unified, None)

    def _close(self, connection: Connection, fault: Fault) -> None:
        from ccxt import NetworkError

        client = connection.client
        if self._exchange.clients.get(client.url) is client:
            del self._exchange.clients[client.url]
        if client.error is None:
            client.on_error(NetworkError(f"dropped: {fault.reason}: {fault.detail}"))

    def _fault(self, connection: Connection, reason: str, detail: str) -> Fault:
        return Fault(tuple(connection.streams), reason, detail)  # type: ignore[arg-type]

    def _fault_of(self, connection: Connection, error: Any) -> Fault:
        names = {kind.__name__ for kind in type(error).__mro__}
        if "InvalidNonce" in names:  # ccxt says ChecksumError for a broken sequence too
            summed = self._exchange.id in _CHECKSUMS and "ChecksumError" in names
            reason = "checksum" if summed else "sequence"
        else:
            reason = "disconnect" if names & {"NetworkError", "OSError"} else "error"
        return self._fault(connection, reason, self.redactor.error(error))

    # -- messages

    def _on_message(self, connection: Connection, handle: Callable[[Any], None], message: Any) -> None:
        if connection.dropped:
            return
        if message.type not in (_TEXT, _BINARY):  # ping, pong, close: they carry no data
            self._guarded(connection, lambda: handle(message))
            return
        now = self._sink.capture()
        if self._raw_frames:
            text = message.type == _TEXT
            payload = message.data.encode() if isinstance(message.data, str) else message.data
            self._safely(lambda: self._sink.frame(now, connection.number, payload, text=text))
        current = self._message = Message(now)
        token = SUBSCRIBING.set(())  # the receive loop runs in the context of whoever opened the socket
        try:
            self._guarded(connection, lambda: handle(message))
        finally:
            SUBSCRIBING.reset(token)
            self._message = None
        if self._gone(connection):
            return
        connection.messages += 1
        connection.since = now.ts_recv
        connection.freshness.seen(now.mono_ns)
        items = current.items
        if connection.unconfirmed:
            heard = {stream_of(item) for item in items if not isinstance(item, Control)}
            if control := self._confirmed(connection, current.decoded, heard):
                items.insert(0, control)
        if items:
            self.watch.heard(items, now)
            self._safely(lambda: self._sink.take(now, items))

    def _guarded(self, connection: Connection, work: Callable[[], None]) -> None:
        """Run ccxt's own code: whatever it raises ends the connection, which would else freeze in silence."""
        try:
            work()
        except BrokenSequenceError as broken:
            self.drop(connection, broken.fault(tuple(connection.streams)))
        except Exception as error:  # noqa: BLE001 - ccxt raises anything; swallowed it would freeze the stream
            self.parse_errors += 1
            self.drop(connection, self._fault(connection, "error", self.redactor.error(error)))

    def _gone(self, connection: Connection) -> bool:
        return connection.dropped

    def _confirmed(self, connection: Connection, decoded: Any, heard: set[Stream]) -> Control | None:
        found = connection.confirmed(decoded, heard)
        waiting = {stream for other in self.connections.values() for stream in other.unconfirmed}
        streams = tuple(stream for stream in found if stream not in waiting)  # of two sockets, the second
        for stream in streams:
            self._keeper.stream_heard(stream)
        return Control("subscribed", streams) if streams else None

    def _on_result(self, connection: Connection, result: Any, message_hash: str) -> None:
        streams = connection.hashes.get(message_hash)
        if not streams:
            return
        message = self._message
        if message is None and self.results.is_hollow(result):
            self.drop(connection, self._fault(connection, "error", "the snapshot by REST holds no book"))
            return
        found = self.results.take(connection, streams, result, message_hash, message)
        for stream, hole in found.holes:
            detail = f"trades {hole.after + 1} to {hole.before - 1} did not come"
            # trades need no resynchronisation: the connection stays, REST fills the hole
            self._lost(Fault((stream,), "sequence", detail, local=True), None)
            found.facts.insert(0, Control("subscribed", (stream,)))
            self._keeper.hole(stream, hole.after, hole.before)
        if message is not None:
            message.items += found.facts
        elif found.facts:  # a snapshot by REST: its own step, its own capture time
            now = self._sink.capture()
            self.watch.heard(found.facts, now)
            self._safely(lambda: self._sink.take(now, found.facts))

    def _safely(self, work: Callable[[], None]) -> None:
        """Do our own work inside ccxt's callbacks: what it raises is carried to `failed`, not to ccxt."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again by who awaits `failed`
            if not self.failed.done():
                self.failed.set_exception(error)
