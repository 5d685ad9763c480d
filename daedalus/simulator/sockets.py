"""The websockets of the simulated exchanges, and what faults do to them.

Every socket has a reader (the handler itself) and a sender that empties the queue of its connection. Pings
are ours to answer, not aiohttp's: a frozen socket must leave them unanswered, and it does because its
transport stops reading.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from daedalus.simulator.exchange import Exchange
from daedalus.simulator.hub import Connection, Odd

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Sockets"]

PING_EVERY = 20  # beats, of a second; as Binance
PONG_WITHIN = 10  # beats; a client that is slower is cut
CLOSE_S = 1.0  # for the client to answer a closing handshake
_PING = Odd(b"\x89\x00", raw=True)


class _Socket:
    """One websocket."""

    def __init__(self, socket: "web.WebSocketResponse", transport: asyncio.Transport | None) -> None:
        self.socket = socket
        self.transport = transport
        self.deaf = 0  # faults that keep it from reading
        self.pinged: int | None = None  # beat of the ping that has no pong yet
        self.opened = 0  # beat


class Sockets:
    """All open websockets; the `Effects` of faults."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._open: dict[int, _Socket] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._beats = 0

    async def converse(
        self, request: "web.Request", name: str, *, combined: bool, streams: list[str]
    ) -> "web.StreamResponse":
        """Be one exchange to one client until it leaves or is cut."""
        from aiohttp import WSMsgType, web

        exchange = self._exchange
        if (reply := exchange.faults.handshake(name)) is not None:
            await asyncio.sleep(reply.delay_s)
            if reply.status is not None:
                return web.Response(status=reply.status, text="refused")
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        connection = exchange.hub.connect(name, combined=combined)
        mine = self._open[connection.number] = _Socket(socket, request.transport)
        mine.opened = self._beats
        exchange.truth.connection("connected", connection.number, exchange=name)
        sender = asyncio.get_running_loop().create_task(self._send(connection, mine))
        try:
            if streams:
                exchange.binance.open(connection, streams)
            dialect = exchange.binance if name == "binance" else exchange.coinbase
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    dialect.request(connection, message.data)
                elif message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    mine.pinged = None
        except ConnectionError:
            pass  # it left between its ping and our pong
        finally:
            exchange.truth.connection("gone", connection.number, unsent=connection.unsent())
            exchange.hub.disconnect(connection)
            self._open.pop(connection.number, None)
            sender.cancel()
        return socket

    async def _send(self, connection: Connection, mine: _Socket) -> None:
        """Empty a connection's queue into its socket."""
        from aiohttp import WSMsgType

        awake = asyncio.Event()
        connection.wake = awake.set
        text, binary = WSMsgType.TEXT, WSMsgType.BINARY
        with contextlib.suppress(ConnectionError):  # the client has gone: its reader ends the connection
            while not connection.overflowed:
                while (message := connection.pop()) is not None:
                    if not isinstance(message, Odd):
                        await mine.socket.send_frame(message, text)
                    elif not message.raw:
                        await mine.socket.send_frame(message.data, binary)
                    elif mine.transport is not None:
                        mine.transport.write(message.data)
                await awake.wait()
                awake.clear()
            self.abort(connection.number)

    def beat(self) -> None:
        """Once a second: ping who has not been for long, cut who did not answer."""
        self._beats += 1
        for number, mine in list(self._open.items()):
            if mine.deaf:
                continue
            if mine.pinged is not None and self._beats - mine.pinged > PONG_WITHIN:
                self.abort(number)
            elif mine.pinged is None and (self._beats - mine.opened) % PING_EVERY == 0:
                mine.pinged = self._beats
                if (connection := self._exchange.hub.connections.get(number)) is not None:
                    connection.push(_PING)

    # effects of faults

    def close(self, number: int, code: int) -> None:
        """Begin a closing handshake; who does not answer is cut."""
        if (mine := self._open.get(number)) is not None:
            task = asyncio.get_running_loop().create_task(self._close(number, mine, code))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, number: int, mine: _Socket, code: int) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await mine.socket.close(code=code, message=b"going away")
        except (TimeoutError, ConnectionError):
            self.abort(number)

    def abort(self, number: int) -> None:
        """Reset the connection."""
        mine = self._open.get(number)
        if mine is not None and mine.transport is not None:
            mine.transport.abort()

    def deafen(self, number: int, *, deaf: bool) -> None:
        """Stop reading what the client says, or go on when nothing else keeps it from that."""
        mine = self._open.get(number)
        if mine is None or mine.transport is None:
            return
        mine.deaf += 1 if deaf else -1
        if deaf:
            mine.transport.pause_reading()
        elif not mine.deaf:
            mine.transport.resume_reading()

    def later(self, delay_s: float, then: Callable[[], None]) -> None:
        """Call `then` after so long."""
        asyncio.get_running_loop().call_later(delay_s, then)

    async def stop(self) -> None:
        """Close every socket."""
        for mine in list(self._open.values()):
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.5):
                    await mine.socket.close(code=1001, message=b"simulator stops")
