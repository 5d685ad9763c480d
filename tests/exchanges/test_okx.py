"""OKX, message by message, and books made from seeds with checksums of their own."""

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
    Item,
    Send,
    Stream,
    TickerFact,
    TradeFact,
)
from daedalus.exchanges.freshness import Watches
from daedalus.exchanges.okx import OkxAdapter
from daedalus.exchanges.overlap import Sieve
from daedalus.features.book import ASK, BID, Book
from daedalus.records import Flag, unpack_side
from tests.exchanges.okx_feed import OkxFeed
from tests.exchanges.shellkit import Sink

CHANNELS = {"orderbook": ["BTC/USDT"], "trades": ["BTC/USDT"], "ticker": ["BTC/USDT"]}
SWAP = "BTC/USDT:USDT"
DEEP = b"[" * 99_999


def opened(channels: dict[str, list[str]] = CHANNELS, **options: Any) -> OkxAdapter:
    adapter = OkxAdapter(channels, **options)
    adapter.subscribe()
    return adapter


def sent(items: list[Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    messages = [json.loads(item.data) for item in items if isinstance(item, Send)]
    return [(m["op"], [(arg["channel"], arg["instId"]) for arg in m["args"]]) for m in messages]


def only_books(items: list[Any]) -> list[BookFact]:
    return [item for item in items if isinstance(item, BookFact)]


def acknowledged(channel: str, name: str = "BTC-USDT") -> bytes:
    return json.dumps({"event": "subscribe", "arg": {"channel": channel, "instId": name}}).encode()


@pytest.mark.parametrize("checksums", [True, False])
def test_a_generated_book_is_followed_to_the_last_level(checksums: bool) -> None:
    feed = OkxFeed(1, checksums=checksums)
    adapter = opened({"depth": ["BTC/USDT"], "orderbook": ["BTC/USDT"]})
    rebuilt = Book()
    for n in range(600):
        raw = feed.snapshot() if n == 0 else feed.update()
        depth, top = adapter.feed(raw)
        assert isinstance(depth, DepthFact)
        assert isinstance(top, BookFact)
        rebuilt.apply_many(BID, depth.bids)
        rebuilt.apply_many(ASK, depth.asks)
        assert (depth.nonce, depth.exch_seq) == (feed.seq, feed.seq)
        assert unpack_side(top.bids) == feed.top("bids", 50)
        assert unpack_side(top.asks) == feed.top("asks", 50)
    assert unpack_side(rebuilt.top(BID, 999)) == feed.top("bids", 999)
    assert unpack_side(rebuilt.top(ASK, 999)) == feed.top("asks", 999)


def test_c05_a_flipped_digit_is_caught_where_there_is_a_checksum_and_harms_no_other() -> None:
    feed, other = OkxFeed(2), OkxFeed(3, "ETH-USDT")
    adapter = opened({"orderbook": ["BTC/USDT", "ETH/USDT"]})
    for one in (feed, other):
        assert isinstance(adapter.feed(one.snapshot())[0], BookFact)
    size = feed.levels("bids", 1)[0][1]
    price = max(feed.bids)
    wrong = size[:-1] + ("1" if size[-1] != "1" else "2")
    feed.seq += 5
    raw = feed.frame("update", [[str(price), wrong, "0", "1"]], [], feed.seq - 5)
    fault, *rest = adapter.feed(raw)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.local, fault.streams) == (
        "checksum",
        True,
        (Stream("BTC/USDT", "orderbook"),),
    )
    assert sent(list(rest)) == [
        ("unsubscribe", [("books", "BTC-USDT")]),
        ("subscribe", [("books", "BTC-USDT")]),
    ]
    assert adapter.feed(feed.update()) == []
    assert isinstance(adapter.feed(other.update())[0], BookFact)
    (again,) = adapter.feed(feed.snapshot())
    assert isinstance(again, BookFact)
    assert again.flags == Flag.SNAPSHOT | Flag.RESYNC


def test_d05_a_hole_in_the_chain_is_a_fault_of_that_book_alone() -> None:
    feed, other = OkxFeed(4, checksums=False), OkxFeed(5, "ETH-USDT", checksums=False)
    adapter = opened({"orderbook": ["BTC/USDT", "ETH/USDT"]})
    for one in (feed, other):
        adapter.feed(one.snapshot())
    feed.update()
    lost = feed.seq
    fault, *_ = adapter.feed(feed.update())
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.local) == ("sequence", True)
    assert f"prevSeqId {lost}, expected 1000" in fault.detail
    assert adapter.feed(feed.update()) == []
    assert isinstance(adapter.feed(other.update())[0], BookFact)


