"""The order-flow model: the same seed the same market, and always a market."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.simulator.market import Depth, Event, Market, Quote, Trades
from daedalus.simulator.orderflow import FLOOR, LEVELS, OrderFlow


def _model(
    seed: int = 1, *, symbol: str = "BTC/USDT", rate: float = 20.0, exchange: str = "binance"
) -> OrderFlow:
    return OrderFlow(exchange, symbol, rate=rate, seed=seed)


def _events(model: OrderFlow, count: int) -> list[Event]:
    return list(itertools.islice(model.events(), count))


def test_the_same_seed_gives_the_same_events() -> None:
    first, second = _model(7), _model(7)
    assert first.opening() == second.opening()
    assert _events(first, 3000) == _events(second, 3000)


def test_another_seed_or_symbol_gives_others() -> None:
    first = _events(_model(7), 50)
    assert first != _events(_model(8), 50)
    assert first != _events(_model(7, symbol="ETH/USDT"), 50)


def test_ids_are_offset_and_nothing_else() -> None:
    low, high = (
        OrderFlow("binance", "A/B", rate=9, seed=3),
        OrderFlow("binance", "A/B", rate=9, seed=3, first_id=10**9),
    )
    for a, b in zip(_events(low, 400), _events(high, 400), strict=True):
        if isinstance(a, Depth) and isinstance(b, Depth):
            assert (a.bids, a.asks, b.last_id - a.last_id) == (b.bids, b.asks, 10**9 - 1)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["BTC/USDT", "ETH/USD", "SOL/USD", "XYZ/EUR"]))
def test_the_told_book_is_always_a_book(seed: int, symbol: str) -> None:
    model = _model(seed, symbol=symbol)
    market = Market(model)
    last_update, last_trade = market.book.last_id, 0
    quote: Quote | None = None
    for event in _events(model, 3000):
        market.apply(event)
        if isinstance(event, Depth):
            assert event.first_id == last_update + 1
            assert event.last_id >= event.first_id
            last_update = event.last_id
            (bid, _), (ask, _) = market.best()
            assert float(bid) < float(ask)
            assert min(market.book.depth()) >= FLOOR
            if quote is not None:
                assert market.best() == (quote.bid, quote.ask), "quotes and depth tell the same top"
        elif isinstance(event, Quote):
            quote = event
        elif isinstance(event, Trades):
            assert event.trades
            for trade in event.trades:
                assert trade.trade_id == last_trade + 1 or last_trade == 0
                last_trade = trade.trade_id
                assert float(trade.size) > 0


def test_times_never_go_back_and_the_rate_is_kept() -> None:
    model = _model(rate=50)
    events = _events(model, 20_000)
    times = [event.at_ns for event in events]
    assert times == sorted(times)
    count = Counter(type(event) for event in events)
    seconds = times[-1] / 1e9
    assert count[Depth] / seconds == pytest.approx(50, rel=0.05)
    assert count[Trades] / seconds == pytest.approx(12.5, rel=0.2)


def test_trades_cluster() -> None:
    """Counts of a Hawkes process with branching ratio 0.5 vary more than those of a Poisson process."""
    seconds = Counter(e.at_ns // 10**9 for e in _events(_model(rate=20), 40_000) if isinstance(e, Trades))
    counts = [seconds[second] for second in range(max(seconds))]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert variance / mean > 1.5


def test_market_orders_take_what_is_best_on_the_other_side_and_no_more() -> None:
    quote: Quote | None = None
    compared = swept = 0
    for event in _events(_model(5), 6000):
        if isinstance(event, Quote):
            quote = event
        elif isinstance(event, Trades) and quote is not None:
            first = event.trades[0]
            price, size = quote.ask if first.taker == "buy" else quote.bid
            assert first.price == price
            assert float(first.size) <= float(size)
            compared += 1
            for before, after in itertools.pairwise(event.trades):
                assert (float(after.price) > float(before.price)) == (first.taker == "buy")
                swept += 1
    assert compared > 500
    assert swept > 50


def test_the_book_keeps_its_shape_for_an_hour() -> None:
    model = _model(11, rate=5)
    market = Market(model)
    for event in model.events():
        market.apply(event)
        if event.at_ns > 3600 * 10**9:
            break
    bids, asks = market.book.depth()
    assert LEVELS / 3 < bids < LEVELS * 3
    assert LEVELS / 3 < asks < LEVELS * 3
    (bid, _), (ask, _) = market.best()
    assert (float(ask) / float(bid) - 1) * 1e4 < 20, "spread in basis points"
    assert 0.5 < float(bid) / 62_000 < 2


def test_times_are_in_the_exchange_s_resolution() -> None:
    for exchange, resolution in (("binance", 10**6), ("coinbase", 1000)):
        model = _model(exchange=exchange)
        model.origin_ns = 1_700_000_000_123_456_789
        stamps = [event.ts_ns for event in _events(model, 200) if not isinstance(event, Quote)]
        assert all(stamp % resolution == 0 for stamp in stamps)
        assert stamps[0] > 1_700_000_000_000_000_000
