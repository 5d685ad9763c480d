"""A checkpoint that is well sealed and wrong, and a frame that is: refused alike everywhere, and whole."""

import contextlib
import json
import os
import random
import struct
import subprocess
import sys
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daedalus.features import FeatureEngine
from daedalus.features.checkpoint import open_sealed, seal
from daedalus.features.params import fingerprint
from tests.features.recorded import make_book, make_trade

ROOT = Path(__file__).resolve().parents[2]
T0 = 1_723_161_255_000_000  # us: 2024-08-08 23:54:15 UTC
PARAMS: dict[str, object] = {"emit_interval_s": 0, "horizons_s": [1, 5, 60]}
WORDS = (0, 1, -1, 2, 2**31, -(2**40), 2**53, 2**62, -(2**63), T0 - 10**9, T0 + 10**15)


def market(since: int, count: int) -> Iterator[Any]:
    """Books and trades with a gap, a new session and a one-sided book now and then."""
    for n in range(since, since + count):
        us, session = T0 + n * 130_000, "s" if n < 150 else "t"
        bids = [] if n % 41 == 40 else [(100.0 + n % 3 - i, 1.0 + n % 5) for i in range(12)]
        asks = [(103.5 + i, 2.0) for i in range(12)]
        yield make_book(us * 1000, bids, asks, flags=2 if n % 37 == 36 else 0, session=session)
        side = ("buy", "sell", None)[n % 3]
        yield make_trade((us + 7) * 1000, 100.0, 0.5 + n % 4, side, session=session)


def engine_of(count: int = 200, params: dict[str, object] = PARAMS) -> FeatureEngine:
    engine = FeatureEngine(params, trades=True)
    for record in market(0, count):
        engine.update(record)
    return engine


def state_of(engine: FeatureEngine) -> Any:
    return open_sealed(engine.snapshot(), engine.schema.id, fingerprint(engine.params))


def sealed(engine: FeatureEngine, state: Any) -> bytes:
    return seal(engine.schema.id, fingerprint(engine.params), state)