def unusable(feed: OkxFeed, action: str = "update") -> bytes:
    return feed.frame(action, [["1", "1", "0", "1"]], [], 1).replace(str(feed.ts).encode(), b"soon")


def test_what_okx_says_of_a_book_that_does_not_change_names_its_streams_only_while_it_is_valid() -> None:
    feed = OkxFeed(6)
    adapter = opened({"orderbook": ["BTC/USDT", "ETH/USDT"], "depth": ["BTC/USDT"], "trades": ["BTC/USDT"]})
    assert adapter.feed(feed.silence()) == []
    adapter.feed(feed.snapshot())
    streams = (Stream("BTC/USDT", "orderbook"), Stream("BTC/USDT", "depth"))
    assert adapter.feed(feed.silence()) == [Control("heartbeat", streams)]
    adapter.feed(unusable(feed))
    assert adapter.feed(feed.silence()) == []  # a book that is not valid is silent


def test_silence_is_no_change_and_numbers_may_begin_anew_after_maintenance() -> None:
    feed = OkxFeed(6)
    adapter = opened()
    adapter.feed(feed.snapshot())
    assert adapter.feed(feed.silence()) == [Control("heartbeat", (Stream("BTC/USDT", "orderbook"),))]
    assert isinstance(adapter.feed(feed.update())[0], BookFact)
    (fact,) = adapter.feed(feed.reset())
    assert isinstance(fact, BookFact)
    assert fact.exch_seq == 7
    assert isinstance(adapter.feed(feed.update())[0], BookFact)


def test_c08_of_two_connections_the_one_that_is_behind_by_seq_id_has_not_caught_up() -> None:
    feed = OkxFeed(3)
    first = feed.snapshot()
    feed.ts -= 100  # the exchange's clock would not tell them apart
    second = feed.update()
    old, new = opened({"orderbook": ["BTC/USDT"]}), opened({"orderbook": ["BTC/USDT"]})
    watches, sieve = Watches(old.streams, 10, 120), Sieve(Sink(), comparable=OkxAdapter.comparable)
    watches.opened(0)
    for raw in (first, second):
        (book,) = only_books(old.feed(raw))
        watches.heard(book, 1)
    for raw, reached in ((first, False), (second, True)):
        sieve.take(Sink().capture(), only_books(new.feed(raw)))
        assert sieve.caught_up(watches) is reached


def test_a_book_is_cut_to_what_the_exchange_tells_of() -> None:
    feed = OkxFeed(7, checksums=False)
    adapter = opened({"depth": ["BTC/USDT"]})
    adapter.feed(feed.snapshot())
    feed.seq += 1
    new = [[f"{500 + n / 10}", "1", "0", "1"] for n in range(200)]
    (fact,) = adapter.feed(feed.frame("update", new, [], feed.seq - 1))
    assert isinstance(fact, DepthFact)
    assert len(unpack_side(fact.bids)) == 300
    assert [size for _, size in unpack_side(fact.bids)][200:] == [0.0] * 100
    (whole,) = adapter.snapshots()
    assert len(unpack_side(whole.bids)) == 400


def test_the_subscription_is_one_message() -> None:
    adapter = OkxAdapter(
        {"orderbook": ["BTC/USDT"], "depth": ["BTC/USDT"], "trades": ["BTC/USDT", "ETH/USDT"]}
    )
    assert sent(list(adapter.subscribe())) == [
        ("subscribe", [("books", "BTC-USDT"), ("trades", "BTC-USDT"), ("trades", "ETH-USDT")])
    ]
    assert adapter.address("wss://ws.okx.com:8443/ws/v5/public") == "wss://ws.okx.com:8443/ws/v5/public"
    for wrong, words in (
        ({"ohlcv": ["BTC/USDT"]}, "okx has orderbook, depth, trades, ticker"),
        ({"trades": ["BTC/USD:BTC-261225-100000-C"]}, "options"),
        ({"trades": ["BTC/USDT", "BTC-USDT"]}, "both are BTC-USDT"),
    ):
        with pytest.raises(ValueError, match=words):
            OkxAdapter(wrong)
    with pytest.raises(ValueError, match="okx tells of 400"):
        OkxAdapter(CHANNELS, levels=401)


