"""Which trades are stored already. A trade comes once, however often an exchange tells it. Pure.

With ids (nearly all exchanges): a set, not a maximum, because ids need not rise. Numbers are kept as ranges,
which costs a comparison where they are contiguous; other ids as the last 20,000.

Without ids equal trades are legal, so nothing live is ever dropped. Only where trades are told again
(BACKFILLED: a snapshot of recent ones, an answer to a request) the n-th of equal trades there is the n-th of
those that were stored.

The memory outlives its process twice: in the spool, which has the last rows themselves, and in a small file
that is written at stop and every minute, which outlives the spool at a reboot. What is not in it may be up
to a minute of trades that were stored. A trade told again whose own time is before the last one stored is
then taken to be stored: perhaps one too few inside the gap row of the restart, never one twice. So is one
of the time before the file's oldest ids, of which it keeps only some; and one that has no time at all.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from itertools import islice

import msgspec

from daedalus.actors.times import is_believable
from daedalus.exchanges.adapter import TradeFact
from daedalus.records import Flag, Trade

__all__ = ["Remembered", "TradeIds", "TradeMemory"]

_IDS = 20_000  # of each symbol, if they are no numbers: further back than any snapshot of recent trades
_RANGES = 20_000
_RANGES_SPARE = 2_000
_SAVED_RANGES = 200
_SAVED_IDS = 500
_DIGITS_MAX = 18  # what fits in 64 bits
_JUMP_MAX = 10_000_000  # further ahead, one id alone is no progress
_UNTIMED = 2**63 - 1  # the exchange time of a trade that has none: not before anything
_ANONYMOUS = 2_000  # trades without an id
_SURE_AFTER = 50  # contiguous ids in a row of trades before they are believed to be
_JUMPS_PCT = 5

_BACKFILLED = int(Flag.BACKFILLED)  # plain: an IntFlag costs 0.5 µs

_Same = tuple[int | None, float, float, str | None]


class Remembered(msgspec.Struct, forbid_unknown_fields=True):
    """The memory of one symbol, as it is saved."""

    until: int  # ns UTC: every trade that was stored before is in it
    lag_ns: int = 0  # the lowest capture time minus exchange time seen, at most 0
    last: str | None = None
    ranges: list[tuple[int, int]] = []
    others: list[str] = []
    since: int | None = None  # ns UTC, exchange time: ids up to then may be missing; None: none is
    last_ts: int | None = None  # ns UTC, exchange time of the last live trade; None: of an earlier version


class TradeIds:
    """The trades of one symbol."""

    def __init__(self) -> None:
        """Begin without a trade."""
        self.last: str | None = None  # of the last live trade: what came after it may be asked for
        self.last_ts: int | None = None  # ns UTC, see Remembered; by whom REST is asked from a time on
        self.until = 0  # ns UTC, see Remembered
        self.since: int | None = None  # ns UTC, see Remembered: of what was restored
        self.horizon: int | None = None  # ns UTC: what happened before and is told again, is stored
        self.lag_ns = 0
        self.duplicates = 0
        self.presumed = 0  # of the duplicates: by their time alone
        self.taken = 0  # ids that were new
        self.outliers = 0  # live ids far ahead that the next one did not confirm
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._times: list[int] = []  # of each range the newest exchange time, ns UTC
        self._others: dict[str, int] = {}  # -> exchange time, ns UTC
        self._dropped: int | None = None  # the newest exchange time, ns UTC, of what was forgotten
        self._number: int | None = None  # of last
        self._far_ahead = False  # the id that came after it
        self._anonymous: deque[_Same] = deque(maxlen=_ANONYMOUS)
        self._told: Counter[_Same] = Counter()  # trades without an id that are being told again
        self._steps = self._jumps = 0

    def is_new(self, fact: TradeFact) -> bool:
        """Return whether a trade comes for the first time, and remember it."""
        trade_id = fact.trade_id
        if fact.flags & _BACKFILLED:
            if self.horizon is not None and (fact.ts_event is None or fact.ts_event <= self.horizon):
                new = False
                self.presumed += 1
            else:
                new = (
                    self._told_again(fact)
                    if trade_id is None
                    else self.remember(trade_id, fact.ts_event, live=False)
                )
        elif trade_id is None:
            self._anonymous.append(_same(fact))
            self._told.clear()
            return True
        else:
            new = self.remember(trade_id, fact.ts_event)
        if not new:
            self.duplicates += 1
        return new

    def _told_again(self, fact: TradeFact) -> bool:
        same = _same(fact)
        self._told[same] += 1
        if self._told[same] <= self._anonymous.count(same):
            return False
        self._anonymous.append(same)
        return True

    def remember(self, trade_id: str, ts_event: int | None = None, *, live: bool = True) -> bool:
        """Take an id, its exchange time (ns UTC), and whether it came live; return whether it is new."""
        ts = _UNTIMED if ts_event is None else ts_event
        if len(trade_id) > _DIGITS_MAX or not trade_id.isdecimal():
            return self._remember_other(trade_id, ts, live=live)
        number = int(trade_id)
        highs, times = self._highs, self._times
        if not highs or number > highs[-1] + 1:
            self._jumps += 1
            self._insert(len(highs), number, ts)
        elif number == highs[-1] + 1:
            self._steps += 1
            highs[-1] = number
            times[-1] = max(times[-1], ts)
        elif not self._remember_late(number, ts):
            return False
        self.taken += 1
        if live or self.last is None:
            self._advance(trade_id, number)
        return True

    def _advance(self, trade_id: str, number: int) -> None:
        """Take the id of a live trade as the last one, unless it is far ahead, and the first that is."""
        if self._number is not None:
            far = number - self._number > _JUMP_MAX
            if far and not self._far_ahead:
                self._far_ahead = True
                return
            if self._far_ahead and not far:
                self.outliers += 1
        self._far_ahead = False
        self.last, self._number = trade_id, number

    def _remember_late(self, number: int, ts: int) -> bool:
        lows, highs, times = self._lows, self._highs, self._times
        at = bisect_left(highs, number)  # the first range that does not end before it
        if lows[at] <= number:
            return False
        below = at > 0 and highs[at - 1] == number - 1
        above = lows[at] == number + 1
        if lows[at] - number > _JUMP_MAX:  # not late: the ranges from here on are far ahead of all others
            self._steps += below
            self._jumps += not below
        if below and above:
            highs[at - 1] = highs[at]
            times[at - 1] = max(times[at - 1], times[at], ts)
            del lows[at], highs[at], times[at]
        elif below:
            highs[at - 1] = number
            times[at - 1] = max(times[at - 1], ts)
        elif above:
            lows[at] = number
            times[at] = max(times[at], ts)
        else:
            self._insert(at, number, ts)
        return True

    def _insert(self, at: int, number: int, ts: int) -> None:
        self._lows.insert(at, number)
        self._highs.insert(at, number)
        self._times.insert(at, ts)
        if len(self._highs) > _RANGES + _RANGES_SPARE:
            self._drop(max(self._times[:_RANGES_SPARE]))
            del self._lows[:_RANGES_SPARE], self._highs[:_RANGES_SPARE], self._times[:_RANGES_SPARE]

    def _drop(self, ts: int) -> None:
        self._dropped = ts if self._dropped is None else max(self._dropped, ts)

    def _remember_other(self, trade_id: str, ts: int, *, live: bool) -> bool:
        others = self._others
        if trade_id in others:
            return False
        others[trade_id] = ts
        if len(others) > _IDS:
            self._drop(others.pop(next(iter(others))))
        self.taken += 1
        if live or self.last is None:
            self.last, self._number, self._far_ahead = trade_id, None, False
        return True

    def note_lag(self, lags_ns: Iterable[int]) -> None:
        """Take capture times minus exchange times, ns."""
        self.lag_ns = min(self.lag_ns, min(lags_ns, default=0))

    def note_time(self, ts_event: int) -> None:
        """Take the believable exchange time, ns UTC, of a live trade."""
        if self.last_ts is None or ts_event > self.last_ts:
            self.last_ts = ts_event

    def remember_row(self, row: Trade) -> None:
        """Take a trade that an earlier process stored."""
        at = row.ts_event
        if (
            at is not None
            and not row.flags & _BACKFILLED
            and is_believable(at, row.ts_recv, clock_ok=row.clock_ok)
        ):
            self.note_time(at)
        if row.trade_id is not None:
            self.remember(row.trade_id, row.ts_event, live=not row.flags & _BACKFILLED)
        else:
            self._anonymous.append((row.ts_event, row.price, row.amount, row.side))
        self.until = max(self.until, row.ts_recv)

    def hole_before(self, fact: TradeFact) -> int | None:
        """Return how many trades are missing before one that comes next; None: nobody can tell."""
        trade_id = fact.trade_id
        if fact.flags & _BACKFILLED or trade_id is None or not self.contiguous:
            return None
        if len(trade_id) > _DIGITS_MAX or not trade_id.isdecimal():
            return None
        number = int(trade_id)
        at = bisect_left(self._highs, number)
        if at == 0 or (at < len(self._highs) and self._lows[at] - number <= _JUMP_MAX):
            return None  # late, or told twice
        missing = number - self._highs[at - 1] - 1
        return missing if missing < _JUMP_MAX else None

    @property
    def contiguous(self) -> bool:
        """Whether the ids of this symbol have been counting up by one, but for holes."""
        return self._steps >= _SURE_AFTER and self._jumps * 100 <= self._steps * _JUMPS_PCT

    @property
    def missing(self) -> int | None:
        """How many numbers are missing between the trades that are remembered; None: nobody can tell."""
        if not self.contiguous:
            return None
        spans = zip(self._highs[:-1], self._lows[1:], strict=True)
        return sum(low - high - 1 for high, low in spans if low - high <= _JUMP_MAX)

    def saved(self, until: int) -> Remembered:
        """Return what is to be saved; `until`: capture time, ns, now that every trade is in."""
        first = -_SAVED_RANGES
        ranges = list(zip(self._lows[first:], self._highs[first:], strict=True))
        left_out = max(len(self._others) - _SAVED_IDS, 0)
        times = [*self._times[:first], *islice(self._others.values(), left_out)]
        if self._dropped is not None:
            times.append(self._dropped)
        if self.last is None and self.last_ts is not None:  # no ids, so none is saved: all were stored
            times.append(self.last_ts)
        since = min(max(times), until - self.lag_ns) if times else None
        others = list(islice(self._others, left_out, None))
        return Remembered(until, self.lag_ns, self.last, ranges, others, since, self.last_ts)

    def restore(self, saved: Remembered) -> None:
        """Take what an earlier process saved. Called before anything else."""
        ordered = all(low <= high for low, high in saved.ranges) and all(
            before[1] < after[0] for before, after in zip(saved.ranges, saved.ranges[1:], strict=False)
        )
        if ordered:
            self._lows = [low for low, _ in saved.ranges]
            self._highs = [high for _, high in saved.ranges]
        self.last, self.until, self.lag_ns = saved.last, saved.until, min(saved.lag_ns, 0)
        self.last_ts = saved.last_ts
        latest = self.until - self.lag_ns  # when each of its trades happened is not in it: not after this
        self._times = [latest] * len(self._highs)
        self._others = dict.fromkeys(saved.others, latest)
        if saved.last is not None and len(saved.last) <= _DIGITS_MAX and saved.last.isdecimal():
            self._number = int(saved.last)
        full = len(saved.ranges) >= _SAVED_RANGES or len(saved.others) >= _SAVED_IDS
        self.since = latest if full and saved.since is None else saved.since  # None: of an earlier version
        self._dropped = self.since


def _same(fact: TradeFact) -> _Same:
    return fact.ts_event, fact.price, fact.amount, fact.side


class TradeMemory:
    """The trades of all symbols of one exchange."""

    def __init__(self, symbols: Mapping[str, str]) -> None:
        """Begin empty.

        Args:
            symbols: as configured -> its name in records.
        """
        self.of = {symbol: TradeIds() for symbol in symbols}
        self._stored = {name: self.of[symbol] for symbol, name in symbols.items()}

    def remember(self, rows: Iterable[Trade]) -> None:
        """Take rows that earlier processes stored, in their order."""
        for row in rows:
            ids = self._stored.get(row.symbol)
            if ids is not None:
                ids.remember_row(row)

    def remember_until(self, name: str, until: int) -> None:
        """Note that what was stored of a symbol up to `until`, ns, has been remembered."""
        ids = self._stored.get(name)
        if ids is not None:
            ids.until = max(ids.until, until)

    def doubt(self, started_at: int, seeded: Iterable[str]) -> None:
        """Presume, until the writer has said what is stored, that all of it is.

        Args:
            started_at: capture time, ns, of the start of this process.
            seeded: names of the symbols whose last rows were still in the spool: nothing is to be doubted.
        """
        sure = set(seeded)
        for name, ids in self._stored.items():
            if ids.until and name not in sure:
                ids.horizon = started_at

    def told(self, stored_until: Mapping[str, int]) -> None:
        """Take the capture time, ns, of the last row that is stored of each symbol (names).

        What is told again is from then on presumed to be stored if it happened before that row and the file
        is older than it; else if it happened when there are trades whose ids the file has left out; and in
        both cases if nobody says when it happened. Never is one stored twice.
        """
        for name, ids in self._stored.items():
            at = stored_until.get(name)
            ids.horizon = at - ids.lag_ns if at is not None and at > ids.until else ids.since

    def encode(self, until: int) -> bytes:
        """Return the content of the file."""
        known = {symbol: ids for symbol, ids in self.of.items() if ids.last or ids.last_ts is not None}
        return msgspec.json.encode({symbol: ids.saved(until) for symbol, ids in known.items()})

    def decode(self, content: bytes) -> None:
        """Take the content of the file.

        Raises:
            msgspec.DecodeError: it is not what `encode` writes.
        """
        for symbol, saved in msgspec.json.decode(content, type=dict[str, Remembered]).items():
            if symbol in self.of:
                self.of[symbol].restore(saved)
