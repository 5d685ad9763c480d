"""One symbol's book on one connection, and the facts that are frozen from it.

It serves two channels at once, from one subscription of the exchange's: `orderbook` is the top after every
change, `depth` the change itself. Not valid before a snapshot, and not after `reset`.
"""

from collections.abc import Iterable

from daedalus.exchanges.adapter import BookFact, DepthFact, Fact, Stream, book_flags
from daedalus.features.book import ASK, BID, Book
from daedalus.records import Flag

__all__ = ["BookState"]

_CROSSED_MAX = 200  # updates in a row: a book that stays crossed is damaged
_HEALTHY = 100  # good updates, the book not crossed, after which an old fault no longer counts
_LEVEL = 16  # bytes
_DELAY_MAX_S = 300.0
_DOUBLINGS_MAX = 10  # beyond the longest delay, and far from where a float overflows


class BookState:
    """A book with its place in the exchange's sequence."""

    __slots__ = (
        "_bound",
        "_depth",
        "_faults",
        "_good",
        "_levels",
        "_resyncs",
        "_top",
        "book",
        "crossed",
        "exch_seq",
        "nonce",
        "pending",
        "streams",
        "symbol",
        "ts_event",
        "valid",
    )

    def __init__(self, symbol: str, channels: Iterable[str], levels: int, bound: int | None = None) -> None:
        """Begin with a book that is not valid.

        Args:
            symbol: as configured.
            channels: which of orderbook and depth are wanted.
            levels: per side of an emitted top.
            bound: levels per side that the exchange keeps us told of; None: all there are.
        """
        self.symbol = symbol
        self.streams = tuple(Stream(symbol, channel) for channel in channels)
        self.book = Book()
        self.valid = False
        self.pending = False  # damaged, and to be subscribed anew: only a snapshot is of use
        self.crossed = 0
        self.ts_event: int | None = None
        self.nonce: int | None = None
        self.exch_seq: int | None = None
        self._top = any(stream.channel == "orderbook" for stream in self.streams)
        self._depth = any(stream.channel == "depth" for stream in self.streams)
        self._levels = levels
        self._bound = bound
        self._resyncs = 0
        self._faults = 0  # without a healthy stretch in between
        self._good = 0

    def reset(self) -> None:
        """Forget the book: nothing is emitted before the next snapshot."""
        self.book.clear()
        self.valid = False
        self.pending = False
        self.crossed = 0

    def faulted(self) -> float:
        """Forget the book after a fault of its own; return how long to wait before the next try, in s.

        The first fault after a healthy stretch is cured at once; a symbol that fails again and again is
        asked for ever more rarely, so that it harms no other.
        """
        self.reset()
        self.pending = True
        self._faults += 1
        self._good = 0
        doublings = min(self._faults - 1, _DOUBLINGS_MAX)
        return min(2.0**doublings, _DELAY_MAX_S) if doublings else 0.0

    @property
    def stuck(self) -> bool:
        """Whether the book was crossed for so long that it must be damaged."""
        return self.crossed > _CROSSED_MAX

    def load(self, bids: bytes, asks: bytes) -> None:
        """Replace the book by a snapshot, packed. Raises ValueError: a number that is none."""
        self.valid = False
        self.book.load(BID, bids)
        self.book.load(ASK, asks)
        self.valid = True

    def apply(self, bids: bytes, asks: bytes) -> None:
        """Apply the changed levels, packed, size 0 = removed. Raises ValueError: a number that is none."""
        if bids:
            self.book.apply_many(BID, bids)
        if asks:
            self.book.apply_many(ASK, asks)

    def truncate(self, side: int) -> bytes:
        """Cut a side to what the exchange tells us of; return the cut levels, packed, with size 0."""
        bound = self._bound
        if bound is None or self.book.depth(side) <= bound:
            return b""
        cut = self.book.top(side, self.book.depth(side))[_LEVEL * bound :]
        removed = b"".join(cut[at : at + 8] + bytes(8) for at in range(0, len(cut), _LEVEL))
        self.book.apply_many(side, removed)
        return removed

    def snapshot(self, ts_event: int | None, *, exch_seq: int | None, nonce: int | None = None) -> list[Fact]:
        """Return what a snapshot says, the book being loaded."""
        self.pending = False
        flags = int(Flag.SNAPSHOT) | (int(Flag.RESYNC) if self._resyncs else 0)
        self._resyncs += 1
        self._note(ts_event, exch_seq, nonce)
        facts: list[Fact] = []
        if self._depth:
            facts.append(self._whole(flags))
        return self._freeze(facts, flags)

    def update(
        self,
        bids: bytes,
        asks: bytes,
        ts_event: int | None,
        *,
        exch_seq: int | None,
        nonce: int | None = None,
        first: int | None = None,
        flags: int = 0,
    ) -> list[Fact]:
        """Return what a change says, the change being applied.

        Args:
            bids: changed levels, packed, size 0 = removed.
            asks: the same.
            ts_event: ns UTC, the exchange's time.
            exch_seq: the exchange's number of the message.
            nonce: the exchange's update id after the change.
            first: the first update id folded into it.
            flags: of the exchange's message.
        """
        self._note(ts_event, exch_seq, nonce)
        facts: list[Fact] = []
        if self._depth:
            facts.append(
                DepthFact(
                    symbol=self.symbol,
                    ts_event=ts_event,
                    nonce=nonce,
                    kind="update",
                    first_exch_seq=first,
                    bids=bids,
                    asks=asks,
                    exch_seq=exch_seq,
                    flags=flags,
                )
            )
        facts = self._freeze(facts, flags)
        if not self.crossed:
            self._good += 1
            if self._good == _HEALTHY:
                self._faults = 0
        return facts

    def whole(self) -> DepthFact | None:
        """Return the whole book as it stands, if `depth` is wanted and the book is valid."""
        return self._whole(int(Flag.SNAPSHOT)) if self._depth and self.valid else None

    def _note(self, ts_event: int | None, exch_seq: int | None, nonce: int | None) -> None:
        self.ts_event, self.exch_seq, self.nonce = ts_event, exch_seq, nonce

    def _whole(self, flags: int) -> DepthFact:
        book = self.book
        bids, asks = book.top(BID, book.depth(BID)), book.top(ASK, book.depth(ASK))
        flags |= book_flags(bids, asks)
        if self._bound is None or max(book.depth(BID), book.depth(ASK)) < self._bound:
            flags |= Flag.COMPLETE
        return DepthFact(
            symbol=self.symbol,
            ts_event=self.ts_event,
            nonce=self.nonce,
            kind="snapshot",
            first_exch_seq=None,
            bids=bids,
            asks=asks,
            exch_seq=self.exch_seq,
            flags=int(flags),
        )

    def _freeze(self, facts: list[Fact], flags: int) -> list[Fact]:
        book, levels = self.book, self._levels if self._top else 1
        bids, asks = book.top(BID, levels), book.top(ASK, levels)
        flags |= book_flags(bids, asks)
        self.crossed = self.crossed + 1 if flags & Flag.CROSSED else 0
        if self._top:
            deepest = max(book.depth(BID), book.depth(ASK))
            if deepest <= levels and (self._bound is None or deepest < self._bound):
                flags |= Flag.COMPLETE
            facts.append(
                BookFact(
                    symbol=self.symbol,
                    ts_event=self.ts_event,
                    nonce=self.nonce,
                    bids=bids,
                    asks=asks,
                    exch_seq=self.exch_seq,
                    flags=int(flags),
                )
            )
        return facts
