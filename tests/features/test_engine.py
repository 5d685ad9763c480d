"""The engine: one step behind three doors, resumable at any row, with nulls where there is no value."""

import math
import os
import random
import subprocess
import sys
from array import array
from decimal import Decimal, localcontext

import pytest

from daedalus.features import FeatureEngine
from daedalus.features.elementary import exp, ln
from daedalus.records import BookSnapshot, Trade, pack_side
from tests.features.tables import books_and_trades

START_US = 1_723_161_255_000_000
EVERY = {"emit_interval_s": 0, "horizons_s": [1, 5]}
COMMON = {"exchange": "x", "symbol": "A", "collected_at": 0, "ts_event": None, "symbol_raw": "A", "seq": 1}
COMMON |= {"capture_mono_ns": 0, "clock_ok": True, "exch_seq": None}

Side = list[tuple[float, float]]


def book(us: int, bids: Side, asks: Side, flags: int = 0, session: str = "s") -> BookSnapshot:
    sides = {"bids": pack_side(bids), "asks": pack_side(asks)}
    ts = (START_US + us) * 1000
    return BookSnapshot(**COMMON, ts_recv=ts, nonce=None, **sides, session_id=session, flags=flags)


def trade(us: int, side: str | None, amount: float, flags: int = 0) -> Trade:
    value = {"trade_id": None, "price": 100.0, "amount": amount, "cost": None, "info_json": None}
    ts = (START_US + us) * 1000
    return Trade(**COMMON, **value, ts_recv=ts, side=side, session_id="s", flags=flags, side_raw=None)


def events(count: int, *, trades: bool = True) -> list[BookSnapshot | Trade]:
    """A seeded walk with gaps, crossed, one-sided and shallow books."""
    rng = random.Random(7)
    out: list[BookSnapshot | Trade] = []
    us, tick = 0, 10_000
    for _ in range(count):
        us += rng.choice([1, 400, 20_000, 300_000, 2_000_000])
        if trades and rng.random() < 0.3:
            out.append(trade(us, rng.choice(["buy", "sell", None]), rng.random()))
            continue
        tick += rng.randint(-2, 2)
        gap = rng.choice([-1, 0, 1, 1, 2, 2, 3])
        depths = [rng.choice([0, 1, 4, 25, 25, 25]) for _ in range(2)]
        bids = [((tick - i) / 100, rng.choice([0.0, 0.5, 1.0, rng.random()])) for i in range(depths[0])]
        asks = [((tick + gap + i) / 100, rng.random() + 0.01) for i in range(depths[1])]
        out.append(book(us, bids, asks, rng.choice([0, 0, 0, 0, 2, 256])))
    return out


def rows(engine: FeatureEngine, stream: list[BookSnapshot | Trade]) -> list[bytes]:
    return [bytes(row) for row in map(engine.update, stream) if row is not None]


def named(engine: FeatureEngine, record: BookSnapshot) -> dict[str, float | None]:
    row = engine.update(record)
    assert row is not None
    return {n: None if math.isnan(v) else v for n, v in zip(engine.schema.names, row, strict=True)}


def test_coverage_is_the_observed_share_of_the_window() -> None:
    engine = FeatureEngine(EVERY)
    sides = ([(100.0, 1.0)], [(100.01, 1.0)])
    assert named(engine, book(0, *sides))["coverage_1s"] == 0.0
    row = named(engine, book(250_000, *sides))
    assert (row["coverage_1s"], row["coverage_5s"]) == (0.25, 0.05)
    assert named(engine, book(1_500_000, *sides))["coverage_1s"] == 1.0
    assert named(engine, book(1_750_000, *sides, flags=2))["coverage_1s"] == 0.75


