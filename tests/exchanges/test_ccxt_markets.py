"""Instruments and contracts: what an exchange says of its markets, taken anew each day."""

import json
from types import SimpleNamespace

import pytest

from daedalus.exchanges.ccxt_facts import Contract, Translator
from daedalus.exchanges.ccxt_markets import contracts, instruments
from daedalus.records import unpack_side
from tests.exchanges.ccxt_kit import Desk, market_of, okx, okx_book, turns, with_desk


def test_d32_instruments_are_told_at_the_start_and_each_day() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        (first,) = desk.sink.markets
        assert (first.symbol, first.exchange_symbol, first.kind) == ("BTC/USDT", "BTCUSDT", "spot")
        assert (first.base, first.quote, first.settle) == ("BTC", "USDT", None)
        assert (first.tick_size, first.lot_size, first.min_amount, first.min_cost) == (0.1, 1e-8, 1e-5, 5.0)
        assert (first.contract_size, first.active) == (None, True)
        assert json.loads(first.info_json) == {"wsname": "BTC/USDT"}
        changed = market_of(desk.exchange, "BTC/USDT", precision={"amount": 1e-8, "price": 0.01})
        desk.markets[:] = [changed]
        await desk.shell._refresh()
        assert desk.sink.markets[-1].tick_size == 0.01
        assert desk.loads == 2

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_an_empty_list_of_markets_is_no_list_and_is_asked_for_anew() -> None:
    async def work(desk: Desk) -> None:
        markets, asked = list(desk.markets), []

        async def load(reload: bool = False, _params: object = None) -> object:
            asked.append(reload)
            if not reload:  # ccxt keeps its first answer, also this one
                desk.exchange.markets = {}
                return {}
            return desk.exchange.set_markets(markets)

        desk.exchange.load_markets = load
        await desk.start()
        assert asked == [False, True]
        ((fault, _),) = desk.sink.faults
        assert (fault.reason, fault.detail) == ("disconnect", "no markets: no market at all")

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_a_market_that_left_the_list_does_not_end_the_collector() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        desk.markets[:] = [market_of(desk.exchange, "ETH/USDT")]
        await desk.shell._refresh()
        await turns()
        assert not desk.task.done()
        assert len(desk.sink.markets) == 1

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


@pytest.mark.parametrize(
    ("mode", "precision", "step"), [(4, 0.5, 0.5), (2, 3, 0.001), (2, 0, 1.0), (3, 5, None), (4, None, None)]
)
def test_a_step_is_a_step_whatever_ccxt_calls_precision(
    mode: int, precision: float | None, step: float | None
) -> None:
    market = {"symbol": "A/B", "precision": {"price": precision}}
    exchange = SimpleNamespace(precisionMode=mode, markets={"A/B": market})
    (fact,) = instruments(exchange, {"A/B": "A/B"})
    assert fact.tick_size == step
    assert (fact.lot_size, fact.active, fact.info_json, fact.contract_size) == (None, None, None, None)


def test_d17_only_markets_counted_in_contracts_are_converted() -> None:
    markets = {
        "SPOT": {"contract": False, "contractSize": None},
        "ONE": {"contract": True, "contractSize": 1.0, "linear": True},
        "LINEAR": {"contract": True, "contractSize": 0.01, "linear": True},
        "INVERSE": {"contract": True, "contractSize": 100, "inverse": True},
        "INVERSE1": {"contract": True, "contractSize": 1, "inverse": True},
        "UNKNOWN": {"contract": True, "contractSize": None},
    }
    found = contracts(SimpleNamespace(markets=markets), {name: name for name in markets})
    assert found == {
        "LINEAR": Contract(0.01, inverse=False),
        "INVERSE": Contract(100.0, inverse=True),
        "INVERSE1": Contract(1.0, inverse=True),
    }


def test_d17_amounts_of_a_linear_contract_are_stored_in_base_currency() -> None:
    async def work(desk: Desk) -> None:
        desk.markets[0]["contractSize"] = 0.01
        await desk.start()
        await desk.until(lambda: len(desk.line.requests("subscribe")) == 3)
        trade = {
            "instId": "BTC-USDT-SWAP",
            "tradeId": "5",
            "px": "60000",
            "sz": "25",
            "side": "buy",
            "ts": "9",
        }
        ticker = {
            "instType": "SWAP",
            "instId": "BTC-USDT-SWAP",
            "last": "1",
            "askPx": "60001",
            "askSz": "300",
        }
        await desk.say(
            desk.line,
            okx(
                "books",
                "BTC-USDT-SWAP",
                okx_book(10, -1, [("60000", "250")], [("60001", "100")]),
                action="snapshot",
            ),
            okx("trades", "BTC-USDT-SWAP", trade),
            okx("tickers", "BTC-USDT-SWAP", ticker | {"bidPx": "60000", "bidSz": "5", "ts": "9"}),
        )
        (book,) = desk.sink.books
        assert (unpack_side(book.bids), unpack_side(book.asks)) == ([(60000.0, 2.5)], [(60001.0, 1.0)])
        (fact,) = desk.sink.trades
        assert (fact.amount, fact.cost) == (0.25, 15_000.0)
        assert json.loads(fact.info_json)["sz"] == "25"  # the exchange's own word stays
        assert desk.sink.tickers[-1].ask_volume == 3.0

    channels = {c: ["BTC/USDT:USDT"] for c in ("orderbook", "trades", "ticker")}
    with_desk("okx", channels, raw_info=True)(work)


def test_d17_an_inverse_contract_is_worth_its_size_in_quote_currency() -> None:
    translator = Translator(levels=5, side="taker", contracts={"BTC/USD:BTC": Contract(100, inverse=True)})
    trade = {"price": 50_000.0, "amount": 30.0, "side": "buy", "cost": 0.06, "id": "1", "timestamp": 1}
    (fact,) = translator.trades("BTC/USD:BTC", [trade])
    assert (fact.amount, fact.cost) == (0.06, 3_000.0)
    book = translator.book("BTC/USD:BTC", {"bids": [[50_000.0, 10]], "asks": [[60_000.0, 6]], "nonce": 1})
    assert unpack_side(book.bids) + unpack_side(book.asks) == [(50_000.0, 0.02), (60_000.0, 0.01)]


def test_d16_prices_are_the_exchanges_and_never_computed() -> None:
    translator = Translator(levels=5, side="taker", contracts={"A/B:B": Contract(0.1, inverse=False)})
    (fact,) = translator.trades("A/B:B", [{"price": "0.1", "amount": "3"}])
    assert fact.price == float("0.1")
