"""Kraken, message by message, and the whole of a recorded book with its checksums."""

import json
from pathlib import Path
from typing import Any

import pytest

from daedalus.exchanges.adapter import (
    Ask,
    BookFact,
    Control,
    DepthFact,
    Fault,
    Send,
    Stream,
    TickerFact,
    TradeFact,
)
from daedalus.exchanges.kraken import KrakenAdapter
from daedalus.features.book import ASK, BID, Book
from daedalus.records import Flag, unpack_side
from tests.exchanges.kraken_v1 import PlainBook, frame, recording, top_ten

CHANNELS = {"orderbook": ["BTC/USD"], "trades": ["BTC/USD"], "ticker": ["BTC/USD"]}
BIDS = [["100.0", "1.00000000"], ["99.5", "0.20000000"]]
DEEP = b"[" * 99_999
NO_ZONE = frame("snapshot", "BTC/USD", [], [], 0).replace(b'Z"', b'"')
ASKS = [["100.5", "3.00000000"], ["101.0", "0.05000000"]]


def opened(channels: dict[str, list[str]] = CHANNELS, **options: Any) -> KrakenAdapter:
    adapter = KrakenAdapter(channels, **options)
    adapter.subscribe()
    return adapter


def snapshot(pair: str = "BTC/USD", bids: Any = BIDS, asks: Any = ASKS) -> bytes:
    return frame("snapshot", pair, bids, asks, top_ten(bids, asks))


def acknowledged(channel: str, pair: str = "BTC/USD") -> bytes:
    result = {"channel": channel, "symbol": pair, "snapshot": True}
    return json.dumps({"method": "subscribe", "result": result, "success": True, "req_id": 1}).encode()


def sent(items: list[Any]) -> list[tuple[str, str, tuple[str, ...]]]:
    messages = [json.loads(item.data) for item in items if isinstance(item, Send)]
    return [(m["method"], m["params"]["channel"], tuple(m["params"]["symbol"])) for m in messages]


def test_the_whole_recording_has_no_checksum_mismatch_and_equals_a_plain_book(recordings: Path) -> None:
    messages = list(recording(recordings))
    pairs = list(dict.fromkeys(pair for pair, _ in messages))
    adapter = opened({"depth": pairs, "orderbook": pairs})
    plain = {pair: PlainBook(1000) for pair in pairs}
    rebuilt = {pair: Book() for pair in pairs}
    tops = 0
    for pair, raw in messages:
        plain[pair].take(raw)
        items = adapter.feed(raw)
        assert not any(isinstance(item, Fault) for item in items), items
        depth, top = items
        assert isinstance(depth, DepthFact)
        assert isinstance(top, BookFact)
        book = rebuilt[pair]
        if depth.kind == "snapshot":
            book.clear()
        book.apply_many(BID, depth.bids)
        book.apply_many(ASK, depth.asks)
        assert unpack_side(top.bids) == plain[pair].top("bids", 50)
        assert unpack_side(top.asks) == plain[pair].top("asks", 50)
        assert (book.top(BID, 50), book.top(ASK, 50)) == (top.bids, top.asks)
        tops += 1
    assert (len(pairs), tops) == (10, len(messages))
    for pair in pairs:  # rebuilt from the changes alone, to the last level
        assert unpack_side(rebuilt[pair].top(BID, 5000)) == plain[pair].top("bids", 5000)
        assert unpack_side(rebuilt[pair].top(ASK, 5000)) == plain[pair].top("asks", 5000)
        assert rebuilt[pair].depth(BID) <= 1000


def test_a_level_that_falls_out_of_the_subscribed_depth_is_removed_in_the_change(recordings: Path) -> None:
    messages = list(recording(recordings))
    pairs = [pair for pair, _ in messages]
    busiest = max(set(pairs), key=pairs.count)
    adapter = opened({"depth": [busiest]})
    adapter._books[busiest]._bound = 25  # as if Kraken told of 25 levels
    plain, rebuilt = PlainBook(25), Book()
    told = cut = 0
    for pair, raw in messages:
        items = adapter.feed(raw)
        if pair != busiest:
            assert items == []
            continue
        plain.take(raw)
        fact = items[0]
        if isinstance(fact, Fault):  # levels that a feed of 25 would have told again are missing by now
            break
        assert isinstance(fact, DepthFact)
        if fact.kind == "snapshot":
            rebuilt.clear()
        rebuilt.apply_many(BID, fact.bids)
        rebuilt.apply_many(ASK, fact.asks)
        row = json.loads(raw)["data"][0]
        cut += fact.kind == "update" and len(fact.bids + fact.asks) > 16 * len(row["bids"] + row["asks"])
        told += 1
        assert unpack_side(rebuilt.top(BID, 99)) == plain.top("bids", 99)
        assert unpack_side(rebuilt.top(ASK, 99)) == plain.top("asks", 99)
    assert told > 100
    assert cut > 10
    texts = adapter._texts[busiest]._sides
    assert max(map(len, texts)) <= 25  # nothing is kept of what was cut off


