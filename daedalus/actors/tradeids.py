"""Which trades are stored already. A trade comes once, however often an exchange tells it. Pure.

With ids (nearly all exchanges): a set, not a maximum, because ids need not rise. Numbers are kept as ranges,
which costs a comparison where they are contiguous; other ids as the last 20,000.

Without ids equal trades are legal, so nothing live is ever dropped. Only where trades are told again
(BACKFILLED: a snapshot of recent ones, an answer to a request) the n-th of equal trades there is the n-th of
those that were stored.

The memory outlives its process twice: in the spool, which has the last rows themselves, and in a small file
that is written at stop and every minute, which outlives the spool at a reboot. What is not in it may be up
to a minute of trades that were stored. A trade told again whose own time is before the last one stored is
then taken to be stored: perhaps one too few inside the gap row of the restart, never one twice.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping

import msgspec

from daedalus.exchanges.adapter import TradeFact
from daedalus.records import Flag, Trade

__all__ = ["Remembered", "TradeIds", "TradeMemory"]

_IDS = 20_000  # of each symbol, if they are no numbers: further back than any snapshot of recent trades
_RANGES = 20_000
_RANGES_SPARE = 2_000
_SAVED_RANGES = 200
_SAVED_IDS = 500
_DIGITS_MAX = 18  # what fits in 64 bits
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


class TradeIds:
    """The trades of one symbol."""

    def __init__(self) -> None:
        """Begin without a trade."""
        self.last: str | None = None  # the highest number; of other ids the latest
        self.until = 0  # ns UTC, see Remembered
        self.horizon: int | None = None  # ns UTC: what happened before and is told again, is stored
        self.lag_ns = 0
        self.duplicates = 0
        self.presumed = 0  # of the duplicates: by their time alone
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._others: dict[str, None] = {}
        self._anonymous: deque[_Same] = deque(maxlen=_ANONYMOUS)
        self._told: Counter[_Same] = Counter()  # trades without an id that are being told again
        self._steps = self._jumps = 0

    def is_new(self, fact: TradeFact) -> bool:
        """Return whether a trade comes for the first time, and remember it."""
        trade_id = fact.trade_id
        if fact.flags & _BACKFILLED:
            if self.horizon is not None and fact.ts_event is not None and fact.ts_event <= self.horizon:
                new = False
                self.presumed += 1
            else:
                new = self._told_again(fact) if trade_id is None else self.remember(trade_id)
        elif trade_id is None:
            self._anonymous.append(_same(fact))
            self._told.clear()
            return True
        else:
            new = self.remember(trade_id)
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

    def remember(self, trade_id: str) -> bool:
        """Take an id; return whether it is new."""
        if len(trade_id) > _DIGITS_MAX or not trade_id.isdecimal():
            return self._remember_other(trade_id)
        number = int(trade_id)
        highs = self._highs
        if not highs or number > highs[-1] + 1:
            self._jumps += 1
            self._lows.append(number)
            highs.append(number)
            if len(highs) > _RANGES + _RANGES_SPARE:
                del highs[:_RANGES_SPARE], self._lows[:_RANGES_SPARE]
            self.last = trade_id
            return True
        if number == highs[-1] + 1:
            self._steps += 1
            highs[-1] = number
            self.last = trade_id
            return True
        return self._remember_late(number)

    def _remember_late(self, number: int) -> bool:
        lows, highs = self._lows, self._highs
        at = bisect_left(highs, number)  # the first range that does not end before it
        if lows[at] <= number:
            return False
        below = at > 0 and highs[at - 1] == number - 1
        above = lows[at] == number + 1
        if below and above:
            highs[at - 1] = highs[at]
            del lows[at], highs[at]
        elif below:
            highs[at - 1] = number
        elif above:
            lows[at] = number
        else:
            lows.insert(at, number)
            highs.insert(at, number)
        return True

    def _remember_other(self, trade_id: str) -> bool:
        others = self._others
        if trade_id in others:
            return False
        others[trade_id] = None
        if len(others) > _IDS:
            del others[next(iter(others))]
        self.last = trade_id
        return True

    def note_lag(self, lags_ns: Iterable[int]) -> None:
        """Take capture times minus exchange times, ns."""
        self.lag_ns = min(self.lag_ns, min(lags_ns, default=0))

    def remember_row(self, row: Trade) -> None:
        """Take a trade that an earlier process stored."""
        if row.trade_id is not None:
            self.remember(row.trade_id)
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
        missing = int(trade_id) - self._highs[-1] - 1
        return missing if missing >= 0 else None

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
        return sum(low - high - 1 for high, low in spans)

    def saved(self, until: int) -> Remembered:
        """Return what is to be saved; `until`: capture time, ns, now that every trade is in."""
        first = -_SAVED_RANGES
        ranges = list(zip(self._lows[first:], self._highs[first:], strict=True))
        return Remembered(until, self.lag_ns, self.last, ranges, list(self._others)[-_SAVED_IDS:])

    def restore(self, saved: Remembered) -> None:
        """Take what an earlier process saved. Called before anything else."""
        ordered = all(low <= high for low, high in saved.ranges) and all(
            before[1] < after[0] for before, after in zip(saved.ranges, saved.ranges[1:], strict=False)
        )
        if ordered:
            self._lows = [low for low, _ in saved.ranges]
            self._highs = [high for _, high in saved.ranges]
        self._others = dict.fromkeys(saved.others)
        self.last, self.until, self.lag_ns = saved.last, saved.until, min(saved.lag_ns, 0)


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
        """Take the capture time, ns, of the last row that is stored of each symbol (names)."""
        for name, ids in self._stored.items():
            at = stored_until.get(name)
            ids.horizon = at - ids.lag_ns if at is not None and at > ids.until else None

    def encode(self, until: int) -> bytes:
        """Return the content of the file."""
        return msgspec.json.encode({symbol: ids.saved(until) for symbol, ids in self.of.items() if ids.last})

    def decode(self, content: bytes) -> None:
        """Take the content of the file.

        Raises:
            msgspec.DecodeError: it is not what `encode` writes.
        """
        for symbol, saved in msgspec.json.decode(content, type=dict[str, Remembered]).items():
            if symbol in self.of:
                self.of[symbol].restore(saved)
