"""What is known of one of ccxt's websocket clients: what it carries, and since when that can be relied on.

    asked      a watch call wants a stream of this connection
    sent       its subscription has left
    confirmed  the exchange acknowledged it, or the stream spoke: here a gap ends

On a shared socket anything may arrive between the three, and it says nothing about a stream that is not
confirmed yet. Only where the exchange's acknowledgements are unknown to us, and a connection carries one
subscription alone, is every message a sign of it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from daedalus.exchanges.adapter import BookFact, Control, Fact, Now, Stream
from daedalus.exchanges.ccxt_guards import Request, guard_of
from daedalus.exchanges.freshness import Freshness

if TYPE_CHECKING:
    import asyncio

__all__ = ["Connection", "Message"]

_ACKNOWLEDGED_NS = 30_000_000_000  # an exchange that acknowledges does so within a second


class Message:
    """The raw message in hand, and what has been made of it so far."""

    __slots__ = ("books", "decoded", "items", "now")

    def __init__(self, now: Now) -> None:
        """Begin with nothing."""
        self.now = now
        self.decoded: Any = None
        self.items: list[Fact | Control] = []
        self.books: dict[Stream, BookFact] = {}


class Connection:
    """One websocket client."""

    def __init__(self, client: Any, number: int, exchange_id: str, freshness: Freshness) -> None:
        """Begin without a stream.

        Args:
            client: ccxt's.
            number: of the sockets of this process, from 1.
            exchange_id: ccxt's.
            freshness: the watch on the socket as a whole.
        """
        self.client = client
        self.number = number
        self.exchange_id = exchange_id
        self.freshness = freshness
        self.guard = guard_of(exchange_id)
        self.streams: set[Stream] = set()
        self.hashes: dict[str, tuple[Stream, ...]] = {}  # ccxt's message hash -> what it may bring
        self.unconfirmed: dict[Stream, Request | None] = {}  # None: not sent yet
        self.subscriptions = 0  # watch calls it carries
        self.tasks: set[asyncio.Task[Any]] = set()
        self.since: int | None = None  # capture of the last good message, ns
        self.messages = 0
        self.opened_ns = 0  # monotonic
        self.dropped = False

    def asked(self, streams: Iterable[Stream]) -> tuple[Stream, ...]:
        """Note that a watch call wants streams of this connection; return those that are new."""
        new = tuple(stream for stream in streams if stream not in self.streams)
        if new:
            self.subscriptions += 1
            self.streams.update(new)
            self.unconfirmed.update(dict.fromkeys(new))
        return new

    def sent(self, streams: Iterable[Stream], message: Any, mono_ns: int) -> None:
        """Note that a message left on behalf of streams."""
        waiting = [stream for stream in streams if stream in self.unconfirmed]
        request = Request.of(self.exchange_id, message, mono_ns) if waiting else None
        if request is not None:
            self.unconfirmed.update(dict.fromkeys(waiting, request))

    def confirmed(self, decoded: Any, heard: Iterable[Stream]) -> list[Stream]:
        """Return the streams that are in force from this message on.

        Args:
            decoded: the message.
            heard: streams that spoke in it.
        """
        spoke = set(heard)
        alone = self.subscriptions == 1
        found = [
            stream
            for stream, request in self.unconfirmed.items()
            if stream in spoke or (request is not None and _in_force(request, decoded, alone=alone))
        ]
        for stream in found:
            del self.unconfirmed[stream]
        return found

    def overdue(self, mono_ns: int) -> list[Stream]:
        """Return streams whose subscription was sent long ago, to an exchange that acknowledges, in vain."""
        return [
            stream
            for stream, request in self.unconfirmed.items()
            if request is not None and request.understood and mono_ns - request.sent_ns > _ACKNOWLEDGED_NS
        ]


def _in_force(request: Request, decoded: Any, *, alone: bool) -> bool:
    return request.answered(decoded) or (alone and not request.understood)
