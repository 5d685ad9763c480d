"""TOML text to checked tables: pydantic's errors become faults with a place, a value and a hint."""

import copy
import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from daedalus.config.catalogue import NO_CHANNEL, channel_like
from daedalus.config.faults import nearest
from daedalus.config.models import Channels, File
from daedalus.config.problems import Problems
from daedalus.config.syntax import tables_of

__all__ = ["checked", "read"]

# Keys the interface names and this version does not have yet: told apart from typing errors.
_PLANNED = {
    "paths": (
        *("raw_dir", "active_subdir", "ready_subdir", "processing_subdir", "processed_dir"),
        *("tier_raw", "tier_features", "tier_aggregates", "state_dir"),
    ),
    "sync": ("local_retention_hours", "delete_after_verify", "bandwidth_mbps"),
}
_TABLE_WANTED = ("model_type", "model_attributes_type", "dict_type")
_SHOWN_MAX = 60  # characters of a wrong value

Place = tuple[str, ...]


def read(text: str, problems: Problems, instead: tuple[Place, Any] | None = None) -> File | None:
    """Return the tables of a TOML text; what is wrong with them is noted in `problems`.

    On faults the valid part is returned, so that the checks that follow find theirs in the same pass; None
    when nothing can be made of the text.

    Args:
        text: of the file.
        problems: gets what is wrong.
        instead: a path and the value to put there, as if it stood in the file.
    """
    tables = tables_of(text, problems)
    return None if tables is None else checked(tables, problems, instead)


def checked(
    tables: dict[str, Any], problems: Problems, instead: tuple[Place, Any] | None = None
) -> File | None:
    """Return tables as `read` does, when they are not a text."""
    if instead is not None:
        _put(tables, *instead)
    for _ in range(3):  # faults, then keys that are missing because they were faulty
        try:
            return File.model_validate(tables)
        except ValidationError as error:
            _note(error, tables, problems)
            tables = _without(tables, error)
    return None


def _put(tables: dict[str, Any], path: Place, value: Any) -> None:
    for part in path[:-1]:
        inner = tables.setdefault(part, {})
        if not isinstance(inner, dict):
            return  # a fault of the file, which will be told
        tables = inner
    tables[path[-1]] = value


def _note(error: ValidationError, tables: dict[str, Any], problems: Problems) -> None:
    by_path: dict[Place, list[Any]] = {}
    for fault in error.errors(include_url=False):
        by_path.setdefault(_path(fault["loc"], tables), []).append(fault)
    for path, faults in by_path.items():
        if not problems.has(path):  # what was dropped as faulty is then missing
            problems.error(path, *_words(path, faults))


def _words(path: Place, faults: list[Any]) -> tuple[str, str]:
    """Return message and hint for what pydantic says of one place: of a union, a fault for each member."""
    fault = faults[0]
    kind, value = fault["type"], fault["input"]
    expected = next((one["ctx"]["expected"] for one in faults if one["type"] == "literal_error"), "")
    if kind == "extra_forbidden":
        return f"unknown key {path[-1]!r}", _known_key(path)
    if kind == "missing":
        return f"the key {path[-1]!r} is missing", ""
    if kind in _TABLE_WANTED:
        dotted = ".".join(path)
        hint = f"write [{dotted}] rather than [[{dotted}]]" if isinstance(value, list) else ""
        return f"cannot use {_shown(value)}: {dotted} is a table", hint
    if expected:
        what = expected if len(faults) == 1 else f"a number of seconds, {expected}"
        near = nearest(value, re.findall(r"'([^']*)'", expected)) if isinstance(value, str) else ""
        if len(faults) == 1 or isinstance(value, str):
            return f"cannot use {_shown(value)}: input should be {what}", near
    message = fault["msg"].removeprefix("Value error, ")
    return f"cannot use {_shown(value)}: {message[:1].lower()}{message[1:]}", _hint(kind, value)


def _shown(value: Any) -> str:
    text = re.sub(r"//[^/@]*@", "//…@", repr(value))  # what a secret may stand in is not repeated
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def _hint(kind: str, value: Any) -> str:
    if isinstance(value, str):
        if kind in ("int_type", "float_type") and re.fullmatch(r"-?\d+(\.\d+)?", value):
            return f"write {value}, without quotes"
        if kind == "bool_type" and value.lower() in ("true", "false"):
            return f"write {value.lower()}, without quotes"
        if kind == "list_type":
            return f'a list stands in brackets: ["{value}"]'
    elif kind == "string_type" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f'text stands in quotes: "{value}"'
    return ""


def _path(loc: tuple[int | str, ...], tables: dict[str, Any]) -> Place:
    """Return the part of a pydantic location that exists in the file (it also names types of unions)."""
    found: list[str] = []
    at: Any = tables
    for position, part in enumerate(loc):
        if isinstance(at, dict) and part in at:
            at = at[part]
            found.append(str(part))
        elif isinstance(at, dict) and position == len(loc) - 1 and isinstance(part, str) and part != "[key]":
            found.append(part)  # a key that is missing
        elif part != "[key]":
            break
    return tuple(found) or tuple(str(part) for part in loc)


def _known_key(path: Place) -> str:
    """Return the hint for an unknown key: a near one, or that it is planned."""
    model: type[BaseModel] = File
    for part in path[:-1]:
        field = model.model_fields.get(part)
        inner = _model_in(field.annotation) if field is not None else model
        model = inner or model
    table = path[-2] if len(path) > 1 else ""
    if path[-1] in _PLANNED.get(table, ()):
        return "planned, and not in this version"
    names = list(model.model_fields)
    if model is Channels:
        if path[-1] in NO_CHANNEL:
            return "ccxt watches it for no symbol, or not at all: it cannot be a channel"
        if meant := channel_like(path[-1], names):
            return f"write {meant!r}"
    return nearest(path[-1], names) or "known keys: " + ", ".join(names)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        if (found := _model_in(part)) is not None:
            return found
    return None


def _without(tables: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """Return a copy of the tables without the keys that have faults."""
    rest = copy.deepcopy(tables)
    for fault in error.errors(include_url=False):
        path = _path(fault["loc"], tables)
        at: Any = rest
        for part in path[:-1]:
            at = at.get(part, {}) if isinstance(at, dict) else {}
        if fault["type"] == "missing" and len(path) > 1:
            _drop(rest, path[:-1])  # without that key the table cannot stand
        elif isinstance(at, dict):
            at.pop(path[-1], None)
    return rest


def _drop(tables: dict[str, Any], path: Place) -> None:
    for part in path[:-1]:
        tables = tables.get(part, {})
    tables.pop(path[-1], None)
