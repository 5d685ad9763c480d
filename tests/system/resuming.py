"""Feature actors that are killed, and the comparison after it: what a subscriber received, and bronze."""

import math
import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from struct import unpack
from typing import Any, NamedTuple

import msgspec

from daedalus.records import sanitise
from tests.system.tap import Tap
from tests.system.tree import Tree, wait_for

__all__ = ["Row", "batch", "caught_up", "checkpoints", "compare", "damage", "kill", "received"]


class Row(NamedTuple):
    """A row as it came over the wire."""

    session: str
    seq: int
    capture_us: int
    values: list[Any]


def _running(tree: Tree, name: str) -> dict[str, Any] | None:
    actor = tree.actors().get(name)
    return actor if actor is not None and actor["state"] == "running" else None


def kill(tree: Tree, name: str, *, stopped: int = 0) -> None:
    """SIGKILL an actor, and wait until the supervisor has it back.

    Args:
        tree: the running tree.
        name: of the actor.
        stopped: its pid, if it is stopped already.
    """
    pid = stopped or wait_for(f"{name} running", lambda: _running(tree, name), 30)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(f"{name} back", lambda: (now := _running(tree, name)) and now["pid"] != pid, 30)


def checkpoints(tree: Tree, exchange: str, symbol: str) -> list[Path]:
    """Return the checkpoints that are there, oldest first."""
    return sorted((tree.data / "state" / "features" / exchange / sanitise(symbol)).glob("*.ckpt"))


def damage(tree: Tree, exchange: str, symbol: str) -> Path:
    """Damage the newest checkpoint of an actor and kill it before it can write another; return the file."""
    name = f"live/feature-{exchange}-{sanitise(symbol)}"
    wait_for("two checkpoints", lambda: len(checkpoints(tree, exchange, symbol)) == 2, 30)
    pid = wait_for(f"{name} running", lambda: _running(tree, name), 30)["pid"]
    os.kill(pid, signal.SIGSTOP)
    newest = checkpoints(tree, exchange, symbol)[-1]
    blob = bytearray(newest.read_bytes())
    blob[len(blob) // 2] ^= 1
    newest.write_bytes(blob)
    kill(tree, name, stopped=pid)
    return newest


def caught_up(tap: Tap, timeout_s: float = 60) -> None:
    """Wait until a subscriber has rows of records that were captured after this call."""
    now = time.time_ns()

    def youngest() -> bool:
        last = tap.messages[-1:]
        return bool(last) and msgspec.msgpack.decode(last[0][1])[5] > now

    wait_for("rows of now", youngest, timeout_s)


def _bits(values: Any) -> list[Any]:
    """Return values in a form in which two NaN are equal and everything else is compared by its bits."""
    return [None if value is None or math.isnan(value) else value.hex() for value in values]


def received(tap: Tap, exchange: str, symbol: str) -> list[Row]:
    """Return the rows of one symbol that a subscriber received."""
    topic = f"feature/{exchange}/{sanitise(symbol)}/".encode()
    rows = []
    for name, header, payload in tap.messages:
        if name == topic:
            fields = msgspec.msgpack.decode(header)
            values = _bits(unpack(f"<{len(payload) // 8}d", payload))
            rows.append(Row(fields[3], fields[2], fields[5] // 1000, values))
    return rows


def batch(tree: Tree, exchange: str, symbol: str, params: dict[str, Any]) -> list[tuple[int, list[Any]]]:
    """Return capture time (us) and values of the rows that bronze of this run gives."""
    import polars as pl

    import daedalus
    from daedalus import features

    tables = {
        channel: daedalus.scan(str(tree.data), channel, exchange=exchange, symbol=symbol)
        .sort("capture_ts")
        .collect()
        for channel in ("orderbook", "trades", "ticker")
    }
    names = list(features.FeatureEngine(params).schema.names)
    frame = features.compute(**tables, params=params).select(pl.col("capture_ts").dt.epoch("us"), *names)
    return [(int(row[0]), _bits(row[1:])) for row in frame.iter_rows()]


def compare(live: list[Row], expected: list[tuple[int, list[Any]]]) -> None:
    """Hold that each row of bronze was received exactly once, in order, under gapless numbers.

    Raises:
        AssertionError: it was not so.
    """
    assert len({row.session for row in live}) == 1, "there is one session, whoever was killed"
    numbers = [row.seq for row in live]
    assert numbers == list(range(1, len(live) + 1)), _odd(numbers)
    for at, (row, (capture_us, values)) in enumerate(zip(live, expected, strict=False)):
        assert row.capture_us == capture_us, f"row {at} was captured at {row.capture_us}, not {capture_us}"
        differing = [
            column for column, pair in enumerate(zip(row.values, values, strict=True)) if pair[0] != pair[1]
        ]
        assert not differing, f"row {at}: columns {differing[:8]} differ, live and from bronze"
    assert len(live) == len(expected), f"{len(live)} rows received, {len(expected)} in bronze"


def _odd(numbers: list[int]) -> str:
    odd = [pair for pair in pairwise(numbers) if pair[1] != pair[0] + 1]
    return f"numbers begin with {numbers[:1]}, jump at {odd[:5]}"
