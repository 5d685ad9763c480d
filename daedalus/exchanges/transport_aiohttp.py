"""The websocket on aiohttp: the fallback."""

import asyncio
from typing import TYPE_CHECKING, Any

from daedalus.exchanges.transport import FRAME_BYTES_MAX, BrokenProtocolError, Peer, RefusedError, proxy_of

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse

__all__ = ["AiohttpTransport", "connect"]

_OUT_MAX = 1000  # messages that wait for the socket: the shell's own queue is the one that fills
_CLOSE_S = 2.0  # for the goodbye


class AiohttpTransport:
    """See `transport.Transport`. One task reads, one writes."""

    def __init__(self, session: "ClientSession", socket: "ClientWebSocketResponse[Any]", peer: Peer) -> None:
        """Begin to read and write; `peer` hears that it is open before it hears a message."""
        self._session = session
        self._socket = socket
        self._peer = peer
        self._out: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_OUT_MAX)
        self._goodbye = False
        peer.opened(self)
        loop = asyncio.get_running_loop()
        self._writer = loop.create_task(self._write())
        self._reader = loop.create_task(self._read())

    def send(self, data: bytes) -> None:
        """Send a text message."""
        self._put("text", data)

    def ping(self) -> None:
        """Send a ping."""
        self._put("ping", b"")

    def close(self) -> None:
        """Say goodbye and close."""
        self._goodbye = True
        self._reader.cancel()

    def abort(self) -> None:
        """Close at once."""
        self._reader.cancel()

    async def wait_closed(self) -> str:
        """Return why the connection ended.

        Raises:
            BrokenProtocolError: the exchange broke the protocol.
            Exception: what the peer raised.
        """
        try:
            await asyncio.wait([self._reader])
            async with asyncio.timeout(_CLOSE_S if self._goodbye else 0.0):
                await self._socket.close()
        except TimeoutError:
            pass  # who does not answer a goodbye is left without one
        finally:
            self._reader.cancel()
            self._writer.cancel()
            await asyncio.gather(self._reader, self._writer, return_exceptions=True)
            await self._session.close()
        return "closed here" if self._reader.cancelled() else self._reader.result()

    def _put(self, kind: str, data: bytes) -> None:
        if self._socket.closed:
            return
        try:
            self._out.put_nowait((kind, data))
        except asyncio.QueueFull:
            self.abort()  # a socket that takes nothing for a thousand messages is dead

    async def _write(self) -> None:
        socket = self._socket
        while True:
            kind, data = await self._out.get()
            try:
                if kind == "text":
                    await socket.send_str(data.decode())
                elif kind == "ping":
                    await socket.ping()
                else:
                    await socket.pong(data)
            except ConnectionError:
                return  # the reader says what happened

    async def _read(self) -> str:
        from aiohttp import WSMsgType

        socket, peer = self._socket, self._peer
        while True:
            message = await socket.receive()
            kind = message.type
            if kind is WSMsgType.TEXT:
                peer.received(message.data, final=True, text=True)
            elif kind is WSMsgType.BINARY:
                peer.received(message.data, final=True, text=False)
            elif kind is WSMsgType.PING:
                self._put("pong", bytes(message.data))
                peer.alive()
            elif kind is WSMsgType.PONG:
                peer.alive()
            elif kind is WSMsgType.ERROR:
                raise BrokenProtocolError(str(message.data))
            elif kind is WSMsgType.CLOSE:
                return f"closed by the exchange: {message.data} {str(message.extra or '')[:200]}".rstrip()
            else:  # CLOSED, CLOSING
                return "connection lost without a close frame"


async def connect(url: str, peer: Peer, handshake_s: float) -> AiohttpTransport:
    """Open a websocket: see `transport.connect`."""
    from aiohttp import (
        ClientError,
        ClientSession,
        ClientWSTimeout,
        InvalidURL,
        TraceConfig,
        WSServerHandshakeError,
    )
    from yarl import URL

    trace = TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)
    session = ClientSession(trace_configs=[trace])
    try:
        async with asyncio.timeout(handshake_s):
            socket = await session.ws_connect(
                URL(url, encoded=True),
                max_msg_size=FRAME_BYTES_MAX,
                autoping=False,
                autoclose=True,
                timeout=ClientWSTimeout(ws_close=_CLOSE_S),
                proxy=proxy_of(url),
                decode_text=False,
            )
        return AiohttpTransport(session, socket, peer)
    except BaseException as error:
        await session.close()
        if isinstance(error, WSServerHandshakeError):
            retry_after = error.headers.get("Retry-After") if error.headers is not None else None
            raise RefusedError(f"HTTP {error.status}", error.status, retry_after) from None
        if isinstance(error, TimeoutError):
            raise RefusedError(f"no websocket within {handshake_s:g} s") from None
        if isinstance(error, OSError | ClientError | InvalidURL):
            raise RefusedError(f"{type(error).__name__}: {error}") from None
        raise


async def _refuse_redirect(_session: Any, _context: Any, params: Any) -> None:
    raise RefusedError(f"HTTP {params.response.status}: redirects are not followed", params.response.status)
