"""Tables are merged as they were captured: by session, by time within one, over every channel."""

from typing import Any

import pyarrow as pa
import pytest

from daedalus.features import FeatureEngine, compute
from daedalus.features.arrow import ranks, ticker_batches, trade_batches
from daedalus.records import BookSnapshot, Ticker, Trade
from tests.features.digest import rows
from tests.features.recorded import make_book, make_trade
from tests.features.tables import books_and_trades

T0 = 1_723_161_255_000_000  # us: 2024-08-08 23:54:15 UTC
EVERY: dict[str, object] = {"emit_interval_s": 0, "horizons_s": [1, 5]}
_NAMES = ("bid", "ask", "bid_volume", "ask_volume", "last", "open", "high", "low", "close", "vwap")
_VALUES = dict.fromkeys((*_NAMES, "quote_volume", "change", "percentage"))


def ticker(us: int, session: str = "s", volume: float | None = 5e4, flags: int = 0) -> Ticker:
    rest: dict[str, Any] = {"exchange": "x", "symbol": "X", "collected_at": 0, "ts_event": None, "seq": 1}
    rest |= {"info_json": None, "symbol_raw": "X", "capture_mono_ns": 0, "clock_ok": True, "exch_seq": None}
    return Ticker(
        **rest, **_VALUES, base_volume=volume, session_id=session, flags=flags, ts_recv=(T0 + us) * 1000
    )


def ticker_table(tickers: list[Ticker]) -> pa.Table:
    return pa.table(
        {
            "capture_ts": pa.array([t.ts_recv // 1000 for t in tickers], pa.timestamp("us", "UTC")),
            "session_id": pa.array([t.session_id for t in tickers], pa.string()),
            "flags": pa.array([t.flags for t in tickers], pa.int32()),
            "base_volume": pa.array([t.base_volume for t in tickers], pa.float64()),
        }
    )


def book(us: int, session: str, n: int, flags: int = 0) -> BookSnapshot:
    sides = [(100.0 + n % 3 - i, 1.0 + n % 5) for i in range(3)], [(103.5 + i, 2.0) for i in range(3)]
    return make_book((T0 + us) * 1000, *sides, flags=flags, session=session)


def trade(us: int, session: str, n: int) -> Trade:
    return make_trade((T0 + us) * 1000, 100.0, 1.0 + n, ("buy", "sell", None)[n % 3], session=session)


def captured(sessions: list[tuple[str, int]]) -> list[Any]:
    """A book, a trade and now and then a ticker each 0.1 s; each session begins at its own time."""
    out: list[Any] = []
    for session, start in sessions:
        for n in range(30):
            us = start + n * 100_000
            out += [book(us, session, n, flags=2 if n == 0 else 0), trade(us + 10, session, n)]
            if n % 10 == 5:
                out.append(ticker(us + 20, session))
    return out


def of_kind(stream: list[Any], kind: type) -> list[Any]:
    return [record for record in stream if type(record) is kind]


@pytest.mark.parametrize("second", [5_000_000, 2_990_000, 1_000_000, -9_000_000])
def test_a_clock_that_was_set_back_leaves_a_batch_in_the_order_of_capture(second: int) -> None:
    stream = captured([("s", 0), ("t", second), ("u", second + 3_000_000)])
    books, trades = books_and_trades(stream)
    tickers = ticker_table(of_kind(stream, Ticker))
    live = rows(FeatureEngine(EVERY, trades=True), stream)
    batch = FeatureEngine(EVERY, trades=True).update_batch(books, trades, tickers)
    assert batch.values.tobytes() == b"".join(live)
    assert batch.flags.tolist() == [record.flags for record in of_kind(stream, BookSnapshot)]
    assert batch.index.tolist() == list(range(90))
    table = compute(books, trades, tickers, EVERY)
    values = table.select(FeatureEngine(EVERY).schema.names).fill_null(float("nan"))
    assert values.to_numpy().tobytes() == batch.values.tobytes()


def test_sessions_stand_in_the_order_that_the_streams_tell_together() -> None:
    def stream(*sessions: tuple[str, int]) -> list[Any]:
        records = [trade(us, session, n) for n, (session, us) in enumerate(sessions)]
        return trade_batches(books_and_trades(records)[1])

    told = ranks([stream(("s", 0), ("t", 5), ("u", 1)), stream(("s", 2), ("u", 0))])
    assert told == {"s": 0, "t": 1, "u": 2}
    assert list(ranks([stream(("s", 9)), stream(("t", 4)), stream(("u", 6))])) == ["t", "u", "s"]
    contradiction = [stream(("s", 0), ("t", 5)), stream(("t", 1), ("s", 2))]
    assert list(ranks(contradiction)) == ["s", "t"]
    assert ranks([[], []]) == {}


def test_a_ticker_is_an_event_in_order_and_changes_no_row() -> None:
    stream = captured([("s", 0)])
    without = [record for record in stream if type(record) is not Ticker]
    assert rows(FeatureEngine(EVERY), stream) == rows(FeatureEngine(EVERY), without)
    engine = FeatureEngine(EVERY)
    engine.update(ticker(10, volume=None))
    with pytest.raises(ValueError, match="the last was at"):
        engine.update(ticker(9))
    engine.update(ticker(9, flags=128))  # a backfilled one is none
    assert ticker_batches(ticker_table([ticker(0, volume=None)]))[0].base_volume[0] != 0.0


def test_one_source_of_books_at_a_time() -> None:
    books, trades = books_and_trades(captured([("s", 0)]))
    with pytest.raises(ValueError, match="only one of them makes the rows"):
        FeatureEngine(EVERY).update_batch(books, trades, depth=books)
    with pytest.raises(ValueError, match="one of orderbook and depth"):
        compute(books, depth=books)
    with pytest.raises(ValueError, match="one of orderbook and depth"):
        compute(trades=trades)


def test_what_has_no_price_or_no_amount_is_no_trade_by_any_door() -> None:
    nan, inf = float("nan"), float("inf")
    odd = [(nan, 1.0), (0.0, 1.0), (-1.0, 1.0), (inf, 1.0), (100.0, nan), (100.0, -1.0), (100.0, inf)]
    stream = [make_trade((T0 + i) * 1000, p, a, "buy") for i, (p, a) in enumerate(odd)]
    stream += [make_trade((T0 + 50) * 1000, 100.0, 2.0, "buy"), book(100, "s", 0)]
    engine = FeatureEngine(EVERY)
    (row,) = (row for row in map(engine.update, stream) if row is not None)
    assert row[engine.schema.index("trade_count_1s")] == 1.0
    assert row[engine.schema.index("trade_vol_1s")] == 2.0
    assert FeatureEngine(EVERY).update_batch(*books_and_trades(stream)).values.tobytes() == bytes(row)
