"""The true book against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from daedalus.simulator.book import Book

prices = st.integers(1, 40).map(lambda tick: f"{tick / 4:.2f}0000")
levels = st.lists(st.tuples(prices, st.sampled_from(["0", "0.00000000", "1.5", "2", "0.1"])), max_size=30)


def _plain(changes: list[tuple[str, str]], start: dict[float, str] | None = None) -> dict[float, str]:
    side = dict(start or {})
    for price, size in changes:
        if float(size) == 0:
            side.pop(float(price), None)
        else:
            side[float(price)] = size
    return side


@given(levels, levels)
def test_sides_hold_what_was_set_best_first(bids: list, asks: list) -> None:
    book = Book()
    book.apply(7, bids, asks)
    bid_side, ask_side = _plain(bids), _plain(asks)
    assert [(float(p), s) for p, s in book.bids(99)] == sorted(bid_side.items(), reverse=True)
    assert [(float(p), s) for p, s in book.asks(99)] == sorted(ask_side.items())
    assert book.depth() == (len(bid_side), len(ask_side))
    assert book.bids(2) == book.bids(99)[:2]
    assert book.asks(0) == []
    assert book.last_id == 7


@given(levels, levels, levels, levels)
def test_difference_turns_one_book_into_the_other(b1: list, a1: list, b2: list, a2: list) -> None:
    book, other = Book(), Book()
    book.replace(1, b1, a1)
    other.replace(2, b2, a2)
    bids, asks = book.difference(b2, a2)
    book.apply(2, bids, asks)
    assert (book.bids(99), book.asks(99)) == (other.bids(99), other.asks(99))
    assert book.difference(b2, a2) == ([], [])


def test_strings_stay_as_they_were_told() -> None:
    book = Book()
    book.apply(1, [("61837.63000000", "3.78826000")], [])
    assert book.bids(1) == [("61837.63000000", "3.78826000")]
    assert book.asks(1) == []
