"""The form of a log line: one JSON object with `event`, `timestamp` (UTC), `level`, then the values. Pure.

Supervisor and actors write the same form. A line is shown on terminals and may hold what a stranger wrote (an
exchange's error text), so no line carries a character that could move a cursor: it is escaped as JSON has it.
"""

import json
from datetime import UTC, datetime
from typing import Any

__all__ = ["PRIORITIES", "dump", "escape", "level_of", "stamp"]

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog's
_LEVELS = {
    "actor_drain_timeout": "warning",
    "actor_escalate": "error",
    "actor_failed_to_start_child": "error",
    "actor_hang": "warning",
    "actor_memory": "warning",
    "actor_shutdown_error": "warning",
    "actor_stuck": "error",
    "log_dropped": "warning",
    "survivors_swept": "warning",
    "tree_killed": "warning",
    "watchdog_withheld": "error",
    "zygote_exited": "warning",
}
_GOOD_ENDS = ("normal", "requested", "recycle")
_BLANKS = "\t\r\n"  # the only unprintable characters that JSON allows outside of strings


def stamp(at: float) -> str:
    """Return wall seconds as ISO 8601, UTC, microseconds.

    >>> stamp(0.25)
    '1970-01-01T00:00:00.250000Z'
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def level_of(event: str, values: dict[str, Any]) -> str:
    """Return how grave an event of the supervisor is: info, warning or error."""
    if event == "actor_exit":
        return "info" if values.get("class") in _GOOD_ENDS else "warning"
    return _LEVELS.get(event, "info")


def dump(event: dict[str, Any]) -> str:
    """Return an event as one line of printable JSON."""
    text = json.dumps(event, default=str, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(event, default=str)


def escape(text: str) -> str:
    """Return valid JSON as one line of printable JSON of the same meaning."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else " " if c in _BLANKS else json.dumps(c)[1:-1] for c in text.strip()
    )
