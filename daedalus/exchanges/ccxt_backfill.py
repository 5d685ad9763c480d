"""Trades that were missed, by REST: after a gap, in a hole, and at the start since the last one stored.

Only single trades will do. Binance's default answer is aggregate trades, with other ids and phantom trades:
its method is always named here. With a key it can be asked from an id on; without one it tells the last
thousand. Coinbase tells the newest of a span of time, so its pages go back; elsewhere ccxt's `since` pages
forward, until one has nothing new or is past the first trade that came live. Facts are flagged BACKFILLED;
the collector drops those it has. Pages are bounded in number and in time, and each waits for ccxt's throttle:
what they do not reach stays a hole, and a gap row says so.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from daedalus.exchanges.adapter import TradeFact
from daedalus.exchanges.ccxt_results import Results
from daedalus.records import Flag

__all__ = ["Cut", "Missed", "Span", "missed_trades", "recent_trades"]

# trades in one answer, where it may be asked for: a number that is too large is an error at some exchanges
_PAGES = {"binance": 1000, "coinbase": 1000, "kraken": 1000, "okx": 500}
_HISTORY = 500  # of Binance's history, whose contracts have no longer pages
_AHEAD_MS = 60_000  # our clock may be behind the exchange's
_MS = 1_000_000  # ns
_BUDGET_S = 60.0  # of one search: after it no further page is begun


class Span(NamedTuple):
    """A hole in the trades of a symbol. None: unknown."""

    last_id: str | None  # of the last trade before it
    last_ts: int | None  # ns UTC, the exchange's time of that
    before: int | None = None  # the id of the first trade after it

    def holds(self, fact: TradeFact) -> bool:
        """Return whether a trade lies in the hole, as far as ids tell."""
        number, first = _number(fact.trade_id), _number(self.last_id)
        if number is None:
            return True
        return (first is None or number > first) and (self.before is None or number < self.before)


def _method(exchange: Any, unified: str, *, history: bool) -> dict[str, Any]:
    """Return the parameters that make Binance tell single trades."""
    if not exchange.id.startswith("binance"):
        return {}
    market = exchange.markets[unified]
    prefix = "fapiPublic" if market.get("linear") else "dapiPublic" if market.get("inverse") else "public"
    if market.get("option"):
        return {"fetchTradesMethod": "eapiPublicGetTrades"}
    return {"fetchTradesMethod": f"{prefix}GetHistoricalTrades" if history else f"{prefix}GetTrades"}


async def recent_trades(exchange: Any, unified: str, limit: int) -> list[Mapping[str, Any]]:
    """Return the last trades, oldest first. Raises what ccxt raises."""
    trades: list[Mapping[str, Any]] = await exchange.fetch_trades(
        unified, None, limit, _method(exchange, unified, history=False)
    )
    return trades


class Cut(NamedTuple):
    """A stretch that the pages did not reach, by the exchange's time, ns UTC; until None: the present."""

    since: int | None
    until: int | None
    why: str


class Missed(NamedTuple):
    """What REST has of a hole."""

    trades: list[TradeFact]  # oldest first
    whole: bool  # it reaches from where the hole begins to where it ends
    behind: bool  # it does not know yet what comes after the hole: ask again
    cut: Cut | None = None


async def missed_trades(
    exchange: Any,
    results: Results,
    symbol: str,
    unified: str,
    span: Span,
    pages: int,
    *,
    budget_s: float = _BUDGET_S,
) -> Missed:
    """Return the trades that were missed. Raises what ccxt raises.

    Args:
        exchange: the ccxt instance.
        results: makes facts, knows what was told.
        symbol: as configured.
        unified: ccxt's spelling.
        span: where the hole begins and ends.
        pages: at most.
        budget_s: after so many seconds no further page is begun.
    """
    memory, clock = results.memory(symbol), asyncio.get_running_loop().time
    pager, deadline, cut = _Pager(exchange, unified, span), clock() + budget_s, None
    found: list[TradeFact] = []
    ids: set[str] = set()
    for count in range(1, pages + 1):
        page = await exchange.fetch_trades(unified, pager.since_ms, pager.limit, pager.params)
        facts = results.translator.trades(symbol, page, int(Flag.BACKFILLED))
        fresh = [fact for fact in facts if fact.trade_id is None or fact.trade_id not in ids]
        ids.update(fact.trade_id for fact in fresh if fact.trade_id is not None)
        found += fresh
        if not fresh or not pager.turn(fresh, len(page), memory.first_live_ts):
            break
        if count == pages or clock() >= deadline:
            cut = pager.cut(fresh, memory.first_live_ts, count)
            break
        # the next page begins with the last millisecond once more: what has no id would come twice
        found = [fact for fact in found if fact.trade_id is not None or not pager.repeats(fact)]
    first = _number(span.last_id)
    numbers = [number for trade_id in ids if (number := _number(trade_id)) is not None]
    behind = span.before is not None and max(numbers, default=0) < span.before
    whole = not behind and (pager.by_id or min(numbers, default=0) <= (first or 0))
    if cut is None and span.before is None and pager.single and first is not None:
        cut = _out_of_reach(span, first, numbers, found)
    wanted = [fact for fact in found if span.holds(fact)]
    trades = memory.unseen(sorted(wanted, key=lambda fact: fact.ts_event or 0))
    return Missed(trades, whole, behind, cut)


