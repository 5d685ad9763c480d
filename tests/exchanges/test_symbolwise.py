"""Kraken and OKX through the shell on a real socket: one symbol is cured, and its connection goes on."""

import json

from aiohttp import web

from daedalus.exchanges.adapter import BookFact, Stream, TradeFact
from daedalus.exchanges.kraken import KrakenAdapter
from daedalus.exchanges.okx import OkxAdapter
from daedalus.records import Flag
from tests.exchanges.kraken_v1 import frame, top_ten
from tests.exchanges.okx_feed import OkxFeed
from tests.exchanges.shellkit import Exchange, Rig, play
from tests.exchanges.test_kraken import ASKS, BIDS, acknowledged, snapshot
from tests.exchanges.test_okx import past, trade, trades
from tests.exchanges.test_okx_contracts import LINEAR, SWAP
from tests.loops import until


def test_c05_a_kraken_book_with_a_wrong_checksum_is_cured_on_its_connection() -> None:
    change = [["99.0", "4.00000000"]]
    good = frame("update", "ETH/USD", change, [], top_ten([*BIDS, *change], ASKS))
    exchange = Exchange(
        [
            acknowledged("book").decode(),
            acknowledged("book", "ETH/USD").decode(),
            snapshot().decode(),
            snapshot("ETH/USD").decode(),
            frame("update", "BTC/USD", change, [], 1).decode(),
            good.decode(),
        ]
    )

    async def work(rig: Rig) -> None:
        await until(lambda: len(exchange.heard) == 3 and len(rig.sink.books) == 3)
        methods = [json.loads(text) for text in exchange.heard]
        assert [m["method"] for m in methods] == ["subscribe", "unsubscribe", "subscribe"]
        assert [m["params"]["symbol"] for m in methods[1:]] == [["BTC/USD"], ["BTC/USD"]]
        await exchange.peers[0].send_str(snapshot().decode())
        await until(lambda: len(rig.sink.books) == 4)
        ((fault, _),) = rig.sink.faults
        assert (fault.reason, fault.streams) == ("checksum", (Stream("BTC/USD", "orderbook"),))
        assert rig.sink.books[-1].flags & Flag.RESYNC
        assert (rig.shared.connects_made, rig.shared.resyncs, rig.shared.faults) == (1, 1, 0)

    play(exchange, work, channels={"orderbook": ["BTC/USD", "ETH/USD"]}, make=KrakenAdapter)


def test_a_swap_of_okx_begins_with_its_size_and_its_lost_trades_are_asked_for() -> None:
    feed = OkxFeed(1, "BTC-USDT-SWAP")
    exchange = Exchange([])
    listing = web.json_response(json.loads(past(LINEAR)))
    missing = web.json_response(json.loads(past(trade(11, name="BTC-USDT-SWAP"))))
    exchange.rest = {
        "/api/v5/public/instruments": [listing],
        "/api/v5/market/history-trades": [missing],
    }

    async def work(rig: Rig) -> None:
        await until(lambda: exchange.heard)
        (message,) = exchange.heard
        assert [arg["channel"] for arg in json.loads(message)["args"]] == ["books", "trades"]
        (peer,) = exchange.peers
        await peer.send_str(feed.snapshot().decode())
        for number in (10, 12):
            await peer.send_str(trades(trade(number, name="BTC-USDT-SWAP")).decode())
        await until(lambda: len(rig.sink.trades) == 3)
        said = [(t.trade_id, t.flags, t.amount) for t in rig.sink.trades]
        assert said == [("10", 0, 0.02), ("12", 0, 0.02), ("11", Flag.BACKFILLED, 0.02)]
        ((fault, _),) = rig.sink.faults
        assert (fault.reason, fault.streams) == ("sequence", (Stream(SWAP, "trades"),))
        kinds = [type(said).__name__ for said in rig.sink.log]
        assert kinds == ["BookFact", "TradeFact", "Fault", "TradeFact", "TradeFact"]
        assert isinstance(rig.sink.log[0], BookFact)
        assert isinstance(rig.sink.log[-1], TradeFact)
        assert [market.contract_size for market in rig.sink.markets] == [0.01]
        assert rig.shared.connects_made == 1

    channels = {"orderbook": [SWAP], "trades": [SWAP]}
    play(exchange, work, channels=channels, make=OkxAdapter)
