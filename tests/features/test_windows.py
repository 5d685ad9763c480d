"""Windows of the book: the grid of seconds, realized volatility, the spread's rank and regime, deviations."""

import bisect
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.features import FeatureEngine
from daedalus.features.catalogue_windows import windows
from daedalus.features.checkpoint import open_sealed, seal
from daedalus.features.params import fingerprint, parse
from daedalus.records import BookSnapshot
from tests.features.recorded import make_book
from tests.features.reference import Reference

S = 1_000_000
T0 = 1_723_161_255 * S  # us: 15 s before a UTC minute
SMALL: dict[str, object] = {"max_levels": 10, "ofi_levels": 1, "bands_bps": [5]}
EVERY: dict[str, object] = SMALL | {"emit_interval_s": 0, "horizons_s": [1, 60], "spread_regime_window_s": 10}
COLUMNS = [feature.name for feature in windows(parse(EVERY))]


def book(us: int, mid: float, spread: float = 0.5, size: float = 1.0, **more: Any) -> BookSnapshot:
    """A book of one level a side; prices are exact in binary, so mids and spreads are too."""
    sides = [(mid - spread / 2, size)], [(mid + spread / 2, size)]
    return make_book((T0 + us) * 1000, *sides, **more)


def run(stream: list[BookSnapshot], **params: object) -> list[dict[str, float | None]]:
    engine = FeatureEngine(EVERY | params)
    rows = [row for row in map(engine.update, stream) if row is not None]
    return [
        {n: None if math.isnan(v) else v for n, v in zip(engine.schema.names, r, strict=True)} for r in rows
    ]


def wild(seed: int, count: int) -> list[BookSnapshot]:
    """Books at and around whole seconds, some at one time; holes, sessions, one-sided and crossed ones."""
    rng = random.Random(seed)
    out, us, session = [], 0, "s"
    for _ in range(count):
        us += rng.choice([0, 1, 250_000, 300_000, 500_000, S - us % S])
        if rng.random() < 0.004:
            us += rng.choice([3, 70]) * S
        if rng.random() < 0.004:
            session += "t"
        tick, gap = 10_000 + rng.randint(-2, 2), rng.choice([0, 1, 1, 1, 2, 3, rng.choice([-1, 1])])
        deep = [rng.choice([0, 1, 4, 12, 12, 12, 12]) for _ in "ba"]
        bids = [((tick - i) / 100, rng.random()) for i in range(deep[0])]
        asks = [((tick + gap + i) / 100, rng.random()) for i in range(deep[1])]
        flags = rng.choice([0] * 60 + [2, 256])
        out.append(make_book((T0 + us) * 1000, bids, asks, flags, session))
    return out


def compare(
    row: Any, want: dict[str, float | None], names: list[str], filled: set[str], least: float = 1e-12
) -> None:
    for name, value in zip(names, row, strict=True):
        expected = want.get(name)
        if name in COLUMNS:
            assert math.isnan(value) == (expected is None), (name, value, expected)
            if expected is not None:
                filled.add(name)
                assert abs(value - expected) <= 1e-9 * abs(expected) + least, (name, value, expected)


@pytest.mark.parametrize("dynamic", [True, False])
def test_every_column_equals_brute_force_over_its_window(dynamic: bool) -> None:
    params = EVERY | {"use_dynamic_spread_regime": dynamic, "wide_spread_threshold": 0.0003}
    engine, truth = FeatureEngine(params), Reference(parse(params), trades=False)
    filled: set[str] = set()
    for record in wild(3, 500):
        want = truth.update(record)
        assert want is not None
        compare(engine.update(record), want, engine.schema.names, filled)
    assert filled == set(COLUMNS)


STEP = st.tuples(
    st.sampled_from([0, 1, 400_000, S - 1, S, S + 1, 7 * S, 70 * S]),
    st.sampled_from([100.0, 100.0, 100.5, 101.0, 1e9]),
    st.sampled_from([0.0, 0.5, 0.5, 1.0, -0.5]),  # locked and crossed too
    st.sampled_from([1.0, 3.0, 1e-3, 1e6]),
    st.sampled_from([0, 0, 0, 0, 2, 256]),
    st.integers(1, 9),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=20), st.sampled_from([1.0, 2.5]))
