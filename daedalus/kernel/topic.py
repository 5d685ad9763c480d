"""Topics: who publishes does not know who listens, and a slow listener loses rather than slow anyone.

Five small sockets over ZeroMQ: `Publisher` and `Subscriber` (PUB/SUB), `Broadcast` (XPUB that knows its
subscriptions and serves last values), `Answers` and `Questions` (ROUTER/DEALER). All of them live on the
running loop, never block, have a bound on every queue, and count what passes.

Bound Unix sockets are private: they are made under umask 0077. Losing is by design (`PUB` drops at its
high-water mark, and for who joins late), so everything sent here carries a sequence number of its own and
nothing that has to last goes this way; that is what the link is for.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import zmq

from daedalus.kernel.errors import FatalError
from daedalus.kernel.locate import is_loopback
from daedalus.kernel.mailbox import Mailbox
from daedalus.kernel.peers import Peers

if TYPE_CHECKING:
    from daedalus.kernel.guard import Guard

__all__ = ["Answers", "Broadcast", "Publisher", "Questions", "Subscriber", "bind", "is_loopback"]

HWM = 10_000
LINGER_MS = 200  # what was sent just before the end still goes out
SUBSCRIPTION_BYTES_MAX = 512
REQUEST_BYTES_MAX = 64 * 1024
TOPICS_CACHED = 100_000
# Of strangers little is taken at a time, from the wire and here: libzmq reads subscriptions for as long as
# they come faster than it can note them down, and all that while the loop waits.
GUARDED_HWM = 4  # not 1: then nothing comes at all
GUARDED_RCVBUF = 16 * 1024
GUARDED_SUBSCRIPTIONS, GUARDED_REQUESTS = 16, 4  # per turn of the loop

Socket = zmq.Socket[bytes]


def bind(socket: Socket, address: str) -> None:
    """Bind `socket`; a Unix socket is made readable and writable for its owner alone.

    Raises:
        FatalError: the address is in use, malformed or not ours; trying again would not change that. The
            socket is closed.
    """
    before = os.umask(0o077)
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        socket.close(0)
        raise FatalError(f"cannot listen on {address}: {error.strerror}") from error
    finally:
        os.umask(before)


def _socket(kind: int, *, hwm: int, linger_ms: int = 0) -> Socket:
    socket: Socket = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.LINGER, linger_ms)
    socket.setsockopt(zmq.SNDHWM, hwm)
    socket.setsockopt(zmq.RCVHWM, hwm)
    # a peer that was restarted is found again at once; the cap keeps an absent one cheap
    socket.setsockopt(zmq.RECONNECT_IVL, 20)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    return socket


def _take_little(socket: Socket) -> None:
    socket.setsockopt(zmq.RCVHWM, GUARDED_HWM)
    socket.setsockopt(zmq.RCVBUF, GUARDED_RCVBUF)


class Publisher:
    """Sends messages to whoever subscribed. Bound or connected; drops for a subscriber at its mark."""

    def __init__(
        self,
        *,
        bind_to: str = "",
        connect_to: str = "",
        hwm: int = HWM,
        on_subscribe: Callable[[bytes], Any] | None = None,
    ) -> None:
        """Open the socket.

        Args:
            bind_to: address to listen on, or
            connect_to: address of a subscriber that listens.
            hwm: messages held per subscriber; beyond it that subscriber loses.
            on_subscribe: called with the prefix each time a subscription arrives, so also after the other
                side came back. Needs the running loop.
        """
        kind = zmq.PUB if on_subscribe is None else zmq.XPUB
        self._socket = _socket(kind, hwm=hwm, linger_ms=LINGER_MS)
        self._on_subscribe = on_subscribe
        self._mailbox: Mailbox | None = None
        self.sent = 0
        if bind_to:
            bind(self._socket, bind_to)
        if connect_to:
            self._socket.connect(connect_to)
        if on_subscribe is not None:
            self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
            self._mailbox = Mailbox(self._socket, self._heard)

    def _heard(self, parts: list[bytes]) -> None:
        if parts[0][:1] == b"\x01" and self._on_subscribe is not None:
            self._on_subscribe(parts[0][1:])

    def publish(self, parts: Sequence[bytes]) -> None:
        """Send one message, the topic first. Never blocks."""
        self._socket.send_multipart(parts, zmq.NOBLOCK)
        self.sent += 1
        if self._mailbox is not None:
            self._mailbox.touched()

    def close(self) -> None:
        """Close; what was sent goes out for up to 200 ms more."""
        if self._mailbox is not None:
            self._mailbox.close()
        self._socket.close()


class Subscriber:
    """Feeds the messages of some publishers to a handler, in bounded gulps."""

    def __init__(
        self,
        handler: Callable[[list[bytes]], Any],
        *,
        topics: Iterable[bytes],
        bind_to: str = "",
        connect_to: Iterable[str] = (),
        hwm: int = HWM,
        after: Callable[[], Any] | None = None,
    ) -> None:
        """Subscribe before connecting, so that nothing sent after the handshake is missed.

        Args:
            handler: called with the parts of each message, in order.
            topics: prefixes; b"" is everything.
            bind_to: address to listen on for publishers that connect.
            connect_to: addresses of publishers; they need not exist yet.
            hwm: messages held per publisher; beyond it the publisher drops.
            after: called once after each gulp.
        """
        self._socket = _socket(zmq.SUB, hwm=hwm)
        self.received = 0
        self._handler = handler
        for topic in topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        if bind_to:
            bind(self._socket, bind_to)
        for address in connect_to:
            self._socket.connect(address)
        self._mailbox = Mailbox(self._socket, self._received, after=after)

    def _received(self, parts: list[bytes]) -> None:
        self.received += 1
        self._handler(parts)

    def pause(self) -> None:
        """Stop reading; what arrives stays in the socket, up to its mark."""
        self._mailbox.close()

    def close(self) -> None:
        """Close at once."""
        self._mailbox.close()
        self._socket.close()


class Broadcast:
    """An XPUB that knows its subscriptions and gives a new subscriber, and only it, last values.

    libzmq sends exactly one message to the newcomer alone per subscription it made (XPUB_MANUAL_LAST_VALUE),
    whatever is sent next, and that message only if it matches. So the option is switched on for that one
    message and off again: otherwise a live message would go to one subscriber instead of to all.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        *,
        on_subscribe: Callable[[bytes], Any],
        send_hwm: int = HWM,
        subscriptions_max: int = 10_000,
        guard: "Guard | None" = None,
    ) -> None:
        """Bind and begin to listen for subscriptions.

        Args:
            addresses: where to listen.
            on_subscribe: called with the prefix of each new subscription; may call `welcome` at once.
            send_hwm: messages held per subscriber; beyond it that subscriber loses.
            subscriptions_max: of all subscribers together; more are refused and counted.
            guard: makes the addresses speak CURVE, and says who may subscribe to how much.

        Raises:
            FatalError: an address cannot be bound.
        """
        self._socket = _socket(zmq.XPUB, hwm=send_hwm, linger_ms=LINGER_MS)
        self._socket.setsockopt(zmq.XPUB_MANUAL, 1)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES_MAX)
        self._guard = guard
        if guard is not None:
            _take_little(self._socket)
            guard.secure(self._socket)
        for address in addresses:
            bind(self._socket, address)
        self._on_subscribe = on_subscribe
        self._max = subscriptions_max
        self._listeners: dict[bytes, int] = {}  # topic -> subscriptions; cleared when they change
        self._welcomed = False
        self.prefixes: dict[bytes, int] = {}  # prefix -> subscribers
        self._owed: dict[bytes, int] = {}  # prefix -> refused subscribers, whose unsubscription will come too
        self._blind = False  # more were refused than can be remembered: every topic counts as listened to
        self.subscriptions = self.refused = self.sent = 0
        self._peers = Peers()
        calm = 256 if guard is None else GUARDED_SUBSCRIPTIONS
        self._mailbox = Mailbox(self._socket, self._told, copy=False, budget=calm)

    def _told(self, parts: list[zmq.Frame]) -> None:
        """Take a subscription once, its end only from who has it."""
        frame, message = parts[0], parts[0].bytes
        held = self._peers.prefixes(frame)
        if held is None:
            self._heard(message)
        elif message[:1] == b"\x01":
            self._asked_for(frame, message, held)
        elif message[:1] == b"\x00" and message[1:] in held:
            held.discard(message[1:])
            if self._guard is not None and message[1:] not in self._owed:
                self._guard.unsubscribes(frame)
            self._heard(message)
        elif self._guard is not None:
            self._guard.noise(frame)

    def _asked_for(self, frame: zmq.Frame, message: bytes, held: set[bytes]) -> None:
        again = (prefix := message[1:]) in held
        granted = self._guard is None or self._guard.subscribes(frame, again=again)
        held |= {prefix} if granted and len(held) < self._max else set()
        if not again:
            self._heard(message) if granted else self._refuse(prefix)

    def _heard(self, message: bytes) -> None:
        prefix = message[1:]
        if message[:1] == b"\x01":
            if self.subscriptions >= self._max:
                self._refuse(prefix)
                return
            self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
            self.subscriptions += 1
            self.prefixes[prefix] = self.prefixes.get(prefix, 0) + 1
            self._listeners.clear()
            self._welcomed = False
            self._on_subscribe(prefix)
        elif message[:1] == b"\x00" and prefix in self._owed:
            # XPUB does not say whose it is. Counting one too many costs work, one too few silences somebody.
            self._socket.setsockopt(zmq.UNSUBSCRIBE, prefix)
            self._owed[prefix] -= 1
            if not self._owed[prefix]:
                del self._owed[prefix]
        elif message[:1] == b"\x00" and prefix in self.prefixes:
            self._socket.setsockopt(zmq.UNSUBSCRIBE, prefix)
            self.subscriptions -= 1
            self.prefixes[prefix] -= 1
            if not self.prefixes[prefix]:
                del self.prefixes[prefix]
            self._listeners.clear()
        # anything else is a stranger's noise; XPUB hands it up, nobody asked for it

    def _refuse(self, prefix: bytes) -> None:
        self.refused += 1
        if len(self._owed) < self._max or prefix in self._owed:
            self._owed[prefix] = self._owed.get(prefix, 0) + 1
        else:
            self._blind = True

    def listeners(self, topic: bytes) -> int:
        """Return how many subscriptions match `topic`; never 0 when somebody may listen."""
        if self._blind:
            return 1
        count = self._listeners.get(topic)
        if count is None:
            # by the prefixes of the topic, not by all subscriptions: a greedy peer must not slow the rest
            prefixes = (topic[:end] for end in range(len(topic) + 1))
            count = sum(self.prefixes.get(prefix, 0) for prefix in prefixes) if self.prefixes else 0
            if len(self._listeners) < TOPICS_CACHED:
                self._listeners[topic] = count
        return count

    def welcome(self, parts: Sequence[bytes]) -> bool:
        """Send a last value to the newcomer alone: once for each `on_subscribe`, later calls return False."""
        if self._welcomed:
            return False
        self._welcomed = True
        self._socket.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 1)
        self.send(parts)
        self._socket.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 0)
        self._socket.setsockopt(zmq.XPUB_MANUAL, 1)
        return True

    def send(self, parts: Sequence[bytes]) -> None:
        """Send one message to all who listen. Never blocks."""
        self._socket.send_multipart(parts, zmq.NOBLOCK)
        self.sent += 1
        self._mailbox.touched()

    def close(self) -> None:
        """Close; what was sent goes out for up to 200 ms more."""
        self._mailbox.close()
        self._socket.close()


