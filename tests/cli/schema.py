"""The part of JSON Schema that our published schemas use, so that tests need no library for it.

`strict` refuses fields that are not described: what is published must be all there is.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STATUS = Path(__file__).resolve().parent.parent.parent / "docs" / "status.schema.json"
_TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip
_NOTES = {"$schema", "$id", "$defs", "title", "description"}


def faults(value: Any, schema: dict[str, Any] | None = None, *, strict: bool = True) -> list[str]:
    """Return what is wrong with a status document (or with a value under another schema)."""
    whole = json.loads(STATUS.read_text(encoding="utf-8")) if schema is None else schema
    return list(_faults(value, whole, whole, "", strict=strict))


def _faults(
    value: Any, schema: dict[str, Any], whole: dict[str, Any], path: str, *, strict: bool
) -> Iterator[str]:
    for word, wanted in schema.items():
        if word == "$ref":
            yield from _faults(value, whole["$defs"][wanted.rpartition("/")[2]], whole, path, strict=strict)
        elif word == "anyOf":
            tried = [list(_faults(value, part, whole, path, strict=strict)) for part in wanted]
            if all(tried):
                yield from max(tried, key=len)
        elif word == "type":
            names = [wanted] if isinstance(wanted, str) else wanted
            if not any(_is(value, name) for name in names):
                yield f"{path}: {value!r} is no {' or '.join(names)}"
        elif word == "enum" and value not in wanted:
            yield f"{path}: {value!r} is none of {wanted}"
        elif word == "const" and value != wanted:
            yield f"{path}: {value!r} is not {wanted!r}"
        elif word in ("minimum", "exclusiveMinimum"):
            if value is not None and (value < wanted or (word != "minimum" and value == wanted)):
                yield f"{path}: {value!r} is under the {word} {wanted}"
        elif word in ("minItems", "maxItems"):
            if (len(value) - wanted) * (1 if word == "minItems" else -1) < 0:
                yield f"{path}: {len(value)} items, {word} {wanted}"
        elif word == "items" and isinstance(value, list):
            for number, item in enumerate(value):
                yield from _faults(item, wanted, whole, f"{path}[{number}]", strict=strict)
        elif word == "required" and isinstance(value, dict):
            yield from (f"{path}: no {name}" for name in wanted if name not in value)
        elif word == "properties" and isinstance(value, dict):
            for name, part in wanted.items():
                if name in value:
                    yield from _faults(value[name], part, whole, f"{path}.{name}", strict=strict)
            if strict:
                yield from (f"{path}: {name} is not described" for name in value if name not in wanted)
        elif word == "additionalProperties" and isinstance(value, dict):
            for name, item in value.items():
                yield from _faults(item, wanted, whole, f"{path}.{name}", strict=strict)
        elif word not in _NOTES | {
            "enum",
            "const",
            "items",
            "required",
            "properties",
            "additionalProperties",
        }:
            raise NotImplementedError(word)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])
