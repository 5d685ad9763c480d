"""A long absence is paged through since the time of the last trade, in bounds; what is left out is said."""

from typing import Any

import pytest

from daedalus.exchanges.ccxt_backfill import Span, missed_trades
from daedalus.exchanges.ccxt_facts import Translator
from daedalus.exchanges.ccxt_results import Results
from daedalus.records import Flag
from tests.exchanges.ccxt_kit import Desk, with_desk
from tests.exchanges.test_ccxt_backfill import TRADES, fact, in_force, rest_trade

_MS = 1_000_000
KRAKEN_SUBSCRIBED = {
    "method": "subscribe",
    "result": {"channel": "trade", "snapshot": True, "symbol": "BTC/USDT"},
    "success": True,
    "req_id": 1,
}


class History:
    """An exchange that pages forward from a time, five trades at once."""

    def __init__(self, *trades: dict[str, Any], page: int = 5) -> None:
        self.trades = list(trades)
        self.page = page
        self.asked: list[int | None] = []

    def __call__(self, _symbol: str, since: int | None, _limit: Any, _params: Any) -> Any:
        self.asked.append(since)
        if since is None:
            return self.trades[-self.page :]
        return [trade for trade in self.trades if trade["timestamp"] >= since][: self.page]


@pytest.mark.parametrize("name", ["1", None])
def test_after_a_restart_a_long_absence_is_paged_through_from_the_time_of_the_last_trade(
    name: str | None,
) -> None:
    async def work(desk: Desk) -> None:
        every = [rest_trade(n if name else None, 1_000 + n) for n in range(1, 24)]
        history = History(*every)
        desk.answer(fetch_trades=history)
        if name is not None:
            desk.sink.last["BTC/USDT"] = name
        desk.sink.last_at["BTC/USDT"] = 1_001 * _MS + 700_000
        await desk.start()
        await desk.say(desk.line, KRAKEN_SUBSCRIBED)
        await desk.until(lambda: desk.shell.backfilled)
        assert history.asked[0] == 1_001
        assert history.asked == sorted(history.asked)  # type: ignore[type-var]
        facts = desk.sink.trades
        first = 1 if name is None else 2  # without an id the collector decides by the time
        assert [fact.ts_event // _MS for fact in facts] == [1_000 + n for n in range(first, 24)]
        assert {fact.flags for fact in facts} == {Flag.BACKFILLED}
        assert desk.sink.left_out == []

    with_desk("kraken", {"trades": ["BTC/USDT"]}, backfill=True)(work)


def test_without_the_time_of_the_last_trade_there_is_one_page_as_ever() -> None:
    async def work(desk: Desk) -> None:
        history = History(*(rest_trade(n, 1_000 + n) for n in range(1, 24)))
        desk.answer(fetch_trades=history)
        desk.sink.last["BTC/USDT"] = "1"
        await desk.start()
        await desk.say(desk.line, KRAKEN_SUBSCRIBED)
        await desk.until(lambda: desk.shell.backfilled)
        assert history.asked == [None]
        assert [trade.trade_id for trade in desk.sink.trades] == ["19", "20", "21", "22", "23"]

    with_desk("kraken", {"trades": ["BTC/USDT"]}, backfill=True)(work)


def test_an_absence_longer_than_the_pages_is_told_as_far_as_it_was_not_filled() -> None:
    async def work(desk: Desk) -> None:
        history = History(*(rest_trade(n, 1_000 + n) for n in range(1, 1_000)))
        desk.answer(fetch_trades=history)
        desk.sink.last["BTC/USDT"], desk.sink.last_at["BTC/USDT"] = "1", 1_001 * _MS
        await desk.start()
        await desk.say(desk.line, KRAKEN_SUBSCRIBED)
        await desk.until(lambda: desk.sink.left_out)
        assert len(history.asked) == 3
        assert [trade.trade_id for trade in desk.sink.trades] == [str(n) for n in range(2, 14)]
        detail = "cannot fill in all trades after 1: 3 pages were not enough"
        assert desk.sink.left_out == [(TRADES, 1_013 * _MS, None, detail)]

    with_desk("kraken", {"trades": ["BTC/USDT"]}, backfill=True, backfill_pages=3)(work)


def test_pages_are_bounded_in_time_and_end_at_the_first_live_trade() -> None:
    async def work(desk: Desk) -> None:
        history = History(*(rest_trade(n, 1_000 + n) for n in range(1, 1_000)))
        desk.answer(fetch_trades=history)
        desk.exchange.set_markets(desk.markets)
        results = Results("kraken", Translator(levels=1, side="taker"), {"BTC/USDT": "BTC/USDT"})
        ask = (desk.exchange, results, "BTC/USDT", "BTC/USDT", Span("1", 1_001 * _MS), 50)
        missed = await missed_trades(*ask, budget_s=0.0)
        assert len(history.asked) == 1
        assert missed.cut == (1_005 * _MS, None, "1 page was not enough")
        history.asked.clear()
        results.memory("BTC/USDT").seen(fact(16, 1_016))  # what is later came live
        missed = await missed_trades(*ask)
        assert (len(history.asked), missed.cut) == (4, None)
        assert [fact.trade_id for fact in missed.trades] == [str(n) for n in range(2, 18)]

    with_desk("kraken", {"trades": ["BTC/USDT"]})(work)


def test_what_binance_tells_no_more_without_a_key_is_said() -> None:
    async def work(desk: Desk) -> None:
        desk.answer(fetch_trades=[rest_trade(n, 1_000 + n) for n in range(50, 60)])
        desk.sink.last["BTC/USDT"], desk.sink.last_at["BTC/USDT"] = "6", 1_006 * _MS
        await desk.start()
        await in_force(desk)
        await desk.until(lambda: desk.sink.left_out)
        ((stream, since, until, detail),) = desk.sink.left_out
        assert (stream, since, until) == (TRADES, 1_006 * _MS, 1_050 * _MS)
        assert detail == "cannot fill in all trades after 6: the exchange tells its newest 10 only"

    with_desk("binance", {"trades": ["BTC/USDT"]}, backfill=True)(work)
