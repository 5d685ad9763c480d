"""The book: what each method returns, and that it equals a dictionary whatever comes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.features.book import ASK, BID, Book
from daedalus.records import pack_side, unpack_side

LEVELS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 40), st.sampled_from([0.0, 0.5, 1.0, 7.25])), max_size=300
)


def test_empty_book_has_no_best_no_depth_and_an_empty_top() -> None:
    book = Book()
    for side in (BID, ASK):
        assert book.best(side) is None
        assert book.depth(side) == 0
        assert book.top(side, 20) == b""


def test_top_is_packed_best_first_on_both_sides() -> None:
    book = Book()
    for price in (99.0, 101.0, 100.0):
        book.apply(BID, price, price / 100)
        book.apply(ASK, price + 10, 1.0)
    assert unpack_side(book.top(BID, 2)) == [(101.0, 1.01), (100.0, 1.0)]
    assert unpack_side(book.top(ASK, 20)) == [(109.0, 1.0), (110.0, 1.0), (111.0, 1.0)]
    assert (book.best(BID), book.best(ASK)) == ((101.0, 1.01), (109.0, 1.0))


def test_size_zero_removes_and_removing_what_is_not_there_changes_nothing() -> None:
    book = Book()
    book.apply(BID, 100.0, 1.0)
    book.apply(BID, 99.0, 0.0)
    assert book.depth(BID) == 1
    book.apply(BID, 100.0, 0.0)
    assert book.best(BID) is None


@given(LEVELS)
def test_any_sequence_of_updates_equals_a_dictionary(updates: list[tuple[int, int, float]]) -> None:
    book, truth = Book(), ({}, {})
    for side, tick, size in updates:
        price = tick / 7
        book.apply(side, price, size)
        if size:
            truth[side][price] = size
        else:
            truth[side].pop(price, None)
    for side in (BID, ASK):
        expected = sorted(truth[side].items(), reverse=side == BID)
        assert unpack_side(book.top(side, 1000)) == expected
        assert book.top(side, 3) == pack_side(expected[:3])
        assert book.depth(side) == len(expected)
        assert book.best(side) == (expected[0] if expected else None)
        assert all(book.size_at(side, price) == size for price, size in expected)


def test_book_grows_past_its_first_capacity_on_either_side() -> None:
    book = Book()
    for i in range(5000):
        book.apply(BID, 10_000.0 - i, 1.0 + i)
        book.apply(ASK, 10_001.0 + i, 2.0 + i)
    assert (book.depth(BID), book.depth(ASK)) == (5000, 5000)
    assert unpack_side(book.top(BID, 5000))[-1] == (5001.0, 5000.0)
    assert unpack_side(book.top(ASK, 5000))[-1] == (15_000.0, 5001.0)


@given(LEVELS)
def test_apply_many_equals_apply_one_by_one(updates: list[tuple[int, int, float]]) -> None:
    one, many = Book(), Book()
    for side in (BID, ASK):
        levels = [(float(tick), size) for s, tick, size in updates if s == side]
        for price, size in levels:
            one.apply(side, price, size)
        many.apply_many(side, pack_side(levels))
    assert [one.top(s, 99) for s in (0, 1)] == [many.top(s, 99) for s in (0, 1)]


def test_load_replaces_one_side_and_clear_forgets_both() -> None:
    book = Book()
    book.apply(BID, 50.0, 1.0)
    book.apply(ASK, 60.0, 1.0)
    book.load(BID, pack_side([(49.0, 2.0), (48.0, 3.0)]))
    assert unpack_side(book.top(BID, 9)) == [(49.0, 2.0), (48.0, 3.0)]
    assert book.depth(ASK) == 1
    book.clear()
    assert (book.depth(BID), book.depth(ASK)) == (0, 0)


@pytest.mark.parametrize(
    ("side", "price", "size", "words"),
    [
        (2, 1.0, 1.0, "side 2"),
        (-1, 1.0, 1.0, "side -1"),
        (0, math.nan, 1.0, "price nan"),
        (0, math.inf, 1.0, "price inf"),
        (1, 1.0, -0.5, "size -0.5"),
        (1, 1.0, math.nan, "size nan"),
    ],
)
def test_bad_level_is_refused_and_changes_nothing(side: int, price: float, size: float, words: str) -> None:
    book = Book()
    book.apply(BID, 1.0, 1.0)
    with pytest.raises(ValueError, match=words):
        book.apply(side, price, size)
    assert (book.top(BID, 9), book.depth(ASK)) == (pack_side([(1.0, 1.0)]), 0)


def test_apply_many_is_all_or_nothing() -> None:
    book = Book()
    with pytest.raises(ValueError, match="size -1"):
        book.apply_many(ASK, pack_side([(5.0, 1.0), (6.0, -1.0)]))
    with pytest.raises(ValueError, match="24 bytes"):
        book.apply_many(ASK, bytes(24))
    assert book.depth(ASK) == 0
