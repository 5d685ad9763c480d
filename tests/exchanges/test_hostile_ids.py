"""One message with an absurd trade id or time hides no trade, and makes no hole of 2^62 trades."""

from typing import Any

import pytest

from daedalus.exchanges.adapter import Ask, Fault, TradeFact
from daedalus.exchanges.binance_trades import Heard, TradeIds
from daedalus.exchanges.kraken_past import KrakenPast
from daedalus.exchanges.tradeholes import Hole, TradeHoles
from tests.exchanges.binance_kit import BTC, opened, rest_trades
from tests.exchanges.binance_kit import trade as binance_trade

HUGE = 2**62
S = 1_000_000_000
NOW = 1_700_000_000 * S


def ids(items: list[Any]) -> list[str | None]:
    return [fact.trade_id for fact in items if isinstance(fact, TradeFact)]


def faults(items: list[Any]) -> list[str]:
    return [item.detail for item in items if isinstance(item, Fault)]


@pytest.mark.parametrize("huge", [HUGE, 2**63 - 1, 100_000_000])
def test_binance_one_absurd_id_is_a_trade_and_not_what_the_next_must_follow(huge: int) -> None:
    adapter, _ = opened(symbols=(BTC,), channels=("trades",))
    items = [item for n in (1, 2, huge, 3, 4, 7) for item in adapter.feed(binance_trade(n))]
    assert ids(items) == ["1", "2", str(huge), "3", "4", "7"]
    assert faults(items) == ["trade 7 after 4: 2 missing"]
    (ask,) = (item for item in items if isinstance(item, Ask))
    assert ask.path.endswith("fromId=5")
    assert ids(adapter.answer(ask.key, 200, rest_trades(5, 6, 7))) == ["5", "6"]


@pytest.mark.parametrize("first", [(HUGE,), (HUGE, HUGE + 1), (5, HUGE, HUGE + 1)])
def test_binance_recovers_from_absurd_ids_that_came_first_or_twice(first: tuple[int, ...]) -> None:
    adapter, _ = opened(symbols=(BTC,), channels=("trades",))
    items = [item for n in (*first, *range(10, 15), 16) for item in adapter.feed(binance_trade(n))]
    assert ids(items) == [str(n) for n in (*first, *range(10, 15), 16)]
    assert faults(items) == ["trade 16 after 14: 1 missing"]


def test_binance_an_absurd_first_id_after_a_reconnect_is_no_hole_up_to_it() -> None:
    made = TradeIds()
    made.want_since(99)
    assert made.hear(HUGE) is Heard.NEXT
    assert made.wanted == 100
    assert [made.hear(n) for n in (105, 106, 106)] == [Heard.NEXT, Heard.NEXT, Heard.KNOWN]
    assert made._missing == [[100, 104]]
    assert made.outliers == 1


def test_binance_after_a_long_absence_the_second_trade_confirms_the_first() -> None:
    made = TradeIds()
    made.want_since(99)
    assert [made.hear(n) for n in (30_000_000, 30_000_001)] == [Heard.NEXT] * 2
    assert (made.last, made.wanted, made.outliers) == (30_000_001, 100, 0)


def test_binance_an_absurd_id_in_a_page_settles_nothing() -> None:
    adapter, _ = opened(symbols=(BTC,), channels=("trades",))
    adapter.feed(binance_trade(1))
    _, ask, _ = adapter.feed(binance_trade(6))
    items = adapter.answer(ask.key, 200, rest_trades(2, HUGE))
    assert ids(items) == ["2"]
    (again,) = (item for item in items if isinstance(item, Ask))
    assert ids(adapter.answer(again.key, 200, rest_trades(3, 4, 5))) == ["3", "4", "5"]


def test_ids_that_begin_anew_elsewhere_are_no_hole() -> None:
    holes = TradeHoles()
    assert [holes.seen("S", str(n)) for n in (1, 2, HUGE // 8, HUGE // 8 + 1)] == [None] * 4
    assert holes.seen("S", str(HUGE // 8 + 3)) == Hole(HUGE // 8 + 1, HUGE // 8 + 3)
    assert [holes.seen("S", str(n)) for n in (3, 4)] == [None] * 2
    assert holes.seen("S", "7") == Hole(4, 7)


def told(past: KrakenPast, *trades: tuple[int, int]) -> list[str]:
    """Feed (id, time) of live trades; return the `since`, s, of each request that a hole made."""
    items = [item for n, at in trades for item in past.seen("BTC/USD", "BTC/USD", n, at, live=True)]
    return [item.path.partition("since=")[2] for item in items if isinstance(item, Ask)]


@pytest.mark.parametrize(
    "hostile",
    [
        (HUGE // 8, NOW + 1 * S),  # an absurd id
        (HUGE // 8, NOW + 10**9 * S),  # and an absurd time
        (3, NOW + 10**9 * S),  # the time alone
    ],
)
def test_kraken_an_absurd_id_or_time_is_not_where_a_hole_is_looked_for(hostile: tuple[int, int]) -> None:
    past = KrakenPast(lambda _symbol, _past: None)  # type: ignore[arg-type, return-value]
    before = [(1, NOW), (2, NOW + 2 * S), hostile]
    rest = [(3, NOW + 3 * S)] if hostile[0] != 3 else []
    assert told(past, *before, *rest, (6, NOW + 6 * S)) == [str((rest or before[1:2])[0][1] - 1000)]
    assert told(past, (7, NOW + 7 * S), (9, NOW + 9 * S)) == [str(NOW + 7 * S - 1000)]
    (ask,) = past.ask("BTC/USD", "BTC/USD", "9")
    assert ask.path.endswith(f"since={NOW + 9 * S - 1000}")


def test_kraken_a_time_of_long_ago_is_forgotten_with_the_next_trades() -> None:
    past = KrakenPast(lambda _symbol, _past: None)  # type: ignore[arg-type, return-value]
    assert told(past, (1, NOW), (2, 1), (3, NOW + 3 * S), (4, NOW + 4 * S)) == []
    assert told(past, (7, NOW + 7 * S)) == [str(NOW + 4 * S - 1000)]


def test_kraken_a_quiet_pairs_next_trades_move_the_time_on() -> None:
    past = KrakenPast(lambda _symbol, _past: None)  # type: ignore[arg-type, return-value]
    day = 86_400 * S
    assert told(past, (1, NOW), (2, NOW + day), (3, NOW + day + S)) == []
    assert told(past, (5, NOW + day + 9 * S)) == [str(NOW + day + S - 1000)]


def test_kraken_messages_with_an_absurd_id_lose_no_trade() -> None:
    from tests.exchanges.test_kraken import opened as kraken
    from tests.exchanges.test_kraken_rest import trade, trades

    adapter = kraken()
    items = [item for n in (1, 2, HUGE // 8, 3, 4) for item in adapter.feed(trades("update", trade(n)))]
    assert ids(items) == ["1", "2", str(HUGE // 8), "3", "4"]
    assert faults(items) == []
