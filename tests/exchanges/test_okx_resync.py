"""OKX's bad symbols: however often one fails, it is asked for once at a time, and harms no other."""

import json

from daedalus.exchanges.adapter import Ask, BookFact, Fault, Send
from tests.exchanges.okx_feed import OkxFeed
from tests.exchanges.test_okx import REFUSAL, opened, sent, unusable


def test_c05_one_bad_symbol_has_one_resubscription_open_however_often_it_fails() -> None:
    feed, other = OkxFeed(4, checksums=False), OkxFeed(5, "ETH-USDT", checksums=False)
    adapter = opened({"orderbook": ["BTC/USDT", "ETH/USDT"]})
    adapter.feed(other.snapshot())
    items = [item for _ in range(2000) for item in adapter.feed(unusable(feed))]
    assert [type(item) for item in items] == [Fault, Send, Send]  # subscribed anew, and ignored since
    items = [item for _ in range(2000) for item in adapter.feed(unusable(feed, "snapshot"))]
    assert [type(item) for item in items] == [Fault, Ask]  # a snapshot is looked at: the next try waits
    (ask,) = (item for item in items if isinstance(item, Ask))
    assert adapter.feed(unusable(feed)) == []
    assert isinstance(adapter.feed(other.update())[0], BookFact)
    again = [("unsubscribe", [("books", "BTC-USDT")]), ("subscribe", [("books", "BTC-USDT")])]
    assert sent(adapter.answer(ask.key, 200, b"")) == again
    assert adapter.feed(feed.update()) == []
    assert isinstance(adapter.feed(feed.snapshot())[0], BookFact)
    assert isinstance(adapter.feed(feed.update())[0], BookFact)


def test_a_book_that_was_cured_while_its_resubscription_waited_is_left_alone() -> None:
    feed = OkxFeed(4, checksums=False)
    adapter = opened({"orderbook": ["BTC/USDT"]})
    adapter.feed(unusable(feed))
    _, ask = adapter.feed(unusable(feed, "snapshot"))
    assert isinstance(ask, Ask)
    assert isinstance(adapter.feed(feed.snapshot())[0], BookFact)
    assert adapter.answer(ask.key, 200, b"") == []
    (fault, later) = adapter.feed(unusable(feed))  # and may be damaged again
    assert isinstance(fault, Fault)
    assert isinstance(later, Ask)


def test_c05_a_new_connection_begins_without_what_waited_on_the_last() -> None:
    feed = OkxFeed(4, checksums=False)
    adapter = opened({"orderbook": ["BTC/USDT"]})
    adapter.feed(unusable(feed))
    adapter.feed(unusable(feed, "snapshot"))
    adapter.subscribe()
    _, ask = adapter.feed(unusable(feed))
    assert isinstance(ask, Ask)
    assert adapter.answer(ask.key, 200, b"")


def test_c05_a_symbol_that_is_refused_again_and_again_has_one_next_try_open() -> None:
    adapter = opened({"orderbook": ["BTC/USDT", "BTC/USX"]})
    refusal = json.dumps(REFUSAL).encode()
    asks = [item for _ in range(300) for item in adapter.feed(refusal) if isinstance(item, Ask)]
    assert len(asks) == 1
    adapter.answer(asks[0].key, 200, b"")
    assert [type(item) for item in adapter.feed(refusal)] == [Fault, Ask]