@pytest.mark.parametrize(("levels", "complete"), [(9, Flag.COMPLETE), (10, 0)])
def test_a_book_as_deep_as_was_subscribed_may_have_more(levels: int, complete: int) -> None:
    bids = [[f"{90 - n}.5", "1.0"] for n in range(levels)]
    (fact,) = opened(levels=10).feed(snapshot(bids=bids))
    assert isinstance(fact, BookFact)
    assert fact.flags == Flag.SNAPSHOT | complete
    adapter = opened({"depth": ["BTC/USD"]})
    adapter._books["BTC/USD"]._bound = 10
    (whole,) = adapter.feed(snapshot(bids=bids))
    assert isinstance(whole, DepthFact)
    assert whole.flags == Flag.SNAPSHOT | complete


def test_c05_a_flipped_digit_is_caught_and_harms_no_other_symbol(recordings: Path) -> None:
    messages = list(recording(recordings))
    pairs = list(dict.fromkeys(pair for pair, _ in messages))
    victim = max(pairs, key=[pair for pair, _ in messages].count)
    adapter = opened({"orderbook": pairs})
    plain = PlainBook(100)
    faults: list[Fault] = []
    others = flipped = 0
    for pair, raw in messages:
        told = raw
        if pair == victim and not flipped and b"update" in raw and plain.checksum():
            plain.take(raw)
            message = json.loads(raw, parse_float=str, parse_int=str)["data"][0]
            best = plain.top("bids", 1)[0][0]
            near = [level for level in message["bids"] if float(level["price"]) == best]
            if near and float(near[0]["qty"]):
                old = f'"qty":{near[0]["qty"]}'.encode()
                new = old[:-1] + (b"1" if old[-1:] != b"1" else b"2")
                assert old in raw
                told, flipped = raw.replace(old, new), 1
        elif pair == victim:
            plain.take(raw)
        items = adapter.feed(told)
        faults += [item for item in items if isinstance(item, Fault)]
        if told is not raw:
            assert sent(items) == [("unsubscribe", "book", (victim,)), ("subscribe", "book", (victim,))]
        elif pair == victim and flipped:
            assert items == []
        if pair != victim:
            assert [type(item) for item in items] == [BookFact]
            others += 1
    assert flipped == 1
    assert [(fault.reason, fault.local, fault.streams) for fault in faults] == [
        ("checksum", True, (Stream(victim, "orderbook"),))
    ]
    assert others > 1000


def test_d05_a_hole_in_the_changes_is_caught_by_the_checksum() -> None:
    adapter = opened()
    assert isinstance(adapter.feed(snapshot())[0], BookFact)
    lost, kept = [["100.0", "2.00000000"]], [["99.5", "0.30000000"]]
    (fault, *_) = adapter.feed(frame("update", "BTC/USD", kept, [], top_ten([*lost, *kept], ASKS)))
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.local) == ("checksum", True)


def test_trailing_zeros_count_in_the_checksum() -> None:
    adapter = opened()
    assert isinstance(adapter.feed(snapshot())[0], BookFact)
    short = [["100.0", "1.0"], *BIDS[1:]]
    (fault, *_) = opened().feed(frame("snapshot", "BTC/USD", short, ASKS, top_ten(BIDS, ASKS)))
    assert isinstance(fault, Fault)
    exponent = [["0.00000012", "1E-8"]]
    plain = [["0.00000012", "0.00000001"]]
    (fact,) = opened().feed(frame("snapshot", "BTC/USD", exponent, [], top_ten(plain, [])))
    assert isinstance(fact, BookFact)


HUGE = ("1e99999999999999999999", "1E-99999999999999999999", "1e400", "0e999999999", "9" * 400, "-1e5")


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("where", ["price", "qty"])
def test_no_number_of_a_level_raises_however_large_and_it_harms_no_other(number: str, where: str) -> None:
    adapter = opened({"orderbook": ["BTC/USD", "ETH/USD"]})
    adapter.feed(snapshot("ETH/USD"))
    level = {"price": "1", "qty": "1", where: number}
    row = f'{{"price":{level["price"]},"qty":{level["qty"]}}}'
    book = f'{{"symbol":"BTC/USD","bids":[{row}],"asks":[],"checksum":1}}'
    raw = f'{{"channel":"book","type":"snapshot","data":[{book}]}}'
    fault, *_ = adapter.feed(raw.encode())
    assert isinstance(fault, Fault)
    assert (fault.local, fault.streams) == (True, (Stream("BTC/USD", "orderbook"),))
    assert len(fault.detail) < 120
    assert isinstance(adapter.feed(snapshot("ETH/USD"))[0], BookFact)


