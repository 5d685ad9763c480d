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

Where records are stored as well (`bronze`) nothing is a gap that is not one there: what the collector cannot
tell is read from rings, journals and segments (`Tail`) before a hole is given up. So is the end of a session:
its last records may have been stored and never published. And so is all that happened while this actor was
not there: `resume` asks for it without waiting for a record that reveals it.
"""

from collections.abc import Iterable
from heapq import merge
from operator import attrgetter
from typing import NamedTuple

import msgspec

from daedalus.records import BookSnapshot, Depth, Flag, Ticker, Trade
from daedalus.wire import channel as channel_of

__all__ = ["NEWEST", "Ask", "Feed", "State", "Stream", "Tail"]

NEWEST = 2**63 - 1  # the upper end of a range without one
Fact = Trade | BookSnapshot | Ticker | Depth


class Feed(NamedTuple):
    """One record for the engine."""

    record: Fact
    replayed: bool  # it came out of the collector's spool, not live


class Ask(NamedTuple):
    """A question to the collector: records of these numbers, both ends included."""

    session_id: str
    ranges: dict[str, tuple[int, int]]


class Tail(NamedTuple):
    """A question to what is stored: the records behind the last one that was fed.

    Those of `session_id` captured after `after`, and those of later sessions; of `until_session` only what
    was captured before `until`, where there is one.
    """

    session_id: str
    after: int  # ns UTC
    until_session: str = ""
    until: int = 0  # ns UTC


class State(NamedTuple):
    """What has been fed: enough to go on behind it."""

    positions: dict[str, tuple[str, int]]  # channel -> session, number of its last record
    owed: tuple[str, ...]  # channels whose next record carries the flag
    session_id: str  # of the last record
    last_ts: int  # ns UTC, capture of the last record


_ts_recv = attrgetter("record.ts_recv")


class Stream:
    """Puts the records of one symbol in capture order and finds holes."""

    def __init__(self, channels: Iterable[str], *, buffer_limit: int = 20_000, bronze: bool = False) -> None:
        """Begin without a position in any channel.

        Args:
            channels: the channels of the symbol that are collected.
            buffer_limit: live records that may wait for an answer. One more, and the hole becomes a gap; with
                `bronze` it is left out, and asked for later.
            bronze: what is stored can be asked as well.
        """
        self.wanted: Ask | Tail | None = None
        self.gaps = self.filled = self.duplicates = self.late = self.overflows = 0
        self._channels = tuple(channels)
        self._limit = buffer_limit
        self._bronze = bronze
        self._position: dict[str, tuple[str, int]] = {}  # channel -> session, number of its last record
        self._gapped: set[str] = set()  # channels whose next record carries the flag
        self._waiting: list[Feed] = []  # the first one revealed the hole, if one did
        self._resuming = False  # none did
        self._exact = False  # the other channels are no longer asked for
        self._tailed = False  # what is stored has been asked about this hole
        self._read = ""  # the session before whose first record everything stored was read
        self._session = ""
        self._opened = ""  # the session that was asked about last, at its first record if not later
        self._last_ts = 0

    @property
    def waiting(self) -> int:
        """Return how many records wait for an answer."""
        return len(self._waiting)

    @property
    def state(self) -> State:
        """Return what has been fed so far; what waits is not in it."""
        return State(dict(self._position), tuple(sorted(self._gapped)), self._session, self._last_ts)

    def resume(self, state: State) -> None:
        """Go on behind `state`: all that came since is wanted, and live records wait for it.

        A state without a session has fed nothing; its time says from when on bronze is wanted.
        """
        self._position, self._gapped = dict(state.positions), set(state.owed)
        self._session, self._last_ts = state.session_id, state.last_ts
        self._resuming = bool(self._session) or self._bronze
        if self._resuming:
            self.wanted = self._ask_all() if self._session else self._tail()

    def live(self, record: Fact) -> list[Feed]:
        """Take a record as it was published; return what may be fed now."""
        if self.wanted is None:
            return self._take([Feed(record, False)])
        if len(self._waiting) < self._limit:
            self._waiting.append(Feed(record, False))
            return []
        self.overflows += 1
        if self._bronze:
            return []  # its number is missing now, and will be asked for
        self._waiting.append(Feed(record, False))
        return self.give_up()

    def answer(self, ok: bool, records: Iterable[Fact], *, more: bool = False) -> list[Feed]:
        """Take the collector's answer; return what may be fed now. Another question may follow.

        Args:
            ok: it had all that was asked for.
            records: what it had, by capture time.
            more: the answer was cut at its size limit.
        """
        ask = self.wanted
        if not isinstance(ask, Ask):
            return []
        if not ok and self._has_tail():
            self.wanted = self._tail()
            return []
        if self._resuming:
            return self._caught_up(ask, records, more=more)
        head = self._waiting[0].record
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
            again = progress and (ok or more)
            if not again and not ok and not self._exact and not replayed:
                # a collector that answers all or nothing: at least the hole itself
                again = self._exact = True
            if again:
                self.wanted = self._ask(head)
                return fed
            if self._expected(head) < head.seq:
                return fed + self.unanswered()
        after = [item for item in replayed if item.record.ts_recv > head.ts_recv]
        return fed + self._resume(list(merge(self._waiting, after, key=_ts_recv)))

    def _caught_up(self, ask: Ask, records: Iterable[Fact], *, more: bool) -> list[Feed]:
        """Feed all that a collector has: one moment's answer, over all channels."""
        fed: list[Feed] = []
        before = dict(self._position)
        for record in records:
            if record.session_id == ask.session_id:
                self._pass(Feed(record, True), fed)
        if more and before != self._position:
            self.wanted = self._ask_all()
            return fed
        return fed + self._resume(self._waiting)

    def tail(self, records: Iterable[Fact] | None, *, more: bool = False) -> list[Feed]:
        """Take what was stored; return what may be fed now.

        Args:
            records: in the order to be fed; None: it could not be read, as far as it was not given before.
            more: further ones follow.
        """
        if not isinstance(self.wanted, Tail):
            return []
        fed: list[Feed] = []
        for record in records or ():
            self._pass(Feed(record, True), fed)
        if more:
            return fed
        self._tailed = True
        if self._resuming or not self._waiting:
            return fed + self._resume(self._waiting)
        head = self._waiting[0].record
        self._read = head.session_id
        if records is not None:
            self._opened = head.session_id  # of the other channels, too, nothing is left before it
            if channel_of(head) not in self._position:  # it was missing before we began, and not since
                self._position[channel_of(head)] = (head.session_id, head.seq - 1)
        elif self._opens(head) or self._expected(head) < head.seq:
            self._opened = head.session_id
            self.wanted = self._ask(head)
            return fed
        self.wanted = None
        return fed + self._given_up()

    def unanswered(self) -> list[Feed]:
        """No answer came in time: ask what is stored, if that was not done, or go on with a gap."""
        if isinstance(self.wanted, Tail):
            return self.tail(None)
        if self.wanted is not None and self._has_tail():
            self.wanted = self._tail()
            return []
        return self.give_up()

    def give_up(self) -> list[Feed]:
        """Nobody knows more: go on with a gap; return what may be fed now."""
        if self.wanted is None:
            return []
        return self._given_up()

    def _given_up(self) -> list[Feed]:
        if self._waiting and not self._resuming:
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
        self._resuming = self._tailed = False
        return self._take(items)

    def _take(self, items: list[Feed]) -> list[Feed]:
        fed: list[Feed] = []
        for index, item in enumerate(items):
            record = item.record
            if self._bronze and self._leaves(record):
                # the last records of the session before may never have been published
                self._waiting = items[index:]
                self.wanted = self._tail()
                break
            if self._opens(record) or self._expected(record) < record.seq:
                self._opened = record.session_id
                self._waiting = items[index:]
                self.wanted = self._ask(record)
                break
            self._pass(item, fed)
        return fed

    def _leaves(self, record: Fact) -> bool:
        """Return whether this record begins another session, and the end of the one before was not read."""
        return self._session not in ("", record.session_id) and record.session_id != self._read

    def _has_tail(self) -> bool:
        return self._bronze and not self._tailed and self._session != ""

    def _tail(self) -> Tail:
        if self._resuming:
            return Tail(self._session, self._last_ts)
        head = self._waiting[0].record
        return Tail(self._session, self._last_ts, head.session_id, head.ts_recv)

    def _opens(self, record: Fact) -> bool:
        """Return whether this is the first record of a session; other channels may have earlier ones."""
        return record.session_id != self._opened and len(self._channels) > 1

    def _expected(self, record: Fact) -> int:
        return self._next(channel_of(record), record.session_id)

    def _next(self, channel: str, session_id: str) -> int:
        session, seq = self._position.get(channel, ("", 0))
        return seq + 1 if session == session_id else 1

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

    def _ask_all(self) -> Ask:
        session = self._session
        return Ask(session, {channel: (self._next(channel, session), NEWEST) for channel in self._channels})

    def _ask(self, head: Fact) -> Ask:
        revealed = channel_of(head)
        expected = self._expected(head)
        ranges = {revealed: (expected, head.seq - 1)} if expected < head.seq else {}
        if not self._exact:
            for channel in self._channels:
                if channel != revealed:
                    ranges[channel] = (self._next(channel, head.session_id), NEWEST)
        return Ask(head.session_id, ranges)
