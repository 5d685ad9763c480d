"""Trades that were missed come back by REST: single ones, once, flagged; with ids or without."""

import asyncio
from typing import Any

import msgspec
import pytest

from daedalus.exchanges.adapter import Control, Stream, TradeFact
from daedalus.exchanges.ccxt_backfill import Span, missed_trades
from daedalus.exchanges.ccxt_facts import Translator
from daedalus.exchanges.ccxt_results import Results
from daedalus.exchanges.ccxt_trades import TradeMemory
from daedalus.records import Flag
from tests.exchanges.ccxt_kit import Desk, binance_trade, turns, with_desk

TRADES = Stream("BTC/USDT", "trades")
_MS = 1_000_000


def rest_trade(number: int | None, at: int, price: float = 100.0) -> dict[str, Any]:
    """Return a trade as ccxt's fetch_trades has it."""
    name = None if number is None else str(number)
    return {"id": name, "timestamp": at, "symbol": "BTC/USDT", "side": "buy", "price": price, "amount": 1.0}


def fact(number: int | None, at: int, flags: int = 0, price: float = 100.0) -> TradeFact:
    name = None if number is None else str(number)
    more: dict[str, Any] = {"side": "buy", "side_raw": None, "amount": 1.0, "cost": None, "flags": flags}
    return TradeFact(symbol="BTC/USDT", trade_id=name, ts_event=at * _MS, price=price, **more)


def ids(desk: Desk) -> list[tuple[str | None, int]]:
    return [(trade.trade_id, trade.flags) for trade in desk.sink.trades]


async def in_force(desk: Desk) -> Any:
    await desk.until(lambda: desk.line.sent)
    await desk.say(desk.line, {"result": None, "id": desk.line.sent[0]["id"]})
    return desk.line


def test_c07_trades_missed_while_disconnected_are_fetched_once_it_is_back() -> None:
    asked: list[Any] = []

    def fetch(*args: Any) -> Any:
        asked.append(args)
        return [rest_trade(n, 1_000 + n) for n in range(1, 9)]

    async def work(desk: Desk) -> None:
        desk.answer(fetch_trades=fetch)
        await desk.start()
        line = await in_force(desk)
        await desk.say(line, binance_trade(4), binance_trade(5))
        assert asked == []  # nothing was ever stored before: nothing is missing
        line.hang_up()
        await desk.until(lambda: len(desk.lines) == 2)
        line = await in_force(desk)
        await desk.say(line, binance_trade(9))  # live trades do not move what the gap began with
        await desk.until(lambda: desk.shell.backfilled)
        assert asked == [("BTC/USDT", None, 1000, {"fetchTradesMethod": "publicGetTrades"})]
        assert sorted(ids(desk)) == [
            *(("4", 0), ("5", 0)),
            *((number, Flag.BACKFILLED) for number in ("6", "7", "8")),
            ("9", 0),
        ]

    with_desk("binance", {"trades": ["BTC/USDT"]}, backfill=True)(work)


def test_trades_since_the_last_one_stored_are_fetched_at_the_start() -> None:
    async def work(desk: Desk) -> None:
        desk.sink.last["BTC/USDT"] = "6"
        desk.answer(fetch_trades=[rest_trade(n, 1_000 + n) for n in range(1, 9)])
        await desk.start()
        await in_force(desk)
        await desk.until(lambda: desk.shell.backfilled)
        assert ids(desk) == [("7", Flag.BACKFILLED), ("8", Flag.BACKFILLED)]

    with_desk("binance", {"trades": ["BTC/USDT"]}, backfill=True)(work)


