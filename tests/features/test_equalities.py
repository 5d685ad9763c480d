"""On real recordings: live = batch = frames = uncompiled = resumed, byte for byte, on every interpreter."""

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from daedalus.features import FeatureEngine, compiled, compute
from daedalus.records import BookSnapshot
from tests.features.digest import EVERY, digest, rows
from tests.features.recorded import Record, events
from tests.features.tables import books_and_trades

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "data" / "features_golden.json"
pytestmark = pytest.mark.usefixtures("recordings")
MARKETS = pytest.mark.parametrize("name", ["btcusdt", "ethusdt"])
BOOKS = 1200


def elsewhere(*args: str, pure: bool = False) -> list[str]:
    """Run tests.features.digest in a new process."""
    env = {**os.environ, "DAEDALUS_PURE": "1" if pure else "0"}
    command = [sys.executable, "-m", "tests.features.digest", *args]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout.split()


def live(stream: tuple[Record, ...]) -> list[bytes]:
    return rows(FeatureEngine(EVERY, trades=True), stream)


@MARKETS
def test_batch_equals_live_however_the_tables_are_cut(name: str) -> None:
    import pyarrow as pa

    stream = events(name, BOOKS)
    expected = b"".join(live(stream))
    books, trades = books_and_trades(stream)
    n = len(books)
    shapes = {
        "whole": (books, trades),
        "one batch": (books.combine_chunks().to_batches()[0], trades.combine_chunks().to_batches()[0]),
        "chunks": (
            pa.concat_tables([books.slice(a, 97) for a in range(0, n, 97)]),
            pa.concat_tables([trades.slice(0, 5), trades.slice(5, 0), trades.slice(5)]),
        ),
        "sliced": (
            pa.concat_tables([books.slice(n - 3), books]).slice(3),
            pa.concat_tables([trades.slice(0, 9), trades]).slice(9),
        ),
    }
    for how, (b, t) in shapes.items():
        got = FeatureEngine(EVERY).update_batch(b, t)
        assert got.values.tobytes() == expected, how
        assert got.ts_us.tolist() == books["capture_ts"].cast("int64").to_pylist(), how
        assert got.index.tolist() == list(range(n)), how


def test_batch_in_parts_equals_batch_in_one() -> None:
    import pyarrow.compute as pc

    stream = events("btcusdt", BOOKS)
    books, trades = books_and_trades(stream)
    cut = books["capture_ts"][500]
    engine = FeatureEngine(EVERY)
    parts = b""
    for keep in (pc.less_equal, pc.greater):
        part = [t.filter(keep(t["capture_ts"], cut)) for t in (books, trades)]
        parts += engine.update_batch(*part).values.tobytes()
    assert parts == b"".join(live(stream))


def test_batch_writes_into_a_given_buffer_and_refuses_a_short_one() -> None:
    stream = events("btcusdt", 50)
    books, trades = books_and_trades(stream)
    width = len(FeatureEngine(EVERY).schema)
    out = array("d", bytes(8 * width * 50))
    FeatureEngine(EVERY).update_batch(books, trades, out=out)
    assert out.tobytes() == b"".join(live(stream))
    with pytest.raises(ValueError, match="cannot write up to 50 rows"):
        FeatureEngine(EVERY).update_batch(books, trades, out=out[1:])