class Answers:
    """A ROUTER: each request is a message of one part, each answer goes back to who asked."""

    def __init__(
        self,
        addresses: Iterable[str],
        answer: Callable[[bytes], bytes | None],
        *,
        hwm: int = 1000,
        guard: "Guard | None" = None,
    ) -> None:
        """Bind and begin to answer.

        Args:
            addresses: where to listen.
            answer: request -> reply; None sends nothing. It must not raise on any bytes.
            hwm: replies held per peer; beyond it replies to that peer are dropped and counted.
            guard: makes the addresses speak CURVE, and says whose requests are answered.

        Raises:
            FatalError: an address cannot be bound.
        """
        self._socket = _socket(zmq.ROUTER, hwm=hwm)
        self._socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        self._guard = guard
        if guard is not None:
            _take_little(self._socket)
            guard.secure(self._socket)
        for address in addresses:
            bind(self._socket, address)
        self._answer = answer
        self.answered = self.dropped = 0
        if guard is None:
            self._mailbox = Mailbox(self._socket, self._asked, budget=64)
        else:
            self._mailbox = Mailbox(self._socket, self._asked_guarded, budget=GUARDED_REQUESTS, copy=False)

    def _asked_guarded(self, parts: list[zmq.Frame]) -> None:
        if self._guard is not None and self._guard.asks(parts[-1]):
            self._asked([part.bytes for part in parts])

    def _asked(self, parts: list[bytes]) -> None:
        reply = self._answer(parts[-1])
        if reply is None:
            return
        # everything before the last part is the way back: the peer, and a REQ's empty delimiter
        try:
            self._socket.send_multipart([*parts[:-1], reply], zmq.NOBLOCK)
        except zmq.Again:
            self.dropped += 1
        else:
            self.answered += 1
        self._mailbox.touched()

    def close(self) -> None:
        """Close at once."""
        self._mailbox.close()
        self._socket.close()


class Questions:
    """A DEALER: sends requests, hands replies to a callback. Matching them up is the caller's business."""

    def __init__(self, address: str, reply: Callable[[bytes], Any], *, hwm: int = 16) -> None:
        self._socket = _socket(zmq.DEALER, hwm=hwm)
        # a question to nobody must not wait for somebody: it would be answered when nobody cares
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.connect(address)
        self._mailbox = Mailbox(self._socket, lambda parts: reply(parts[-1]))

    def ask(self, request: bytes) -> bool:
        """Send a request. False: nobody is connected, or the queue is full."""
        try:
            self._socket.send(request, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._mailbox.touched()
        return True

    def close(self) -> None:
        """Close at once."""
        self._mailbox.close()
        self._socket.close()
