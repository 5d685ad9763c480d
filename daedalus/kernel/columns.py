"""Log lines for a person at a terminal: columns in place of JSON. Pure, and never fails whatever it is given.

What actors print may come from anywhere (an exchange's error text), so nothing reaches the terminal that
could move its cursor: what is not printable is shown escaped.
"""

import json
import time
from datetime import datetime
from typing import Any

__all__ = ["columns", "parse", "safe"]

_BLOCKS = ("exception", "stderr_tail")  # many lines: indented below
_NAMED = ("event", "timestamp", "at", "actor", *_BLOCKS)
_INDENT = "    "


def parse(text: str) -> dict[str, Any] | None:
    """Return the event that a printed line is: a JSON object with an `event`; None for anything else."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, or JSON made to break parsers
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None


def columns(event: dict[str, Any]) -> str:
    r"""Return an event as one line, and one more for each line of a traceback.

    >>> columns({"event": "actor_ready", "timestamp": "?", "actor": "g/a", "generation": 2})[9:]
    'actor_ready              g/a generation=2'
    """
    words = [f"{_clock(event.get('timestamp', event.get('at')))} {safe(str(event['event'])):<24}"]
    if event.get("actor"):
        words.append(safe(str(event["actor"])))
    words += [f"{safe(key)}={_value(value)}" for key, value in event.items() if _worth(key, value)]
    head = " ".join(words).rstrip()
    return "\n".join([head, *(_INDENT + safe(line) for key in _BLOCKS for line in _lines(event.get(key)))])


def _worth(key: str, value: Any) -> bool:
    if key in _NAMED or (key, value) == ("level", "info"):
        return False
    return value is not None and value not in ("", [])


def _clock(at: Any) -> str:
    """Return the local time of day of wall seconds or of an ISO time; dashes for anything else."""
    try:
        moment = datetime.fromisoformat(at).astimezone() if isinstance(at, str) else time.localtime(at)
    except (ValueError, TypeError, OverflowError, OSError):
        return "--:--:--"
    if isinstance(moment, datetime):
        return moment.strftime("%H:%M:%S")
    return time.strftime("%H:%M:%S", moment)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return f'"{safe(value)}"' if " " in value else safe(value)
    try:
        return safe(json.dumps(value, default=str, ensure_ascii=False))
    except (ValueError, RecursionError):
        return "?"


def _lines(block: Any) -> list[str]:
    if isinstance(block, str):
        return block.splitlines()
    return [str(line) for line in block] if isinstance(block, list) else []


def safe(text: str) -> str:
    """Return a text as one line that a terminal shows and does not obey: what is not printable is escaped."""
    text = text.expandtabs(4)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
