"""Binance on recordings of the real one: every book is the true book, every trade comes once.

The truth is independent of the adapter: the exchange's own best bid and ask, which carry the update id of the
book, and a book of plain dicts built straight from the JSON.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from daedalus.exchanges.adapter import BookFact, Control, DepthFact, Stream
from daedalus.records import Flag, unpack_side
from tests.exchanges import binance_kit as kit
from tests.exchanges.binance_kit import BTC, ETH, SWAP, DictBook, Spot1000, Truth, recorded, replay

if TYPE_CHECKING:
    from daedalus.exchanges.binance import BinanceAdapter

BTC_8, BTC_9 = "binance_spot/btcusdt_20240808.gz", "binance_spot/btcusdt_20240809.gz"
ETH_8, USDM_8 = "binance_spot/ethusdt_20240808.gz", "binance_usdm/btcusdt_20240808.gz"
LEVELS = 20
# The two updates after which the exchange contradicts itself: its quote shows a bid that none of its depth
# updates has brought by then, though the quote's id is lower. Both are true again one message later.
CONTRADICTED = {50093478174: 61565.10, 50093480542: 61556.11}

Quote = tuple[float, float, float, float]


def quotes(lines: list[bytes]) -> list[tuple[int, Quote]]:
    """Return (update id, (bid, size, ask, size)) of all best bids and asks, in order."""
    found = []
    for raw in lines:
        if b"@bookTicker" in raw[:40]:
            data = msgspec.json.decode(raw)["data"]
            found.append((data["u"], tuple(float(data[key]) for key in "bBaA")))
    assert all(before[0] < after[0] for before, after in pairwise(found))
    return found  # type: ignore[return-value]


def best(book: BookFact) -> Quote:
    (bid, *_), (ask, *_) = unpack_side(book.bids[:16]), unpack_side(book.asks[:16])
    return (*bid, *ask)


class Replayed:
    """One recording, replayed and compared with both truths at every update."""

    def __init__(self, lines: list[bytes], make: Any, symbol: str, *, same_id: bool) -> None:
        self.adapter: BinanceAdapter = make({"orderbook": [symbol], "depth": [symbol]}, levels=LEVELS)
        self.truth, self.rebuilt = Truth(), DictBook()
        self.counts = {"snapshot": 0, "update": 0}
        self.quoted = 0  # books that have a quote to be compared with
        self.wrong: dict[int, Quote] = {}
        self._quotes = quotes(lines)
        self._at = 0
        by_id = dict(self._quotes)
        lines = [raw for raw in lines if kit.is_snapshot(raw) or b"@depth" in raw[:40]]
        for _, items in replay(self.adapter, lines, self.truth):
            assert not kit.faults(items)
            self._rebuild(kit.depths(items))
            for book in kit.books(items):
                assert book.nonce == self.truth.last
                assert (unpack_side(book.bids), unpack_side(book.asks)) == self.truth.book.top(LEVELS)
                quote = by_id.get(book.nonce) if same_id else self._quote(book.nonce)
                self.quoted += quote is not None
                if quote is not None and best(book) != quote:
                    self.wrong[book.nonce] = quote

    def _rebuild(self, rows: list[DepthFact]) -> None:
        for row in rows:
            assert row.kind == "snapshot" or (row.first_exch_seq or 0) <= (row.exch_seq or 0) == row.nonce
            self.rebuilt.take(row)
            self.counts[row.kind] += 1
        if rows:
            self.agree()

    def agree(self) -> None:
        assert self.rebuilt.last == self.truth.last
        assert {"b": self.rebuilt.bids, "a": self.rebuilt.asks} == self.truth.book.sizes

    def _quote(self, nonce: int) -> Quote | None:
        while self._at < len(self._quotes) and self._quotes[self._at][0] <= nonce:
            self._at += 1
        return self._quotes[self._at - 1][1] if self._at else None


def test_every_book_of_eth_is_true_and_its_top_the_exchanges_own_quote(recordings: Path) -> None:
    done = Replayed(recorded(recordings, ETH_8), Spot1000, ETH, same_id=False)
    assert (done.quoted, done.wrong) == (3433, {})
    assert done.counts == {"snapshot": 1, "update": 3432}


def test_every_book_of_usdm_is_true_and_its_top_the_quote_of_the_same_update(recordings: Path) -> None:
    done = Replayed(recorded(recordings, USDM_8), kit.BinanceUsdmAdapter, SWAP, same_id=True)
    assert (done.quoted, done.wrong) == (629, {})
    assert done.counts == {"snapshot": 3, "update": 6547}  # the reach was used up by half, twice


def test_every_book_of_btc_over_midnight_is_true_but_where_the_exchange_contradicts_itself(
    recordings: Path,
) -> None:
    done = Replayed(recorded(recordings, BTC_8) + recorded(recordings, BTC_9), Spot1000, BTC, same_id=False)
    assert done.quoted == 6493
    assert {nonce: quote[0] for nonce, quote in done.wrong.items()} == CONTRADICTED
    for raw in recorded(recordings, BTC_9):
        if b"@depth" in raw[:40] and (data := json.loads(raw)["data"])["u"] in CONTRADICTED:
            # the quoted bid is not in the update that ought to bring it
            assert CONTRADICTED[data["u"]] not in {float(price) for price, _ in data["b"]}
    assert done.counts["snapshot"] == 2
    (whole,) = done.adapter.snapshots()
    done.rebuilt.take(whole)
    done.agree()
    assert whole.kind == "snapshot"
    assert not whole.flags & Flag.COMPLETE  # 1000 levels were asked for, and 1000 came


@pytest.mark.parametrize(
    ("file", "make", "symbol", "count"),
    [
        (BTC_8, Spot1000, BTC, 9757),
        (ETH_8, Spot1000, ETH, 6106),
        (USDM_8, kit.BinanceUsdmAdapter, SWAP, 21313),
    ],
)
def test_every_recorded_trade_comes_once_in_order_and_on_the_takers_side(
    recordings: Path, file: str, make: Any, symbol: str, count: int
) -> None:
    lines = recorded(recordings, file)
    adapter = make({"trades": [symbol]})
    adapter.subscribe()
    found = [fact for raw in lines if b"@trade" in raw[:40] for fact in kit.trades(adapter.feed(raw))]
    told = [json.loads(raw)["data"] for raw in lines if b"@trade" in raw[:40]]
    assert len(found) == count
    assert [(f.trade_id, f.price, f.amount, f.side, f.side_raw, f.ts_event, f.flags) for f in found] == [
        (
            str(t["t"]),
            float(t["p"]),
            float(t["q"]),
            "sell" if t["m"] else "buy",
            "m=true" if t["m"] else "m=false",
            t["T"] * 1_000_000,
            0,
        )
        for t in told
    ]
    ids = [int(f.trade_id) for f in found]
    assert ids == list(range(ids[0], ids[0] + count))


def test_two_symbols_of_one_connection_do_not_mix(recordings: Path) -> None:
    btc, eth = recorded(recordings, BTC_8)[:6000], recorded(recordings, ETH_8)[:6000]
    channels = {channel: [BTC, ETH] for channel in ("orderbook", "depth", "trades", "ticker")}
    both = Spot1000(channels, levels=LEVELS)
    waiting = kit.asks(both.subscribe())
    alone: dict[str, list[Any]] = {}
    for symbol, lines in ((BTC, btc), (ETH, eth)):
        one = Spot1000({channel: [symbol] for channel in channels}, levels=LEVELS)
        alone[symbol] = [i for _, items in replay(one, lines, Truth()) for i in items]
    mixed: dict[str, list[Any]] = {BTC: [], ETH: []}
    for pair in zip(btc, eth, strict=True):
        for ask, symbol, raw in zip(waiting, (BTC, ETH), pair, strict=True):
            items = both.answer(ask.key, 200, raw) if kit.is_snapshot(raw) else both.feed(raw)
            mixed[symbol] += items
    for symbol in (BTC, ETH):
        facts = [item for item in mixed[symbol] if not isinstance(item, Control)]
        assert facts == [item for item in alone[symbol] if not isinstance(item, Control)]
    assert both.ready()


def test_best_bid_and_ask_are_ticker_rows_with_the_books_update_id(recordings: Path) -> None:
    lines = recorded(recordings, BTC_8)
    adapter = Spot1000({"ticker": [BTC]})
    adapter.subscribe()
    rows = [item for raw in lines[:20_000] if b"@bookTicker" in raw[:40] for item in adapter.feed(raw)]
    assert rows.pop(0) == Control("subscribed", (Stream(BTC, "ticker"),))
    assert [(row.exch_seq, (row.bid, row.bid_volume, row.ask, row.ask_volume)) for row in rows] == quotes(
        lines[:20_000]
    )
    assert {row.ts_event for row in rows} == {None}  # the exchange gives none: it is missing
