"""Binance's books: when one is true, and what is done when it is not. Spot, but where USD-M is named."""

import msgspec
import pytest

from daedalus.exchanges.adapter import Ask, BookFact, DepthFact, Item, Stream
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.exchanges.binance_book import BUFFER_MAX
from daedalus.records import Flag, pack_side, unpack_side
from tests.exchanges import binance_kit as kit
from tests.exchanges.binance_kit import BTC, ETH, E, delta, opened, snapshot, synced

BOOK = (Stream(BTC, "orderbook"), Stream(BTC, "depth"))
DEPTHS = ("orderbook", "depth")


def nonces(items: list[Item]) -> list[int | None]:
    return [book.nonce for book in kit.books(items)]


def broken(items: list[Item], reason: str = "sequence") -> Ask:
    """Check that a book was lost, and nothing else; return the request for the next snapshot."""
    fault, ask = items
    assert (fault.streams, fault.reason, fault.local, fault.fatal) == (BOOK, reason, True, False)
    assert (ask.streams, ask.path) == (BOOK, "/api/v3/depth?symbol=BTCUSDT&limit=5000")
    return ask


# -- the first book


def test_c04_updates_are_buffered_before_the_snapshot_and_nothing_is_said_before_it() -> None:
    adapter, (ask,) = opened(channels=DEPTHS)
    for message in (delta(98, 99), delta(100, 103, [(100, 9)]), delta(104, 104, [(98, 1)])):
        assert adapter.feed(message) == []
    assert not adapter.ready()
    first, second, third, book = adapter.answer(ask.key, 200, snapshot(101))
    assert (first.kind, first.nonce, first.first_exch_seq, first.ts_event) == ("snapshot", 101, None, None)
    assert first.flags == Flag.SNAPSHOT | Flag.COMPLETE
    assert unpack_side(first.bids) == [(100, 1), (99, 2)]
    assert [(d.kind, d.first_exch_seq, d.exch_seq, d.nonce) for d in (second, third)] == [
        ("update", 100, 103, 103),
        ("update", 104, 104, 104),
    ]
    assert book == BookFact(
        symbol=BTC, ts_event=E * 1_000_000, nonce=104, exch_seq=104, flags=Flag.SNAPSHOT | Flag.COMPLETE,
        bids=pack_side([(100, 9), (99, 2), (98, 1)]), asks=pack_side([(101, 3), (102, 4)]),
    )  # fmt: skip
    assert adapter.ready()


@pytest.mark.parametrize("last", [100, 101, 102])
def test_d05_binance_spot_joins_where_u_reaches_over_the_snapshots_id(last: int) -> None:
    adapter, (ask,) = opened(channels=DEPTHS)
    adapter.feed(delta(101, 103, [(100, 9)]))
    assert nonces(adapter.answer(ask.key, 200, snapshot(last))) == [103]


def test_d05_binance_spot_asks_again_where_the_snapshot_is_older_than_the_buffer() -> None:
    adapter, (ask,) = opened(channels=DEPTHS)
    adapter.feed(delta(101, 103, [(100, 9)]))
    (again,) = adapter.answer(ask.key, 200, snapshot(99))
    assert (again.path, again.delay_s) == (ask.path, 0.5)
    assert nonces(adapter.answer(again.key, 200, snapshot(100))) == [103]


def test_snapshots_that_never_join_are_asked_for_ever_later_and_it_is_said() -> None:
    adapter, (ask,) = opened(channels=DEPTHS)
    adapter.feed(delta(101, 103))
    delays, said = [], []
    for _ in range(12):
        items = adapter.answer(ask.key, 200, snapshot(5))
        (ask,) = kit.asks(items)
        delays.append(ask.delay_s)
        said.append(len(kit.faults(items)))
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert said == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert nonces(adapter.answer(ask.key, 200, snapshot(100))) == [103]


def test_a_snapshot_before_any_update_is_the_book_of_a_quiet_market() -> None:
    adapter, items = synced(channels=DEPTHS)
    assert nonces(items) == [100]
    assert nonces(adapter.feed(delta(90, 95))) == []  # the snapshot has it
    assert nonces(adapter.feed(delta(96, 102, [(100, 7)]))) == [102]
    ask = broken(adapter.feed(delta(104, 104)))
    assert nonces(adapter.answer(ask.key, 200, snapshot(104))) == [104]

    adapter, _ = synced(channels=DEPTHS)
    broken(adapter.feed(delta(102, 102)))  # something between the snapshot and the stream is missing


