"""CURVE on a socket, and who is let in: ZeroMQ's authentication protocol (ZAP, RFC 27) on the running loop.

A socket made a server by `secure` lets nobody in whom the one `Zap` of this process does not name: libzmq
asks it at each handshake, and where nobody answers the handshake fails. The question comes once for each
connection, so a key that is withdrawn later needs more (guard.py).
"""

from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils import z85

from daedalus.kernel.errors import FatalError
from daedalus.kernel.mailbox import Mailbox

__all__ = ["LATER", "Zap", "new_keys", "public_of", "secure", "sender", "watch"]

ADDRESS = "inproc://zeromq.zap.01"
HANDSHAKE_MS = 5000  # whoever has not said who he is by then is hung up on
LATER = "later"  # a verdict: not now, but trying again is welcome
_REFUSED = {LATER: b"300"}  # 300: hung up on in silence, and comes again; 400: told, and stays away
_SENDER = ("User-Id", "__fd")


class Zap:
    """Answers libzmq's questions: may this key come in?"""

    def __init__(self, verdict: Callable[[bytes], str]) -> None:
        """Bind; there is one in a process.

        Args:
            verdict: public key (Z85) -> "" for yes, `LATER`, or any other word for no. The key itself is
                then what messages of that connection carry as their `User-Id`.

        Raises:
            FatalError: this process has one already, or its libzmq has no CURVE.
        """
        if not zmq.has("curve"):
            raise FatalError("cannot use CURVE: this libzmq was built without it")
        self._verdict = verdict
        self.admitted = 0
        self.denied: dict[str, int] = {}
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        try:
            self._socket.bind(ADDRESS)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise FatalError(f"cannot listen on {ADDRESS}: {error.strerror}") from error
        self._mailbox = Mailbox(self._socket, self._asked)

    def _asked(self, parts: list[bytes]) -> None:
        try:
            way_back, empty, version, number, _domain, _address, _identity, mechanism, *rest = parts
        except ValueError:
            return  # not libzmq's: nobody waits for an answer
        key, word = b"", "mechanism"
        if mechanism == b"CURVE" and len(rest) == 1 and len(rest[0]) == 32:
            key = z85.encode(rest[0])
            word = self._verdict(key)
        if word:
            self.denied[word] = self.denied.get(word, 0) + 1
            reply = [_REFUSED.get(word, b"400"), b"no", b"", b""]
        else:
            self.admitted += 1
            reply = [b"200", b"OK", key, b""]
        self._socket.send_multipart([way_back, empty, version, number, *reply], zmq.NOBLOCK)
        self._mailbox.touched()

    def close(self) -> None:
        """Close; from now on every handshake fails."""
        self._mailbox.close()
        self._socket.unbind(ADDRESS)  # at once: closing alone would leave the name taken for a moment
        self._socket.close(0)


def new_keys() -> tuple[str, str]:
    """Return a new pair of keys, public and secret, in Z85 (40 characters each)."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def public_of(secret: str) -> str:
    """Return the public key of a secret one.

    Raises:
        ValueError: it is not a key.
    """
    try:
        return zmq.curve_public(secret.encode()).decode()
    except (zmq.ZMQError, UnicodeEncodeError) as error:
        raise ValueError("not 40 characters of Z85") from error


def secure(socket: "zmq.Socket[Any]", secret: str) -> None:
    """Make a socket, before it is bound, one that speaks CURVE alone and asks the `Zap`."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
    socket.setsockopt(zmq.ZAP_DOMAIN, b"gateway")
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a Zap: nobody, rather than everybody
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)


def sender(frame: "zmq.Frame") -> tuple[bytes, int] | None:
    """Return key and descriptor of the connection a frame came through.

    None: there is no such connection. So it is with what XPUB itself says of one that is gone.
    """
    try:
        key, descriptor = (frame.get(name) for name in _SENDER)
        return str(key).encode(), int(descriptor)
    except zmq.ZMQError:
        return None


def watch(socket: "zmq.Socket[Any]", events: int) -> "zmq.Socket[bytes]":
    """Return a socket that tells of connections made and lost on another, which is not bound yet."""
    address = f"inproc://monitor-{id(socket)}"
    socket.monitor(address, events)
    news: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
    news.setsockopt(zmq.LINGER, 0)
    news.setsockopt(zmq.RCVHWM, 0)  # libzmq's own thread would wait for us
    news.connect(address)
    return news
