"""Which streams of a connection are subscribed, and which the exchange refused: one symbol harms no other.

A refused stream is asked for again after five minutes, for ever: a market may be halted, or listed again.
Only where the exchange refuses everything that a connection is for does it end: the configuration is wrong.

A try that waits is one request, by its key: however often a stream fails meanwhile, it gets no second one.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from daedalus.exchanges.adapter import Ask, Control, Fault, Item, Send, Stream
from daedalus.exchanges.bookstate import BookState

__all__ = ["AGAIN_S", "Reason", "Symbolwise"]

AGAIN_S = 300.0
Reason = Literal["sequence", "checksum", "error"]  # why a book is damaged


class Symbolwise:
    """The subscriptions of one connection."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        """Begin with nothing subscribed."""
        self._streams = streams
        self._acked: set[Stream] = set()
        self._refused: set[Stream] = set()
        self._waiting: set[str] = set()  # keys of the tries that wait

    def clear(self) -> None:
        """Forget the connection."""
        self._acked.clear()
        self._refused.clear()
        self._waiting.clear()

    def acknowledged(self, streams: Iterable[Stream]) -> Control:
        """Take the exchange's word that streams are subscribed."""
        known = tuple(streams)
        self._acked.update(known)
        self._refused.difference_update(known)
        return Control("subscribed", known)

    def refused(self, streams: Iterable[Stream], why: str, key: str, path: str) -> list[Item]:
        """Take the exchange's word that it does not have streams; return the fault and the next try.

        Args:
            streams: who is refused.
            why: the exchange's words.
            key: of the request whose answer is the next try.
            path: of that request, any that is cheap: it only tells the time.
        """
        some = tuple(streams)
        self._refused.update(some)
        self._acked.difference_update(some)
        detail = f"the exchange refuses {', '.join(sorted({s.symbol for s in some}))}: {why}"
        if not self._acked and self._refused.issuperset(self._streams):
            return [Fault(tuple(self._streams), "error", detail, fatal=True)]
        return [Fault(some, "error", detail, local=True), *self.later(key, path, some, AGAIN_S)]

    def damaged(
        self,
        state: BookState,
        reason: Reason,
        detail: str,
        key: str,
        path: str,
        anew: Callable[[], Sequence[Send]],
    ) -> list[Item]:
        """Forget a damaged book; return the fault and the next try, unless one waits already.

        Args:
            state: the book.
            reason: of the fault.
            detail: of the fault.
            key: of the request whose answer is the next try, if it is not made at once.
            path: of that request, as above.
            anew: makes the messages that subscribe the book anew.
        """
        told = state.pending and key in self._waiting  # damaged as before: it is no news
        delay_s = state.faulted()
        if told:
            return []
        fault = Fault(state.streams, reason, detail, local=True)
        if delay_s or key in self._waiting:
            return [fault, *self.later(key, path, state.streams, delay_s)]
        return [fault, *anew()]

    def later(self, key: str, path: str, streams: Iterable[Stream], delay_s: float) -> list[Ask]:
        """Return the request whose answer is the next try; nothing if that try waits already."""
        if key in self._waiting:
            return []
        self._waiting.add(key)
        return [Ask(key, path, tuple(streams), delay_s=delay_s)]

    def due(self, key: str, state: BookState | None = None) -> bool:
        """Take the answer to the request of a try; return whether it is needed: `state` may be cured."""
        self._waiting.discard(key)
        return state is None or not state.valid or self.is_refused(state.streams[0])

    def leave_out(self, streams: Iterable[Stream]) -> None:
        """Do not expect streams that an earlier connection was refused."""
        self._refused.update(streams)

    def complete(self, books: Iterable[BookState]) -> bool:
        """Return whether every stream is subscribed that the exchange has, and every book of these valid."""
        subscribed = bool(self._acked) and (self._acked | self._refused).issuperset(self._streams)
        return subscribed and all(book.valid or self.is_refused(book.streams[0]) for book in books)

    def is_refused(self, stream: Stream) -> bool:
        """Return whether the exchange refuses a stream."""
        return stream in self._refused
