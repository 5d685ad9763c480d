"""The full book of one Binance market, and the rules by which it is known to be true. Pure.

    waiting ──snapshot that joins the buffer──▶ valid ──hole, damage, crossed──▶ waiting (buffer anew)

Updates are buffered from the first one on, before a snapshot has come, and a snapshot is taken only where it
joins them. Each update names what it follows: spot by its first id (U - 1), USD-M by `pu`. So one rule serves
both markets:

- The stream is whole while each update follows the one before it: spot U = u + 1, USD-M pu = u.
- A snapshot joins if the first update not contained in it follows something that is: `previous <= snapshot`.
  This is Binance's own rule (spot U <= id + 1 <= u; USD-M U <= id <= u) and allows besides for an id between
  two USD-M updates, whose ids are not dense: nothing of this market lies there. A snapshot older than the
  beginning of the buffer does not join.
- An update that the snapshot contains is skipped; one that came before is a duplicate and skipped as well.

**Reach.** A snapshot with as many levels as were asked for is the book's inner part: below its last bid and
above its last ask there may be levels that nobody told us. Updates out there are kept, and every level in
the book is true; but the side is *certain* only down to the reach. The top of the book is cut at the reach,
so a level may be missing at the end of it, never in the middle. When half of the reach is used up the book is
`thin`, and a second snapshot is asked for while the first goes on to be used: the stream is whole, so nothing
is lost, what is known beyond the new reach is kept, and there is no gap. Only a side with no certain level at
all ends the book. (On a calm day a recorded USD-M price went through 257 of 1000 levels in one update.)

Source: binance-spot-api-docs, web-socket-streams.md, and developers.binance.com, USDⓈ-M Futures: "How to
manage a local order book correctly" (both).
"""

from collections import deque
from enum import Enum
from math import inf
from struct import Struct
from typing import NamedTuple

from daedalus.exchanges.adapter import book_flags
from daedalus.features.book import Book
from daedalus.records import Flag

__all__ = ["BUFFER_MAX", "BookSync", "Loaded", "Step", "Update"]

BUFFER_MAX = 2_000
"""Updates that wait for a snapshot: 200 s of `@depth@100ms`."""

_BID, _ASK = 0, 1
_LEVEL = 16  # bytes
_CROSSED_MAX = 200  # updates in a row: a book that stays crossed is damaged
_CROSSED_MS_MAX = 2_000  # of the exchange's clock
_LOOK_EVERY = 32  # updates between two looks at the reach
_CROSSED = int(Flag.CROSSED)  # an int: the arithmetic of enums costs a microsecond
_price_at = Struct("<d").unpack_from


class Update(NamedTuple):
    """One depth update, its sides packed."""

    previous: int  # the id it follows
    first: int
    last: int
    ts_ms: int
    bids: bytes
    asks: bytes


class Loaded(NamedTuple):
    """A snapshot that joined the stream."""

    bids: bytes  # of the snapshot, packed, best first
    asks: bytes
    behind: list[Update]  # what was applied on top of it


class Step(Enum):
    """What became of an update."""

    APPLIED = "applied"
    SKIPPED = "skipped"  # the book has it already
    BUFFERED = "buffered"
    OVERFLOW = "overflow"  # buffered, for the first time at the price of the oldest
    BROKEN = "broken"  # something is missing before it: the book is not valid any more