def test_a_book_that_fails_again_and_again_is_asked_for_ever_more_rarely() -> None:
    adapter = opened()
    bad = frame("snapshot", "BTC/USD", BIDS, ASKS, 1)
    (_, *first) = adapter.feed(bad)
    assert all(isinstance(item, Send) for item in first)
    delays = []
    for _ in range(1100):
        fault, ask = adapter.feed(bad)
        assert isinstance(fault, Fault)
        assert isinstance(ask, Ask)
        delays.append(ask.delay_s)
        assert sent(list(adapter.answer(ask.key, 200, b"{}"))) == [
            ("unsubscribe", "book", ("BTC/USD",)),
            ("subscribe", "book", ("BTC/USD",)),
        ]
    assert delays == [2, 4, 8, 16, 32, 64, 128, 256, *[300] * 1092]
    assert isinstance(adapter.feed(snapshot())[0], BookFact)


def test_c05_one_bad_pair_has_one_resubscription_open_however_often_it_fails() -> None:
    adapter = opened({"orderbook": ["BTC/USD", "ETH/USD"]})
    adapter.feed(snapshot("ETH/USD"))
    bad = frame("snapshot", "BTC/USD", BIDS, ASKS, 1)
    items = [item for _ in range(300) for item in adapter.feed(bad)]
    assert [type(item) for item in items] == [Fault, Send, Send, Fault, Ask]
    assert isinstance(adapter.feed(frame("update", "ETH/USD", [], [], top_ten(BIDS, ASKS)))[0], BookFact)
    assert isinstance(items[-1], Ask)
    assert isinstance(adapter.feed(snapshot())[0], BookFact)
    assert adapter.answer(items[-1].key, 200, b"{}") == []  # it was cured meanwhile


def test_after_a_resynchronisation_the_first_book_says_so() -> None:
    adapter = opened()
    adapter.feed(snapshot())
    adapter.feed(frame("update", "BTC/USD", [["98.0", "1.0"]], [], 1))
    (fact,) = adapter.feed(snapshot())
    assert isinstance(fact, BookFact)
    assert fact.flags == Flag.SNAPSHOT | Flag.RESYNC | Flag.COMPLETE


def test_the_subscription_is_deep_enough_and_no_deeper() -> None:
    adapter = KrakenAdapter(
        {"orderbook": ["BTC/USD", "XBT/EUR"], "depth": ["XBT/EUR"], "trades": ["BTC/USD"]}
    )
    messages = [json.loads(item.data)["params"] for item in adapter.subscribe() if isinstance(item, Send)]
    assert messages == [
        {"channel": "book", "symbol": ["BTC/USD"], "depth": 100, "snapshot": True},
        {"channel": "book", "symbol": ["BTC/EUR"], "depth": 1000, "snapshot": True},
        {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True},
    ]
    with pytest.raises(ValueError, match="kraken tells of 1000 at most"):
        KrakenAdapter(CHANNELS, levels=1001)
    with pytest.raises(ValueError, match="contracts"):
        KrakenAdapter({"trades": ["BTC/USD:USD"]})
    with pytest.raises(ValueError, match="one pair"):
        KrakenAdapter({"trades": ["BTC/USD", "XBT/USD"]})
    with pytest.raises(ValueError, match="kraken has orderbook, depth, trades, ticker"):
        KrakenAdapter({"ohlcv": ["BTC/USD"]})


def test_c05_one_refused_symbol_does_not_harm_the_others() -> None:
    adapter = opened({"orderbook": ["BTC/USD", "BTC/USX"], "trades": ["BTC/USD"]})
    refusal = {"error": "Currency pair not supported BTC/USX", "method": "subscribe", "success": False}
    assert adapter.feed(acknowledged("book")) == [
        Control("subscribed", (Stream("BTC/USD", "orderbook"),)),
    ]
    fault, ask = adapter.feed(json.dumps({**refusal, "symbol": "BTC/USX", "req_id": 1}).encode())
    assert isinstance(fault, Fault)
    assert (fault.streams, fault.local, fault.fatal) == ((Stream("BTC/USX", "orderbook"),), True, False)
    assert isinstance(ask, Ask)
    assert ask.delay_s == 300
    assert sent(adapter.answer(ask.key, 200, b""))[1] == ("subscribe", "book", ("BTC/USX",))
    assert isinstance(adapter.feed(snapshot())[0], BookFact)
    assert not adapter.ready()
    adapter.feed(acknowledged("trade"))
    assert adapter.ready()


