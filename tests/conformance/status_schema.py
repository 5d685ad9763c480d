"""What `daedalus-ctl status --json` promises, field by field; published as docs/status.schema.json."""

from typing import Any

__all__ = ["faults"]

NUMBER = (int, float)
NULL = type(None)
STATES = [
    "stopped",
    "held",
    "starting",
    "running",
    "degraded",
    "draining",
    "stopping",
    "killing",
    "stuck",
    "backoff",
    "done",
    "failed",
    "ignored",
]
CLASSES = [
    "normal",
    "requested",
    "abnormal",
    "hung",
    "memory",
    "oom",
    "start_timeout",
    "shutdown_timeout",
    "spawn_error",
    "fatal",
    "recycle",
]

Shape = dict[str, Any]

LAST_EXIT: Shape = {
    "class": CLASSES, "code": (int, NULL), "signal": (str, NULL), "at": NUMBER, "message": (str,),
    "stderr_tail": (list,),
}  # fmt: skip
ACTOR: Shape = {
    "name": (str,), "parent": (str,), "type": ["worker"], "state": STATES, "substate": (str,),
    "desired": ["up", "down"], "pid": (int, NULL), "generation": (int,), "started_at": (*NUMBER, NULL),
    "uptime_s": (*NUMBER, NULL), "ready": (bool,),
    "restarts": {"total": (int,), "window": (int,), "last_1h": (int,)},
    "backoff": {"k": (int,), "next_in_s": (*NUMBER, NULL)},
    "cpu_pct": (*NUMBER, NULL),
    "mem": {"anon": (int, NULL), "warn": (int, NULL), "soft": (int, NULL), "hard": (int, NULL)},
    "cpus": (list,), "mailbox": (int, NULL), "beat_age_s": (*NUMBER, NULL), "last_exit": LAST_EXIT,
    "log_lines": (int,), "log_dropped": (int,), "spec_hash": (str,),
}  # fmt: skip
GROUP: Shape = {
    "name": (str,), "parent": (str, NULL), "state": (str,), "substate": (str,), "desired": ["up", "down"],
    "strategy": ["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"], "intensity": (int,),
    "period": NUMBER, "window_used": (int,), "on_limit": ["park", "escalate"],
}  # fmt: skip
SUPERVISOR: Shape = {
    "pid": (int,), "version": (str,), "uptime_s": NUMBER, "config_hash": (str,), "state": (str,),
    "loop_lag_ms": NUMBER, "zygotes": (list,),
}  # fmt: skip
_MAY_BE_NULL = ("last_exit",)
_LIVE = ("starting", "running", "degraded", "draining", "stopping", "killing", "stuck")


def _check(value: Any, shape: Shape, path: str) -> list[str]:
    found = []
    for key, wanted in shape.items():
        if key not in value:
            found.append(f"{path}.{key} is missing")
        elif value[key] is None and key in _MAY_BE_NULL:
            continue
        elif isinstance(wanted, dict):
            found += _check(value[key], wanted, f"{path}.{key}")
        elif isinstance(wanted, list):
            if value[key] not in wanted:
                found.append(f"{path}.{key} is {value[key]!r}, not one of {wanted}")
        elif not isinstance(value[key], wanted) or (isinstance(value[key], bool) and bool not in wanted):
            found.append(f"{path}.{key} is {value[key]!r}, not {wanted}")
    return found


def faults(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a status document."""
    found = [] if document.get("v") == 1 and isinstance(document.get("ts"), float) else ["v or ts"]
    found += _check(document["supervisor"], SUPERVISOR, "supervisor")
    for group in document["groups"]:
        found += _check(group, GROUP, group["name"])
    names = {group["name"] for group in document["groups"]}
    for actor in document["actors"]:
        name = actor["name"]
        found += _check(actor, ACTOR, name)
        if actor["parent"] not in names:
            found.append(f"{name}.parent is {actor['parent']!r}: no group")
        if actor["pid"] is not None and actor["state"] not in _LIVE:
            found.append(f"{name} is {actor['state']} and has pid {actor['pid']}")
        if (actor["backoff"]["next_in_s"] or 0) < 0:
            found.append(f"{name}.backoff.next_in_s is {actor['backoff']['next_in_s']}")
    return found
