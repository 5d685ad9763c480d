"""TOML text: where its tables and keys stand, and its parse with every mistake in it, not the first alone.

tomllib gives up at the first mistake. So the text is cut into statements, each a header or a `key =` at a
line's start with the lines that belong to it; a statement that tomllib refuses is noted, emptied and the rest
is read again. Line numbers stay as they are.
"""

import re
import tomllib
from typing import TYPE_CHECKING, Any

from daedalus.config.faults import Statement, statements_of

if TYPE_CHECKING:
    from daedalus.config.problems import Problems

__all__ = ["tables_of"]

_MISTAKES_MAX = 50
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE = ("Cannot declare", "Cannot overwrite", "Cannot mutate", "Cannot redefine")
_BARE = re.compile(r"""[^"']*?=\s*([A-Za-z_][^\s#,"']*)\s*(?:#.*)?$""")


def tables_of(text: str, problems: "Problems") -> dict[str, Any] | None:
    """Return the tables of a TOML text without the statements that are not TOML; these are noted.

    None: nothing can be made of it.
    """
    lines = text.split("\n")
    for _ in range(_MISTAKES_MAX):
        try:
            return tomllib.loads("\n".join(lines))
        except tomllib.TOMLDecodeError as error:
            _note(error, lines, problems)
        except RecursionError:
            problems.error((), "not valid TOML: it is nested too deeply")
            return None
    return None


def _note(error: tomllib.TOMLDecodeError, lines: list[str], problems: "Problems") -> None:
    """Note what is wrong with a statement, and empty its lines."""
    text = str(error)
    at = _AT.search(text)
    what = text[: at.start()] if at else text
    where = int(at[1]) if at and at[1] else _last(lines)
    statements = list(statements_of(lines))
    begin = _begin(where, lines, statements)
    this = next((statement for statement in statements if statement.line == begin), None)
    same = [s.line for s in statements if this and s.path == this.path and s.line < begin]
    header = this.header if this else lines[begin - 1].lstrip().startswith("[")
    if this and what.startswith(_TWICE) and same:
        kind = "table" if header else "key"
        problems.error(
            this.path, f"the {kind} {this.path[-1]!r} stands twice: first at line {same[0]}", line=begin
        )
    else:
        open_ = begin < where and any(s.line == where for s in statements)
        place = begin if open_ else where
        column = f" (column {at[2]})" if at and at[2] else ""
        said = f"nothing closes it before line {where}" if open_ else f"{what}{column}"
        path = this.path if this and not header else ()
        problems.error(path, f"not valid TOML: {said}", _hint(lines[place - 1]), line=place)
    # What follows a header up to the next one goes with it: it would land in another table.
    last = begin if begin == where else where - 1
    ends = (s.line for s in statements if s.line > last and (s.header or not header))
    end = next(ends, len(lines) + 1) if this or header else where + 1
    for number in range(begin, end):
        lines[number - 1] = ""


def _last(lines: list[str]) -> int:
    return max((number for number, line in enumerate(lines, 1) if line.strip()), default=1)


def _begin(where: int, lines: list[str], statements: list[Statement]) -> int:
    """Return the line at which the statement with the mistake that shows in line `where` begins.

    An open bracket shows only where the next statement begins.
    """
    before = [statement.line for statement in statements if statement.line < where]
    return where if not before or _whole(lines[before[-1] - 1 : where - 1]) else before[-1]


def _whole(lines: list[str]) -> bool:
    try:
        tomllib.loads("\n".join(lines))
    except (tomllib.TOMLDecodeError, RecursionError):
        return False
    return True


def _hint(line: str) -> str:
    match = _BARE.match(line)
    if match is None or match[1] in ("true", "false", "inf", "nan"):
        return ""
    word = match[1]
    if word.lower() in ("true", "false", "yes", "no", "on", "off"):
        return "write true or false, in small letters"
    if word.lower() in ("none", "null", "nil"):
        return "leave the key out"
    return f'text stands in quotes: "{word}"'
