"""Kraken's trades, those that were missed, its pairs, and whatever else a message or an answer may hold."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.exchanges.adapter import Ask, Fault, InstrumentFact, Item, Stream, TradeFact
from daedalus.records import Flag
from tests.exchanges.test_kraken import opened, snapshot


def trade(number: int, side: str = "buy", pair: str = "BTC/USD") -> dict[str, Any]:
    stamp = f"2023-10-06T17:35:{number % 60:02d}.440295Z"
    return {
        "symbol": pair,
        "side": side,
        "price": 100.5,
        "qty": 0.5,
        "ord_type": "limit",
        "trade_id": number,
        "timestamp": stamp,
    }


def trades(kind: str, *rows: dict[str, Any]) -> bytes:
    return json.dumps({"channel": "trade", "type": kind, "data": list(rows)}).encode()


def test_trades_are_the_takers_and_the_snapshot_is_backfilled() -> None:
    adapter = opened()
    early = adapter.feed(trades("snapshot", trade(9), trade(8, "sell")))
    live = adapter.feed(trades("update", trade(10)))
    facts = [item for item in early + live if isinstance(item, TradeFact)]
    assert [(f.trade_id, f.side, f.flags) for f in facts] == [
        ("8", "sell", Flag.BACKFILLED),
        ("9", "buy", Flag.BACKFILLED),
        ("10", "buy", 0),
    ]
    assert facts[0].ts_event == 1_696_613_708_440_295_000


def past(*numbers: int) -> bytes:
    rows = [["100.5", "0.5", 1_696_613_700 + n / 10, "b", "l", "", n] for n in numbers]
    return json.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": "1"}}).encode()


def test_a_hole_in_the_trade_ids_is_a_fault_of_that_stream_and_is_filled() -> None:
    adapter = opened()
    adapter.feed(trades("update", trade(10)))
    fault, ask, fact = adapter.feed(trades("update", trade(13)))
    assert fault == Fault(
        (Stream("BTC/USD", "trades"),), "sequence", "trade 13 follows 10: 2 missing", local=True
    )
    assert isinstance(ask, Ask)
    assert ask.path == "/0/public/Trades?pair=BTCUSD&since=1696613710440294000"
    assert isinstance(fact, TradeFact)
    filled = adapter.answer(ask.key, 200, past(10, 11, 12, 13))
    assert [(f.trade_id, f.flags) for f in filled if isinstance(f, TradeFact)] == [("11", 128), ("12", 128)]
    assert len(filled) == 2


def test_backfill_pages_forward_until_it_meets_what_was_streamed() -> None:
    adapter = opened()
    adapter.feed(trades("update", trade(10)))
    adapter.subscribe()
    adapter.feed(trades("snapshot", trade(2500)))
    (ask,) = adapter.backfill("BTC/USD", "10")
    assert "since" not in ask.path  # the time of trade 10 is no longer the last: it is guessed
    got: list[Item] = []
    asks = [ask]
    pages = [past(*range(1501, 2501)), past(*range(5, 1005)), past(*range(1004, 2004))]
    for page in pages:
        items = adapter.answer(asks.pop().key, 200, page)
        asks = [item for item in items if isinstance(item, Ask)]
        got += [item for item in items if isinstance(item, TradeFact)]
    ids = {int(item.trade_id or 0) for item in got if isinstance(item, TradeFact)}
    assert ids == set(range(11, 2500))
    assert asks == []


def test_a_busy_exchange_is_asked_again_later_and_a_damaged_answer_is_a_fault() -> None:
    adapter = opened()
    (ask,) = adapter.backfill("BTC/USD", "10")
    (again,) = adapter.answer(ask.key, 200, b'{"error":["EAPI:Rate limit exceeded"]}')
    assert isinstance(again, Ask)
    assert again.delay_s == 5
    for key, status, body in (
        (again.key, 200, b'{"error":["EQuery:Unknown asset pair"]}'),
        ("trades/99", 200, past(1)),
        ("instruments", 200, b"{"),
        ("instruments", 403, b""),
        ("nonsense", 200, b""),
    ):
        (fault,) = adapter.answer(key, status, body)
        assert isinstance(fault, Fault)
        assert (fault.local, fault.streams) == (True, ())


def test_ids_that_prove_not_to_be_contiguous_are_no_longer_counted() -> None:
    adapter = opened()
    adapter.feed(trades("update", trade(10)))
    for n in (12, 14, 16):
        _, ask, _ = adapter.feed(trades("update", trade(n)))
        assert isinstance(ask, Ask)
        assert adapter.answer(ask.key, 200, past(n - 2, n)) == []
    (fact,) = adapter.feed(trades("update", trade(18)))
    assert isinstance(fact, TradeFact)


def test_instruments_come_under_the_configured_name() -> None:
    adapter = opened({"trades": ["XBT/USD", "ETH/USD"]})
    body = json.dumps(
        {
            "error": [],
            "result": {
                "XXBTZUSD": {
                    "altname": "XBTUSD",
                    "wsname": "XBT/USD",
                    "pair_decimals": 1,
                    "lot_decimals": 8,
                    "tick_size": "0.1",
                    "ordermin": "0.0001",
                    "costmin": "0.5",
                    "status": "online",
                },
                "OTHER": {"wsname": "OTH/USD"},
            },
        }
    ).encode()
    (fact,) = adapter.answer(adapter.instruments()[0].key, 200, body)
    assert isinstance(fact, InstrumentFact)
    assert (fact.symbol, fact.exchange_symbol, fact.base, fact.quote) == ("XBT/USD", "XXBTZUSD", "BTC", "USD")
    assert (fact.tick_size, fact.lot_size, fact.min_amount, fact.active) == (0.1, 1e-8, 0.0001, True)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["BTC/USD", "book", "nan", "1e9999"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "channel",
                    "type",
                    "data",
                    "symbol",
                    "bids",
                    "asks",
                    "price",
                    "qty",
                    "checksum",
                    "method",
                    "result",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)
NUMBERS = st.sampled_from(
    ["1", "0", "-1", "1e400", "NaN", '"1"', "{}", "null", "1_0", "1e-300", "00", "1e30"]
)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), JSON, NUMBERS, NUMBERS, st.text(max_size=9))
def test_no_bytes_ever_raise(junk: bytes, tree: object, price: str, qty: str, key: str) -> None:
    frames = [
        junk,
        json.dumps(tree).encode(),
        *(
            json.dumps({"channel": name, "type": "snapshot", "data": tree}).encode()
            for name in ("book", "trade")
        ),
        b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":%b,"qty":%b}],"asks":[],'
        b'"checksum":0}]}' % (price.encode(), qty.encode()),
    ]
    for raw in frames:
        adapter = opened()
        adapter.feed(snapshot())
        assert isinstance(adapter.feed(raw), list)
        assert isinstance(adapter.feed(memoryview(raw)), list)
        (ask,) = adapter.backfill("BTC/USD", "1") or adapter.instruments()
        for name in (ask.key, key, "instruments", "resync/book/BTC/USD"):
            assert isinstance(adapter.answer(name, 200, raw), list)
