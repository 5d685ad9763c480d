"""The real ccxt class on a real recording: every update is taken, and every book is the true book."""

import asyncio
import json
from itertools import islice
from pathlib import Path

import pytest

from daedalus.actors.sidewatch import SideWatch
from daedalus.exchanges.adapter import Stream
from daedalus.exchanges.ccxt_facts import Translator
from daedalus.records import Flag, unpack_side
from tests.exchanges.fakes import HandFed, ListSink
from tests.system.truth import PlainBook, lines

LINES = 9_000
SYMBOL = "BTC/USDT"


@pytest.fixture
def recording(recordings: Path) -> Path:
    path = recordings / "binance_spot" / "btcusdt_20240808.gz"
    if not path.exists():
        pytest.skip(f"no recording {path}")
    return path


class Truth:
    """The book by the exchange's own recipe, independent of ccxt."""

    def __init__(self) -> None:
        self.book = PlainBook()
        self.last = 0
        self.early: list[dict] = []
        self.tops: dict[int, tuple] = {}
        self.trades: list[tuple[str, float, float, str]] = []

    def take(self, data: dict) -> None:
        if "lastUpdateId" in data:
            for side in ("bids", "asks"):
                for price, size in data[side]:
                    self.book.set(side[0], float(price), float(size))
            self.last = data["lastUpdateId"]
            for update in self.early:
                self.apply(update)
            self.tops = {self.last: self.book.top(20)}
        elif data.get("e") == "depthUpdate":
            if self.last:
                self.apply(data)
            else:
                self.early.append(data)
        elif data.get("e") == "trade":
            side = "sell" if data["m"] else "buy"
            self.trades.append((str(data["t"]), float(data["p"]), float(data["q"]), side))

    def apply(self, data: dict) -> None:
        if data["u"] <= self.last:
            return
        assert data["U"] <= self.last + 1
        for side in ("b", "a"):
            for price, size in data[side]:
                self.book.set(side, float(price), float(size))
        self.last = data["u"]
        self.tops[self.last] = self.book.top(20)


async def replay(path: Path, sink: ListSink, truth: Truth) -> None:
    fed = HandFed(sink, [SYMBOL])
    client = fed.open(0, *(Stream(SYMBOL, channel) for channel in ("orderbook", "trades", "ticker")))
    fed.feed(client, {"result": None, "id": 1})
    for index, (_, message) in enumerate(lines(path)):
        if index >= LINES:
            break
        data = message.get("data", message)
        truth.take(data)
        if "lastUpdateId" in data:
            fed.answer(SYMBOL, data)
            for _ in range(20):
                await asyncio.sleep(0)
        else:
            fed.feed(client, json.dumps(message))
    await fed.close()


def test_every_stored_book_is_the_true_book_and_every_trade_comes_once(recording: Path) -> None:
    sink, truth = ListSink(), Truth()
    asyncio.run(replay(recording, sink, truth))
    assert not sink.faults

    assert [book.nonce for book in sink.books] == list(truth.tops)
    assert len(sink.books) > 500
    for book in sink.books:
        bids, asks = truth.tops[book.nonce]
        assert unpack_side(book.bids)[:20] == bids
        assert unpack_side(book.asks)[:20] == asks
    assert [book.flags & Flag.SNAPSHOT for book in sink.books] == [1] + [0] * (len(sink.books) - 1)

    assert [(t.trade_id, t.price, t.amount, t.side) for t in sink.trades] == truth.trades
    assert {(t.side, t.side_raw) for t in sink.trades} == {("sell", "m=true"), ("buy", "m=false")}


def test_the_self_test_of_sides_agrees_with_the_recorded_market(recording: Path) -> None:
    watch = SideWatch()
    translator = Translator(levels=1, side="taker")
    for at, message in islice(lines(recording), 20_000):
        data = message.get("data", message)
        if data.get("e") == "trade":
            side = "sell" if data["m"] else "buy"
            one = {"id": data["t"], "price": data["p"], "amount": data["q"], "side": side}
            watch.see(translator.trades(SYMBOL, [one])[0], at)
        elif "bookTicker" in message.get("stream", ""):
            watch.see(translator.summary(SYMBOL, {"bid": data["b"], "ask": data["a"]}), at)
    agreement = watch.lowest()
    assert agreement is not None
    assert agreement > 0.9
    assert watch.suspects() == []


def test_best_bid_and_ask_come_as_ticker_rows_with_the_update_id(recording: Path) -> None:
    sink, truth = ListSink(), Truth()
    asyncio.run(replay(recording, sink, truth))
    quotes = []
    for index, (_, message) in enumerate(lines(recording)):
        if index >= LINES:
            break
        if "bookTicker" in message.get("stream", ""):
            quotes.append(message["data"])
    assert [(t.exch_seq, t.bid, t.ask) for t in sink.tickers] == [
        (q["u"], float(q["b"]), float(q["a"])) for q in quotes
    ]
    assert {t.ts_event for t in sink.tickers} == {None}  # the exchange gives none: it is missing
