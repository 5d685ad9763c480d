"""TOML text to checked tables: pydantic's errors become faults with a place, a value and a hint."""

import copy
import tomllib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from daedalus.config.faults import nearest
from daedalus.config.models import File
from daedalus.config.problems import Problems

__all__ = ["read"]

# Keys the interface names and this version does not have yet: told apart from typing errors.
_PLANNED = {
    "paths": (
        *("raw_dir", "active_subdir", "ready_subdir", "processing_subdir", "processed_dir"),
        *("tier_raw", "tier_features", "tier_aggregates", "state_dir"),
    ),
    "writer": ("clock_wait_s",),
    "gateway": ("keys_dir",),
    "sync": ("local_retention_hours", "delete_after_verify", "bandwidth_mbps"),
    "channels": ("depth", "bidask", "ohlcv"),
    "groups": ("memory_soft_min_interval_s",),
    "": ("disk", "control"),
}


def read(text: str, problems: Problems) -> File | None:
    """Return the tables of a TOML text; what is wrong with them is noted in `problems`.

    On faults the valid part is returned, so that the checks that follow find theirs in the same pass; None
    when nothing can be made of the text.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problems.error((), f"not valid TOML: {error}")
        return None
    return _validated(tables, problems)


def _validated(tables: dict[str, Any], problems: Problems) -> File | None:
    for _ in range(3):  # faults, then keys that are missing because they were faulty
        try:
            return File.model_validate(tables)
        except ValidationError as error:
            _note(error, tables, problems)
            tables = _without(tables, error)
    return None


def _note(error: ValidationError, tables: dict[str, Any], problems: Problems) -> None:
    seen: set[tuple[str, ...]] = set()
    for fault in error.errors(include_url=False):
        path = _path(fault["loc"], tables)
        if path in seen or problems.has(path):
            continue  # a union reports each of its members; what was dropped as faulty is then missing
        seen.add(path)
        kind, message, hint = fault["type"], fault["msg"], ""
        if kind == "extra_forbidden":
            message, hint = f"unknown key {path[-1]!r}", _known_key(path)
        elif kind == "missing":
            message = f"the key {path[-1]!r} is missing"
        else:
            message = message.removeprefix("Value error, ")
            message = f"cannot use {fault['input']!r}: {message[:1].lower()}{message[1:]}"
        problems.error(path, message, hint)


def _path(loc: tuple[int | str, ...], tables: dict[str, Any]) -> tuple[str, ...]:
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


def _known_key(path: tuple[str, ...]) -> str:
    """Return the hint for an unknown key: a near one, or that it is planned."""
    model: type[BaseModel] = File
    for part in path[:-1]:
        field = model.model_fields.get(part)
        inner = _model_in(field.annotation) if field is not None else model
        model = inner or model
    table = path[-2] if len(path) > 1 else ""
    planned = _PLANNED.get(path[0] if len(path) == 3 and path[0] == "groups" else table, ())
    if path[-1] in planned:
        return "planned, and not in this version"
    names = list(model.model_fields)
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


def _drop(tables: dict[str, Any], path: tuple[str, ...]) -> None:
    for part in path[:-1]:
        tables = tables.get(part, {})
    tables.pop(path[-1], None)
