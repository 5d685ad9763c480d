"""The self-test of the sides: does the taker's side agree with the quotes that were there before the trade?

Pure. The table of `exchanges.sides` is written from documents and hearsay; this compares it with the market,
all the time, and says so once per symbol when it looks wrong.

Which quotes were there before? Not the newest: exchanges send what a trade did to the quotes before, or
together with, the trade. On recordings of Binance spot the newest quotes agree with 0.50 to 0.53 of the
trades, those of 10 ms before with 0.79 to 0.93, those of 100 ms before with 0.95 to 0.98.
"""

from collections import deque
from struct import Struct

from daedalus.exchanges.adapter import BookFact, Fact, TickerFact, TradeFact
from daedalus.exchanges.sides import SideCheck
from daedalus.records import Flag

__all__ = ["SideWatch"]

_BEFORE_NS = 100_000_000
_QUOTES = 1024  # of one symbol in 100 ms
_BACKFILLED = int(Flag.BACKFILLED)
_best = Struct("<d").unpack_from


class SideWatch:
    """One check per symbol, against the book or ticker of 100 ms before."""

    def __init__(self) -> None:
        """Begin without quotes."""
        # (capture time, quotes): the first is the newest that is old enough, once there is one
        self._quotes: dict[str, deque[tuple[int, BookFact | TickerFact]]] = {}
        self._checks: dict[str, SideCheck] = {}
        self._told: set[str] = set()

    def see(self, fact: Fact, at: int) -> None:
        """Take a fact, in capture order. `at`: its capture time, ns."""
        kind = type(fact)
        if kind is BookFact or kind is TickerFact:
            quotes = self._quotes.get(fact.symbol)
            if quotes is None:
                quotes = self._quotes[fact.symbol] = deque(maxlen=_QUOTES)
            while len(quotes) > 1 and quotes[1][0] <= at - _BEFORE_NS:
                quotes.popleft()
            quotes.append((at, fact))  # type: ignore[arg-type]
        elif kind is TradeFact and not fact.flags & _BACKFILLED:
            self._compare(fact, at)  # type: ignore[arg-type]

    def _compare(self, fact: TradeFact, at: int) -> None:
        quotes = self._quotes.get(fact.symbol)
        if quotes is None:
            return  # nothing of this symbol is quoted: other symbols' quotes say nothing of it
        while len(quotes) > 1 and quotes[1][0] <= at - _BEFORE_NS:
            quotes.popleft()
        if quotes[0][0] > at - _BEFORE_NS:
            return
        bid, ask = _best_of(quotes[0][1])
        if bid is not None and ask is not None:
            check = self._checks.get(fact.symbol)
            if check is None:
                check = self._checks[fact.symbol] = SideCheck()
            check.update(fact.side, fact.price, bid, ask)

    def suspects(self) -> list[tuple[str, float]]:
        """Return (symbol, agreement) of those whose sides look wrong, each once."""
        found = []
        for symbol, check in self._checks.items():
            agreement = check.agreement
            if agreement is not None and check.suspicious and symbol not in self._told:
                self._told.add(symbol)
                found.append((symbol, agreement))
        return found

    def lowest(self) -> float | None:
        """Return the lowest agreement of all symbols, None before it is known of any."""
        known = [check.agreement for check in self._checks.values() if check.agreement is not None]
        return round(min(known), 4) if known else None


def _best_of(quotes: BookFact | TickerFact) -> tuple[float | None, float | None]:
    if isinstance(quotes, TickerFact):
        return quotes.bid, quotes.ask
    if not quotes.bids or not quotes.asks:
        return None, None
    return _best(quotes.bids)[0], _best(quotes.asks)[0]
