"""What is wrong with a configuration: every fault with its place, its value and what to do about it."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from daedalus.kernel.spec import ActorSpec, Tree

__all__ = ["Fault", "Report", "Statement", "lines_of", "locate", "nearest", "statements_of"]


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fault or warning, as `check --json` prints it."""

    path: str  # dotted keys, exchanges.binance.adapter; empty: the file as a whole
    level: str  # "error" | "warning"
    message: str
    hint: str = ""
    line: int | None = None  # from 1; None where the file has no such place

    def text(self, file: str) -> str:
        """Return the fault as one line for people, `FILE:LINE: PATH: message (hint)`."""
        place = f"{file}:{self.line}" if self.line else file
        parts = [part for part in (place, self.path) if part]
        hint = f" ({self.hint})" if self.hint else ""
        return ": ".join([*parts, self.message]) + hint


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a configuration: its tree, or the faults that prevent one; warnings with either."""

    file: str  # absolute path; "demo" for the built-in one
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    tree: Tree | None = None
    actor: ActorSpec | None = None  # the one that was asked for, as it would be in this tree
    facts: dict[str, str] = {}  # for people: the demo's addresses
    notes: tuple[str, ...] = ()  # for people: what the file does not say and follows from it


def nearest(word: str, known: Iterable[str]) -> str:
    """Return 'did you mean X?' for the known word that is closest, or '' when none is close.

    >>> nearest("restrat", ["restart", "significant"])
    "did you mean 'restart'?"
    """
    import difflib  # only where there is a fault: the supervisor's own process never pays for it

    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[close[0]]!r}?" if close else ""


_HEADER = re.compile(r"\s*\[\[?\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([\w-]+)""")


class Statement(NamedTuple):
    """A header or a key, and the line it begins at, from 1."""

    line: int
    path: tuple[str, ...]
    header: bool


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(double or single or bare for double, single, bare in _PART.findall(dotted))


def statements_of(lines: list[str]) -> Iterator[Statement]:
    """Yield the statements of TOML lines in order.

    tomllib keeps no positions. This reads headers and `key =` at line starts, which is where people write
    them.
    """
    table: tuple[str, ...] = ()
    within = ""  # the quotes of the long string we are in
    for number, line in enumerate(lines, 1):
        if not within:
            if match := _KEY.match(line):
                yield Statement(number, table + _parts(match[1]), header=False)
            elif match := _HEADER.match(line):
                table = _parts(match[1])
                yield Statement(number, table, header=True)
        within = _still_within(line, within)


def _still_within(line: str, within: str) -> str:
    for quotes in re.findall(r'"""|' + r"'''", line):
        if not within:
            within = quotes
        elif within == quotes:
            within = ""
    return within


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Return where each table and key of a TOML text stands: path -> line, from 1.

    Keys inside an inline table are found through the key that holds it.
    """
    found: dict[tuple[str, ...], int] = {}
    for statement in statements_of(text.split("\n")):
        found.setdefault(statement.path, statement.line)
    return found


def locate(lines: dict[tuple[str, ...], int], path: tuple[str, ...]) -> int | None:
    """Return the line of the longest part of `path` that stands in the file."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return None