def test_trades_alone_come_one_by_one_from_the_business_address() -> None:
    adapter = OkxAdapter({"trades": ["BTC/USDT"]})
    assert sent(list(adapter.subscribe())) == [("subscribe", [("trades-all", "BTC-USDT")])]
    assert adapter.address("wss://ws.okx.com:8443/ws/v5/public") == "wss://ws.okx.com:8443/ws/v5/business"
    assert adapter.address("ws://127.0.0.1:1/okx") == "ws://127.0.0.1:1/okx"
    assert OkxAdapter.split(CHANNELS) == [
        {"orderbook": ["BTC/USDT"], "ticker": ["BTC/USDT"]},
        {"trades": ["BTC/USDT"]},
    ]


def trade(number: int, count: int = 1, side: str = "buy", name: str = "BTC-USDT") -> dict[str, str]:
    return {
        "instId": name,
        "tradeId": str(number),
        "px": "100.5",
        "sz": "2",
        "side": side,
        "ts": "1630048897897",
        "count": str(count),
    }


def trades(*rows: dict[str, str], channel: str = "trades") -> bytes:
    arg = {"channel": channel, "instId": rows[0]["instId"]}
    return json.dumps({"arg": arg, "data": list(rows)}).encode()


def past(*rows: dict[str, str]) -> bytes:
    return json.dumps({"code": "0", "msg": "", "data": list(rows)}).encode()


def test_folded_trades_are_contiguous_by_their_count_and_say_that_they_are_folded() -> None:
    adapter = opened()
    items = adapter.feed(trades(trade(13, 3), trade(10)))
    facts = [item for item in items if isinstance(item, TradeFact)]
    assert [(f.trade_id, f.flags, f.side) for f in facts] == [("10", 0, "buy"), ("13", Flag.CONFLATED, "buy")]
    assert len(items) == 2


def test_a_hole_in_the_trade_ids_is_a_fault_of_that_stream_and_is_filled() -> None:
    adapter = opened({"trades": ["BTC/USDT"]})
    adapter.feed(trades(trade(10), channel="trades-all"))
    fault, ask, fact = adapter.feed(trades(trade(14), channel="trades-all"))
    streams = (Stream("BTC/USDT", "trades"),)
    assert fault == Fault(streams, "sequence", "trade 14 follows 10: 3 missing", local=True)
    assert isinstance(fact, TradeFact)
    assert isinstance(ask, Ask)
    assert ask.path == "/api/v5/market/history-trades?instId=BTC-USDT&type=1&limit=100&after=14"
    first = adapter.answer(ask.key, 200, past(trade(13), trade(12)))
    *filled, more = first
    assert isinstance(more, Ask)
    assert more.path.endswith("after=12")
    last = adapter.answer(more.key, 200, past(trade(11, side="sell"), trade(10)))
    ids = [(f.trade_id, f.flags, f.side) for f in [*filled, *last] if isinstance(f, TradeFact)]
    assert ids == [("12", 128, "buy"), ("13", 128, "buy"), ("11", 128, "sell")]
    assert len(last) == 1


def test_what_the_connection_streams_is_not_told_twice_by_a_backfill() -> None:
    adapter = opened()
    adapter.feed(trades(trade(20, 4)))
    (ask,) = adapter.backfill("BTC/USDT", "14")
    assert adapter.backfill("BTC/USDT", None) == []
    items = adapter.answer(ask.key, 200, past(*(trade(n) for n in range(21, 13, -1))))
    assert [f.trade_id for f in items if isinstance(f, TradeFact)] == ["15", "16"]


REFUSAL = {
    "event": "error",
    "code": "60018",
    "msg": "Wrong URL or channel:books,instId:BTC-USX doesn't exist. Please use the correct URL.",
}


def test_c05_one_refused_symbol_does_not_harm_the_others() -> None:
    adapter = opened({"orderbook": ["BTC/USDT", "BTC/USX"]})
    adapter.feed(acknowledged("books"))
    fault, ask = adapter.feed(json.dumps(REFUSAL).encode())
    assert isinstance(fault, Fault)
    assert (fault.streams, fault.local, fault.fatal) == ((Stream("BTC/USX", "orderbook"),), True, False)
    assert isinstance(ask, Ask)
    assert sent(list(adapter.answer(ask.key, 200, b"")))[1] == ("subscribe", [("books", "BTC-USX")])
    assert not adapter.ready()
    assert isinstance(adapter.feed(OkxFeed(1).snapshot())[0], BookFact)
    assert adapter.ready()