def _out_of_reach(span: Span, first: int, numbers: list[int], found: list[TradeFact]) -> Cut | None:
    """Return what lies before the newest trades, where the exchange tells of no others."""
    oldest = min(numbers, default=0)
    if oldest <= first + 1:
        return None
    times = [fact.ts_event for fact in found if fact.trade_id == str(oldest)]
    return Cut(span.last_ts, times[0] if times else None, f"the exchange tells its newest {len(found)} only")


class _Pager:
    """What to ask for next."""

    def __init__(self, exchange: Any, unified: str, span: Span) -> None:
        first = _number(span.last_id)
        binance = exchange.id.startswith("binance")
        self._span = span
        self.by_id = binance and first is not None and bool(exchange.apiKey)
        self.since_ms = None if binance or span.last_ts is None else span.last_ts // _MS
        self.params = _method(exchange, unified, history=self.by_id)
        self.limit = next((size for name, size in _PAGES.items() if exchange.id.startswith(name)), None)
        self.single = binance and not self.by_id  # there is only one page
        self._backwards = exchange.id.startswith("coinbase") and self.since_ms is not None
        if self.by_id and first is not None:
            self.limit = _HISTORY
            self.params["fromId"] = first + 1
        if self._backwards:
            self.params["until"] = exchange.milliseconds() + _AHEAD_MS

    def turn(self, fresh: list[TradeFact], length: int, live_ts: int | None) -> bool:
        """Turn to the page after (or before) these trades; return whether there may be one.

        Args:
            fresh: what was new of the page, oldest first.
            length: of the page.
            live_ts: exchange time, ns, of the first trade that came live: what is after it came live, too.
        """
        newest = fresh[-1]
        number = _number(newest.trade_id)
        if self._backwards:
            return self._turn_back(fresh[0], length)
        if number is not None and self._span.before is not None and number >= self._span.before:
            return False
        if self.by_id:
            if number is None or length < _HISTORY:
                return False
            self.params["fromId"] = number + 1
            return True
        if self.since_ms is None or newest.ts_event is None or newest.ts_event // _MS <= self.since_ms:
            return False
        complete = live_ts is not None and newest.ts_event > live_ts
        self.since_ms = newest.ts_event // _MS
        return not complete

    def cut(self, fresh: list[TradeFact], live_ts: int | None, pages: int) -> Cut:
        """Return what is left behind when no page follows these trades."""
        why = f"{pages} page{'s were' if pages > 1 else ' was'} not enough"
        if self._backwards:
            return Cut(self._span.last_ts, fresh[0].ts_event, why)
        return Cut(fresh[-1].ts_event, live_ts, why)

    def _turn_back(self, oldest: TradeFact, length: int) -> bool:
        if oldest.ts_event is None or self.limit is None or length < self.limit:
            return False
        until = oldest.ts_event // _MS + 1000  # whole seconds: the last one is asked for again
        if until >= self.params["until"]:
            return False
        self.params["until"] = until
        return True

    def repeats(self, fact: TradeFact) -> bool:
        """Return whether the next page has a trade again."""
        return (
            self.since_ms is not None and not self._backwards and (fact.ts_event or 0) // _MS >= self.since_ms
        )


def _number(trade_id: str | None) -> int | None:
    return int(trade_id) if trade_id is not None and trade_id.isascii() and trade_id.isdecimal() else None