@MARKETS
def test_frames_equal_records(name: str) -> None:
    one, two = FeatureEngine(EVERY), FeatureEngine(EVERY)
    for record in events(name, BOOKS):
        if isinstance(record, BookSnapshot):
            bids, asks = (array("d", side) for side in (record.bids, record.asks))
            head = [record.ts_recv / 1000, record.flags, len(bids) // 2, len(asks) // 2]
            frame = array("d", [*head, *bids[::2], *bids[1::2], *asks[::2], *asks[1::2]])
            assert bytes(one.update(record)) == bytes(two.update_frame(frame))


@MARKETS
def test_uncompiled_equals_compiled_and_a_new_process_resumes(name: str, tmp_path: Path) -> None:
    stream = events(name, BOOKS)
    whole = live(stream)
    assert elsewhere(name, str(BOOKS), pure=True) == ["False", digest(whole)]
    cut = len(stream) // 2
    engine = FeatureEngine(EVERY, trades=True)
    head = rows(engine, stream[:cut])
    (tmp_path / "blob").write_bytes(engine.snapshot())
    tail = digest(whole[len(head) :])
    for pure in (False, True):  # a checkpoint does not know either who wrote it
        assert elsewhere(name, str(BOOKS), str(tmp_path / "blob"), str(cut), pure=pure)[1] == tail


def test_resuming_after_any_record_of_a_real_market_changes_nothing() -> None:
    stream = events("ethusdt", 300)
    whole = live(stream)
    engine = FeatureEngine(EVERY, trades=True)
    got: list[bytes] = []
    for record in stream:
        got += rows(engine, (record,))
        blob = engine.snapshot()
        engine = FeatureEngine(EVERY, trades=True)
        engine.restore(blob)
        assert engine.snapshot() == blob
    assert got == whole


def test_truncating_the_future_changes_no_past_row_of_a_real_market() -> None:
    stream = events("ethusdt", BOOKS)
    part = live(stream[: len(stream) // 3])
    assert part == live(stream)[: len(part)]


@MARKETS
def test_rows_have_the_same_bytes_on_every_interpreter(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())[name]
    engine = FeatureEngine(EVERY)
    assert engine.schema.id == golden["schema"], "the columns changed: write the golden file anew"
    assert digest(live(events(name, BOOKS))) == golden["rows"], f"compiled: {compiled()}"


@MARKETS
def test_cold_start_equals_the_continuous_run_once_windows_are_full(name: str) -> None:
    """Windows of 1 and 5 s; from the UTC minute after they are full, the bits are the same."""
    params = EVERY | {"horizons_s": [1, 5]}
    stream = events(name, BOOKS)
    cut = len(stream) // 4
    full_ns = stream[cut].ts_recv + 6_000_000_000
    minute = -(-full_ns // 60_000_000_000) * 60_000_000_000
    late = [r for r in stream[cut:] if r.ts_recv >= minute]
    assert len(late) > 100, "the slice holds no full minute"
    whole, cold = (short_rows(params, part) for part in (stream, stream[cut:]))
    books = sum(isinstance(r, BookSnapshot) for r in late)
    assert cold[-books:] == whole[-books:]
    early = len(cold) - books
    assert cold[:early] != whole[-len(cold) : -books]  # before it, sums over more history differ


def short_rows(params: dict[str, object], stream: Sequence[Record]) -> list[str]:
    """Return the rows' columns without a window, or of one of at most 5 s."""
    engine = FeatureEngine(params, trades=True)
    keep = [i for i, window in enumerate(engine.schema.windows) if window is None or window <= 5]
    return [repr([row[i] for i in keep]) for row in map(engine.update, stream) if row is not None]


def test_compute_takes_polars_frames_and_gives_null_for_no_value() -> None:
    import polars as pl

    stream = events("btcusdt", 200)
    books, trades = (pl.from_arrow(t) for t in books_and_trades(stream))
    cast = books.with_columns(pl.col("session_id").cast(pl.Categorical))
    typed = trades.with_columns(pl.col("side").cast(pl.Enum(["buy", "sell"])))
    params = {"emit_interval_s": 0}
    table = compute(books, trades, params=params)
    assert table.equals(compute(cast[::-1], typed, params=params).with_columns(session_id=pl.lit("s")))
    names = FeatureEngine(EVERY).schema.names
    assert table.columns == ["capture_ts", "session_id", "flags", *names]
    flat = b"".join(live(stream))
    assert table.select(names).fill_null(float("nan")).to_numpy().tobytes() == flat
    assert table["ofi_step"].null_count() == 1
    assert table.select(pl.col(pl.Float64).is_nan().any()).row(0) == (False,) * len(names)
    assert compute(books, params=params)["buy_volume_1s"].null_count() == 200
    empty = compute(books.clear(), trades, params=params)
    assert (empty.columns, len(empty)) == (table.columns, 0)
    assert compute(books, trades.clear(), params=params)["trade_count_1s"].sum() == 0.0