def test_hand_computed_order_flow_over_two_books() -> None:
    engine = FeatureEngine(EVERY)
    assert named(engine, book(0, [(100.0, 2.0)], [(100.02, 3.0)]))["ofi_step"] is None
    row = named(engine, book(10_000, [(100.01, 5.0)], [(100.02, 1.0)]))
    assert row["ofi_step"] == 5.0 - 1.0 + 3.0  # the bid rose: +5; the ask shrank from 3 to 1: +2
    assert row["ofi_norm"] == 7.0 / ((2.5 + 3.0) / 2)
    assert row["log_return_step"] == pytest.approx(math.log(100.015 / 100.01), rel=1e-12)


def test_crossed_and_one_sided_books_have_no_mid_and_leave_the_delta_state() -> None:
    engine = FeatureEngine(EVERY)
    named(engine, book(0, [(100.0, 2.0)], [(100.02, 3.0)]))
    crossed = named(engine, book(1000, [(101.0, 2.0)], [(100.0, 3.0)]))
    assert [crossed[n] for n in ("mid_price", "spread", "ofi_step", "bid_reach_bps", "book_depth")] == [
        None
    ] * 5
    assert crossed["total_bid_volume"] == 2.0
    one = named(engine, book(2000, [], [(100.0, 3.0)]))
    assert (one["bid_levels"], one["book_depth"], one["total_bid_volume"]) == (0.0, 0.0, None)
    assert named(engine, book(3000, [(100.0, 4.0)], [(100.02, 3.0)]))["ofi_step"] == 2.0


def test_d15_a_band_beyond_the_reach_is_null_unless_the_book_is_complete() -> None:
    sides = ([(100.0, 1.0), (99.9, 2.0)], [(100.02, 1.0), (100.12, 2.0)])
    row = named(FeatureEngine(EVERY), book(0, *sides))
    assert (row["bid_vol_band_0_5bps"], row["bid_vol_band_5_10bps"]) == (1.0, 0.0)
    assert row["bid_vol_band_10_25bps"] is None
    assert named(FeatureEngine(EVERY), book(0, *sides, flags=256))["bid_vol_band_10_25bps"] == 2.0


def test_backfilled_trades_are_no_events() -> None:
    sides = ([(100.0, 1.0)], [(100.01, 1.0)])
    engine = FeatureEngine(EVERY, trades=True)
    engine.update(trade(0, "buy", 9.0, flags=128))
    engine.update(trade(1, None, 2.0))
    row = named(engine, book(10, *sides))
    assert (row["buy_volume_1s"], row["trade_vol_1s"], row["trade_count_1s"]) == (0.0, 2.0, 1.0)
    assert row["tfi_1s"] is None


def test_resuming_at_any_event_equals_an_uninterrupted_run() -> None:
    stream = events(250)
    whole = rows(FeatureEngine(EVERY), stream)
    for cut in range(0, len(stream), 7):
        first, second = FeatureEngine(EVERY), FeatureEngine(EVERY)
        head = rows(first, stream[:cut])
        second.restore(first.snapshot())
        assert head + rows(second, stream[cut:]) == whole, f"cut at {cut}"


