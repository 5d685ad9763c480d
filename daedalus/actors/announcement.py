"""What a feature actor tells of its schema: made once before the fork, and shared by all actors."""

from typing import Any

import msgspec

__all__ = ["announcement"]

_announced: dict[str, bytes] = {}  # schema id -> JSON


def announcement(schema: Any) -> tuple[str, bytes]:
    """Return the schema's id and the JSON that is announced: id, names, units, windows, and all the rest."""
    if schema.id in _announced:
        return schema.id, _announced[schema.id]
    made = _announcement(schema)
    _announced[schema.id] = made[1]
    return made


def _announcement(schema: Any) -> tuple[str, bytes]:
    value = msgspec.to_builtins(schema)
    columns = value.get("columns", [])
    value.setdefault("names", [column["name"] for column in columns])
    value.setdefault("units", [column.get("unit", "") for column in columns])
    value.setdefault("windows", [column.get("window") for column in columns])
    return str(value["id"]), msgspec.json.encode(value)