def test_a_connection_that_is_refused_everything_is_a_fault_of_the_configuration() -> None:
    (fault,) = opened({"orderbook": ["BTC/USX"]}).feed(json.dumps(REFUSAL).encode())
    assert isinstance(fault, Fault)
    assert fault.fatal


def test_an_error_that_names_nobody_ends_the_connection() -> None:
    adapter = opened()
    (fault,) = adapter.feed(b'{"event":"error","code":"60014","msg":"Requests too frequent"}')
    assert fault == Fault(adapter.streams, "error", "the exchange says: 60014 Requests too frequent")
    assert adapter.feed(OkxFeed(1).snapshot()) == []
    assert adapter.snapshots() == []


def test_ping_is_a_text_and_pong_a_sign_of_life() -> None:
    adapter = opened()
    assert adapter.ping() == b"ping"
    for raw in (b"pong", memoryview(b"pong"), b'{"event":"notice","code":"64008","msg":"soon"}'):
        assert adapter.feed(raw) == [Control("heartbeat")]


@pytest.fixture(scope="module")
def frames(recordings: Path) -> dict[str, bytes]:
    lines = (recordings / "samples" / "api_frames.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return {e["name"]: json.dumps(e["frame"]).encode() for e in entries if e["exchange"] == "okx"}


def test_the_recorded_frames_are_understood(frames: dict[str, bytes]) -> None:
    adapter = opened(CHANNELS | {"trades": ["BTC/USD"]}, raw_info=True)
    (book, *_) = adapter.feed(frames["ws_books_snapshot"])
    assert isinstance(book, Fault)  # the documents' example has a checksum of another book
    (ticker,) = adapter.feed(frames["ws_tickers"])
    assert isinstance(ticker, TickerFact)
    assert (ticker.bid, ticker.ask_volume, ticker.base_volume, ticker.open) == (8888.88, 11.0, 2222.0, 9000.0)
    assert json.loads(ticker.info_json or "")["open24h"] == "9000"
    (one,) = adapter.feed(frames["ws_trades"])
    assert isinstance(one, TradeFact)
    assert (one.trade_id, one.side, one.ts_event) == ("130639474", "buy", 1_630_048_897_897_000_000)
    assert adapter.feed(frames["ws_bbo_tbt"]) == [Control("heartbeat")]


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
    feed = OkxFeed(1, checksums=False)
    (fact,) = opened().feed(feed.frame("snapshot", bids, asks, -1))
    assert isinstance(fact, BookFact)
    assert fact.flags == flags | Flag.SNAPSHOT | Flag.COMPLETE


def test_d06_a_book_that_stays_crossed_is_resynchronised_alone() -> None:
    feed = OkxFeed(1, checksums=False)
    adapter = opened()
    adapter.feed(feed.frame("snapshot", [["102", "1"]], [["101", "1"]], -1))
    items: list[Item] = []
    while not any(isinstance(item, Fault) for item in items):
        feed.seq += 1
        items = adapter.feed(feed.frame("update", [["102", str(feed.seq)]], [], feed.seq - 1))
        assert feed.seq < 1300
    assert isinstance(items[0], Fault)
    assert items[0].local


def test_a_damaged_message_harms_only_its_own_stream() -> None:
    adapter = opened()
    arg = {"channel": "trades", "instId": "BTC-USDT"}
    (fault,) = adapter.feed(json.dumps({"arg": arg, "data": [{"px": "NaN"}]}).encode())
    assert isinstance(fault, Fault)
    assert (fault.local, fault.streams) == (True, (Stream("BTC/USDT", "trades"),))
    assert isinstance(adapter.feed(OkxFeed(1).snapshot())[0], BookFact)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[1]", b"\xff", b"{}", b'{"arg":{}}', b'{"data":[]}', b"pin", DEEP]
)
def test_what_cannot_be_understood_is_a_fault_of_the_connection(raw: bytes) -> None:
    adapter = opened()
    (fault,) = adapter.feed(raw)
    assert isinstance(fault, Fault)
    assert (fault.local, fault.streams) == (False, adapter.streams)
