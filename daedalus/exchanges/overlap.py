"""A second connection before the first one is cut: what passes of it, and when it may take over.

Until it is trusted its trades pass, because the collector knows trades by their ids and takes each once; so
nothing that happens in between is lost. Books and tickers are withheld: of those there may be one voice
only. It takes over when its adapter is ready and no book would go back in time: where an exchange's numbers
mean the same on every connection, each book must have reached the number that was stored last; elsewhere the
time of the exchange decides. With the take-over the withheld ones that the first connection had not told
are told: the last of each book and of each ticker, so that no state stays unknown until the next change.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from msgspec.structs import replace

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
    TickerFact,
    TradeFact,
    stream_of,
)
from daedalus.exchanges.freshness import Watches
from daedalus.records import Flag

__all__ = ["Outlet", "Sieve"]

_Book = BookFact | DepthFact
_State = _Book | TickerFact


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
        self._tickers: dict[Stream, TickerFact] = {}  # the same
        self._earlier: dict[Stream, _State] = {}  # the one before

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        """Let trades pass, remember the rest."""
        passing: list[Fact | Control] = []
        for item in items:
            if isinstance(item, TradeFact):
                if item.trade_id is not None:  # without an id it would be stored twice
                    passing.append(item)
            elif isinstance(item, BookFact | DepthFact):
                stream = stream_of(item)
                if (last := self.books.get(stream)) is not None:
                    self._earlier[stream] = last
                self.books[stream] = item
            elif isinstance(item, TickerFact):
                stream = stream_of(item)
                if (before := self._tickers.get(stream)) is not None:
                    self._earlier[stream] = before
                self._tickers[stream] = item
            elif isinstance(item, Control) and item.kind == "subscribed":
                self.acked.update(item.streams)
        if passing:
            self._sink.take(now, passing)

    def lost(self, fault: Fault, since: int | None) -> None:  # noqa: ARG002 - see `Outlet`
        """Nothing that counted was lost, but what was withheld of these streams counts no more."""
        for stream in fault.streams:
            self.books.pop(stream, None)
            self._tickers.pop(stream, None)
            self._earlier.pop(stream, None)

    def instruments(self, facts: Sequence[InstrumentFact]) -> None:
        """Let them pass."""
        self._sink.instruments(facts)

    def caught_up(self, before: Watches, without: Collection[Stream] = ()) -> bool:
        """Return whether no book would go back in time if this connection took over.

        Args:
            before: of the connection that is trusted; its watches hold the last book of each stream.
            without: streams of markets that the exchange has no more: nobody waits for them.
        """
        return all(
            self._reached(watch.fact, self.books.get(stream))
            for stream, watch in before.books()
            if watch.fact is not None and stream not in without
        )

    def _reached(self, old: _Book, new: _Book | None) -> bool:
        if new is None:
            return False
        if self._comparable:
            return _at_least(_number(new), _number(old))
        return _at_least(new.ts_event, old.ts_event)

    def ahead(self, before: Watches) -> list[BookFact | TickerFact]:
        """Return the books and tickers that say more than the trusted connection did: the last of each.

        One into which several were folded is flagged. A full book is the adapter's to tell.
        """
        found: list[BookFact | TickerFact] = []
        for stream, new in (*self.books.items(), *self._tickers.items()):
            old = before.last_told(stream)
            if isinstance(new, DepthFact) or not self._more(new, old):
                continue
            earlier = self._earlier.get(stream)
            folded = earlier is not None and self._more(earlier, old)
            found.append(replace(new, flags=new.flags | Flag.CONFLATED) if folded else new)
        return found

    def _more(self, new: _State, old: _State | None) -> bool:
        """Return whether `new` changes what `old` told, and is no older."""
        if old is None:
            return True
        if self._comparable and not isinstance(new, TickerFact) and not isinstance(old, TickerFact):
            mine, last = _number(new), _number(old)
            if mine is not None and last is not None:
                return mine > last
        if new.ts_event is not None and old.ts_event is not None and new.ts_event != old.ts_event:
            return new.ts_event > old.ts_event
        return _content(new) != _content(old)


def _number(fact: _Book) -> int | None:
    return fact.nonce if fact.nonce is not None else fact.exch_seq


def _at_least(new: int | None, old: int | None) -> bool:
    return new is None or old is None or new >= old


def _content(fact: _State) -> object:
    if isinstance(fact, TickerFact):  # without what is another on each connection
        return replace(fact, ts_event=None, exch_seq=None, flags=0, info_json=None)
    return fact.bids, fact.asks
