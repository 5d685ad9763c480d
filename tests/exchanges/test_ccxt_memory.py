"""What ccxt and the hooks in it keep while a market goes on: every table has a bound and stays within it."""

import asyncio
from typing import Any

from daedalus.exchanges.adapter import Stream
from daedalus.exchanges.ccxt_stats import sizes
from daedalus.simulator.market import Depth, Quote
from daedalus.simulator.orderflow import LEVELS, OrderFlow
from tests.exchanges.fakes import HandFed, ListSink

SYMBOL, ID = "BTC/USDT", "BTCUSDT"
CHANNELS = ("orderbook", "trades", "ticker")
KEPT = 1000  # trades of a symbol in ccxt's cache
ROUNDS, EVENTS, TRADES = 4, 800, 300


def _message(event: Depth | Quote, number: int) -> dict[str, Any]:
    if isinstance(event, Depth):
        ids = {"e": "depthUpdate", "E": number, "s": ID, "U": event.first_id, "u": event.last_id}
        return ids | {"b": event.bids, "a": event.asks}
    (bid, bid_size), (ask, ask_size) = event.bid, event.ask
    return {"u": event.update_id, "s": ID, "b": bid, "B": bid_size, "a": ask, "A": ask_size}


class Market:
    """A modelled market, told to the real class over one connection."""

    def __init__(self) -> None:
        self.sink = ListSink()
        self.fed = HandFed(self.sink, [SYMBOL])
        self.client = self.fed.open(0, *(Stream(SYMBOL, channel) for channel in CHANNELS))
        flow = OrderFlow("binance", SYMBOL, rate=50.0, seed=1)
        self.opening, self.events = flow.opening(), flow.events()
        self.number = 1_700_000_000_000
        self.told = 0  # trades

    async def begin(self) -> None:
        self.fed.feed(self.client, {"result": None, "id": 1})
        first = {"e": "depthUpdate", "E": self.number, "s": ID, "U": 1, "u": 1, "b": [], "a": []}
        self.fed.feed(self.client, first)
        await asyncio.sleep(0)
        book = self.opening
        self.fed.answer(SYMBOL, {"lastUpdateId": book.last_id, "bids": book.bids, "asks": book.asks})
        for _ in range(20):
            await asyncio.sleep(0)

    async def go_on(self) -> None:
        for _ in range(EVENTS):
            self.number += 1
            event = next(self.events)
            if isinstance(event, Depth | Quote):
                self.fed.feed(self.client, _message(event, self.number))
        for _ in range(TRADES):
            self.told += 1
            trade = {"e": "trade", "E": self.number, "s": ID, "t": self.told, "p": "62000.00", "q": "0.10000"}
            self.fed.feed(self.client, trade | {"T": self.number, "m": True, "M": True})
        await asyncio.sleep(0)

    def kept(self) -> dict[str, int]:
        """Return the sizes of ccxt's tables and of ours."""
        results, tables = self.fed.hooks.results, sizes(self.fed.exchange)
        memory = results.memory(SYMBOL)
        ours = {
            "connections": len(self.fed.hooks.connections),
            "hashes": sum(len(one.hashes) for one in self.fed.hooks.connections.values()),
            "tasks": len(asyncio.all_tasks()),
            "marks": len(results._marks),
            "last": len(results.last),
            "keys": len(memory._keys),
        }
        return {name: int(size) for name, size in tables.items() if size is not None} | ours


def test_c01_every_table_of_ccxt_and_of_the_hooks_has_a_bound() -> None:
    async def work() -> None:
        market = Market()
        await market.begin()
        rounds = []
        for _ in range(ROUNDS):
            await market.go_on()
            rounds.append(market.kept())
        assert market.fed.ended == []
        assert len(market.sink.books) > ROUNDS * EVENTS / 4  # it was a market
        assert len(market.sink.trades) == ROUNDS * TRADES > KEPT
        for kept in rounds:
            assert 0 < kept.pop("ccxt_book_levels") < 3 * LEVELS
        trades = [kept.pop("ccxt_trades") for kept in rounds]
        assert trades[-1] == KEPT
        assert rounds == rounds[:1] * ROUNDS
        assert (rounds[0]["ccxt_book_deltas"], rounds[0]["backlog"]) == (0, 0)
        await market.fed.close()

    asyncio.run(work())
