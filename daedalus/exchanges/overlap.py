"""A second connection before the first one is cut: what passes of it, and when it may take over.

Until it is trusted its trades pass, because the collector knows trades by their ids and takes each once; so
nothing that happens in between is lost. Books and tickers are withheld: of those there may be one voice
only. It takes over when its adapter is ready and no book would go back in time: where an exchange's numbers
mean the same on every connection, each book must have reached the number that was stored last; elsewhere the
time of the exchange decides.
"""

from collections.abc import Sequence
from typing import Protocol

from daedalus.exchanges.adapter import (
    BookFact,
    Control,
    DepthFact,
    Fact,
    Fault,
    InstrumentFact,
    Now,
    Sink,
    Stream,
    TradeFact,
    stream_of,
)
from daedalus.exchanges.freshness import Watches

__all__ = ["Outlet", "Sieve"]

_Book = BookFact | DepthFact


class Outlet(Protocol):
    """Where a line's facts go: the collector, or the sieve of an overlap."""

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None: ...
    def lost(self, fault: Fault, since: int | None) -> None: ...
    def instruments(self, facts: Sequence[InstrumentFact]) -> None: ...


class Sieve:
    """Before the collector, for a connection that is not yet trusted: see `Outlet`."""

    def __init__(self, sink: Sink, *, comparable: bool) -> None:
        """Begin with nothing heard.

        Args:
            sink: the collector.
            comparable: the exchange's sequence numbers mean the same on every connection.
        """
        self._sink = sink
        self._comparable = comparable
        self.acked: set[Stream] = set()
        self.books: dict[Stream, _Book] = {}  # the last of each

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        """Let trades pass, remember the rest."""
        passing: list[Fact | Control] = []
        for item in items:
            if isinstance(item, TradeFact):
                if item.trade_id is not None:  # without an id it would be stored twice
                    passing.append(item)
            elif isinstance(item, BookFact | DepthFact):
                self.books[stream_of(item)] = item
            elif isinstance(item, Control) and item.kind == "subscribed":
                self.acked.update(item.streams)
        if passing:
            self._sink.take(now, passing)

    def lost(self, fault: Fault, since: int | None) -> None:
        """Nothing that counted was lost."""

    def instruments(self, facts: Sequence[InstrumentFact]) -> None:
        """Let them pass."""
        self._sink.instruments(facts)

    def caught_up(self, before: Watches) -> bool:
        """Return whether no book would go back in time if this connection took over.

        Args:
            before: of the connection that is trusted; its watches hold the last book of each stream.
        """
        return all(
            self._reached(watch.fact, self.books.get(stream))
            for stream, watch in before.books()
            if watch.fact is not None
        )

    def _reached(self, old: _Book, new: _Book | None) -> bool:
        if new is None:
            return False
        if self._comparable:
            return _at_least(_number(new), _number(old))
        return _at_least(new.ts_event, old.ts_event)

    def ahead(self, before: Watches) -> list[BookFact]:
        """Return the books that say more than the trusted connection did: the last word of each."""
        found = []
        for stream, watch in before.books():
            new, old = self.books.get(stream), watch.fact
            if self._comparable and isinstance(new, BookFact) and old is not None:
                mine, last = _number(new), _number(old)
                if mine is not None and last is not None and mine > last:
                    found.append(new)
        return found


def _number(fact: _Book) -> int | None:
    return fact.nonce if fact.nonce is not None else fact.exch_seq


def _at_least(new: int | None, old: int | None) -> bool:
    return new is None or old is None or new >= old
