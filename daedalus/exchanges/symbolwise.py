"""Which streams of a connection are subscribed, and which the exchange refused: one symbol harms no other.

A refused stream is asked for again after five minutes, for ever: a market may be halted, or listed again.
Only where the exchange refuses everything that a connection is for does it end: the configuration is wrong.
"""

from collections.abc import Iterable, Sequence

from daedalus.exchanges.adapter import Ask, Control, Fault, Item, Stream

__all__ = ["AGAIN_S", "Symbolwise"]

AGAIN_S = 300.0


class Symbolwise:
    """The subscriptions of one connection."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        """Begin with nothing subscribed."""
        self._streams = streams
        self._acked: set[Stream] = set()
        self._refused: set[Stream] = set()

    def clear(self) -> None:
        """Forget the connection."""
        self._acked.clear()
        self._refused.clear()

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
        return [
            Fault(some, "error", detail, local=True),
            Ask(key, path, some, delay_s=AGAIN_S),
        ]

    def leave_out(self, streams: Iterable[Stream]) -> None:
        """Do not expect streams that an earlier connection was refused."""
        self._refused.update(streams)

    def complete(self) -> bool:
        """Return whether every stream is subscribed that the exchange has."""
        return bool(self._acked) and (self._acked | self._refused).issuperset(self._streams)

    def is_refused(self, stream: Stream) -> bool:
        """Return whether the exchange refuses a stream."""
        return stream in self._refused