@pytest.mark.parametrize(
    ("symbol", "key", "method"),
    [
        ("BTC/USDT", "", "publicGetTrades"),
        ("BTC/USDT", "key", "publicGetHistoricalTrades"),
        ("BTC/USDT:USDT", "", "fapiPublicGetTrades"),
        ("BTC/USDT:USDT", "key", "fapiPublicGetHistoricalTrades"),
    ],
)
def test_binance_is_never_asked_for_aggregate_trades(symbol: str, key: str, method: str) -> None:
    async def work(desk: Desk) -> None:
        asked: list[str] = []
        for name in (
            *("publicGetTrades", "publicGetHistoricalTrades", "publicGetAggTrades"),
            *("fapiPublicGetTrades", "fapiPublicGetHistoricalTrades", "fapiPublicGetAggTrades"),
        ):
            desk.answer(**{name: lambda request, n=name: asked.append(n) or raw(request)})
        desk.exchange.apiKey = key
        desk.sink.last[symbol] = "6"
        await desk.start()
        await in_force(desk)
        await desk.until(lambda: desk.shell.backfilled)
        assert asked == [method]
        assert ids(desk) == [("7", Flag.BACKFILLED)]

    def raw(request: dict[str, Any]) -> list[dict[str, Any]]:
        assert request.get("fromId") == (7 if key else None)
        return [{"id": n, "price": "1", "qty": "1", "time": n, "isBuyerMaker": False} for n in (6, 7)]

    kind = "binance" if ":" not in symbol else "binanceusdm"
    with_desk(kind, {"trades": [symbol]}, backfill=True)(work)


def test_a_hole_in_contiguous_ids_is_a_gap_row_and_is_fetched() -> None:
    async def work(desk: Desk) -> None:
        desk.answer(fetch_trades=[rest_trade(n, 1_000 + n) for n in range(1, 12)])
        await desk.start()
        line = await in_force(desk)
        await desk.say(line, binance_trade(3), binance_trade(4), binance_trade(8))
        ((fault, since),) = desk.sink.faults
        assert (fault.reason, fault.streams, fault.local, since) == ("sequence", (TRADES,), True, None)
        assert fault.detail == "trades 5 to 7 did not come"
        await desk.until(lambda: desk.shell.backfilled)
        assert ids(desk)[-3:] == [(n, Flag.BACKFILLED) for n in ("5", "6", "7")]
        assert len(desk.lines) == 1  # trades need no resynchronisation: the connection stays
        items = [item for _, item in desk.sink.taken]
        eight = next(index for index, item in enumerate(items) if getattr(item, "trade_id", "") == "8")
        assert items[eight - 1] == Control("subscribed", (TRADES,))  # there the gap ends

    with_desk("binance", {"trades": ["BTC/USDT"]}, backfill=True)(work)


@pytest.mark.parametrize("early", [True, False])
def test_trades_lost_between_a_reconnection_and_its_first_live_trade_are_found(early: bool) -> None:
    async def work(desk: Desk) -> None:
        known = [6, 6, 9]  # the newest that REST knows: it is behind at first
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        if not early:
            answer.set_result(None)

        async def fetch(*_: Any) -> Any:
            await answer
            newest = known.pop(0) if len(known) > 1 else known[0]
            return [rest_trade(n, 1_000 + n) for n in range(1, newest + 1)]

        desk.answer(fetch_trades=lambda *_: fetch())
        desk.sink.last["BTC/USDT"] = "4"
        await desk.start()
        line = await in_force(desk)
        if early:  # the first live trade comes before the answer
            await desk.say(line, binance_trade(9))
            answer.set_result(None)
        else:
            await desk.until(lambda: desk.shell.backfilled)
            await desk.say(line, binance_trade(9))
        await desk.until(lambda: desk.shell.backfilled == 4)
        assert sorted(ids(desk)) == [*((str(n), Flag.BACKFILLED) for n in (5, 6, 7, 8)), ("9", 0)]

    with_desk("binance", {"trades": ["BTC/USDT"]}, backfill=True)(work)


