"""The websocket on picows."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from daedalus.exchanges.transport import FRAME_BYTES_MAX, BrokenProtocolError, Peer, RefusedError, proxy_of

if TYPE_CHECKING:
    from picows import WSFrame, WSListener, WSTransport

__all__ = ["PicowsTransport", "connect"]

_unfinished: set[asyncio.Task[Any]] = set()  # handshakes whose caller went away; each ends by its time limit


class PicowsTransport:
    """See `transport.Transport`."""

    def __init__(self, transport: "WSTransport") -> None:
        """Wrap an open one."""
        from picows import WSMsgType

        self._transport = transport
        self._text = WSMsgType.TEXT

    def send(self, data: bytes) -> None:
        """Send a text message."""
        self._transport.send(self._text, data)

    def ping(self) -> None:
        """Send a ping."""
        self._transport.send_ping()

    def close(self) -> None:
        """Say goodbye and close."""
        self._transport.send_close()
        self._transport.disconnect()

    def abort(self) -> None:
        """Close at once."""
        self._transport.disconnect(graceful=False)

    async def wait_closed(self) -> str:
        """Return why the connection ended.

        Raises:
            BrokenProtocolError: the exchange broke the protocol.
            Exception: what the peer raised.
        """
        from picows import WSProtocolError

        try:
            await self._transport.wait_disconnected()
        except WSProtocolError as error:
            raise BrokenProtocolError(str(error)) from None
        shake = self._transport.close_handshake
        if shake is None or shake.recv is None:
            return "connection lost without a close frame"
        # a close frame may be empty, or have a code and no reason
        code, reason = shake.recv.code, shake.recv.reason or ""
        return f"closed by the exchange: {'' if code is None else int(code)} {reason[:200]}".rstrip(" :")


async def connect(url: str, peer: Peer, handshake_s: float) -> PicowsTransport:
    """Open a websocket: see `transport.connect`."""
    from picows import WSError, WSHandshakeError, ws_connect
    from python_socks import ProxyError

    opening = asyncio.ensure_future(
        ws_connect(
            lambda _request, _response: _listener(peer),
            url,
            websocket_handshake_timeout=handshake_s,
            enable_auto_pong=False,  # our own, so that a ping counts as a sign of life
            max_frame_size=FRAME_BYTES_MAX,
            max_redirects=0,
            proxy=proxy_of(url),
            logger_name=_silent(),
        )
    )
    try:
        async with asyncio.timeout(handshake_s):
            transport, _ = await asyncio.shield(opening)
    except WSHandshakeError as error:
        response = error.response
        if response is None:
            raise RefusedError(f"no websocket at the other end: {error}") from None
        status = int(response.status)
        raise RefusedError(f"HTTP {status}", status, response.headers.get("Retry-After")) from None
    except TimeoutError:
        _let_go(opening)
        raise RefusedError(f"no websocket within {handshake_s:g} s") from None
    except asyncio.CancelledError:
        _let_go(opening)
        raise
    except (OSError, WSError, ProxyError) as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from None
    if transport.response is None:
        raise RefusedError("connection lost during the handshake")
    return PicowsTransport(transport)


def _let_go(opening: "asyncio.Task[Any]") -> None:
    """Let a handshake end by itself: cancelled in the middle, picows would leave its socket open."""

    def done(task: "asyncio.Task[Any]") -> None:
        _unfinished.discard(task)
        if not task.cancelled() and task.exception() is None:
            transport, _ = task.result()
            transport.disconnect(graceful=False)

    _unfinished.add(opening)
    opening.add_done_callback(done)


def _silent() -> logging.Logger:
    """Return a logger that says nothing: what there is to say is in the fault."""
    logger = logging.Logger("picows", logging.CRITICAL + 1)  # noqa: LOG001 - not to be found by its name
    logger.addHandler(logging.NullHandler())
    return logger


def _listener(peer: Peer) -> "WSListener":
    """Return a listener that hands everything to `peer`. The class is made late: picows is heavy."""
    from picows import WSListener as Base
    from picows import WSMsgType

    text, binary, continuation = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
    ping, pong, close = WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE
    received = peer.received

    class Listener(Base):  # type: ignore[misc, unused-ignore]
        def on_ws_connected(self, transport: "WSTransport") -> None:
            peer.opened(PicowsTransport(transport))

        def on_ws_frame(self, transport: "WSTransport", frame: "WSFrame") -> None:
            kind = frame.msg_type
            if kind is text:
                received(frame.get_payload_as_memoryview(), final=frame.fin, text=True)
            elif kind is binary or kind is continuation:
                received(frame.get_payload_as_memoryview(), final=frame.fin, text=False)
            elif kind is ping:
                transport.send_pong(frame.get_payload_as_bytes())
                peer.alive()
            elif kind is pong:
                peer.alive()
            elif kind is close:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()

    return Listener()