def test_a_snapshot_ahead_of_the_stream_waits_for_it() -> None:
    adapter, (ask,) = opened(channels=DEPTHS)
    adapter.feed(delta(101, 103))
    assert nonces(adapter.answer(ask.key, 200, snapshot(110))) == [110]
    assert adapter.feed(delta(104, 109, [(100, 50)])) == []
    assert nonces(adapter.feed(delta(110, 112, [(100, 60)]))) == [112]


def test_only_what_is_configured_is_said() -> None:
    for channel, kind in (("orderbook", BookFact), ("depth", DepthFact)):
        adapter, items = synced(channels=(channel,))
        assert [type(item) for item in items] == [kind]
        assert [type(item) for item in adapter.feed(delta(101, 101, [(100, 3)]))] == [kind]
        (fault, ask) = adapter.feed(delta(105, 105))
        assert fault.streams == ask.streams == (Stream(BTC, channel),)
        assert len(adapter.snapshots()) == 0


# -- the stream of updates


def test_d05_binance_spot_each_update_follows_the_last() -> None:
    adapter, _ = synced(channels=DEPTHS)
    update, book = adapter.feed(delta(101, 105, [(100, 0), (97, 5)], [(101, 4)], at_ms=E + 7))
    assert update == DepthFact(
        symbol=BTC, ts_event=(E + 7) * 1_000_000, nonce=105, kind="update", first_exch_seq=101, exch_seq=105,
        bids=pack_side([(100, 0), (97, 5)]), asks=pack_side([(101, 4)]),
    )  # fmt: skip
    assert unpack_side(book.bids) == [(99, 2), (97, 5)]
    assert unpack_side(book.asks) == [(101, 4), (102, 4)]
    broken(adapter.feed(delta(107, 108)))
    assert not adapter.ready()


def test_c04_after_a_hole_nothing_is_said_until_the_book_is_true_again() -> None:
    adapter, _ = synced(channels=DEPTHS)
    adapter.feed(delta(101, 101))
    ask = broken(adapter.feed(delta(103, 103, [(100, 33)])))
    assert ask.delay_s == 0
    assert adapter.feed(delta(104, 104, [(98, 1)])) == []
    assert adapter.snapshots() == []
    first, update, book = adapter.answer(ask.key, 200, snapshot(103))
    assert first.flags == Flag.SNAPSHOT | Flag.RESYNC | Flag.COMPLETE
    assert (update.kind, update.nonce) == ("update", 104)
    assert book.flags == Flag.SNAPSHOT | Flag.RESYNC | Flag.COMPLETE
    assert nonces(adapter.feed(delta(105, 105))) == [105]


def test_a_hole_in_one_symbol_leaves_the_others_alone() -> None:
    adapter, (btc, eth) = opened(symbols=(BTC, ETH))
    adapter.answer(btc.key, 200, snapshot(100))
    adapter.answer(eth.key, 200, snapshot(500))
    ask = broken(kit.faults(items := adapter.feed(delta(102, 102))) + kit.asks(items))
    assert nonces(adapter.feed(delta(501, 502, [(100, 8)], market="ETHUSDT"))) == [502]
    assert len(kit.trades(adapter.feed(kit.trade(1)))) == 1
    assert [fact.symbol for fact in adapter.snapshots()] == [ETH]
    assert nonces(adapter.answer(ask.key, 200, snapshot(102))) == [102]
    assert [fact.symbol for fact in adapter.snapshots()] == [BTC, ETH]


def test_a_hole_while_a_snapshot_is_on_its_way_needs_no_second_one() -> None:
    adapter, (ask,) = opened(channels=DEPTHS)
    adapter.feed(delta(101, 101))
    assert adapter.feed(delta(103, 103)) == []  # the buffer begins anew
    assert nonces(adapter.answer(ask.key, 200, snapshot(102))) == [103]
    ask = broken(adapter.feed(delta(105, 105)))
    assert adapter.feed(delta(107, 107)) == []
    (again,) = adapter.answer(ask.key, 200, snapshot(105))
    assert nonces(adapter.answer(again.key, 200, snapshot(107))) == [107]


def test_doubled_and_late_updates_change_nothing() -> None:
    adapter, _ = synced(channels=DEPTHS)
    one, two = delta(101, 102, [(100, 5)]), delta(103, 104, [(100, 6)])
    adapter.feed(one)
    assert adapter.feed(one) == []
    assert nonces(adapter.feed(two)) == [104]
    assert adapter.feed(one) == []
    assert adapter.feed(two) == []
    (whole,) = adapter.snapshots()
    assert unpack_side(whole.bids)[0] == (100, 6)


def test_reordered_updates_are_a_hole() -> None:
    adapter, _ = synced(channels=DEPTHS)
    ask = broken(adapter.feed(delta(103, 104)))
    assert adapter.feed(delta(101, 102)) == []
    assert nonces(adapter.answer(ask.key, 200, snapshot(104))) == [104]
    assert nonces(adapter.feed(delta(105, 105))) == [105]


