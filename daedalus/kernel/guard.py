"""Who stands at the encrypted sockets, what each may use up, and how somebody is shown the door.

libzmq looks at a key once, at the handshake, has no bound on connections, and cannot hang up on one peer of a
publisher. What it does have is the descriptor a message came through. So the connections are kept here by
descriptor and peer, and hanging up is `shutdown` on it: of a duplicate, once it was seen to belong to that
very peer still. The others notice nothing.

Per key: connections are held to a number of subscriptions in all, and to a rate of subscriptions and
requests. Whoever goes on after he was refused a hundred times over one connection is hung up on, and his key
not let in for ten seconds: a flood has to be stopped where it enters, because libzmq keeps what it reads.
"""

import os
import socket as sockets
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.kernel.clock import Clock, SystemClock
from daedalus.kernel.mailbox import Mailbox
from daedalus.kernel.zap import LATER, Zap, secure, sender, watch

if TYPE_CHECKING:
    import zmq

__all__ = ["Guard", "Limits"]

_EVENT = struct.Struct("=Hi")
# libzmq's numbers of what happens to a connection (zmq.h)
_ACCEPTED, _DISCONNECTED, _SUCCEEDED = 0x0020, 0x0200, 0x1000
_UNKNOWN = "unknown"

Peer = Any  # what getpeername gives


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What strangers may use up."""

    subscriptions: int = 500  # of one key, over all its connections
    prefix_bytes: int = 128  # of one subscription; libzmq keeps some hundred bytes for each of them
    connections: int = 256  # of all together, on one socket, with or without a key
    flood: int = 100  # subscriptions and requests refused on one connection; then it is hung up on
    penalty_s: float = 10.0  # for how long the key of such a one is not let in
    burst: int = 2000  # subscriptions and requests of one key at once, and then
    per_s: float = 500.0  # so many a second


class _Connection:
    __slots__ = ("cut", "key", "peer", "refused", "subscriptions")

    def __init__(self, key: bytes, peer: Peer) -> None:
        self.key, self.peer = key, peer
        self.subscriptions = self.refused = 0
        self.cut = False  # hung up on: what it sent before may still be read


class Guard:
    """Watches over the CURVE sockets of one process."""

    def __init__(
        self,
        secret: str,
        knows: Callable[[bytes], bool],
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Begin to answer handshakes.

        Args:
            secret: the server's key (Z85).
            knows: whether a public key (Z85) is let in now.
            limits: what one key, and all strangers, may use up.
            clock: for rates and penalties.

        Raises:
            FatalError: CURVE is not to be had, or this process has a guard already.
        """
        self._secret, self._knows = secret, knows
        self._limits, self._clock = limits or Limits(), clock or SystemClock()
        self._zap = Zap(self._verdict)
        self._news: list[tuple[zmq.Socket[Any], zmq.Socket[bytes], Mailbox]] = []
        self._connections: dict[int, _Connection] = {}  # by descriptor; of those that have sent something
        self._buckets: dict[bytes, tuple[float, int]] = {}  # key -> what it may still do, and as of when
        self._penalties: dict[bytes, int] = {}  # key -> until when (monotonic ns)
        self.accepted = self.succeeded = self.turned_away = self.cut_off = 0
        self.refused = self.unanswered = 0

    # --- connections

    def secure(self, socket: "zmq.Socket[Any]") -> None:
        """Take a socket under guard, before it is bound."""
        secure(socket, self._secret)
        news = watch(socket, _ACCEPTED | _DISCONNECTED | _SUCCEEDED)
        open_ones: dict[int, None] = {}  # by descriptor, the oldest first
        mailbox = Mailbox(news, lambda parts: self._happened(open_ones, parts[0]))
        self._news.append((socket, news, mailbox))

    def _happened(self, open_ones: dict[int, None], event: bytes) -> None:
        kind, value = _EVENT.unpack(event)
        if kind == _ACCEPTED:
            self.accepted += 1
            open_ones.pop(value, None)
            open_ones[value] = None
            if len(open_ones) > self._limits.connections:
                # who has been silent longest makes room: strangers must not keep out who has a key
                silent = next((fd for fd in open_ones if fd not in self._connections), value)
                del open_ones[silent]
                self.turned_away += _hang_up(silent)
        elif kind == _DISCONNECTED:
            open_ones.pop(value, None)
            connection = self._connections.get(value)
            if connection is not None and _peer_of(value) != connection.peer:
                del self._connections[value]
        elif kind == _SUCCEEDED:
            self.succeeded += 1

    def _verdict(self, key: bytes) -> str:
        if not self._knows(key):
            return _UNKNOWN
        until = self._penalties.get(key)
        if until is not None and self._clock.mono_ns() < until:
            return LATER
        self._penalties.pop(key, None)
        return ""

    def cut(self, key: bytes) -> int:
        """Hang up on every connection of a key; returns on how many. What it asks for later is refused."""
        theirs = [(fd, found) for fd, found in self._connections.items() if found.key == key]
        self._buckets.pop(key, None)
        self._penalties.pop(key, None)
        return sum(self._cut(fd, found) for fd, found in theirs)

    def _cut(self, descriptor: int, connection: _Connection) -> bool:
        done = not connection.cut and _hang_up(descriptor, connection.peer)
        connection.cut, connection.subscriptions = True, 0
        self.cut_off += done
        return done

    def _of(self, frame: "zmq.Frame") -> tuple[int, _Connection] | None:
        """Return the living connection a frame came through; None: it is gone, or its key no longer good."""
        found = sender(frame)
        if found is None:
            return None
        key, descriptor = found
        peer = _peer_of(descriptor)
        connection = self._connections.get(descriptor)
        if peer is None:
            return None
        if connection is None or connection.peer != peer or connection.key != key:
            connection = self._connections[descriptor] = _Connection(key, peer)
        if connection.cut:
            return None
        if not self._knows(key):
            self._cut(descriptor, connection)
            return None
        return descriptor, connection

    # --- what they ask for

    def subscribes(self, frame: "zmq.Frame", *, again: bool = False) -> bool:
        """Return whether a subscription is granted; a new one then counts until it or its connection ends."""
        found = self._of(frame)
        if found is None:
            self.refused += 1
            return False
        descriptor, connection = found
        if len(frame.bytes) - 1 > self._limits.prefix_bytes:
            connection.refused = self._limits.flood  # no topic is that long
        elif self._spend(connection.key) and (again or self._has_room(connection.key)):
            connection.subscriptions += not again
            return True
        self.refused += 1
        self._refuse(descriptor, connection)
        return False

    def unsubscribes(self, frame: "zmq.Frame") -> None:
        """Note that a granted subscription has ended."""
        found = sender(frame)
        connection = self._connections.get(found[1]) if found is not None else None
        if found is not None and connection is not None and connection.key == found[0]:
            connection.subscriptions = max(0, connection.subscriptions - 1)
            self._spend(connection.key)

    def noise(self, frame: "zmq.Frame") -> None:
        """Count what is neither a subscription nor the end of one; a flood of it ends like any other."""
        found = self._of(frame)
        if found is not None:
            self.refused += 1
            self._refuse(*found)

    def asks(self, frame: "zmq.Frame") -> bool:
        """Return whether a request is answered."""
        found = self._of(frame)
        if found is None:
            self.unanswered += 1
            return False
        if self._spend(found[1].key):
            return True
        self.unanswered += 1
        self._refuse(*found)
        return False

    def _has_room(self, key: bytes) -> bool:
        theirs = [(fd, found) for fd, found in self._connections.items() if found.key == key]
        held = sum(found.subscriptions for _, found in theirs)
        if held >= self._limits.subscriptions:
            # one that is gone may be told of later than its successor subscribes
            for fd, found in theirs:
                if _peer_of(fd) != found.peer:
                    held -= self._connections.pop(fd).subscriptions
        return held < self._limits.subscriptions

    def _refuse(self, descriptor: int, connection: _Connection) -> None:
        connection.refused += 1
        if connection.refused >= self._limits.flood:
            self._penalties[connection.key] = self._clock.mono_ns() + int(self._limits.penalty_s * 1e9)
            self._cut(descriptor, connection)

    def _spend(self, key: bytes) -> bool:
        now, limits = self._clock.mono_ns(), self._limits
        left, before = self._buckets.get(key, (float(limits.burst), now))
        left = min(float(limits.burst), left + (now - before) * limits.per_s / 1e9)
        granted = left >= 1
        self._buckets[key] = (left - 1 if granted else left, now)
        return granted

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters.

        `tcp_strangers` are all connections that came to no handshake, whatever they said instead: libzmq has
        no reliable word for which of the two ends found fault first. Those with a wrong key are in it.
        """
        denied = self._zap.denied
        return {
            "tcp_accepted": self.accepted,
            "tcp_strangers": self.accepted - self.succeeded,
            "tcp_denied_key": denied.get(_UNKNOWN, 0),
            "tcp_denied_flood": denied.get(LATER, 0),
            "tcp_turned_away": self.turned_away,
            "tcp_cut_off": self.cut_off,
            "tcp_refused": self.refused,
            "tcp_unanswered": self.unanswered,
        }

    def close(self) -> None:
        """End, before the sockets are closed."""
        for watched, news, mailbox in self._news:
            mailbox.close()
            if not watched.closed:
                watched.disable_monitor()
            news.close(0)
        self._news.clear()
        self._zap.close()


def _duplicate(descriptor: int) -> sockets.socket | None:
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None  # closed meanwhile
    try:
        return sockets.socket(fileno=copy)
    except OSError:
        os.close(copy)  # the number is now a file's
        return None


def _peer_of(descriptor: int) -> Peer:
    held = _duplicate(descriptor)
    if held is None:
        return None
    with held:
        try:
            return held.getpeername() if held.family != sockets.AF_UNIX else None
        except OSError:
            return None


def _hang_up(descriptor: int, peer: Peer = None) -> bool:
    """End a connection; not if the number is another's by now (of a new one, any TCP peer is the one)."""
    held = _duplicate(descriptor)
    if held is None:
        return False
    with held:
        try:
            found = held.getpeername()
            if held.family == sockets.AF_UNIX or (peer is not None and found != peer):
                return False
            held.shutdown(sockets.SHUT_RDWR)
        except OSError:
            return False
    return True