def test_whatever_comes_equals_brute_force_and_survives_a_snapshot(steps: list[tuple], window: float) -> None:
    params = EVERY | {"spread_regime_window_s": window, "use_dynamic_spread_regime": window == 1.0}
    engine, truth = FeatureEngine(params), Reference(parse(params), trades=False)
    us = 0
    for dt, mid, spread, size, flags, times in steps:
        for _ in range(times):
            us += dt
            record = book(us, mid, spread, size, flags=flags)
            row, want = engine.update(record), truth.update(record)
            assert row is not None
            assert want is not None
            compare(row, want, engine.schema.names, set(), 1e-9)
        again = FeatureEngine(params)
        again.restore(engine.snapshot())
        assert again.snapshot() == engine.snapshot()
        engine = again


def test_resuming_at_any_event_changes_no_bit() -> None:
    stream = wild(5, 160)
    engine, other = FeatureEngine(EVERY), FeatureEngine(EVERY)
    for record in stream:
        assert bytes(engine.update(record)) == bytes(other.update(record))
        blob = other.snapshot()
        other = FeatureEngine(EVERY)
        other.restore(blob)


def test_cold_start_equals_the_continuous_run_once_the_windows_are_full() -> None:
    """Huge sizes at first: without summing anew each minute the rounding of long ago would stay."""
    rng = random.Random(11)
    stream = []
    for us in range(0, 190 * S, 250_000):
        most = 20 if us < 30 * S else -5
        bids = [(8192.0 - i, 10 ** rng.uniform(-20, most)) for i in range(1, 4)]
        asks = [(8192.0 + i + rng.randrange(2), 10 ** rng.uniform(-20, most)) for i in range(1, 4)]
        stream.append(make_book((T0 + us) * 1000, bids, asks, flags=256))
    whole, cold = FeatureEngine(EVERY), FeatureEngine(EVERY)
    keep = [whole.schema.index(name) for name in COLUMNS]
    equal: dict[bool, list[bool]] = {True: [], False: []}
    for record in stream:
        us = record.ts_recv // 1000 - T0
        one, two = whole.update(record), cold.update(record) if us >= 20 * S else None
        if two is not None and one is not None and us >= 92 * S:
            rows = [[row[i] for i in keep] for row in (one, two)]
            equal[us >= 105 * S].append(repr(rows[0]) == repr(rows[1]))  # 105 s: the next UTC minute
    assert all(equal[True])
    assert len(equal[True]) > 300
    assert not all(equal[False])


def test_a_row_on_a_whole_second_counts_that_second_and_a_book_at_the_same_time_changes_it() -> None:
    steps = [book(n * S, 100.0) for n in range(70)]
    rows = run([*steps, book(70 * S, 101.0), book(70 * S, 102.0), book(70 * S + 1, 100.0)])
    rises = [math.log(1.01), math.log(1.02), math.log(1.02)]
    assert [row["realized_vol_60s"] for row in rows[-3:]] == pytest.approx(rises, rel=1e-12)
    assert rows[-4]["realized_vol_60s"] == 0.0
    half = run([*steps, book(69 * S + 500_000, 101.0)])[-1]
    assert half["realized_vol_60s"] == 0.0  # the unfinished second never counts


def test_a_hole_inside_one_second_makes_its_return_null_and_bipower_pairs_neighbours_only() -> None:
    mids = [100.0 + n % 2 for n in range(80)]
    r2 = math.log(1.01) ** 2
    stream = [book(n * S, mid) for n, mid in enumerate(mids)]
    row = run(stream)[-1]  # t = 79 s: the seconds 20 to 79
    assert row["realized_vol_60s"] == pytest.approx(math.sqrt(60 * r2))
    assert row["bipower_60s"] == pytest.approx(math.pi / 2 * 60 / 59 * 59 * r2)
    assert row["jump_60s"] == 0.0
    cut = [*stream[:50], book(49 * S + 400_000, mids[49], flags=2), *stream[50:]]
    row = run(cut)[-1]
    assert row["realized_vol_60s"] == pytest.approx(math.sqrt(59 * r2))
    assert row["bipower_60s"] == pytest.approx(math.pi / 2 * 59 / 58 * 57 * r2)