@pytest.mark.parametrize("level", [(100, -1), (float("nan"), 1), (100, float("inf"))])
def test_c05_a_level_that_cannot_be_is_a_local_fault(level: tuple[float, float]) -> None:
    adapter, _ = synced(channels=DEPTHS)
    ask = broken(adapter.feed(delta(101, 101, [level])), "error")
    assert adapter.feed(delta(101, 101, [level])) == []  # said once
    adapter.feed(delta(102, 102))
    assert nonces(adapter.answer(ask.key, 200, snapshot(101))) == [102]


def test_c05_a_damaged_update_of_one_symbol_leaves_the_connection_and_the_others_alone() -> None:
    adapter, (btc, eth) = opened(symbols=(BTC, ETH), channels=DEPTHS)
    adapter.answer(btc.key, 200, snapshot(100))
    adapter.answer(eth.key, 200, snapshot(500))
    ask = broken(adapter.feed(delta(101, 101).replace(b'"u":101', b'"u":"x"')), "error")
    assert nonces(adapter.feed(delta(501, 501, market="ETHUSDT"))) == [501]
    assert adapter.answer(ask.key, 200, snapshot(99))[0].path == ask.path  # older than what was lost
    assert not adapter.ready()


def test_c05_a_book_that_stays_crossed_is_given_up() -> None:
    adapter, _ = synced(channels=DEPTHS)
    for number in range(101, 122):  # 100 ms each: 2 s
        items = adapter.feed(delta(number, number, [(101.5, 1)], at_ms=E + 100 * number))
        (book,) = kit.books(items)
        assert book.flags & Flag.CROSSED
        assert all(depth.flags & Flag.CROSSED for depth in kit.depths(items))
    broken(adapter.feed(delta(122, 122, at_ms=E + 12_200)), "error")

    adapter, _ = synced(channels=("depth",))
    for number in range(101, 301):  # the exchange's clock stands still
        assert len(adapter.feed(delta(number, number, [(101.5, 1)]))) == 1
    assert kit.faults(adapter.feed(delta(301, 301)))[0].detail.startswith("crossed for 201 updates")


def test_d06_a_book_that_is_crossed_for_a_moment_is_flagged_and_goes_on() -> None:
    adapter, _ = synced(channels=DEPTHS)
    (book,) = kit.books(adapter.feed(delta(101, 101, [(101.5, 1)])))
    assert book.flags == Flag.CROSSED | Flag.COMPLETE
    (book,) = kit.books(adapter.feed(delta(102, 102, [(101.5, 0), (101, 1)], at_ms=E + 9_000)))
    assert book.flags == Flag.LOCKED | Flag.COMPLETE
    (book,) = kit.books(adapter.feed(delta(103, 103, [], [(101, 0), (102, 0)])))
    assert book.flags == Flag.ONE_SIDED | Flag.COMPLETE


def test_a_buffer_without_a_snapshot_is_bounded_and_says_so_once() -> None:
    adapter, (ask,) = opened(channels=DEPTHS)
    said = []
    for number in range(101, 101 + BUFFER_MAX + 50):
        said += adapter.feed(delta(number, number))
    (fault,) = said
    assert (fault.reason, fault.local, fault.streams) == ("error", True, BOOK)
    (again,) = adapter.answer(ask.key, 200, snapshot(149))  # its followers were dropped
    items = adapter.answer(again.key, 200, snapshot(150))
    assert len(kit.depths(items)) == 1 + BUFFER_MAX
    assert nonces(items) == [100 + BUFFER_MAX + 50]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"lastUpdateId":1}', snapshot(100, [(100, -1)])])
def test_a_snapshot_that_is_none_is_asked_for_again(body: bytes) -> None:
    adapter, (ask,) = opened(channels=DEPTHS)
    (again,) = adapter.answer(ask.key, 200, body)
    assert again.delay_s == 0.5
    assert nonces(adapter.answer(again.key, 200, snapshot(100))) == [100]


def test_an_unknown_symbol_is_fatal_and_a_delisted_one_is_its_own_affair() -> None:
    refusal = b'{"code":-1121,"msg":"Invalid symbol."}'
    adapter, (ask,) = opened(channels=DEPTHS)
    (fault,) = adapter.answer(ask.key, 400, refusal)
    assert fault.fatal
    assert "BTC/USDT" in fault.detail
    adapter, _ = synced(channels=DEPTHS)
    ask = broken(adapter.feed(delta(105, 105)))
    fault, again = adapter.answer(ask.key, 400, refusal)
    assert (fault.local, fault.fatal, again.delay_s) == (True, False, 300)
    (again,) = adapter.answer(again.key, 400, refusal)  # said once
    assert (again.path, again.delay_s) == (ask.path, 300)
    (again,) = adapter.answer(again.key, 418, b"<html>")
    assert again.path == ask.path


