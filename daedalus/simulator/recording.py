"""Recordings of real exchanges, replayed: what every recording has in common.

A line is `<receive time, ns> <message>`. Lines are read as they are needed; one quick pass beforehand finds
the snapshot, the ends in time, and the ends of the ids, which is what looping needs: in each further lap ids
go on without a hole, times go on increasing, and the first message turns the book back into the snapshot.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.book import Level
from daedalus.simulator.market import Event, Opening
from daedalus.simulator.symbols import check_symbol

__all__ = ["Line", "Tape", "align", "decoded", "lines", "parse_argument", "step"]

LAP_PAUSE_NS = 100_000_000  # between the last message of a lap and the first of the next

T = TypeVar("T")
Line = tuple[int, bytes]  # receive time in ns, message


def parse_argument(text: str) -> tuple[Path, str]:
    """Return file and symbol of `FILE:SYMBOL`.

    Raises:
        ConfigError: there is no symbol, it is none, or there is no such file.
    """
    name, colon, symbol = text.rpartition(":")
    if not colon or not name or not symbol:
        raise ConfigError(f"cannot use the recording {text!r}: write FILE:SYMBOL, as in btcusdt.gz:BTC/USDT")
    check_symbol(symbol)
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"cannot open the recording {name}: no such file")
    return path, symbol


def lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a recording, plain or gzipped, in file order.

    Raises:
        ConfigError: the file cannot be read, or a line is not `<ns> <message>`.
    """
    number = 0
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if packed else file as plain:
                for line in plain:
                    number += 1
                    if not line.strip():
                        continue
                    at, blank, message = line.partition(b" ")
                    yield int(at if blank else b"no message"), message.rstrip()
    except ValueError as error:
        raise ConfigError(
            f"cannot play {path}: line {number} is not a receive time in ns, a blank and a message"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"cannot read {path} after line {number}: {error}") from error


def decoded(decode: Callable[[bytes | msgspec.Raw], T], message: bytes | msgspec.Raw, path: Path) -> T:
    """Return `decode(message)`, or say which file holds what cannot be understood."""
    try:
        return decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot play {path}: {error} in the message {bytes(message)[:120].decode(errors='replace')}"
        ) from error


def step(values: Sequence[Level], column: int) -> str:
    """Return the finest decimal step among prices (column 0) or sizes (1), as text.

    >>> step([("61737.63000000", "1.5"), ("61730.2", "2")], 0)
    '0.01'
    """
    digits = max((len(level[column].rstrip("0").partition(".")[2]) for level in values), default=0)
    return "1" if digits == 0 else f"0.{'0' * (digits - 1)}1"


class Tape:
    """The recordings of one symbol, one after the other. Subclasses know an exchange's messages."""

    recorded = True
    exchange = ""

    def __init__(self, symbol: str, paths: Sequence[Path]) -> None:
        """Look through the files once. Raises ConfigError for what cannot be played."""
        self.symbol = symbol
        self.price_step = self.size_step = "0.01"
        self.origin_ns = 0
        self.start_ns = 0  # receive time of the first message
        self.end_ns = 0  # receive time of the last
        self.lap_ns = 0  # length of a lap; set once all tapes are known
        self.loop = False
        self._paths = self._ordered(paths)

    def opening(self) -> Opening:
        """Return the book before the first event."""
        raise NotImplementedError

    def events(self) -> Iterator[Event]:
        """Yield the recorded events in file order, lap after lap if looped."""
        yield from self._lap(0)
        lap = 1
        while self.loop:
            yield from self._lap(lap)
            lap += 1

    def _lap(self, lap: int) -> Iterator[Event]:
        raise NotImplementedError

    def _ordered(self, paths: Sequence[Path]) -> list[Path]:
        starts = []
        for path in paths:
            first = next(lines(path), None)
            if first is None:
                raise ConfigError(f"cannot play {path}: it is empty")
            starts.append((first[0], path))
        return [path for _, path in sorted(starts)]

    def _lines(self) -> Iterator[tuple[Path, Line]]:
        for path in self._paths:
            for line in lines(path):
                yield path, line


def align(tapes: Sequence[Tape], *, loop: bool) -> None:
    """Give tapes their common beginning and, for looping, the common length of a lap.

    Recordings of one exchange keep their distance in time. So do those of several exchanges that were made at
    the same time; what was made years apart is played side by side, each with laps of its own.
    """
    groups: list[list[Tape]] = []
    for exchange in dict.fromkeys(tape.exchange for tape in tapes):
        group = [tape for tape in tapes if tape.exchange == exchange]
        for other in [other for other in groups if _overlap(other, group)]:
            groups.remove(other)
            group += other
        groups.append(group)
    for group in groups:
        start, end = _span(group)
        for tape in group:
            tape.start_ns, tape.lap_ns, tape.loop = start, end - start + LAP_PAUSE_NS, loop


def _span(tapes: Sequence[Tape]) -> tuple[int, int]:
    return min(tape.start_ns for tape in tapes), max(tape.end_ns for tape in tapes)


def _overlap(some: Sequence[Tape], others: Sequence[Tape]) -> bool:
    (start, end), (other_start, other_end) = _span(some), _span(others)
    return start <= other_end and other_start <= end