def test_update_frame_equals_update() -> None:
    stream = events(400, trades=False)
    one, two = FeatureEngine(EVERY), FeatureEngine(EVERY)
    for record in stream:
        bids, asks = (array("d", side) for side in (record.bids, record.asks))
        head = [record.ts_recv / 1000, record.flags, len(bids) // 2, len(asks) // 2]
        frame = array("d", [*head, *bids[::2], *bids[1::2], *asks[::2], *asks[1::2]])
        assert bytes(one.update(record)) == bytes(two.update_frame(frame))


def test_update_batch_equals_update_in_slices_of_a_table_too() -> None:
    import pyarrow as pa

    stream = events(400)
    utc = pa.timestamp("us", "UTC")
    level = pa.list_(pa.struct([("price", pa.float64()), ("size", pa.float64())]))

    def table(kind: type, columns: dict[str, pa.DataType]) -> pa.Table:
        picked = [r for r in stream if type(r) is kind]
        data = {"capture_ts": pa.array([r.ts_recv // 1000 for r in picked], utc)}
        for name, type_ in columns.items():
            values = [getattr(r, name) for r in picked]
            if type_ is level:
                pairs = [array("d", v) for v in values]
                values = [
                    [{"price": p, "size": q} for p, q in zip(v[::2], v[1::2], strict=True)] for v in pairs
                ]
            data[name] = pa.array(values, type_)
        return pa.table(data)

    text = {"session_id": pa.string(), "flags": pa.int32()}
    books = table(BookSnapshot, text | {"bids": level, "asks": level})
    trades = table(Trade, text | {"side": pa.string(), "price": pa.float64(), "amount": pa.float64()})
    live = rows(FeatureEngine(EVERY, trades=True), stream)
    whole = FeatureEngine(EVERY, trades=True).update_batch(books, trades)
    assert whole.values.tobytes() == b"".join(live)
    cut = len(books) // 3
    sliced = pa.concat_tables([books.slice(0, cut), books.slice(cut)])
    assert FeatureEngine(EVERY, trades=True).update_batch(sliced, trades).values.tobytes() == b"".join(live)


def test_compiled_equals_uncompiled() -> None:
    program = (
        "import sys, hashlib; sys.path.insert(0, '.');"
        "from tests.features.test_engine import EVERY, events, rows;"
        "from daedalus.features import FeatureEngine, compiled;"
        "print(compiled(), hashlib.sha256(b''.join(rows(FeatureEngine(EVERY), events(400)))).hexdigest())"
    )
    out = []
    for pure in ("0", "1"):
        env = {**os.environ, "DAEDALUS_PURE": pure}
        out.append(
            subprocess.run(
                [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
            )
        )
    (fast, one), (slow, two) = (run.stdout.split() for run in out)
    assert slow == "False"
    if fast == "False":
        pytest.skip("the kernels are not compiled here")
    assert one == two


def test_truncating_the_future_changes_no_past_row() -> None:
    stream = events(300)
    whole = rows(FeatureEngine(EVERY), stream)
    part = rows(FeatureEngine(EVERY), stream[:150])
    assert part == whole[: len(part)]


def test_checkpoint_of_other_parameters_or_damaged_is_refused() -> None:
    blob = FeatureEngine(EVERY).snapshot()
    with pytest.raises(ValueError, match="cannot restore the engine: checkpoint of"):
        FeatureEngine().restore(blob)
    with pytest.raises(ValueError, match="damaged"):
        FeatureEngine(EVERY).restore(blob[:-1])
    flipped = bytearray(blob)
    flipped[20] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        FeatureEngine(EVERY).restore(bytes(flipped))


def test_exp_and_ln_are_within_one_ulp() -> None:
    rng = random.Random(2)
    with localcontext() as context:
        context.prec = 40
        for _ in range(2000):
            x = rng.choice([rng.lognormvariate(0, 10), 1 + rng.gauss(0, 1e-5), 10 ** rng.uniform(-300, 300)])
            y = rng.choice([rng.uniform(-1, 1), -rng.expovariate(1), rng.uniform(-700, 700)])
            for got, true in ((ln(x), Decimal(x).ln()), (exp(y), Decimal(y).exp())):
                assert abs(Decimal(got) - true) <= Decimal(math.ulp(got))


def test_no_infinity_leaves_by_any_door() -> None:
    sizes = [1e-300, 1.0, 1.0, 1.0, 1e300]  # size 4 over size 0 is beyond what a float holds
    bids, asks = ([(100.0 + sign * (1 + i), q) for i, q in enumerate(sizes)] for sign in (-1, 1))
    record = book(0, bids, asks)
    prices = [array("d", record.bids)[::2], array("d", record.asks)[::2]]
    frame = array("d", [START_US, 0, 5, 5, *prices[0], *sizes, *prices[1], *sizes])
    table, _ = books_and_trades([record])
    rows = [FeatureEngine(EVERY).update(record), FeatureEngine(EVERY).update_frame(frame)]
    rows.append(FeatureEngine(EVERY).update_batch(table).values.cast("B").cast("d"))
    for row in rows:
        assert row is not None
        assert not any(map(math.isinf, row))
        assert sum(map(math.isfinite, row)) > 60  # and what can be said is said
