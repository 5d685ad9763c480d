"""Kraken's trades that did not arrive: found by their ids, asked for by their time.

REST pages go forward from a time, a thousand trades each. The time of the last trade is remembered; where it
is not (the process is new), the last page tells how fast trades come, and the time is guessed from that.
"""

from collections.abc import Callable

from daedalus.exchanges.adapter import Ask, Fact, Fault, Item, Stream
from daedalus.exchanges.kraken_rest import BUSY, PAGE, Past, RefusalError, trades_of, trades_path
from daedalus.exchanges.tradeholes import Request, TradeHoles

__all__ = ["KrakenPast"]

_PAGES_MAX = 10
_BUSY_S = 5.0  # longer with every page
_US = 1000  # ns: the grain of Kraken's times
_MARGIN = 1.5  # of the guess: too early costs a page, too late loses trades
_SECOND = 1_000_000_000
_APART_NS = 3600 * _SECOND  # further apart, one time alone is not believed


class KrakenPast:
    """The ids of every symbol of one connection, and the pages that were asked for."""

    def __init__(self, fact: Callable[[str, Past], Fact]) -> None:
        """Begin without a trade. `fact` makes the fact of a symbol's trade."""
        self._fact = fact
        self._holes = TradeHoles()
        self._times: dict[str, tuple[int, int]] = {}  # symbol -> id and time, ns, of the last trade
        self._odd: dict[
            str, int
        ] = {}  # symbol -> time, ns, of the last trade where it is far from the others
        self._pages: dict[str, tuple[str, int | None]] = {}  # key -> pair and time, ns

    def clear(self) -> None:
        """Forget the connection, but not when the last trades were."""
        self._holes.clear()
        self._pages.clear()

    def seen(
        self, symbol: str, pair: str, trade_id: int, ts_event: int | None, *, live: bool
    ) -> list[Fault | Ask]:
        """Take a trade in the order of arrival; return the fault and the request if others are missing."""
        before = self._times.get(symbol)
        hole = self._holes.seen(symbol, str(trade_id))
        if ts_event is not None and self._holes.is_last(symbol, trade_id):
            self._times[symbol] = trade_id, self._credible(symbol, ts_event)
        if hole is None or not live:
            return []
        detail = f"trade {hole.before} follows {hole.after}: {hole.missing} missing"
        since = before[1] - _US if before is not None else None
        return [
            Fault((Stream(symbol, "trades"),), "sequence", detail, local=True),
            *self._ask(symbol, pair, hole.after, hole.before, since),
        ]

    def _credible(self, symbol: str, ts_event: int) -> int:
        """Return the time of the last trade, or that of one before if this one alone is far from it.

        A page that begins too early costs pages, one that begins too late loses trades: so the earlier of
        two that contradict one another, until the next trade says who is right.
        """
        before, odd = self._times.get(symbol), self._odd.pop(symbol, None)
        if before is None or abs(ts_event - before[1]) <= _APART_NS:
            return ts_event
        if odd is not None and abs(ts_event - odd) <= _APART_NS:
            return ts_event
        self._odd[symbol] = ts_event
        return min(before[1], ts_event)

    def ask(self, symbol: str, pair: str, last_id: str) -> list[Ask]:
        """Return the request for what came since a trade."""
        known = self._times.get(symbol)
        since = known[1] - _US if known is not None and str(known[0]) == last_id else None
        return self._ask(symbol, pair, last_id, None, since)

    def _ask(
        self,
        symbol: str,
        pair: str,
        after: int | str | None,
        before: int | None,
        since: int | None,
        *,
        page: int = 1,
        delay_s: float = 0.0,
    ) -> list[Ask]:
        key = self._holes.ask(symbol, after, before, page)
        if key is None:
            return []
        self._pages[key] = pair, since
        return [Ask(key, trades_path(pair, since), (Stream(symbol, "trades"),), delay_s=delay_s)]

    def answer(self, key: str, body: bytes) -> list[Item]:
        """Return the trades of an answer, and the request for the next page.

        Raises:
            ValueError: nobody asked, the exchange refuses, or it is no such answer.
        """
        request, asked = self._holes.answered(key), self._pages.pop(key, None)
        if request is None or asked is None:
            raise ValueError("nobody asked")
        pair, since = asked
        try:
            trades = trades_of(body)
        except RefusalError as refusal:
            if request.page == _PAGES_MAX or not str(refusal).startswith(BUSY):
                raise
            return list(self._next(request, pair, since, delay_s=_BUSY_S * request.page))
        found = [past for past in trades if self._holes.wanted(request, str(past.trade_id))]
        items: list[Item] = [self._fact(request.symbol, past) for past in found]
        self._holes.judged(request, str(trades[0].trade_id) if trades else None, len(found))
        if not trades or request.page == _PAGES_MAX:
            return items
        if since is None:
            return items + list(self._earlier(request, pair, trades))
        newest = trades[-1]
        complete = len(trades) < PAGE or (
            request.before is not None and newest.trade_id >= request.before - 1
        )
        if complete or newest.ts_event - _US <= since:
            return items
        return items + list(self._next(request, pair, newest.ts_event - _US))

    def _next(self, request: Request, pair: str, since: int | None, *, delay_s: float = 0.0) -> list[Ask]:
        page = request.page + 1
        return self._ask(
            request.symbol, pair, request.after, request.before, since, page=page, delay_s=delay_s
        )

    def _earlier(self, request: Request, pair: str, trades: list[Past]) -> list[Ask]:
        """Return the request for what the last page did not reach, from a guessed time on."""
        oldest, newest = trades[0], trades[-1]
        if self._holes.reached(request, str(oldest.trade_id)) or request.after is None:
            return []
        missing, span = oldest.trade_id - request.after, newest.ts_event - oldest.ts_event
        since = oldest.ts_event - int(_MARGIN * span * missing / max(len(trades), 1)) - _SECOND
        earlier = request._replace(before=oldest.trade_id)
        return self._next(earlier, pair, max(since, 0))
