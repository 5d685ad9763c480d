"""OKX's contracts: counted in contracts, stored in base currency; and whatever a message may hold."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.exchanges.adapter import Ask, BookFact, DepthFact, Fault, InstrumentFact, Stream, TradeFact
from daedalus.exchanges.okx import OkxAdapter
from daedalus.records import unpack_side
from tests.exchanges.okx_feed import OkxFeed
from tests.exchanges.test_okx import CHANNELS, opened, past, sent, trade, trades

SWAP = "BTC/USDT:USDT"


def instrument(name: str, kind: str, **more: str) -> dict[str, str]:
    base, quote = name.split("-")[:2]
    common = {"instId": name, "instType": kind, "tickSz": "0.1", "lotSz": "1", "minSz": "1", "state": "live"}
    return {**common, "uly": f"{base}-{quote}", **more}


LINEAR = instrument(
    "BTC-USDT-SWAP", "SWAP", ctVal="0.01", ctMult="1", ctType="linear", settleCcy="USDT", ctValCcy="BTC"
)
INVERSE = instrument("BTC-USD-SWAP", "SWAP", ctVal="100", ctMult="1", ctType="inverse", settleCcy="BTC")


def test_d17_amounts_of_contracts_are_base_currency_and_wait_for_the_instruments() -> None:
    adapter = OkxAdapter({channel: [SWAP, "BTC/USDT"] for channel in ("orderbook", "trades", "ticker")})
    send, ask = adapter.subscribe()
    assert sent([send]) == [("subscribe", [(c, "BTC-USDT") for c in ("books", "trades", "tickers")])]
    assert isinstance(ask, Ask)
    assert ask.path == "/api/v5/public/instruments?instType=SWAP"
    fault, again = adapter.answer(ask.key, 500, b"")
    assert isinstance(fault, Fault)
    assert isinstance(again, Ask)
    assert again.delay_s == 5
    fact, begin = adapter.answer(again.key, 200, past(LINEAR, INVERSE))
    assert isinstance(fact, InstrumentFact)
    assert (fact.symbol, fact.kind, fact.base, fact.quote) == (SWAP, "swap", "BTC", "USDT")
    assert (fact.contract_size, fact.settle, fact.active) == (0.01, "USDT", True)
    assert sent([begin]) == [("subscribe", [(c, "BTC-USDT-SWAP") for c in ("books", "trades", "tickers")])]

    (one,) = adapter.feed(trades(trade(5, name="BTC-USDT-SWAP")))
    assert isinstance(one, TradeFact)
    assert (one.amount, one.cost) == (0.02, 100.5 * 0.02)
    assert json.loads(one.info_json or "")["sz"] == "2"  # contracts: the raw stays
    (spot,) = adapter.feed(trades(trade(5)))
    assert isinstance(spot, TradeFact)
    assert (spot.amount, spot.info_json) == (2.0, None)
    feed = OkxFeed(8, "BTC-USDT-SWAP")
    (book,) = adapter.feed(feed.snapshot())  # its checksum is of contracts
    assert isinstance(book, BookFact)
    assert unpack_side(book.bids) == [(price, size * 0.01) for price, size in feed.top("bids", 50)]
    assert isinstance(adapter.feed(feed.update())[0], BookFact)
    assert sent(list(adapter.subscribe())) == [
        ("subscribe", [(c, n) for c in ("books", "trades", "tickers") for n in ("BTC-USDT-SWAP", "BTC-USDT")])
    ]


def test_d17_an_inverse_contract_is_worth_less_base_at_a_higher_price() -> None:
    adapter = OkxAdapter({"trades": ["BTC/USD:BTC"], "ticker": ["BTC/USD:BTC"]})
    (ask,) = adapter.subscribe()
    assert isinstance(ask, Ask)
    fact, _ = adapter.answer(ask.key, 200, past(INVERSE))
    assert isinstance(fact, InstrumentFact)
    assert fact.contract_size is None
    (one,) = adapter.feed(trades(trade(5, name="BTC-USD-SWAP")))
    assert isinstance(one, TradeFact)
    assert (one.amount, one.cost) == (200 / 100.5, 100.5 * (200 / 100.5))


def test_d32_a_contract_of_another_size_begins_a_new_book() -> None:
    adapter = OkxAdapter({"depth": [SWAP]})
    (ask,) = adapter.subscribe()
    assert isinstance(ask, Ask)
    adapter.answer(ask.key, 200, past(LINEAR))
    adapter.feed(OkxFeed(9, "BTC-USDT-SWAP").snapshot())
    assert len(adapter.snapshots()) == 1
    (again,) = adapter.instruments()
    (fact,) = adapter.answer(again.key, 200, past({**LINEAR, "ctVal": "0.1"}))
    assert isinstance(fact, InstrumentFact)
    feed = OkxFeed(9, "BTC-USDT-SWAP")
    fault, *rest = adapter.feed(feed.update())
    assert isinstance(fault, Fault)
    assert fault.local
    assert sent(list(rest)) == [
        ("unsubscribe", [("books", "BTC-USDT-SWAP")]),
        ("subscribe", [("books", "BTC-USDT-SWAP")]),
    ]
    assert adapter.snapshots() == []
    (book,) = adapter.feed(feed.snapshot())
    assert isinstance(book, DepthFact)
    assert unpack_side(book.bids)[0] == (feed.top("bids", 1)[0][0], feed.top("bids", 1)[0][1] * 0.1)


def test_a_contract_that_does_not_exist_does_not_keep_the_others_waiting() -> None:
    adapter = OkxAdapter({"trades": [SWAP, "NOP/USDT:USDT", "BTC/USDT"]})
    _, ask = adapter.subscribe()
    assert isinstance(ask, Ask)
    _, begin, fault, later = adapter.answer(ask.key, 200, past(LINEAR))
    assert sent([begin]) == [("subscribe", [("trades-all", "BTC-USDT-SWAP")])]
    assert isinstance(fault, Fault)
    assert (fault.streams, fault.local) == ((Stream("NOP/USDT:USDT", "trades"),), True)
    assert isinstance(later, Ask)
    assert (later.key, later.delay_s) == (ask.key, 300)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["BTC-USDT", "books", "nan", "1e999"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["arg", "channel", "instId", "data", "event", "msg", "bids", "asks", "seqId", "ts", "px"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)
NUMBERS = st.sampled_from(["1", "0", "-1", "1e400", "NaN", "inf", "", "1_0", "1e-300", " 1", "\uff11", "-0"])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), JSON, NUMBERS, NUMBERS, st.text(max_size=9))
def test_no_bytes_ever_raise(junk: bytes, tree: object, price: str, size: str, key: str) -> None:
    feed = OkxFeed(1, checksums=False)
    swap = instrument("BTC-USDT-SWAP", "SWAP", ctVal=size, ctMult=price, ctType="inverse")
    frames = [
        junk,
        json.dumps(tree).encode(),
        *(
            json.dumps({"arg": {"channel": c, "instId": "BTC-USDT"}, "data": tree}).encode()
            for c in ("books", "trades", "tickers")
        ),
        feed.frame("update", [[price, size]], [[size, price, "0"]], 1000),
        trades({**trade(1), "px": price, "sz": size, "count": size}),
        past(swap, trade(1)),
    ]
    for raw in frames:
        adapter = opened(CHANNELS | {"depth": [SWAP]})
        adapter.feed(feed.snapshot())
        assert isinstance(adapter.feed(raw), list)
        assert isinstance(adapter.feed(memoryview(raw)), list)
        (ask,) = adapter.backfill("BTC/USDT", "1")
        for name in (ask.key, key, "instruments/SPOT", "sizes/SWAP", "resync/books/BTC-USDT"):
            assert isinstance(adapter.answer(name, 200, raw), list)