def test_too_little_observed_or_too_few_returns_is_null() -> None:
    rows = run([book(n * S, 100.0 + n % 2) for n in range(70)])
    assert [rows[n]["realized_vol_60s"] is None for n in (53, 54)] == [True, False]  # 0.9 of 60 s
    crossed = [book(n * S, 100.0, -0.5) for n in range(70)]
    none = run([*crossed, book(70 * S, 100.0)])[-1]  # watched for 60 s, but no second has a value
    assert (none["coverage_60s"], none["realized_vol_60s"]) == (1.0, None)
    stream = [book(n * S, 100.0, -0.5 if n < 51 else 0.5) for n in range(70)]
    row = run(stream)[-1]  # covered; returns of the seconds 52 to 69: 18
    assert (row["realized_vol_60s"], row["bipower_60s"], row["jump_60s"]) == (0.0, None, None)


def test_percentile_counts_ties_half_and_needs_thirty() -> None:
    spreads = [0.5] * 15 + [0.25] * 10 + [1.0] * 5 + [0.5]
    rows = run([book(n, 100.0, spread) for n, spread in enumerate(spreads)])
    assert [row["spread_percentile"] for row in rows[:29]] == [None] * 29
    assert rows[29]["spread_percentile"] == (25 + 5 / 2) / 30
    assert rows[30]["spread_percentile"] == (10 + 16 / 2) / 31
    assert [row["spread_regime"] for row in rows[28:]] == [None, 1.0, 0.0]
    crossed = run([*(book(n, 100.0, s) for n, s in enumerate(spreads)), book(40, 100.0, -0.5)])[-1]
    assert (crossed["spread_percentile"], crossed["spread_regime"]) == (None, None)


def test_ranks_are_right_however_many_values_came_and_went() -> None:
    rng = random.Random(2)
    inside: list[float] = []
    order: list[tuple[int, float]] = []
    engine = FeatureEngine(EVERY | {"spread_regime_window_s": 3})
    at = engine.schema.index("spread_percentile")
    for n in range(6000):
        us = n * (2000 if n < 3000 else 6000)
        spread = rng.choice([rng.randint(1, 9) / 8, rng.randint(1, 1 << 20) / (1 << 16)])
        while order and order[0][0] <= us - 3 * S:
            inside.remove(order.pop(0)[1])
        value = spread / 1024
        bisect.insort(inside, value)
        order.append((us, value))
        row = engine.update(book(us, 1024.0, spread))
        assert row is not None
        low, high = bisect.bisect_left(inside, value), bisect.bisect_right(inside, value)
        if len(inside) >= 30:
            assert row[at] == (low + (high - low) / 2) / len(inside), n


def test_a_constant_spread_is_normal_and_never_tight() -> None:
    rows = run([book(n * 1000, 100.0) for n in range(40)], spread_wide_percentile=0.3)
    assert [row["spread_regime"] for row in rows] == [None] * 29 + [0.0] * 11
    assert rows[-1]["spread_percentile"] == 0.5
    assert (rows[-1]["spread_regime_tight_frac"], rows[-1]["spread_regime_wide_frac"]) == (0.0, 0.0)


def test_shares_are_of_time_under_the_regime_before_and_a_hole_is_unknown() -> None:
    static: dict[str, object] = {"use_dynamic_spread_regime": False}
    static |= {"tight_spread_threshold": 0.001, "wide_spread_threshold": 0.01}
    tight, normal, wide = 0.0625, 0.5, 2.0
    stream = [
        book(0, 100.0, tight),
        book(3 * S, 100.0, normal),
        book(4 * S, 100.0, wide),
        book(5 * S, 100.0, -1.0),  # crossed: the regime persists
        book(8 * S, 100.0, tight),
        book(10 * S, 100.0, tight, flags=2),  # (8, 10] was not watched
        book(11 * S, 100.0, normal),
    ]
    rows = run(stream, **static)
    assert [row["spread_regime"] for row in rows] == [-1.0, 0.0, 1.0, None, -1.0, -1.0, 0.0]
    shares = [(row["spread_regime_tight_frac"], row["spread_regime_wide_frac"]) for row in rows]
    assert shares[:4] == [(None, None), (1.0, 0.0), (3 / 4, 0.0), (3 / 5, 1 / 5)]
    assert shares[4:] == [(3 / 8, 4 / 8), (3 / 8, 4 / 8), (3 / 8, 4 / 8)]  # the last from 1 s on: 2 + 1 of 8