def test_a_new_connection_forgets_the_book_of_the_old() -> None:
    adapter, _ = synced(channels=DEPTHS)
    (ask,) = kit.asks(adapter.subscribe())
    assert adapter.snapshots() == []
    assert adapter.feed(delta(7, 7))[1:] == []
    (book,) = kit.books(adapter.answer(ask.key, 200, snapshot(6)))
    assert book.flags == Flag.SNAPSHOT | Flag.RESYNC | Flag.COMPLETE


# -- the reach of a snapshot


class Spot10(BinanceAdapter):
    dialect = msgspec.structs.replace(BinanceAdapter.dialect, depth_levels=10)


TEN = [(100 - n, 1.0) for n in range(10)]
OVER = [(101 + n, 1.0) for n in range(10)]


def removed(first: int, prices: list[float]) -> bytes:
    return delta(first, first, [(price, 0) for price in prices])


def test_a_top_ends_where_the_snapshot_ended() -> None:
    adapter, (ask,) = opened(Spot10, channels=DEPTHS, levels=10)
    (first, book) = adapter.answer(ask.key, 200, snapshot(100, TEN, OVER))
    assert not (first.flags | book.flags) & Flag.COMPLETE
    (update, book) = adapter.feed(delta(101, 101, [(100, 0), (80, 5)]))
    assert unpack_side(update.bids) == [(100, 0), (80, 5)]
    assert unpack_side(book.bids) == TEN[1:]  # 80 is there, but 90 to 80 nobody knows
    (whole,) = adapter.snapshots()
    assert unpack_side(whole.bids) == [*TEN[1:], (80, 5)]


def test_a_reach_that_is_used_up_by_half_is_extended_without_a_gap() -> None:
    adapter, (ask,) = opened(Spot10, channels=DEPTHS, levels=3)
    adapter.answer(ask.key, 200, snapshot(100, TEN, OVER))
    adapter.feed(delta(101, 101, [(price, 0) for price, _ in TEN[:7]] + [(80, 5), (70, 6)]))
    items: list[Item] = []
    for number in range(102, 140):
        items += adapter.feed(delta(number, number))
    (ask,) = kit.asks(items)
    assert kit.faults(items) == []
    assert nonces(items) == list(range(102, 140))
    deeper = [(93 - n, 1.0) for n in range(10)]
    (whole,) = adapter.answer(ask.key, 200, snapshot(135, deeper, OVER))
    assert (whole.kind, whole.nonce, whole.flags) == ("snapshot", 139, 0)
    assert unpack_side(whole.bids) == [*deeper, (80, 5), (70, 6)]  # what was known further out stays known
    (book,) = kit.books(adapter.feed(removed(140, [93])))
    assert unpack_side(book.bids) == deeper[1:4]
    assert book.flags == 0


def test_a_side_without_a_certain_level_is_not_shown() -> None:
    adapter, (ask,) = opened(Spot10, channels=DEPTHS, levels=3)
    adapter.answer(ask.key, 200, snapshot(100, TEN, OVER))
    items = adapter.feed(delta(101, 101, [(price, 0) for price, _ in TEN] + [(80, 5)]))
    fault, ask = items
    assert (fault.reason, fault.local) == ("error", True)
    assert nonces(adapter.answer(ask.key, 200, snapshot(101, [(85, 1)], OVER))) == [101]


def test_a_second_snapshot_that_does_not_join_leaves_the_book_as_it_is() -> None:
    adapter, (ask,) = opened(Spot10, channels=DEPTHS, levels=3)
    adapter.answer(ask.key, 200, snapshot(100, TEN[:10], OVER))
    items = adapter.feed(delta(101, 101, [(price, 0) for price, _ in TEN[:7]]))
    for number in range(102, 140):
        items += adapter.feed(delta(number, number))
    (ask,) = kit.asks(items)
    for body in (snapshot(50, TEN, OVER), b"{}"):
        (ask,) = adapter.answer(ask.key, 200, body)
        assert adapter.ready()
    (whole,) = adapter.snapshots()
    assert unpack_side(whole.bids) == TEN[7:]
    assert nonces(adapter.feed(delta(140, 140))) == [140]
    fault, _ = adapter.answer(ask.key, 200, snapshot(140, [(100, -1)], OVER))  # and now it has spoilt it
    assert (fault.reason, fault.local) == ("error", True)
    assert not adapter.ready()
