"""Who listens to what: connections with their bounded queues, and topics with their connections.

No sockets here: the server empties the queues. A queue that is full cuts its connection, as exchanges do
with clients that read too slowly; a playback that can wait (a recording) waits before it comes to that.

A connection is also where faults of messages happen, because here a message meets the one client it is for:
`deliver` numbers it, lets the faults in force have it, and says what became of it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

__all__ = ["Connection", "Fate", "Hub", "Odd", "Sent", "Tamper"]

QUEUE_MESSAGES = 20_000
QUEUE_BYTES = 64 << 20


class Fate(StrEnum):
    """What became of one message on its way to one connection."""

    SENT = "sent"
    TWICE = "twice"  # and once more
    LATE = "late"  # after the message that follows it
    HELD = "held"  # the stream is silent: it is sent when the silence ends, if the connection lives
    LOST = "lost"  # never sent, though it was numbered
    GARBLED = "garbled"  # something else was sent in its place


class Sent(msgspec.Struct):
    """One message and one connection. A held one has no number yet; `then` is called when it is sent."""

    connection: int
    sequence: int | None  # where the exchange numbers its messages
    fate: Fate = Fate.SENT
    then: "Callable[[Sent], None] | None" = None

    def arrives(self) -> bool:
        """Return whether the client gets it, if its connection lives."""
        return self.fate not in (Fate.LOST, Fate.GARBLED)


class Odd(NamedTuple):
    """What leaves though it is no text message."""

    data: bytes
    raw: bool = False  # straight into the socket, without a frame around it; else a binary frame


class Tamper(Protocol):
    """A fault of messages, in force on one connection."""

    def concerns(self, topic: str) -> bool:
        """Return whether a message of this topic is its prey."""

    def befall(self, connection: "Connection", sent: Sent, topic: str, again: Callable[[], bytes]) -> bool:
        """Do to the message what the fault does; return whether the fault is over.

        Args:
            connection: pushes what is to leave.
            sent: number and, to be set, fate.
            topic: of the message.
            again: makes the message; a second call makes the same with the connection's next number.
        """


class Connection:
    """One client's websocket, as the dialects see it."""

    def __init__(self, number: int, exchange: str, *, combined: bool = False) -> None:
        self.number = number
        self.exchange = exchange
        self.combined = combined  # Binance: payloads wrapped in {"stream":…,"data":…}
        self.topics: dict[str, None] = {}
        self.sequence = 0  # Coinbase: of the next message
        self.sent = 0
        self.overflowed = False
        self.gone = False  # the client has left
        self.withheld = 0  # faults that keep the queue from being emptied
        self.wake: Callable[[], None] = _nobody
        self.tampers: list[Tamper] = []
        self._silences: list[_Silence] = []
        self._queue: deque[bytes | Odd] = deque()
        self._bytes = 0

    def deliver(self, topic: str, build: Callable[[int], bytes]) -> Sent:
        """Number a message of a topic, give it to the faults in force, and queue what they leave of it.

        Args:
            topic: whose listener this is.
            build: makes the message, given its number.
        """
        for silence in self._silences:
            if silence.concerns(topic):
                held = Sent(self.number, None, Fate.HELD)
                silence.held.append((topic, build, held))
                return held
        sent = Sent(self.number, self.sequence)
        for tamper in self.tampers:
            if tamper.concerns(topic):

                def again() -> bytes:
                    message = build(self.sequence)
                    self.sequence += 1
                    return message

                if tamper.befall(self, sent, topic, again):
                    self.tampers.remove(tamper)
                return sent
        self.push(build(self.sequence))
        self.sequence += 1
        return sent

    def silence(self, concerns: Callable[[str], bool]) -> Callable[[], None]:
        """Withhold the messages of some topics; return what ends it and sends them."""
        silence = _Silence(concerns)
        self._silences.append(silence)

        def end() -> None:
            if silence in self._silences:
                self._silences.remove(silence)
                for topic, build, held in silence.held if not self.gone else ():
                    later = self.deliver(topic, build)
                    if later.fate is Fate.HELD:  # another silence has it now
                        later.then = held.then
                    elif held.then is not None:
                        held.then(later)

        return end

    def withhold(self) -> Callable[[], None]:
        """Keep everything in the queue; return what lets it flow again."""
        self.withheld += 1

        def end() -> None:
            self.withheld -= 1
            self.wake()

        return end

    def push(self, message: bytes | Odd) -> None:
        """Queue one message as it is. Beyond the bound the connection is lost: nothing further is queued."""
        if self.overflowed:
            return
        size = len(message.data if isinstance(message, Odd) else message)
        if len(self._queue) >= QUEUE_MESSAGES or self._bytes + size > QUEUE_BYTES:
            self.overflowed = True
        else:
            self._queue.append(message)
            self._bytes += size
        self.wake()

    def pop(self) -> bytes | Odd | None:
        """Return the next message to send, or None."""
        if not self._queue or self.withheld:
            return None
        message = self._queue.popleft()
        self._bytes -= len(message.data if isinstance(message, Odd) else message)
        self.sent += 1
        return message

    def unsent(self) -> int:
        """Return how many messages wait."""
        return len(self._queue) + sum(len(silence.held) for silence in self._silences)

    def backlog(self) -> float:
        """Return how full the queue is, 0…1."""
        return max(len(self._queue) / QUEUE_MESSAGES, self._bytes / QUEUE_BYTES)


class _Silence:
    """Topics of one connection that say nothing for a while."""

    def __init__(self, concerns: Callable[[str], bool]) -> None:
        self.concerns = concerns
        self.held: list[tuple[str, Callable[[int], bytes], Sent]] = []


class Hub:
    """Topics ("binance/btcusdt@trade") and the connections subscribed to them."""

    def __init__(self) -> None:
        self.connections: dict[int, Connection] = {}
        self.subscribed = 0  # subscriptions ever made; moves when a client subscribes
        self._topics: dict[str, dict[int, Connection]] = {}
        self._next = 1

    def connect(self, exchange: str, *, combined: bool = False) -> Connection:
        """Return a new connection."""
        connection = Connection(self._next, exchange, combined=combined)
        self._next += 1
        self.connections[connection.number] = connection
        return connection

    def disconnect(self, connection: Connection) -> None:
        """Forget a connection and its subscriptions."""
        connection.gone = True
        self.connections.pop(connection.number, None)
        for topic in list(connection.topics):
            self.unsubscribe(connection, topic)

    def subscribe(self, connection: Connection, topic: str) -> None:
        """Let a connection listen to a topic."""
        connection.topics[topic] = None
        self._topics.setdefault(topic, {})[connection.number] = connection
        self.subscribed += 1

    def unsubscribe(self, connection: Connection, topic: str) -> None:
        """End a subscription, if there is one."""
        connection.topics.pop(topic, None)
        listeners = self._topics.get(topic, {})
        listeners.pop(connection.number, None)
        if not listeners:
            self._topics.pop(topic, None)

    def listeners(self, topic: str) -> Iterable[Connection]:
        """Return the connections subscribed to `topic`, in the order they subscribed."""
        listeners = self._topics.get(topic)
        return listeners.values() if listeners is not None else ()

    def topics(self) -> Iterable[str]:
        """Return the topics somebody listens to."""
        return self._topics.keys()


def _nobody() -> None:
    pass
