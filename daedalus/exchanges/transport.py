"""A websocket as the shell sees it, whichever library carries it.

picows where it can be imported: its raw listener hands over frames where they lie in the receive buffer,
without a queue, a task or a copy in between (0.5 µs a message, measured on x86; aiohttp needs 10). aiohttp
is the fallback, for machines without picows, and where `$DAEDALUS_WEBSOCKET` asks for it.

Both follow the same rules: deflate is not offered, redirects are not followed (an exchange that moved is
a matter of configuration), a frame above 64 MiB ends the connection, TLS by the system's default context,
proxies by the usual environment variables, pings are answered at once and sent only when told.
"""

import os
from importlib.util import find_spec
from typing import Protocol

from daedalus.exchanges.redact import PROXIES, redacted

__all__ = [
    "FRAME_BYTES_MAX",
    "BrokenProtocolError",
    "Peer",
    "RefusedError",
    "Transport",
    "connect",
    "proxy_of",
]

FRAME_BYTES_MAX = 64 * 1024 * 1024  # a level2 snapshot of a deep book is several MB
_CHOICES = ("picows", "aiohttp")


class RefusedError(Exception):
    """No websocket came about: the network, or an answer that is none."""

    def __init__(self, detail: str, status: int | None = None, retry_after: str | None = None) -> None:
        """Say why.

        Args:
            detail: for people; secrets of addresses are taken out.
            status: of the HTTP answer, if there was one.
            retry_after: its Retry-After header, as it was sent.
        """
        super().__init__(redacted(detail))
        self.status = status
        self.retry_after = retry_after


class BrokenProtocolError(Exception):
    """The exchange sent what no websocket may send: a bad frame, or one that is too large."""

    def __init__(self, detail: str) -> None:
        """Say why; secrets of addresses are taken out."""
        super().__init__(redacted(detail))


class Peer(Protocol):
    """Who is told what arrives. Whatever it raises ends the connection and comes out of `wait_closed`."""

    def opened(self, transport: "Transport") -> None:
        """The handshake is done."""
        ...

    def received(self, payload: bytes | memoryview, *, final: bool, text: bool) -> None:
        """Take one frame; its payload is valid only until this returns. `text` is that of its first."""
        ...

    def alive(self) -> None:
        """A ping or a pong arrived."""
        ...


class Transport(Protocol):
    """One open websocket."""

    def send(self, data: bytes) -> None:
        """Send a text message; nothing happens once the connection is lost."""
        ...

    def ping(self) -> None:
        """Send a ping."""
        ...

    def close(self) -> None:
        """Say goodbye and close."""
        ...

    def abort(self) -> None:
        """Close at once: nothing more is received."""
        ...

    async def wait_closed(self) -> str:
        """Return why the connection ended, in words.

        Raises:
            BrokenProtocolError: the exchange broke the protocol.
            Exception: what the peer raised.
        """
        ...


async def connect(url: str, peer: Peer, handshake_s: float) -> Transport:
    """Open a websocket.

    Args:
        url: ws:// or wss://.
        peer: is told what arrives; it may hear the first messages before this returns.
        handshake_s: everything up to the first message has this long, s.

    Raises:
        RefusedError: there is no connection.
        ValueError: `$DAEDALUS_WEBSOCKET` names no library that is here.
    """
    if library() == "picows":
        from daedalus.exchanges import transport_picows

        return await transport_picows.connect(url, peer, handshake_s)
    from daedalus.exchanges import transport_aiohttp

    return await transport_aiohttp.connect(url, peer, handshake_s)


def library() -> str:
    """Return what carries websockets here: "picows" or "aiohttp".

    Raises:
        ValueError: `$DAEDALUS_WEBSOCKET` is neither.
    """
    asked = os.environ.get("DAEDALUS_WEBSOCKET", "")
    if asked and asked not in _CHOICES:
        raise ValueError(f"cannot use DAEDALUS_WEBSOCKET={asked!r}: {' or '.join(_CHOICES)}")
    return asked or ("picows" if find_spec("picows") is not None else "aiohttp")


def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL (http_proxy, https_proxy, no_proxy)."""
    if not any(os.environ.get(name) for name in PROXIES):
        return None
    from urllib.parse import urlsplit
    from urllib.request import getproxies_environment, proxy_bypass

    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies_environment()
    scheme = "https" if parts.scheme in ("wss", "https") else "http"
    return proxies.get(scheme) or proxies.get("all")