def leaves(state: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Return the way to every element of nested lists, the lists themselves too."""
    for i, item in enumerate(state):
        yield (*path, i)
        if isinstance(item, list):
            yield from leaves(item, (*path, i))


def put(state: Any, path: tuple[int, ...], value: object) -> Any:
    """Return the state with one element replaced."""
    out = list(state)
    out[path[0]] = value if len(path) == 1 else put(out[path[0]], path[1:], value)
    return out


def at(state: Any, path: tuple[int, ...]) -> Any:
    return at(state[path[0]], path[1:]) if path else state


def wrong(value: Any, rng: random.Random) -> list[object]:
    """Return what could stand in the place of a value and should not."""
    out: list[object] = [None, 7, "text", b"", [], [b""], -1.5]
    if isinstance(value, list):
        return [*out, value[:1], [*value, value[-1]]] if value else out
    if isinstance(value, bytes) and value:
        out += [value[:-8], value + bytes(8), bytes(len(value)), b"\xff" * len(value)]
        for _ in range(6):  # one number of it
            place = 8 * rng.randrange(len(value) // 8)
            word = rng.choice([*(struct.pack("<q", w) for w in WORDS), struct.pack("<d", float("nan"))])
            out.append(value[:place] + word + value[place + 8 :])
    return out


def test_whatever_a_sealed_checkpoint_holds_is_refused_or_runs_and_a_refusal_changes_nothing() -> None:
    rng = random.Random(3)
    good = engine_of()
    state, before = state_of(good), good.snapshot()
    after = list(market(200, 3))
    refused = 0
    for path in leaves(state):
        for value in wrong(at(state, path), rng):
            blob = sealed(good, put(state, path, value))
            try:
                good.restore(blob)
            except ValueError as refusal:
                refused += 1
                words = str(refusal)
            else:
                words = ""
            if words:
                assert words.startswith("cannot restore the engine: "), (path, value)
                assert good.snapshot() == before, (path, value)
                continue
            for record in after:  # it may be another state; it is one
                with contextlib.suppress(ValueError):  # captured before its last event
                    good.update(record)
            good = FeatureEngine(PARAMS, trades=True)
            good.restore(before)
    assert refused > 300


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((1,), [b""]),  # the flow's state of one block
        ((0,), [b""]),  # a head of one element
        ((0, 1), 5),  # a session that is a number
        ((2, 1, 0), struct.pack("<3q", -(2**40), -(2**40), -(2**40))),  # windows from before the ring
        ((2, 1, 0), struct.pack("<3q", 2**40, 2**40, 2**40)),  # and from beyond it
        ((2, 3), [[[[]]]]),  # another nesting
    ],
)
def test_what_once_crashed_or_hung_is_a_value_error(path: tuple[int, ...], value: object) -> None:
    engine = engine_of()
    before = engine.snapshot()
    with pytest.raises(ValueError, match="cannot restore the engine"):
        engine.restore(sealed(engine, put(state_of(engine), path, value)))
    assert engine.snapshot() == before


def test_what_is_no_state_at_all_is_refused() -> None:
    engine = engine_of(3)
    for body in (b"", b"\xc1", b"\x93" * 40, msgspec.msgpack.encode([1, 2, 3]), b"\x91" * 5000 + b"\x90"):
        head = b"DFE2" + struct.pack("<I", len(body)) + body
        with pytest.raises(ValueError, match="cannot restore the engine"):
            engine.restore(head + struct.pack("<I", zlib.crc32(head)))


def test_a_ring_that_goes_round_its_end_and_has_grown_is_restored_at_every_size() -> None:
    """Positions far beyond the capacity, blocks of two pieces: the rows that follow are the same."""
    params = PARAMS | {"horizons_s": [1, 20]}
    engine = FeatureEngine(params, trades=True)
    for n, record in enumerate(market(0, 900)):
        engine.update(record)
        if n % 97 == 0:
            again = FeatureEngine(params, trades=True)
            again.restore(engine.snapshot())
            assert again.snapshot() == engine.snapshot()
            engine = again
    whole = FeatureEngine(params, trades=True)
    for record in market(0, 900):
        whole.update(record)
    assert whole.snapshot() == engine.snapshot()


def test_a_quarter_of_an_hour_of_a_busy_market_is_little_to_save() -> None:
    """15 minutes at 50 trades and 10 books a second: 16 bytes a trade, 40 a book, 32 in windows of it."""
    engine = FeatureEngine()
    for n in range(45_000):
        ns = T0 * 1000 + n * 20_000_000
        engine.update(make_trade(ns, 100.0, 1.0, "buy"))
        if n % 5 == 0:
            engine.update(make_book(ns + 1000, [(100.0, 1.0)], [(100.5, 1.0)]))
    windows = (3_000 + 600) * 32 + 900 * 16  # 5 minutes and 1 minute of books; 15 of seconds
    assert len(engine.snapshot()) < 45_100 * 16 + 9_100 * 40 + windows + 20_000


NAN, INF = float("nan"), float("inf")
FRAMES = [
    [NAN, 0, 0, 0],
    [INF, 0, 0, 0],
    [1e300, 0, 0, 0],
    [2.0**53 + 2, 0, 0, 0],
    [-1, 0, 0, 0],
    [0.5, 0, 0, 0],
    [T0, NAN, 0, 0],
    [T0, -1, 0, 0],
    [T0, 2.0**31, 0, 0],
    [T0, 0.5, 0, 0],
    [T0, 0, 0.5, 0],
    [T0, 0, NAN, 0],
    [T0, 0, 1, 0],
    [T0, 0, -1, 1],
    [T0, 0, 2.0**52, 2.0**52],
    [T0, 0, 0],
]


def verdicts() -> list[str]:
    """Return what the engine says to each frame, and to buffers and sides that are none."""
    out = []
    bad: list[Any] = [array("d", frame) for frame in FRAMES]
    square = memoryview(bytes(64)).cast("B").cast("d", [2, 4])
    bad += [array("f", [0, 0, 0, 0]), memoryview(array("d", [0] * 8))[::2], b"", square]
    for frame in bad:
        try:
            out.append(str(FeatureEngine(PARAMS).update_frame(frame)))
        except ValueError as fault:
            out.append(str(fault))
    good = make_book(T0 * 1000, [(1.0, 1.0)], [(2.0, 1.0)])
    for changes in (
        {"bids": bytes(24)},
        {"asks": bytes(7)},
        {"flags": -1},
        {"flags": 2**31},
        {"flags": 2**70},
        {"ts_recv": 2**70},
        {"ts_recv": -1},
    ):
        try:
            out.append(str(FeatureEngine(PARAMS).update(msgspec.structs.replace(good, **changes))))
        except ValueError as fault:
            out.append(str(fault))
    return out


def test_a_frame_or_a_side_that_is_none_is_refused_in_the_same_words_compiled_or_not() -> None:
    here = verdicts()
    assert all(word.startswith("cannot ") for word in here), here
    program = "from tests.features.test_checkpoint import *; print(json.dumps(verdicts()))"
    env = {**os.environ, "DAEDALUS_PURE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout) == here