def test_a_connection_that_is_refused_everything_is_a_fault_of_the_configuration() -> None:
    adapter = opened({"trades": ["BTC/USX"]})
    (fault,) = adapter.feed(
        b'{"error":"Currency pair not supported","method":"subscribe","success":false,'
        b'"symbol":"BTC/USX","req_id":1}'
    )
    assert isinstance(fault, Fault)
    assert fault.fatal


@pytest.fixture(scope="module")
def frames(recordings: Path) -> dict[str, bytes]:
    lines = (recordings / "samples" / "api_frames.jsonl").read_text().splitlines()
    raw = [(json.loads(line), line.partition('"frame":')[2][:-1]) for line in lines]
    return {entry["name"]: text.encode() for entry, text in raw if entry["exchange"] == "kraken"}


def test_the_recorded_frames_are_understood(frames: dict[str, bytes]) -> None:
    adapter = opened()
    assert adapter.feed(frames["ws_subscribe_response"]) == [
        Control("subscribed", (Stream("BTC/USD", "ticker"),))
    ]
    assert adapter.feed(frames["ws_pong"]) == [Control("heartbeat")]
    (ticker,) = adapter.feed(frames["ws_ticker_snapshot"])
    assert isinstance(ticker, TickerFact)
    assert (ticker.bid, ticker.ask_volume, ticker.vwap, ticker.percentage) == (
        105944.2,
        3.2,
        105904.39279,
        0.24,
    )
    first, second = adapter.feed(frames["ws_trade_update"])
    assert isinstance(first, TradeFact)
    assert isinstance(second, TradeFact)
    assert [first.trade_id, second.side] == ["10218208", "sell"]


@pytest.mark.parametrize(
    ("bids", "asks", "flags"),
    [
        ([["101", "1"]], [["101", "1"]], Flag.LOCKED),
        ([["102", "1"]], [["101", "1"]], Flag.CROSSED),
        ([["102", "1"]], [], Flag.ONE_SIDED),
        ([], [], Flag.ONE_SIDED),
    ],
)
def test_d06_d07_a_crossed_locked_or_one_sided_book_is_flagged(bids: Any, asks: Any, flags: int) -> None:
    (fact,) = opened().feed(snapshot(bids=bids, asks=asks))
    assert isinstance(fact, BookFact)
    assert fact.flags == flags | Flag.SNAPSHOT | Flag.COMPLETE


def test_d06_a_book_that_stays_crossed_is_resynchronised_alone() -> None:
    adapter = opened()
    adapter.feed(snapshot(bids=[["102", "1"]], asks=[["101", "1"]]))
    for n in range(2, 400):
        items = adapter.feed(
            frame("update", "BTC/USD", [["102", str(n)]], [], top_ten([["102", str(n)]], [["101", "1"]]))
        )
        if isinstance(items[0], Fault):
            break
    assert isinstance(items[0], Fault)
    assert (items[0].reason, items[0].local) == ("error", True)


def test_a_heartbeat_and_a_status_are_signs_of_life() -> None:
    adapter = opened()
    for raw in (
        b'{"channel":"heartbeat"}',
        b'{"channel":"status","type":"update","data":[{"system":"online"}]}',
    ):
        assert adapter.feed(raw) == [Control("heartbeat")]
    assert adapter.ping() == b'{"method":"ping"}'
    assert adapter.feed(b'{"channel":"ohlc","type":"update","data":[]}') == [Control("heartbeat")]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b"{}",
        b'{"channel":"trade","data":[{"symbol":1}]}',
        b'{"error":"no"}',
        DEEP,
        NO_ZONE,
    ],
)
def test_what_cannot_be_understood_is_a_fault_of_the_connection(raw: bytes) -> None:
    adapter = opened()
    (fault,) = adapter.feed(raw)
    assert isinstance(fault, Fault)
    assert (fault.local, fault.streams) == (False, adapter.streams)
    assert adapter.feed(snapshot()) == []
    assert adapter.snapshots() == []
    assert not adapter.ready()


def test_snapshots_are_the_whole_valid_books_of_depth() -> None:
    adapter = opened({"depth": ["BTC/USD", "ETH/USD"]})
    assert adapter.snapshots() == []
    adapter.feed(snapshot())
    (whole,) = adapter.snapshots()
    assert (whole.symbol, whole.kind, whole.flags) == ("BTC/USD", "snapshot", Flag.SNAPSHOT | Flag.COMPLETE)
    assert unpack_side(whole.bids) == [(100.0, 1.0), (99.5, 0.2)]