class BookSync:
    """A book and its place in the stream.

    `valid` says whether the book may be shown. `chain` is the id that the next update must follow, None where
    that is not known; `since` is the id from which on every update is held.
    """

    __slots__ = (
        "_buffer", "_ceiling", "_crossed", "_crossed_ms", "_floor", "_keep", "_limit", "applied", "book",
        "chain", "dropped", "last", "since", "ts_ms", "valid",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        """Begin empty.

        Args:
            limit: levels per side that a snapshot is asked for.
        """
        self._limit = limit
        self.book = Book()
        self.reset()

    def reset(self) -> None:
        """Forget everything: the connection is gone."""
        self._buffer: deque[Update] = deque()
        self._keep = False  # a valid book buffers only while a second snapshot is on its way
        self._floor, self._ceiling = -inf, inf
        self._crossed = 0
        self._crossed_ms = 0
        self.valid = False
        self.chain: int | None = None
        self.since: int | None = None
        self.last = 0  # id of the book
        self.ts_ms: int | None = None
        self.applied = 0  # updates since the last snapshot
        self.dropped = 0  # updates that the buffer had no room for, while it waits

    @property
    def complete(self) -> bool:
        """Whether the whole book is known, not its inner part."""
        return self._floor == -inf and self._ceiling == inf

    def keep(self) -> None:
        """Buffer from here on, though the book is valid: a second snapshot is on its way."""
        self._keep = True
        self._buffer.clear()
        self.since = self.chain if self.chain is not None else self.last

    def spoil(self) -> None:
        """The book cannot be trusted, or an update is lost: wait for a snapshot from here on."""
        if self.valid or self.chain is not None:
            self.since = self.chain if self.chain is not None else self.last
        self.valid = False
        self.chain = None
        self._keep = False
        self._buffer.clear()

    def feed(self, update: Update) -> Step:
        """Take the next update.

        Raises:
            ValueError: a price or size that no book can have. Call `spoil`.
        """
        if not self.valid:
            return self._wait(update)
        chain = self.chain
        if update.previous != chain:
            if chain is not None and update.last <= chain:
                return Step.SKIPPED
            if chain is not None or update.previous > self.last:
                self.valid = False
                self._keep = False
                self._begin(update)
                return Step.BROKEN
        self.chain = update.last
        if self._keep:
            self._buffer.append(update)
            if len(self._buffer) > BUFFER_MAX:
                self._drop()
        if update.last <= self.last:
            return Step.SKIPPED
        self._apply(update)
        return Step.APPLIED

    def _begin(self, update: Update) -> None:
        self._buffer.clear()
        self._buffer.append(update)
        self.since = update.previous
        self.chain = update.last

    def _wait(self, update: Update) -> Step:
        if not self._buffer or update.previous != self.chain:
            if self.chain is not None and update.last <= self.chain:
                return Step.SKIPPED
            self._begin(update)
            return Step.BUFFERED
        self.chain = update.last
        self._buffer.append(update)
        if len(self._buffer) <= BUFFER_MAX:
            return Step.BUFFERED
        return Step.OVERFLOW if self._drop() else Step.BUFFERED

    def _drop(self) -> bool:
        first = self.dropped == 0
        self.dropped += 1
        self._buffer.popleft()
        self.since = self._buffer[0].previous
        return first

    def _apply(self, update: Update) -> None:
        self.book.apply_many(_BID, update.bids)
        self.book.apply_many(_ASK, update.asks)
        self.last = update.last
        self.ts_ms = update.ts_ms
        self.applied += 1

    def load(self, last: int, bids: bytes, asks: bytes, ts_ms: int | None = None) -> Loaded | None:
        """Take a snapshot, and what was buffered behind it.

        Args:
            last: its id.
            bids: packed.
            asks: the same.
            ts_ms: its time, if the exchange gives one.

        Returns:
            What is the book now; None: the snapshot is older than the buffer, ask again.

        Raises:
            ValueError: a price or size that no book can have. Call `spoil`.
        """
        if self.since is not None and last < self.since:
            return None
        known = self.whole() if self.valid and self.chain is not None and last <= self.chain else (b"", b"")
        self.book.load(_BID, bids)
        self.book.load(_ASK, asks)
        loaded = Loaded(*self.whole(), [update for update in self._buffer if update.last > last])
        self._floor = _last_price(loaded.bids) if len(bids) >= _LEVEL * self._limit else -inf
        self._ceiling = _last_price(loaded.asks) if len(asks) >= _LEVEL * self._limit else inf
        self.last = last
        self.ts_ms = ts_ms
        for update in loaded.behind:
            self._apply(update)
        # what the stream told of levels beyond the reach is as true as it was
        self.book.apply_many(_BID, known[0][len(_within(known[0], self._floor, _BID)) :])
        self.book.apply_many(_ASK, known[1][len(_within(known[1], self._ceiling, _ASK)) :])
        self._buffer.clear()
        self._keep = False
        self._crossed = 0
        self.applied = 0
        self.dropped = 0
        self.valid = True
        return loaded

    def top(self, levels: int) -> tuple[bytes, bytes]:
        """Return the certain part of the best `levels` levels of both sides, packed."""
        bids = self.book.top(_BID, levels)
        asks = self.book.top(_ASK, levels)
        return _within(bids, self._floor, _BID), _within(asks, self._ceiling, _ASK)

    def holds_no_more_than(self, levels: int) -> bool:
        """Return whether the top of so many levels is all there is."""
        return self.book.depth(_BID) <= levels and self.book.depth(_ASK) <= levels

    def whole(self) -> tuple[bytes, bytes]:
        """Return all levels of both sides, packed. Each is true; beyond the reach some may be missing."""
        book = self.book
        return book.top(_BID, book.depth(_BID)), book.top(_ASK, book.depth(_ASK))

    def flags(self, bids: bytes, asks: bytes) -> int:
        """Return the flags of a valid book, given its top, and count how long it has been crossed."""
        flags = book_flags(bids, asks)
        if not flags & _CROSSED:
            self._crossed = 0
        else:
            if self._crossed == 0:
                self._crossed_ms = self.ts_ms or 0
            self._crossed += 1
        return flags

    def damage(self, bids: bytes, asks: bytes) -> str | None:
        """Return why the book, given its top, cannot be shown any longer; None: it can."""
        if self._crossed:
            lasted_ms = (self.ts_ms or 0) - self._crossed_ms
            if self._crossed > _CROSSED_MAX or lasted_ms > _CROSSED_MS_MAX:
                return f"crossed for {self._crossed} updates, {lasted_ms} ms"
        if (not bids and self._floor != -inf) or (not asks and self._ceiling != inf):
            return f"no level is left of the {self._limit} of the snapshot"
        return None

    def thin(self, levels: int) -> bool:
        """Return whether the certain part begins to run out. Looks at one update in 32 only."""
        if self.applied % _LOOK_EVERY or self.complete:
            return False
        wanted = min(max(2 * levels, self._limit // 2), self._limit * 3 // 4)
        bids, asks = self.top(wanted)
        short = _LEVEL * wanted
        return (len(bids) < short and self._floor != -inf) or (len(asks) < short and self._ceiling != inf)


def _last_price(side: bytes) -> float:
    if not side:
        return 0.0
    price: float = _price_at(side, len(side) - _LEVEL)[0]
    return price


def _within(side: bytes, reach: float, which: int) -> bytes:
    """Return the levels of a packed side, best first, that are no worse than `reach`."""
    end = len(side)
    if which == _BID:
        while end and _price_at(side, end - _LEVEL)[0] < reach:
            end -= _LEVEL
    else:
        while end and _price_at(side, end - _LEVEL)[0] > reach:
            end -= _LEVEL
    return side[:end]
