"""Binance's books under any run of accidents, against a market that remembers each of its states."""

from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.exchanges.adapter import Item
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.records import unpack_side
from tests.exchanges import binance_kit as kit
from tests.exchanges.binance_kit import BTC, SWAP, BinanceUsdmAdapter, delta, opened, snapshot


class Market:
    """A market with a history: the true book after each update, and its messages."""

    def __init__(self, *, dense: bool) -> None:
        self.messages: list[bytes] = []
        self.books: dict[int, tuple[dict[float, float], dict[float, float]]] = {
            100: ({100.0: 1.0}, {101.0: 1.0})
        }
        self.last = 100
        self._dense = dense

    def move(self, price: int, size: int) -> None:
        bids, asks = (dict(side) for side in self.books[self.last])
        side = bids if price <= 100 else asks
        side[float(price)] = float(size)
        if not size:
            del side[float(price)]
        first = self.last + (1 if self._dense else 4)
        level = [(float(price), float(size))]
        sides = (level, []) if price <= 100 else ([], level)
        self.messages.append(delta(first, first + 2, *sides, pu=None if self._dense else self.last))
        self.last = first + 2
        self.books[self.last] = (bids, asks)

    def rest(self, age: int) -> bytes:
        last = sorted(self.books)[-1 - min(age, len(self.books) - 1)]
        bids, asks = self.books[last]
        return snapshot(last, sorted(bids.items(), reverse=True), sorted(asks.items()))


DEEDS = ["send", "send", "send", "lose", "hold", "double", "garble"]
ACTS = st.one_of(
    st.tuples(st.sampled_from(DEEDS), st.integers(96, 105), st.integers(0, 3)),
    st.tuples(st.just("answer"), st.integers(0, 6), st.just(0)),
    st.tuples(st.just("reconnect"), st.just(0), st.just(0)),
)  # fmt: skip


@settings(max_examples=300)
@given(st.booleans(), st.lists(ACTS, max_size=60))
def test_whatever_is_lost_doubled_or_late_each_book_is_true_and_there_is_one_in_the_end(
    dense: bool, acts: list[tuple[str, int, int]]
) -> None:
    market, rebuilt = Market(dense=dense), kit.DictBook()
    make, symbol = (BinanceAdapter, BTC) if dense else (BinanceUsdmAdapter, SWAP)
    adapter, requests = opened(make, symbols=(symbol,), channels=("orderbook", "depth"))
    held: list[bytes] = []

    def check(items: list[Item]) -> None:
        requests.extend(kit.asks(items))
        for row in kit.depths(items):
            rebuilt.take(row)
            assert (rebuilt.bids, rebuilt.asks) == market.books[row.nonce or 0]
        for book in kit.books(items):
            true = market.books[book.nonce or 0]
            assert (dict(unpack_side(book.bids)), dict(unpack_side(book.asks))) == true
        for fault in kit.faults(items):
            assert fault.local

    def act(kind: str, number: int, size: int) -> None:
        if kind == "answer":
            if requests:
                check(adapter.answer(requests.pop(0).key, 200, market.rest(number)))
            return
        if kind == "reconnect":
            held.clear()
            requests[:] = kit.asks(adapter.subscribe())
            return
        market.move(
            number,
            size
            if float(number) in {**market.books[market.last][0], **market.books[market.last][1]}
            else size or 1,
        )
        message = market.messages[-1]
        if kind == "hold":
            held.append(message)
        elif kind == "garble":
            check(adapter.feed(message.replace(b'"u":', b'"u":"x')))
        elif kind != "lose":
            check(adapter.feed(message))
            if kind == "double":
                check(adapter.feed(message))
            while held:
                check(adapter.feed(held.pop()))

    for one in acts:
        act(*one)
    act("send", 100, 2)
    for _ in range(3):
        act("answer", 0, 0)
    assert len(requests) <= 1
    assert adapter.ready()
    (whole,) = adapter.snapshots()
    assert whole.nonce == market.last
