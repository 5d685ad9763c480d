"""Faults on schedule: what is ordered when, from a file or from a seed. Pure.

A file is NDJSON, an order with `at_s` on each line, or TOML with a table [[fault]] for each. A seed makes a
schedule without end from the whole menu: the same seed, markets and pace give the same orders, whatever
happens to them. Offsets are seconds, of this machine and not of the recording, since the playback began.
"""

import json
import random
import tomllib
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.menu import MENU, STREAMS, Order, read_order

__all__ = ["WEIGHTS", "Step", "generate", "read_schedule"]

# How often a seeded schedule orders what, in parts of the whole.
WEIGHTS = {
    "close": 4, "abort": 6, "freeze": 4, "silence": 4, "stream_silence": 8, "garbage": 6, "gap": 10,
    "duplicate": 8, "reorder": 6, "subscribe_error": 3, "rest_error": 4, "rest_slow": 3, "rest_body": 3,
    "handshake_slow": 3, "handshake_refused": 3, "stale_snapshot": 4, "crossed": 6, "oversize": 2,
}  # fmt: skip
_FREEZES_S = (0.3, 1.0, 3.0, 8.0, 25.0)  # some pass unnoticed, some outlast every patience
_FREEZE_WEIGHTS = (4, 4, 3, 2, 1)
_SPARED = 0.75  # of the orders for connections, this share befalls one connection only
_STRETCHES = ("freeze", "silence", "stream_silence", "stale_snapshot")
_COUNTS = {
    "gap": 8, "duplicate": 8, "reorder": 3, "crossed": 3, "subscribe_error": 3, "rest_error": 3,
    "rest_slow": 3, "rest_body": 3, "handshake_slow": 3, "handshake_refused": 3,
}  # fmt: skip
_VALUES: dict[str, dict[str, Sequence[float]]] = {
    "rest_error": {"status": (500, 502, 503, 429, 429)},
    "handshake_refused": {"status": (403, 429, 503)},
    "rest_slow": {"delay_s": (0.5, 2.0, 5.0)},
    "handshake_slow": {"delay_s": (0.5, 2.0, 5.0)},
    "crossed": {"ticks": (0, 1, 2, 3, 4, 5)},
}
_SEED_WORDS = {"seed": int, "every_s": float, "from_s": float, "until_s": float}


class Step(NamedTuple):
    """One order and its time."""

    at_s: float
    order: Order


def read_schedule(text: str, markets: Sequence[tuple[str, str]]) -> Iterator[Step]:
    """Return the steps of `--faults`: a file's name, or `seed=N,every_s=1.5[,from_s=5][,until_s=600]`.

    Args:
        text: the argument.
        markets: the (exchange, symbol) pairs there are.

    Raises:
        ConfigError: there is no such file, or something in it is no order.
    """
    if text.startswith(("seed=", "every_s=", "from_s=", "until_s=")):
        return _seeded(text, markets)
    return iter(_from_file(Path(text), markets))


def generate(
    seed: int, markets: Sequence[tuple[str, str]], every_s: float = 1.5, from_s: float = 0.0
) -> Iterator[Step]:
    """Yield orders without end, on average every `every_s` seconds, the first after `from_s`.

    Args:
        seed: of everything random.
        markets: the (exchange, symbol) pairs there are.
        every_s: the waits are drawn evenly between half of it and one and a half.
        from_s: when it begins.
    """
    draw = random.Random(f"{seed}")  # noqa: S311 - weather, not a secret
    at_s = from_s
    while True:
        at_s += every_s * draw.uniform(0.5, 1.5)
        fault = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        yield Step(round(at_s, 3), _drawn(draw, fault, markets))


def _drawn(draw: random.Random, fault: str, markets: Sequence[tuple[str, str]]) -> Order:
    """Draw the arguments of one order."""
    exchange, symbol = draw.choice(markets)
    dish = MENU[fault]
    what: dict[str, Any] = {"fault": fault, "exchange": exchange}
    if dish.befalls in ("connections", "messages") and draw.random() < _SPARED:
        what["pick"] = draw.randrange(1000)
    if fault in ("stream_silence", "crossed", "gap"):
        what["symbol"] = symbol
    if fault in ("stream_silence", "gap", "reorder"):
        names = [name for name, words in STREAMS.items() if words[exchange] and name != "heartbeats"]
        what["stream"] = draw.choice(names)
    if dish.hows:
        what["how"] = draw.choice(dish.hows)
    if fault in _STRETCHES:
        what["for_s"] = draw.choices(_FREEZES_S, _FREEZE_WEIGHTS)[0]
    elif fault in _COUNTS:
        what["count"] = draw.randint(1, _COUNTS[fault])
    what |= {name: draw.choice(values) for name, values in _VALUES.get(fault, {}).items()}
    if what.get("status") == 429 and fault == "rest_error":
        what["retry_after_s"] = draw.choice((0, 1, 2))
    return read_order(what, markets)


def _seeded(text: str, markets: Sequence[tuple[str, str]]) -> Iterator[Step]:
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            given[name] = _SEED_WORDS[name](value)
        except (KeyError, ValueError):
            words = ", ".join(f"{word}=N" for word in _SEED_WORDS)
            raise ConfigError(f"cannot use {part!r} of the faults {text!r}: write {words}") from None
    if "seed" not in given or not 0.01 <= given.get("every_s", 1.5) <= 3600:
        raise ConfigError(f"cannot use the faults {text!r}: a seed, and every_s between 0.01 and 3600 s")
    until_s = given.pop("until_s", float("inf"))
    return takewhile(lambda step: step.at_s <= until_s, generate(given.pop("seed"), markets, **given))


def _from_file(path: Path, markets: Sequence[tuple[str, str]]) -> list[Step]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the faults {path}: {cause}") from error
    steps = []
    for place, what in _tables(path, text):
        try:
            steps.append(Step(_time(what.pop("at_s", None)), read_order(what, markets)))
        except ConfigError as error:
            raise ConfigError(f"cannot use {place} of the faults {path}: {error}") from None
    return sorted(steps, key=lambda step: step.at_s)


def _time(at_s: object) -> float:
    if isinstance(at_s, bool) or not isinstance(at_s, (int, float)) or not 0 <= at_s < float("inf"):
        raise ConfigError(f"at_s {at_s!r} is no time: seconds since the playback began")
    return float(at_s)


def _tables(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the orders of a file, each with its place there."""
    if path.suffix == ".toml":
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"cannot read the faults {path}: {error}") from error
        tables = document.pop("fault", [])
        if document or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ConfigError(f"cannot use the faults {path}: write tables [[fault]] and nothing else")
        yield from ((f"fault {number}", table) for number, table in enumerate(tables, 1))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            what = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"cannot read line {number} of the faults {path}: {error}") from error
        if not isinstance(what, dict):
            raise ConfigError(f"cannot use line {number} of the faults {path}: it is no object")
        yield f"line {number}", what
