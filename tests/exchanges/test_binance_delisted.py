"""A market that Binance has no more keeps no connection from being replaced; what is missing is said."""

import json
from typing import Any

from daedalus.exchanges.adapter import Fault, InstrumentFact, Stream
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.exchanges.native import NativeExchange, NativeOptions
from tests.exchanges import binance_kit as kit
from tests.exchanges.binance_kit import BTC, ETH, asks, delta, opened, snapshot, trade
from tests.exchanges.fakes import ListSink
from tests.exchanges.shellkit import Credulous, Exchange, Rig, play
from tests.loops import until

REFUSAL = b'{"code":-1121,"msg":"Invalid symbol."}'
CHANNELS = {"orderbook": [BTC, ETH], "trades": [BTC, ETH, "SOL/USDT"]}
DETAIL = "the exchange refuses a snapshot of ETH/USDT: -1121 Invalid symbol."


def listed(adapter: BinanceAdapter) -> bytes:
    return json.dumps({"result": adapter._names, "id": 1}).encode()


def info(*markets: str) -> bytes:
    rows = [{"symbol": name, "status": "TRADING", "baseAsset": name[:3], "filters": []} for name in markets]
    return json.dumps({"symbols": rows}).encode()


def answered(adapter: BinanceAdapter, gone: bool, first: list[Any]) -> list[Any]:
    """Answer the first requests of a connection; return what was said. `gone`: ETH and SOL are."""
    items: list[Any] = []
    for ask in asks(first):
        unknown = gone and "BTCUSDT" not in ask.path
        body = snapshot(100) if "/depth" in ask.path else b"{}"
        items += adapter.answer(ask.key, 400, REFUSAL) if unknown else adapter.answer(ask.key, 200, body)
    return items


def live(adapter: BinanceAdapter) -> BinanceAdapter:
    """Bring every stream of an adapter to life."""
    answered(adapter, False, adapter.subscribe())
    for market in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        adapter.feed(trade(1, market=market))
    adapter.feed(listed(adapter))
    assert adapter.ready()
    return adapter


def test_the_replacement_of_a_connection_is_ready_without_the_market_that_is_gone() -> None:
    before = live(BinanceAdapter(CHANNELS))
    after = BinanceAdapter(CHANNELS)
    after.inherit(before)
    items = answered(after, True, after.subscribe())
    faults = kit.faults(items)
    assert [(fault.local, fault.fatal) for fault in faults] == [(True, False)] * 2
    after.feed(listed(after))
    assert after.ready()
    missing = {fault.streams: fault.detail for fault in after.missing()}
    assert missing == {
        (Stream(ETH, "orderbook"), Stream(ETH, "trades")): DETAIL,
        (Stream("SOL/USDT", "trades"),): "the exchange does not know SOL/USDT: -1121 Invalid symbol.",
    }
    eth = next(ask for ask in asks(items) if "ETHUSDT" in ask.path)
    assert eth.delay_s == 300
    after.feed(delta(101, 101, market="ETHUSDT"))  # it is listed again
    (book,) = kit.books(after.answer(eth.key, 200, snapshot(100)))
    assert (book.symbol, [fault.streams[0].symbol for fault in after.missing()]) == (ETH, ["SOL/USDT"])


def test_a_market_that_never_was_is_as_fatal_as_ever() -> None:
    after = BinanceAdapter(CHANNELS)
    after.inherit(BinanceAdapter(CHANNELS))
    assert [fault.fatal for fault in kit.faults(answered(after, True, after.subscribe()))] == [True, True]


def test_the_instruments_of_the_others_are_asked_for_without_naming_any() -> None:
    adapter, _ = opened(symbols=(BTC, ETH), channels=("trades",))
    (ask,) = adapter.instruments()
    (again,) = adapter.answer(ask.key, 400, REFUSAL)
    assert (again.path, again.weight) == ("/api/v3/exchangeInfo", 20)
    facts = adapter.answer(again.key, 200, info("BTCUSDT"))
    assert [fact.symbol for fact in facts if isinstance(fact, InstrumentFact)] == [BTC]
    (fault,) = adapter.answer(adapter.instruments()[0].key, 400, b'{"code":-1100,"msg":"no"}')
    assert fault.detail.startswith("exchangeInfo was refused with status 400")


def test_the_status_names_what_is_missing() -> None:
    shell = NativeExchange(NativeOptions(id="binance", channels={"orderbook": [BTC]}), ListSink())
    assert shell.stats()["symbols_missing"] is None
    adapter: Any = shell.connections[0].adapter
    (ask,) = asks(adapter.subscribe())
    adapter._books["BTCUSDT"].known = True
    adapter.answer(ask.key, 400, REFUSAL)
    assert shell.stats()["symbols_missing"] == BTC


class Shrunk(Credulous):
    """An exchange that knows ETH no more on the second connection."""

    comparable = True

    def inherit(self, before: Any) -> None:
        self.before = before

    def missing(self) -> list[Fault]:
        if not hasattr(self, "before"):
            return []
        return [Fault((Stream(ETH, "orderbook"),), "error", "no such market", local=True)]


def test_c08_a_planned_replacement_goes_on_with_the_markets_there_are_and_says_which_is_gone() -> None:
    exchange = Exchange([[["book", BTC, 10], ["book", ETH, 10]]])

    async def work(rig: Rig) -> None:
        await until(lambda: len(exchange.peers) == 2)
        assert rig.adapters[1].before is rig.adapters[0]
        await exchange.say(1, ["book", BTC, 12], ["ready"])
        await until(lambda: rig.shared.rotations == 1)
        ((fault, since),) = rig.sink.faults
        assert (fault.streams, fault.detail, since) == ((Stream(ETH, "orderbook"),), "no such market", None)
        assert [(book.symbol, book.nonce) for book in rig.sink.books] == [(BTC, 10), (ETH, 10), (BTC, 12)]

    play(exchange, work, channels={"orderbook": [BTC, ETH]}, make=Shrunk, rotate_after_h=0.2 / 3600)
