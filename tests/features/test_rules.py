"""The rules of time, nulls, parameters and units, each on books made for it."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.features import FeatureEngine, prewarm
from daedalus.features.params import Params, parse
from daedalus.records import BookSnapshot, Trade
from tests.features.recorded import Record, make_book, make_trade
from tests.features.reference import Reference

T0 = 1_723_161_255_000_000  # us: 2024-08-08 23:54:15 UTC, a Thursday
EVERY: dict[str, object] = {"emit_interval_s": 0, "horizons_s": [1, 5]}
SIDES = ([(100.0, 2.0), (99.0, 1.0)], [(101.0, 4.0), (102.0, 1.0)])


def book(us: int, bids: object = SIDES[0], asks: object = SIDES[1], **more: object) -> BookSnapshot:
    return make_book((T0 + us) * 1000, bids, asks, **more)


def trade(us: int, amount: float, side: str | None = "buy", **more: object) -> Trade:
    return make_trade((T0 + us) * 1000, 100.0, amount, side, **more)


def run(
    stream: list[Record], params: dict[str, object] | None = None, **more: bool
) -> list[dict[str, float | None]]:
    engine = FeatureEngine(EVERY | (params or {}), **more)
    rows = [row for row in map(engine.update, stream) if row is not None]
    return [
        {n: None if math.isnan(v) else v for n, v in zip(engine.schema.names, r, strict=True)} for r in rows
    ]


def test_five_hand_computed_events() -> None:
    rows = run(
        [
            book(0),  # mid 100.5
            trade(100_000, 3.0),
            trade(150_000, 1.0, "sell"),
            book(200_000, [(100.0, 5.0), (99.0, 1.0)], [(101.0, 1.0), (102.0, 2.0)]),
            book(1_100_000, [(101.0, 1.0)], [(103.0, 3.0)]),
        ],
        trades=True,
    )
    first, second, third = rows
    assert first["mid_price"] == 100.5
    assert first["microprice"] == pytest.approx((2 * 101 + 4 * 100) / 6)
    assert first["weighted_mid"] == (200 + 99 + 404 + 102) / 8
    assert first["imbalance_L0"] == -2 / 6
    assert first["imbalance_top3"] == -2 / 8
    assert first["bid_gini"] == pytest.approx(1 / 6)  # sizes 1 and 2: (2 - 1) x 2 / (2 x 2 x 3)
    assert first["bid_concentration"] == pytest.approx(5 / 9)
    assert first["bid_50pct_depth"] == 0.0
    assert (first["bid_wall_level"], first["total_ask_volume"]) == (0.0, 5.0)
    assert first["bid_reach_bps"] == pytest.approx(1e4 * 1.5 / 100.5)
    assert (first["bid_vol_band_25_50bps"], first["bid_vol_band_50_100bps"]) == (2.0, 0.0)  # 49.75 bps away
    assert (first["trade_count_1s"], first["ofi_step"]) == (0.0, None)
    # level 0: bid 2 -> 5 at one price, ask 4 -> 1; level 1: bid equal, ask 1 -> 2
    assert (second["ofi_step"], second["ofi_multi"]) == (3.0 + 3.0, 6.0 - 1.0)
    assert second["mlofi"] == pytest.approx(6.0 - math.exp(-0.5))
    assert second["ofi_norm"] == 6.0 / ((3.0 + 3.0) / 2)
    assert (second["buy_volume_1s"], second["sell_volume_1s"], second["tfi_1s"]) == (3.0, 1.0, 0.5)
    assert second["log_return_step"] == 0.0
    assert second["coverage_1s"] == 0.2
    # mid 100.5 -> 102 in 0.9 s; bid price up: +1; ask price up: the 1.0 that stood there is gone: +1
    assert (third["ofi_step"], third["ofi_multi"]) == (2.0, 2.0)
    assert third["mid_velocity"] == pytest.approx(1.5 / 0.9)
    assert third["mid_accel"] == pytest.approx((1.5 / 0.9 - 0.0) / 0.9)
    assert third["log_return_1s"] == pytest.approx(math.log(102 / 100.5))  # of the first book: 1.1 s ago
    assert third["trade_count_1s"] == 1.0  # (0.1, 1.1] holds the trade at 0.15 s, not the one at 0.1 s
    assert (third["ofi_sum_1s"], third["ofi_sum_5s"]) == (8.0, 8.0)
    assert (third["bid_slope_regression"], third["imbalance_L1"]) == (None, None)


def test_calendar_is_utc_and_friday_is_no_weekend() -> None:
    day = 86_400_000_000
    thursday_2354 = [("hour_of_day", 23.0), ("minute_of_hour", 54.0), ("day_of_week", 3.0)]
    row = run([book(0)])[0]
    assert [(k, row[k]) for k, _ in thursday_2354] == thursday_2354
    week = [run([book(i * day)])[0] for i in range(7)]
    assert [r["day_of_week"] for r in week] == [3, 4, 5, 6, 0, 1, 2]
    assert [r["is_weekend"] for r in week] == [0, 0, 1, 1, 0, 0, 0]


def test_emit_interval_emits_the_first_update_at_or_after_each_utc_boundary() -> None:
    stream = [book(us) for us in (300_000, 600_000, 999_999, 1_000_000, 1_000_001, 3_500_000, 3_900_000)]
    stream += [book(us) for us in (4_000_001,)]
    engine = FeatureEngine({"emit_interval_s": 1})
    emitted = [r.ts_recv // 1000 - T0 for r in stream if engine.update(r) is not None]
    assert emitted == [300_000, 1_000_000, 3_500_000, 4_000_001]
    tenth = FeatureEngine({"emit_interval_s": 0.1})
    assert sum(tenth.update(book(us)) is not None for us in range(0, 1_000_000, 25_000)) == 10


def test_rows_of_an_interval_are_the_rows_of_every_update() -> None:
    stream = [
        book(us, [(100.0 + us % 3, 1.0 + us % 7)], [(103.5, 2.0)]) for us in range(0, 9_000_000, 70_001)
    ]
    some = run(stream, {"emit_interval_s": 2})
    all_rows = run(stream)
    assert len(some) == 5  # the first row, and one at each even second
    assert all(row in all_rows for row in some)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"flags": 2}, "a gap"),
        ({"session": "t"}, "a new session"),
    ],
)
def test_d14_nothing_is_compared_across(more: dict[str, object], why: str) -> None:
    row, after = run([book(0), book(1_000_000, **more), book(2_100_000, **(more | {"flags": 0}))])[1:]
    deltas = ("ofi_step", "ofi_multi", "mlofi", "ofi_norm", "log_return_step", "mid_velocity", "mid_accel")
    assert [row[n] for n in deltas] == [None] * 7, why
    assert (row["log_return_1s"], row["coverage_1s"], row["coverage_5s"]) == (None, 0.0, 0.0)
    assert (after["ofi_step"], after["mid_velocity"], after["mid_accel"]) == (0.0, 0.0, None)
    assert (after["log_return_1s"], after["coverage_1s"]) == (0.0, 1.0)


def test_silence_beyond_the_staleness_is_a_gap_and_a_second_less_is_not() -> None:
    stale = 300_000_000
    assert run([book(0), book(stale)])[1]["ofi_step"] == 0.0
    assert run([book(0), book(stale + 1)])[1]["ofi_step"] is None
    # books all the while, but one-sided: no silence, the state is stale all the same
    one_sided = [book(us, []) for us in range(1, stale + 1, 50_000_000)]
    last = run([book(0), *one_sided, book(stale + 1)])[-1]
    assert (last["ofi_step"], last["log_return_step"]) == (None, None)
    assert last["coverage_5s"] == 1.0


def test_trades_columns_are_null_without_a_channel_and_zero_without_trades() -> None:
    names = [
        n for n in FeatureEngine(EVERY).schema.names if "volume_" in n or n.startswith(("trade_", "tfi"))
    ]
    assert len(names) == 10
    assert {run([book(0)])[0][n] for n in names} == {None}
    assert {run([book(0)], trades=True)[0][n] for n in names} == {0.0, None}
    assert run([book(0)], trades=True)[0]["tfi_5s"] is None


def test_trades_of_unknown_side_count_in_volume_and_count_only() -> None:
    row = run([trade(0, 2.0, None), trade(1, 1.0), book(2)], trades=True)[0]
    assert (row["trade_vol_1s"], row["trade_count_1s"]) == (3.0, 2.0)
    assert (row["buy_volume_1s"], row["sell_volume_1s"], row["tfi_1s"]) == (1.0, 0.0, 1.0)


def test_equal_sizes_have_no_tilt() -> None:
    """By subtraction microprice - M would be some rounding error, and its sign would be the feature."""
    row = run([book(0, [(61837.63, 0.3), (61837.0, 9.0)], [(61837.64, 0.3)])])[0]
    assert (row["micro_minus_mid"], row["imb_signed"]) == (0.0, 0.0)
    assert row["microprice"] == row["mid_price"]


def test_events_out_of_order_are_refused_and_a_clock_that_went_back_begins_anew() -> None:
    engine = FeatureEngine(EVERY)
    engine.update(book(10))
    with pytest.raises(ValueError, match="the last was at"):
        engine.update(trade(9, 1.0))
    with pytest.raises(ValueError, match=r"allowed are 0 to 2\^53"):
        engine.update(book(-T0 - 1, session="t"))
    engine.update(book(5, session="t"))
    fresh = FeatureEngine(EVERY)
    assert bytes(engine.update(book(6, session="t"))) == bytes(
        [fresh.update(book(us, session="t")) for us in (5, 6)][1]
    )


LEVEL = st.tuples(st.integers(95, 105), st.sampled_from([0.0, 0.5, 1.0, 1e-9, 1e9]))
STEP = st.tuples(
    st.sampled_from([0, 1, 999, 1000, 250_000, 5_000_000, 10**12]),  # equal times and a giant gap too
    st.lists(LEVEL, max_size=6),
    st.lists(LEVEL, max_size=6),
    st.sampled_from([0, 0, 0, 2, 128, 256]),
    st.sampled_from(["s", "s", "s", "t"]),
    st.sampled_from([None, "book", "buy", "sell", "?"]),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_whatever_comes_equals_brute_force_and_survives_a_snapshot(steps: list[tuple]) -> None:
    engine, truth = FeatureEngine(EVERY, trades=True), Reference(parse(EVERY), trades=True)
    us = 0
    for dt, bids, asks, flags, session, kind in steps:
        us += dt
        if kind in ("buy", "sell", "?"):
            record: Record = trade(us, 0.25, kind, flags=flags, session=session)
        else:
            sides = [dict(levels).items() for levels in (bids, asks)]
            best_first = sorted(sides[0], reverse=True), sorted(sides[1])
            record = book(us, *best_first, flags=flags, session=session)
        row, want = engine.update(record), truth.update(record)
        assert (row is None) == (want is None)
        if row is not None and want is not None:
            for name, value in zip(engine.schema.names, row, strict=True):
                expected = want.get(name)
                assert math.isnan(value) == (expected is None), (name, value, expected)
                if expected is not None:
                    assert value == pytest.approx(expected, rel=1e-6, abs=1e-6), name
        again = FeatureEngine(EVERY, trades=True)
        again.restore(engine.snapshot())
        engine = again


SCALES = {"quote": (1, 0), "base": (0, 1), "quote/base": (1, -1), "base/bps": (0, 1)}
SCALES |= {"quote/s": (1, 0), "quote/s^2": (1, 0)}


@pytest.mark.parametrize(("prices", "sizes"), [(2.0, 1.0), (1.0, 0.25), (8.0, 4.0)])
def test_scaling_prices_and_sizes_scales_a_column_as_its_unit_says(prices: float, sizes: float) -> None:
    """By powers of two, so that nothing rounds: only ln and exp do."""

    def stream(p: float, q: float) -> list[Record]:
        out: list[Record] = []
        for n in range(60):
            bids = [((100 - i - n % 3) * p, (1 + (7 * n + i) % 5) * q) for i in range(12)]
            asks = [((101 + i - n % 2) * p, (1 + (5 * n + 3 * i) % 7) * q) for i in range(12)]
            out += [book(n * 400_000, bids, asks), trade(n * 400_000 + 1, (1 + n % 4) * q, "buy")]
        return out

    engine = FeatureEngine(EVERY)
    units = dict(zip(engine.schema.names, engine.schema.units, strict=True))
    plain, scaled = (
        run(stream(p, q), {"emit_ofi_levels": True}, trades=True) for p, q in ((1, 1), (prices, sizes))
    )
    for one, two in zip(plain, scaled, strict=True):
        for name, value in one.items():
            price_power, size_power = SCALES.get(units.get(name, "base"), (0, 0))
            expected: object = None if value is None else value * prices**price_power * sizes**size_power
            if expected is not None:
                expected = pytest.approx(expected, rel=1e-9, abs=1e-12)
            assert two[name] == expected, (name, units.get(name))


CHANGED = {
    "max_levels": 10,
    "ofi_levels": 2,
    "ofi_decay_alpha": 1.5,
    "bands_bps": [20, 400],
    "horizons_s": [1, 2],
    "emit_interval_s": 1,
    "smart_depth_k": 7,
    "max_state_staleness_s": 0.5,
    "emit_ofi_levels": True,
}
LATER = set(Params.__struct_fields__) - set(CHANGED) - {"checkpoint_interval_s"}


@pytest.mark.parametrize("key", CHANGED)
def test_every_key_of_these_columns_changes_an_output(key: str) -> None:
    bids = [(100 - i / 10, 1.0 + i % 3) for i in range(15)]
    stream: list[Record] = [
        book(
            n * 700_000,
            [(p, q + n % 4 + i) for i, (p, q) in enumerate(bids)],
            [(100.5 + n % 2, 2.0), (101.9, 3.0)],
        )
        for n in range(8)
    ]
    assert run(stream, {key: CHANGED[key]}) != run(stream)


def test_unknown_keys_and_bounds_are_refused_with_the_key_first() -> None:
    for params, words in (
        ({"ofi_level": 5}, "ofi_level: cannot use this key.*did you mean ofi_levels"),
        ({"max_levels": 9}, "max_levels: cannot use 9"),
        ({"ofi_levels": 21}, "ofi_levels: cannot use 21"),
        ({"bands_bps": [5, 5]}, "bands_bps: cannot use"),
        ({"horizons_s": []}, "horizons_s: cannot use"),
        ({"emit_interval_s": math.nan}, "emit_interval_s: cannot use nan"),
    ):
        with pytest.raises(ValueError, match=words):
            FeatureEngine(params)


def test_cold_start_equals_the_continuous_run_from_the_minute_after_its_windows_are_full() -> None:
    """Sizes over 40 decades: without summing anew each minute, the rounding of long ago stays."""
    rng = random.Random(5)
    stream: list[Record] = []
    for us in range(0, 130_000_000, 100_000):
        wild = [(100 - i, 10 ** rng.uniform(-20, 20)) for i in range(3)], [(101 + i, 1.0) for i in range(3)]
        stream += [book(us, *wild), trade(us + 1, 10 ** rng.uniform(-20, 20))]
    params = EVERY | {"ofi_levels": 3}
    whole, cold = FeatureEngine(params, trades=True), FeatureEngine(params, trades=True)
    equal: dict[bool, list[bool]] = {True: [], False: []}
    short = [i for i, w in enumerate(whole.schema.windows) if w is None or w <= 5]
    for record in stream:
        us = record.ts_recv // 1000 - T0
        one, two = whole.update(record), cold.update(record) if us >= 20_000_000 else None
        if one is not None and two is not None and us >= 26_000_000:
            rows = [repr([row[i] for i in short]) for row in (one, two)]
            equal[us >= 45_000_000].append(rows[0] == rows[1])  # T0 + 45 s is a UTC minute
    assert all(equal[True])
    assert not all(equal[False])


def test_memory_grows_with_what_the_windows_hold_only() -> None:
    """An hour of books at 5 per second, windows of 5 and 60 s: the checkpoint is as small as after 80 s."""
    engine = FeatureEngine(EVERY | {"spread_regime_window_s": 5}, trades=True)
    sizes = []
    for n in itertools.count():
        engine.update(book(n * 200_000))
        engine.update(trade(n * 200_000 + 1, 1.0))
        if n in (400, 18_000):
            sizes.append(len(engine.snapshot()))
        if n == 18_000:
            break
    assert sizes[1] <= sizes[0] + 100
    assert sizes[1] < 16_000  # 60 s of the slopes take 10,000


def test_defaults_written_out_in_any_spelling_are_the_schema_of_the_defaults() -> None:
    written: dict[str, object] = {
        "horizons_s": [1, 5.0, 15, 60, 300, 900],
        "bands_bps": [5.0, 10, 25, 50, 100],
        "max_levels": 20,
    }
    assert FeatureEngine(written).schema.id == FeatureEngine().schema.id
    assert FeatureEngine({"horizons_s": [1]}).schema.id != FeatureEngine().schema.id


def test_engines_of_one_set_of_columns_share_their_schema_whatever_else_differs() -> None:
    prewarm()
    one, other = FeatureEngine({"emit_interval_s": 0}), FeatureEngine({"max_state_staleness_s": 7})
    assert one.schema is other.schema is FeatureEngine().schema
    assert one.snapshot() != other.snapshot()  # of other parameters all the same
    with pytest.raises(ValueError, match="parameters"):
        one.restore(other.snapshot())