def test_c06_ids_that_come_late_or_twice_are_no_holes() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        line = await in_force(desk)
        await desk.say(line, *(binance_trade(n) for n in (3, 4, 4, 3, 5)))
        assert desk.sink.faults == []
        line.hang_up()
        await desk.until(lambda: len(desk.lines) == 2)
        line = await in_force(desk)
        await desk.say(line, binance_trade(50))  # the gap of the connection tells it already
        assert [fault.reason for fault, _ in desk.sink.faults] == ["disconnect"]

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_elsewhere_pages_follow_the_time_and_are_bounded() -> None:
    async def work(desk: Desk) -> None:
        asked: list[Any] = []

        def fetch(_symbol: str, since: int, limit: int, _params: Any) -> Any:
            asked.append(since)
            assert limit == 1000
            return [rest_trade(since + n, since + n) for n in range(3)]

        desk.answer(fetch_trades=fetch)
        desk.exchange.set_markets(desk.markets)
        translator = Translator(levels=1, side="taker")
        results = Results("kraken", translator, {"BTC/USDT": "BTC/USDT"})
        found, whole, *_ = await missed_trades(
            desk.exchange, results, "BTC/USDT", "BTC/USDT", Span("10", 10 * _MS, 15), 10
        )
        assert asked == [10, 12, 14]
        assert [fact.trade_id for fact in found] == ["11", "12", "13", "14"]
        assert whole
        asked.clear()
        await missed_trades(desk.exchange, results, "BTC/USDT", "BTC/USDT", Span("10", 10 * _MS), 4)
        assert asked == [10, 12, 14, 16]

    with_desk("kraken", {"trades": ["BTC/USDT"]})(work)


