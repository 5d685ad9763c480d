"""Binance's trades: ids without a hole, and what fills one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.exchanges.adapter import Control, Stream, TradeFact
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.exchanges.binance_trades import Heard, TradeIds
from daedalus.records import Flag
from tests.exchanges import binance_kit as kit
from tests.exchanges.binance_kit import BTC, ETH, SWAP, BinanceUsdmAdapter, E, opened, rest_trades, trade

TRADES = (Stream(BTC, "trades"),)


def told(items: list[Any]) -> list[tuple[str | None, int]]:
    return [(fact.trade_id, fact.flags) for fact in kit.trades(items)]


def started(make: Any = BinanceAdapter, symbol: str = BTC) -> BinanceAdapter:
    adapter, _ = opened(make, symbols=(symbol,), channels=("trades",))
    return adapter


def test_a_trade_has_the_takers_side() -> None:
    adapter = started()
    (_, sold) = adapter.feed(trade(1, maker=True))
    assert sold == TradeFact(
        symbol=BTC, trade_id="1", ts_event=E * 1_000_000, side="sell", side_raw="m=true", price=100.5,
        amount=0.5, cost=50.25, exch_seq=1,
    )  # fmt: skip
    (bought,) = adapter.feed(trade(2, maker=False))
    assert (bought.side, bought.side_raw) == ("buy", "m=false")
    other, _ = opened(channels=("trades",), side="maker")
    assert other.feed(trade(1, maker=True))[1].side == "buy"
    other, _ = opened(channels=("trades",), side="unknown")
    assert (other.feed(trade(1))[1].side, other.feed(trade(2))[0].side_raw) == (None, "m=true")


def test_a_hole_in_the_ids_is_a_fault_of_that_symbols_trades_and_asked_for() -> None:
    adapter, _ = opened(symbols=(BTC, ETH), channels=("trades", "ticker"))
    adapter.feed(trade(1))
    adapter.feed(trade(50, market="ETHUSDT"))
    fault, ask, fact = adapter.feed(trade(4))
    assert (fault.streams, fault.reason, fault.local) == (TRADES, "sequence", True)
    assert fault.detail == "trade 4 after 1: 2 missing"
    assert ask.path == "/api/v3/historicalTrades?symbol=BTCUSDT&limit=1000&fromId=2"
    assert (ask.weight, ask.streams) == (25, TRADES)
    assert fact.trade_id == "4"
    assert told(adapter.feed(trade(51, market="ETHUSDT"))) == [("51", 0)]
    assert told(adapter.answer(ask.key, 200, rest_trades(2, 3, 4, 5))) == [
        ("2", Flag.BACKFILLED),
        ("3", Flag.BACKFILLED),
    ]
    assert told(adapter.feed(trade(5))) == [("5", 0)]


def test_d08_a_doubled_trade_comes_once_and_a_late_one_is_not_lost() -> None:
    adapter = started()
    adapter.feed(trade(1))
    assert adapter.feed(trade(1)) == []
    _, ask, _ = adapter.feed(trade(4))
    assert told(adapter.feed(trade(3))) == [("3", 0)]
    assert adapter.feed(trade(3)) == []
    assert told(adapter.answer(ask.key, 200, rest_trades(2, 3, 4))) == [("2", Flag.BACKFILLED)]
    assert adapter.feed(trade(2)) == []


def test_a_second_hole_waits_for_the_answer_that_is_on_its_way() -> None:
    adapter = started()
    adapter.feed(trade(1))
    _, ask, _ = adapter.feed(trade(3))
    fault, fact = adapter.feed(trade(5))
    assert (fault.reason, fact.trade_id) == ("sequence", "5")
    filled, again = adapter.answer(ask.key, 200, rest_trades(2, 3))
    assert filled.trade_id == "2"
    assert again.path.endswith("fromId=4")
    assert told(adapter.answer(again.key, 200, rest_trades(4, 5))) == [("4", Flag.BACKFILLED)]


def test_c07_what_was_missed_between_two_connections_is_filled_up_to_the_first_live_trade() -> None:
    adapter = started()
    (ask,) = adapter.backfill(BTC, "10")
    assert ask.path.endswith("fromId=11")
    assert told(adapter.feed(trade(14))) == [("14", 0)]
    assert told(adapter.answer(ask.key, 200, rest_trades(11, 12, 13, 14, 15))) == [
        (str(n), Flag.BACKFILLED) for n in (11, 12, 13)
    ]
    assert told(adapter.feed(trade(15))) == [("15", 0)]


def test_c07_an_answer_before_the_first_live_trade_leaves_no_seam() -> None:
    adapter = started()
    (ask,) = adapter.backfill(BTC, "10")
    assert [n for n, _ in told(adapter.answer(ask.key, 200, rest_trades(11, 12)))] == ["11", "12"]
    assert told(adapter.feed(trade(12))) == []  # REST was faster: it has come
    assert told(adapter.feed(trade(13))) == [("13", 0)]

    adapter.subscribe()
    (ask,) = adapter.backfill(BTC, "13")
    assert adapter.answer(ask.key, 200, rest_trades()) == []
    _, fault, again, fact = adapter.feed(trade(16))
    assert fault.detail == "trade 16 after 13: 2 missing"
    assert fact.trade_id == "16"
    assert again.path.endswith("fromId=14")


def test_c07_a_stream_that_is_heard_already_is_filled_up_to_its_first_trade() -> None:
    adapter = started()
    adapter.feed(trade(14))
    (ask,) = adapter.backfill(BTC, "11")
    assert ask.path.endswith("fromId=12")
    assert adapter.backfill(BTC, "11") == []  # it is on its way
    adapter.feed(trade(15))
    assert told(adapter.answer(ask.key, 200, rest_trades(12, 13, 14, 15))) == [
        ("12", Flag.BACKFILLED),
        ("13", Flag.BACKFILLED),
    ]
    assert adapter.backfill(BTC, "11") == []  # it has come


def test_c07_an_answer_from_further_on_settles_nothing_before_it() -> None:
    adapter = started()
    adapter.feed(trade(14))
    _, ask, _ = adapter.feed(trade(16))
    assert adapter.backfill(BTC, "11") == []  # it waits for the answer that is on its way
    filled, again = adapter.answer(ask.key, 200, rest_trades(15, 16))
    assert filled.trade_id == "15"
    assert again.path.endswith("fromId=12")
    assert [n for n, _ in told(adapter.answer(again.key, 200, rest_trades(12, 13, 14)))] == ["12", "13"]


def test_c07_a_long_hole_is_filled_page_by_page() -> None:
    adapter = started()
    (ask,) = adapter.backfill(BTC, "0")
    got: list[Any] = []
    for page in range(2):
        items = adapter.answer(ask.key, 200, rest_trades(*range(1 + page * 1000, 1001 + page * 1000)))
        got += kit.trades(items)
        (ask,) = kit.asks(items)
        assert ask.path.endswith(f"fromId={1001 + page * 1000}")
    items = adapter.answer(ask.key, 200, rest_trades(2001, 2002))
    assert kit.asks(items) == []
    got += kit.trades(items)
    assert [int(fact.trade_id) for fact in got] == list(range(1, 2003))


def test_nothing_is_asked_for_where_nothing_was_stored_or_the_id_is_none_of_binance() -> None:
    adapter = started()
    for last in (None, "", "abc", "-5", "\uff11\uff12", "9" * 30):
        assert adapter.backfill(BTC, last) == []
    assert adapter.backfill(ETH, "5") == []
    adapter.feed(trade(7))
    assert adapter.backfill(BTC, "6") == []  # nothing is missing
    assert adapter.backfill(BTC, "9") == []


@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (200, b"[{]"), (401, b"no"), (400, b"[]")])
def test_a_refused_answer_is_given_up_and_said(status: int, body: bytes) -> None:
    adapter = started()
    adapter.feed(trade(1))
    _, ask, _ = adapter.feed(trade(3))
    (fault,) = adapter.answer(ask.key, status, body)
    assert (fault.streams, fault.local) == ((), True)
    assert "from 2" in fault.detail
    assert told(adapter.feed(trade(4))) == [("4", 0)]


def test_a_trade_that_rest_does_not_have_is_given_up_after_three_answers() -> None:
    adapter = started()
    adapter.feed(trade(1))
    _, ask, _ = adapter.feed(trade(3))
    for _ in range(2):
        (ask,) = adapter.answer(ask.key, 200, rest_trades())
        assert ask.delay_s > 0
    (fault,) = adapter.answer(ask.key, 200, rest_trades())
    assert "1 stay missing" in fault.detail


def test_a_new_connection_forgets_the_ids_of_the_old() -> None:
    adapter = started()
    adapter.feed(trade(1))
    adapter.subscribe()
    assert [type(item) for item in adapter.feed(trade(90))] == [Control, TradeFact]


@pytest.mark.parametrize("kind", ["INSURANCE_FUND", "ADL", "NA"])
def test_what_the_insurance_fund_takes_over_counts_and_is_no_trade(kind: str) -> None:
    adapter = started(BinanceUsdmAdapter, SWAP)
    adapter.feed(trade(1, X="MARKET"))
    assert adapter.feed(trade(2, "0", X=kind)) == []
    assert told(adapter.feed(trade(3, X="MARKET"))) == [("3", 0)]
    fault, ask = adapter.feed(trade(5, X=kind))
    assert fault.reason == "sequence"
    assert ask.path == "/fapi/v1/trades?symbol=BTCUSDT&limit=1000"
    assert ask.weight == 5
    # REST has no trade 4: it was none, and that is settled
    assert adapter.answer(ask.key, 200, rest_trades(1, 3, 6)) == []
    assert told(adapter.feed(trade(6, X="MARKET"))) == [("6", 0)]


def test_usdm_gives_the_newest_thousand_without_a_key_and_that_is_all() -> None:
    adapter = started(BinanceUsdmAdapter, SWAP)
    (ask,) = adapter.backfill(SWAP, "10")
    adapter.feed(trade(5000, X="MARKET"))
    items = adapter.answer(ask.key, 200, rest_trades(*range(4500, 5500)))
    assert [int(n) for n, _ in told(items)] == list(range(4500, 5000))
    assert kit.asks(items) == []


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_ids_in_any_order_are_taken_once_and_what_is_wanted_is_what_is_missing(numbers: list[int]) -> None:
    ids = TradeIds()
    taken = [number for number in numbers if ids.hear(number) is not Heard.KNOWN]
    assert len(taken) == len(set(taken))
    first, seen = numbers[0], set(taken)
    assert seen == {n for n in numbers if n >= first}
    missing = [n for n in range(first, max(numbers)) if n not in seen]
    assert ids.wanted == (missing[0] if missing else None)
    assert [n for n in range(first, 41) if ids.found(n)] == missing
    assert ids.wanted is None
