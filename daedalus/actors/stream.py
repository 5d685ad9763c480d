"""The order of one symbol's records, restored: what may enter the engine, and what has to be asked for.

Pure. The feature actor tells it what came (`live`, `answer`, `give_up`) and does what it says: feed the
records that are returned, in that order, and send the question in `wanted`, if there is one.

Theory. Every channel numbers its records from 1 in each session of the collector, without gaps; capture time
(`ts_recv`) grows strictly over all channels of the symbol. So a hole is seen in the numbers, and its place is
given by the time. When a record reveals a hole, it and all that follow wait in a bounded buffer; the
collector is asked for the missing numbers and, because what was lost in one channel was mostly lost in all,
for whatever the other channels have beyond their own position. The first record of a session asks in any
case: a subscription takes effect some milliseconds after a collector begins to publish, and the first record
of a slow channel, lost alone, would be missed only with its second. The answer is merged with the buffer by
capture time. What cannot be had, or would come too late to stand in order, is a gap: the next record of that
channel carries the flag.
"""

from collections.abc import Iterable
from heapq import merge
from operator import attrgetter
from typing import NamedTuple

import msgspec

from daedalus.records import BookSnapshot, Flag, Ticker, Trade
from daedalus.wire import channel as channel_of

__all__ = ["NEWEST", "Ask", "Feed", "Stream"]

NEWEST = 2**63 - 1  # the upper end of a range without one
Fact = Trade | BookSnapshot | Ticker


class Feed(NamedTuple):
    """One record for the engine."""

    record: Fact
    replayed: bool  # it came out of the collector's spool, not live


class Ask(NamedTuple):
    """A question to the collector: records of these numbers, both ends included."""

    session_id: str
    ranges: dict[str, tuple[int, int]]


_ts_recv = attrgetter("record.ts_recv")


class Stream:
    """Puts the records of one symbol in capture order and finds holes."""

    def __init__(self, channels: Iterable[str], *, buffer_limit: int = 20_000) -> None:
        """Begin without a position in any channel.

        Args:
            channels: the channels of the symbol that are collected.
            buffer_limit: live records that may wait for an answer; one more, and the hole becomes a gap.
        """
        self.wanted: Ask | None = None
        self.gaps = self.filled = self.duplicates = self.late = self.overflows = 0
        self._channels = tuple(channels)
        self._limit = buffer_limit
        self._position: dict[str, tuple[str, int]] = {}  # channel -> session, number of its last record
        self._gapped: set[str] = set()  # channels whose next record carries the flag
        self._waiting: list[Feed] = []  # the first one revealed the hole
        self._exact = False  # the other channels are no longer asked for
        self._session = ""
        self._opened = ""  # the session that was asked about last, at its first record if not later
        self._last_ts = 0

    @property
    def waiting(self) -> int:
        """Return how many records wait for an answer."""
        return len(self._waiting)

    def live(self, record: Fact) -> list[Feed]:
        """Take a record as it was published; return what may be fed now."""
        if self.wanted is None:
            return self._take([Feed(record, False)])
        self._waiting.append(Feed(record, False))
        if len(self._waiting) > self._limit:
            self.overflows += 1
            return self.give_up()
        return []

    def answer(self, ok: bool, records: Iterable[Fact], *, more: bool = False) -> list[Feed]:
        """Take the collector's answer; return what may be fed now. Another question may follow.

        Args:
            ok: it had all that was asked for.
            records: what it had, by capture time.
            more: the answer was cut at its size limit.
        """
        if self.wanted is None:
            return []
        ask, head = self.wanted, self._waiting[0].record
        horizon = self._waiting[-1].record.ts_recv
        replayed = [
            Feed(record, True)
            for record in records
            if record.session_id == ask.session_id and record.ts_recv <= horizon
        ]
        before = dict(self._position)
        fed: list[Feed] = []
        for item in replayed:
            if item.record.ts_recv < head.ts_recv:
                self._pass(item, fed)
        progress = before != self._position
        if self._expected(head) < head.seq or more:
            if progress and (ok or more):
                self.wanted = self._ask(head)
                return fed
            if not ok and not self._exact and not replayed:
                # a collector that answers all or nothing: at least the hole itself
                self._exact = True
                self.wanted = self._ask(head)
                return fed
            if self._expected(head) < head.seq:
                return fed + self.give_up()
        after = [item for item in replayed if item.record.ts_recv > head.ts_recv]
        return fed + self._resume(list(merge(self._waiting, after, key=_ts_recv)))

    def give_up(self) -> list[Feed]:
        """No answer came in time: go on with a gap; return what may be fed now."""
        if self.wanted is None:
            return []
        head = self._waiting[0].record
        channel = channel_of(head)
        if self._expected(head) < head.seq:
            if channel in self._position:
                self.gaps += 1
            self._gapped.add(channel)
            self._position[channel] = (head.session_id, head.seq - 1)
        return self._resume(self._waiting)

    def _resume(self, items: list[Feed]) -> list[Feed]:
        self.wanted, self._waiting, self._exact = None, [], False
        return self._take(items)

    def _take(self, items: list[Feed]) -> list[Feed]:
        fed: list[Feed] = []
        for index, item in enumerate(items):
            if self._opens(item.record) or self._expected(item.record) < item.record.seq:
                self._opened = item.record.session_id
                self._waiting = items[index:]
                self.wanted = self._ask(item.record)
                break
            self._pass(item, fed)
        return fed

    def _opens(self, record: Fact) -> bool:
        """Return whether this is the first record of a session; other channels may have earlier ones."""
        return record.session_id != self._opened and len(self._channels) > 1

    def _expected(self, record: Fact) -> int:
        session, seq = self._position.get(channel_of(record), ("", 0))
        return seq + 1 if session == record.session_id else 1

    def _pass(self, item: Feed, fed: list[Feed]) -> None:
        """Move the position to `item` and feed it, unless it is a duplicate, too late, or not for engines."""
        record, channel = item.record, channel_of(item.record)
        expected = self._expected(record)
        if record.seq < expected:
            self.duplicates += 1
            return
        if record.session_id != self._session:
            self._session, self._last_ts = record.session_id, 0
        if record.seq > expected and channel in self._position:
            # even the spool begins later; without a position it is simply where this actor begins
            self.gaps += 1
            self._gapped.add(channel)
        self._position[channel] = (record.session_id, record.seq)
        if record.ts_recv <= self._last_ts:
            self.late += 1
            self._gapped.add(channel)
            return
        self._last_ts = record.ts_recv
        self.filled += item.replayed
        if record.flags & Flag.BACKFILLED:
            return
        if channel in self._gapped:
            self._gapped.discard(channel)
            record = msgspec.structs.replace(record, flags=record.flags | Flag.AFTER_GAP)
            item = Feed(record, item.replayed)
        fed.append(item)

    def _ask(self, head: Fact) -> Ask:
        revealed = channel_of(head)
        expected = self._expected(head)
        ranges = {revealed: (expected, head.seq - 1)} if expected < head.seq else {}
        if not self._exact:
            for channel in self._channels:
                if channel != revealed:
                    session, seq = self._position.get(channel, ("", 0))
                    ranges[channel] = (seq + 1 if session == head.session_id else 1, NEWEST)
        return Ask(head.session_id, ranges)
