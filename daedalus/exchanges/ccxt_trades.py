"""What is known of the trades of one symbol: what came last, what is missing, what is told twice. Pure.

Ids decide wherever there are ids: which of them are double is the collector's affair. An exchange without
ids repeats old trades in its snapshots and its REST answers; there a trade counts as told before if the same
time, price, amount and side came as often already. Live trades are never doubted: equal ones are legal.

A time further ahead than clocks differ is none: it would hide every trade until it has come.
"""

import time
from collections import Counter, deque
from collections.abc import Callable

from daedalus.exchanges.adapter import TradeFact
from daedalus.exchanges.tradeholes import Hole, Request, TradeHoles
from daedalus.records import Flag

__all__ = ["CONTIGUOUS", "TradeMemory"]

CONTIGUOUS = {"binance", "binanceus", "binanceusdm", "binancecoinm"}
"""Exchanges whose trade ids are contiguous per symbol."""

_REMEMBERED = 2000  # trades without an id: more than any snapshot of recent ones
_AHEAD_NS = 60_000_000_000  # of the capture time: our clock may be behind the exchange's
_LATE_MAX = 10_000_000  # a live id that is lower by more is not late: the one before was far ahead
_Key = tuple[int | None, float, float, str | None]


class TradeMemory:
    """The trades of one symbol."""

    def __init__(self, *, contiguous: bool = False, wall_ns: Callable[[], int] = time.time_ns) -> None:
        """Begin without a trade.

        Args:
            contiguous: a number that is missing is a trade that is missing.
            wall_ns: the wall clock, ns UTC.
        """
        self.last_id: str | None = None
        self.last_ts: int | None = None  # ns UTC, the exchange's time
        self.holes = TradeHoles()
        self.lost_after: tuple[str | None, int | None] | None = None  # last id and time before a gap
        self.first_live: int | None = None  # id of the first live trade of this connection
        self.first_live_ts: int | None = None  # ns UTC, the exchange's time of the first that has one
        self._contiguous = contiguous
        self._wall_ns = wall_ns
        self._keys: deque[_Key] = deque()
        self._counts: Counter[_Key] = Counter()

    def reconnected(self) -> None:
        """Forget which id must come next: the connection is another one. Note where its gap began."""
        self.holes.clear()
        self.first_live = self.first_live_ts = None
        if self.lost_after is None:
            self.lost_after = (self.last_id, self.last_ts)

    def seen(self, fact: TradeFact) -> Hole | None:
        """Note a trade; return the hole in front of it, if a live one leaves a hole."""
        live = not fact.flags & Flag.BACKFILLED
        ts_event = self._credible(fact.ts_event)
        if ts_event is not None and (self.last_ts is None or ts_event >= self.last_ts):
            self.last_ts, self.last_id = ts_event, fact.trade_id
        elif self.last_ts is None or (live and self._follows(fact.trade_id)):
            self.last_id = fact.trade_id
        if live and self.first_live_ts is None:
            self.first_live_ts = ts_event
        if fact.trade_id is None:
            self._remember(_key(fact))
            return None
        if not live or not self._contiguous:
            return None
        if self.first_live is None and fact.trade_id.isdecimal():
            self.first_live = int(fact.trade_id)
        return self.holes.seen(fact.symbol, fact.trade_id)

    def caught_up(self, symbol: str, newest: str | None) -> Hole | None:
        """Take the newest trade that REST knew after a gap: from the next one on, all must come live.

        Returns the hole between it and the first trade that came live, if one did and there is a hole.
        """
        if not self._contiguous or newest is None or not newest.isdecimal():
            return None
        if self.first_live is None:
            return self.holes.seen(symbol, newest)
        return Hole(int(newest), self.first_live) if int(newest) + 1 < self.first_live else None

    def unseen(self, facts: list[TradeFact]) -> list[TradeFact]:
        """Return those of a batch that did not happen live which were not told before."""
        if all(fact.trade_id is not None for fact in facts):
            return facts
        told: Counter[_Key] = Counter()
        out = []
        for fact in facts:
            if fact.trade_id is None:
                key = _key(fact)
                told[key] += 1
                if told[key] <= self._counts[key]:
                    continue
            out.append(fact)
        return out

    def judged(self, symbol: str, after: int, before: int, found: int) -> None:
        """Take how many trades REST has between two ids: none, several times, and nothing is a hole."""
        self.holes.judged(Request(symbol, after, before, 1), str(after), found)

    def newer(self, fact: TradeFact) -> bool:
        """Return whether a trade is one that happened after the last one known."""
        if self.last_id is not None and fact.trade_id is not None:
            last, this = self.last_id, fact.trade_id
            if last.isdecimal() and this.isdecimal():
                return int(this) > int(last)
            if last == this:
                return False
        if self.last_ts is None:
            return True
        ts_event = self._credible(fact.ts_event)
        return ts_event is not None and ts_event > self.last_ts

    def _credible(self, ts_event: int | None) -> int | None:
        """Return the exchange's time, if it can be."""
        if ts_event is None or ts_event > self._wall_ns() + _AHEAD_NS:
            return None
        return ts_event

    def _follows(self, trade_id: str | None) -> bool:
        """Return whether the id of a live trade is a later one than the last, which was no outlier."""
        last = self.last_id
        if trade_id is None or last is None or not (trade_id.isdecimal() and last.isdecimal()):
            return False
        return not 0 <= int(last) - int(trade_id) <= _LATE_MAX

    def _remember(self, key: _Key) -> None:
        self._keys.append(key)
        self._counts[key] += 1
        if len(self._keys) > _REMEMBERED:
            old = self._keys.popleft()
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]


def _key(fact: TradeFact) -> _Key:
    return (fact.ts_event, fact.price, fact.amount, fact.side)