def test_coinbase_tells_the_newest_of_a_span_so_its_pages_go_back() -> None:
    async def work(desk: Desk) -> None:
        asked: list[tuple[int, int]] = []
        every = [rest_trade(n, 1_000_000 + n * 10) for n in range(2_500)]

        def fetch(_symbol: str, since: int, limit: int, params: Any) -> Any:
            asked.append((since, params["until"]))
            # whole seconds, as the exchange counts
            return [t for t in every if since <= t["timestamp"] < params["until"] // 1000 * 1000][-limit:]

        desk.answer(fetch_trades=fetch)
        results = Results("coinbase", Translator(levels=1, side="taker"), {"BTC/USD": "BTC/USD"})
        span = Span("99", 1_000_990 * _MS)
        found, whole, *_ = await missed_trades(desk.exchange, results, "BTC/USD", "BTC/USD", span, 10)
        assert [fact.trade_id for fact in found] == [str(n) for n in range(100, 2_500)]
        assert whole
        assert [since for since, _ in asked] == [1_000_990] * 3
        assert [until for _, until in asked[1:]] == sorted((until for _, until in asked[1:]), reverse=True)

    with_desk("coinbase", {"trades": ["BTC/USD"]})(work)


def test_a_long_hole_of_a_contract_takes_several_pages_of_history() -> None:
    async def work(desk: Desk) -> None:
        asked: list[int] = []

        def fetch(_symbol: str, _since: Any, limit: int, params: Any) -> Any:
            asked.append(params["fromId"])
            return [rest_trade(n, n) for n in range(params["fromId"], min(params["fromId"] + limit, 1_300))]

        desk.answer(fetch_trades=fetch)
        desk.exchange.apiKey = "key"
        desk.exchange.set_markets(desk.markets)
        results = Results("binanceusdm", Translator(levels=1, side="taker"), {"S": "BTC/USDT:USDT"})
        found, *_ = await missed_trades(desk.exchange, results, "S", "BTC/USDT:USDT", Span("9", None), 10)
        assert asked == [10, 510, 1010]
        assert [fact.trade_id for fact in found] == [str(n) for n in range(10, 1_300)]

    with_desk("binanceusdm", {"trades": ["BTC/USDT:USDT"]})(work)


def test_a_failed_request_is_tried_again_and_then_the_gap_row_stands_alone() -> None:
    async def work(desk: Desk) -> None:
        import ccxt

        answers: list[Any] = [ccxt.DDoSProtection("429"), KeyError("price"), [rest_trade(7, 1007)]]
        desk.answer(fetch_trades=lambda *_: answers.pop(0))
        desk.sink.last["BTC/USDT"] = "6"
        await desk.start()
        await in_force(desk)
        await desk.until(lambda: desk.shell.backfilled)
        assert answers == []

    with_desk("binance", {"trades": ["BTC/USDT"]}, backfill=True)(work)


def test_no_backfill_where_it_is_not_wanted() -> None:
    async def work(desk: Desk) -> None:
        desk.answer(fetch_trades=AssertionError("asked"))
        desk.sink.last["BTC/USDT"] = "6"
        await desk.start()
        line = await in_force(desk)
        await desk.say(line, binance_trade(9), binance_trade(12))
        await turns(50)
        assert [trade.trade_id for trade in desk.sink.trades] == ["9", "12"]

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_d08_trades_without_ids_are_told_once_and_equal_live_ones_are_legal() -> None:
    memory = TradeMemory()
    for live in (fact(None, 5), fact(None, 5), fact(None, 6)):
        memory.seen(live)
    old = int(Flag.BACKFILLED)
    again = [fact(None, 4, old), *(fact(None, 5, old) for _ in range(3)), fact(None, 6, old, price=101.0)]
    # the third equal trade of that moment, and the one with another price, were never told
    assert [(f.ts_event // _MS, f.price) for f in memory.unseen(again)] == [
        (4, 100.0),
        (5, 100.0),
        (6, 101.0),
    ]


@pytest.mark.parametrize("name", ["{}", "u-{}"])
def test_a_trade_with_a_time_far_ahead_hides_none_after_it(name: str) -> None:
    now = 1_700_000_000_000
    memory = TradeMemory(wall_ns=lambda: now * _MS)

    def at(number: int, ms: int, flags: int = 0) -> Any:
        return msgspec.structs.replace(fact(None, ms, flags), trade_id=name.format(number))

    memory.seen(at(1, now - 100))
    memory.seen(at(2, now * 2))
    for number in range(3, 50):
        memory.seen(at(number, now + number))
    memory.seen(at(60, now * 2, int(Flag.BACKFILLED)))
    assert (memory.last_id, memory.last_ts) == (name.format(49), (now + 49) * _MS)
    assert memory.newer(at(61, now + 100))
    assert not memory.newer(at(45, now + 45))
    memory.seen(at(62, now + 59_000))  # our clock may be behind
    assert memory.last_ts == (now + 59_000) * _MS


def test_d08_pages_of_trades_without_ids_do_not_repeat_their_seam() -> None:
    async def work(desk: Desk) -> None:
        every = [rest_trade(None, at) for at in (10, 11, 11, 12, 12, 12, 13)]

        def fetch(_symbol: str, since: int, _limit: int, _params: Any) -> Any:
            return [trade for trade in every if trade["timestamp"] >= since][:5]

        desk.answer(fetch_trades=fetch)
        results = Results("kraken", Translator(levels=1, side="taker"), {"BTC/USDT": "BTC/USDT"})
        span = Span(None, 10 * _MS)
        found, *_ = await missed_trades(desk.exchange, results, "BTC/USDT", "BTC/USDT", span, 10)
        assert [fact.ts_event // _MS for fact in found] == [10, 11, 11, 12, 12, 12, 13]

    with_desk("kraken", {"trades": ["BTC/USDT"]})(work)


def test_ids_that_skip_numbers_by_nature_stop_being_holes() -> None:
    async def work(desk: Desk) -> None:
        desk.answer(fetch_trades=[rest_trade(n, 1_000 + n) for n in range(0, 40, 2)])
        await desk.start()
        line = await in_force(desk)
        for count, number in enumerate((2, 4, 6, 8)):
            await desk.say(line, binance_trade(number))
            await turns(50)
            assert len(desk.sink.faults) == min(count, 3)
        await desk.say(line, binance_trade(10), binance_trade(30))
        assert len(desk.sink.faults) == 3
        assert [trade.trade_id for trade in desk.sink.trades] == ["2", "4", "6", "8", "10", "30"]

    with_desk("binance", {"trades": ["BTC/USDT"]}, backfill=True)(work)
