"""Who listens to what: connections with their bounded queues, and topics with their connections.

No sockets here: the server empties the queues. A queue that is full cuts its connection, as exchanges do
with clients that read too slowly; a playback that can wait (a recording) waits before it comes to that.
"""

from collections import deque
from collections.abc import Callable, Iterable

__all__ = ["Connection", "Hub"]

QUEUE_MESSAGES = 20_000
QUEUE_BYTES = 64 << 20


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
        self.wake: Callable[[], None] = _nobody
        self._queue: deque[bytes] = deque()
        self._bytes = 0

    def push(self, message: bytes) -> None:
        """Queue one message. Beyond the bound the connection is lost: nothing further is queued."""
        if self.overflowed:
            return
        if len(self._queue) >= QUEUE_MESSAGES or self._bytes + len(message) > QUEUE_BYTES:
            self.overflowed = True
        else:
            self._queue.append(message)
            self._bytes += len(message)
        self.wake()

    def pop(self) -> bytes | None:
        """Return the next message to send, or None."""
        if not self._queue:
            return None
        message = self._queue.popleft()
        self._bytes -= len(message)
        self.sent += 1
        return message

    def backlog(self) -> float:
        """Return how full the queue is, 0…1."""
        return max(len(self._queue) / QUEUE_MESSAGES, self._bytes / QUEUE_BYTES)


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