def test_deviations_know_small_differences_of_large_numbers_and_exact_zero() -> None:
    def sigma(sizes: list[float]) -> list[float | None]:
        # mid 8192 and spread 1: both levels lie 0.6 bps away; a deep level gives the reach
        out = []
        for n, size in enumerate(sizes):
            sides = [(8191.5, size), (8100.0, 1.0)], [(8192.5, 1.0), (8300.0, 1.0)]
            out.append(make_book((T0 + n * 1000) * 1000, *sides))
        return [row["depth_0_5bps_sigma"] for row in run(out)]

    half = pytest.approx(0.5 / math.sqrt(3), rel=1e-12)
    assert sigma([1e9 - 1, 1e9 - 1, 1e9 - 0.5]) == [None, 0.0, half]
    assert sigma([0.1] * 50)[1:] == [0.0] * 49
    assert sigma([1e200, 1.0, 1.0])[-1] is None  # its square is beyond a float: no value, not 0


def test_horizons_below_a_minute_have_no_realized_columns_and_the_rest_stays() -> None:
    names = [feature.name for feature in windows(parse({"horizons_s": [1, 59.9]}))]
    assert len(names) == 11
    rows = run([book(n * S, 100.0 + n % 2) for n in range(5)], horizons_s=[1])
    assert rows[-1]["cog_momentum_std_60s"] == 0.0
    assert [feature.name for feature in windows(parse({}))][:3] == [
        "realized_vol_60s",
        "bipower_60s",
        "jump_60s",
    ]
    assert len(windows(parse({}))) == 20


KEYS: dict[str, tuple[dict[str, object], object]] = {
    "spread_regime_window_s": ({}, 1),
    "use_dynamic_spread_regime": ({}, False),
    "spread_tight_percentile": ({}, 0.45),
    "spread_wide_percentile": ({}, 0.55),
    "tight_spread_threshold": ({"use_dynamic_spread_regime": False, "wide_spread_threshold": 0.1}, 0.006),
    "wide_spread_threshold": ({"use_dynamic_spread_regime": False}, 0.011),
}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_these_columns_changes_an_output(key: str) -> None:
    rest, value = KEYS[key]
    stream = [book(n * 100_000, 100.0, (1 + 7 * n % 5) / 4) for n in range(80)]
    assert run(stream, **rest, **{key: value}) != run(stream, **rest)


def test_a_sealed_state_of_another_shape_is_refused() -> None:
    engine = FeatureEngine(EVERY)
    for record in wild(7, 200):
        engine.update(record)
    ids = engine.schema.id, fingerprint(engine.params)
    state: Any = open_sealed(engine.snapshot(), *ids)
    grid, ours = state[3], state[4]
    minus, future = ((n).to_bytes(8, "little", signed=True) for n in (-5, 1 << 60))
    for blocks, at, bad in (
        (state, 3, grid[:1]),
        (state, 4, ours[:-1]),
        (grid, 0, minus * 2),
        (grid, 0, future * 2),
        (ours, 0, minus),  # the first return of a window
        (ours, 5, (9).to_bytes(8, "little") * 2),  # a regime
        (ours, 5, (1).to_bytes(8, "little") + future),
        (ours, 8, b"\xff" * len(ours[8])),  # NaN for a spread
        (ours, 11, b"\xff" * len(ours[11])),
        (ours, 12, b""),
    ):
        good, blocks[at] = blocks[at], bad
        assert bad != good
        with pytest.raises(ValueError, match="cannot restore the engine"):
            FeatureEngine(EVERY).restore(seal(*ids, state))
        blocks[at] = good
    FeatureEngine(EVERY).restore(seal(*ids, state))
