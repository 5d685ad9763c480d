"""The status document: everything a person or a program may know about the tree, in one round trip."""

import asyncio
import math
import os
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from daedalus import __version__
from daedalus.kernel import restart, timesync
from daedalus.kernel.cell import Cell
from daedalus.kernel.limits import SAMPLE_INTERVAL_S

if TYPE_CHECKING:
    from daedalus.kernel.commands.office import Office
    from daedalus.kernel.group import Group
    from daedalus.kernel.spec import ActorSpec

__all__ = ["document"]

FLAPPING_PER_HOUR = 10
_ZONE = Path("/sys/class/thermal/thermal_zone0/temp")
_PHASES = {"down": "stopped", "opening": "starting", "open": "running", "closing": "stopping"}


def document(office: "Office", cells: list[Cell], op_queue: dict[str, int]) -> dict[str, Any]:
    """Return the document with these cells. Memory in bytes, durations in seconds.

    Args:
        office: the supervisor.
        cells: which actors, in the order they are shown in.
        op_queue: operations at work or waiting, per group; idle groups are left out.
    """
    now = asyncio.get_running_loop().time()
    groups = {name: _View(group, now) for name, group in office.groups.items()}
    return {
        "v": 1,
        "ts": time.time(),
        "supervisor": {
            "pid": os.getpid(),
            "version": __version__,
            "image": office.image,
            "uptime_s": round(time.monotonic() - office.started_mono, 3),
            "config_hash": office.tree.config_hash,
            "config_path": office.tree.config_path,
            "runtime": office.tree.runtime,
            "data": office.tree.data,
            "state": office.state,
            "loop_lag_ms": round(office.loop_lag_ms, 3),
            "op_queue": op_queue,
            "zygotes": [{"name": name, "pid": pid} for name, pid in office.nursery.pids().items()],
            "orphans_reaped": office.reaper.orphans_reaped,
            "foreign_datagrams": office.foreign_datagrams,
            "log_dropped": office.output.dropped,
            "host": _HOST.facts(now),
        },
        "actors": [_actor(office, groups.get(cell.spec.group), cell, now) for cell in cells],
        "groups": [_group(groups, view) for view in groups.values()],
    }


class _Host:
    """The load, the temperature where there is one, and whether the clock is synchronised; asked at times."""

    def __init__(self) -> None:
        self._asked_at = -math.inf
        self._facts: dict[str, Any] = {}

    def facts(self, now: float) -> dict[str, Any]:
        if now - self._asked_at >= SAMPLE_INTERVAL_S:
            self._asked_at = now
            try:
                temperature: float | None = int(_ZONE.read_text("ascii")) / 1000
            except (OSError, ValueError):  # no such zone, or one that cannot be read at the moment
                temperature = None
            self._facts = {"temperature_c": temperature, "clock_synced": timesync.is_synchronized()}
        return {"load_1m": os.getloadavg()[0], **self._facts}


_HOST = _Host()


class _View:
    """A group with what every actor in it asks for."""

    def __init__(self, group: "Group", now: float) -> None:
        self.group = group
        self.children = {child.name: child for child in group.children}
        self.window_used = restart.window_used(group, now)


class _Facts:
    """What does not change from one question to the next, or not by much: asked for at most every 2 s."""

    def __init__(self) -> None:
        self._spec: ActorSpec | None = None
        self.spec_hash = ""
        self._pid: int | None = None
        self._asked_at = -math.inf
        self.fds: int | None = None
        self.threads: int | None = None

    def renew(self, cell: Cell, now: float) -> None:
        if cell.spec is not self._spec:
            self._spec = cell.spec
            self.spec_hash = f"{zlib.crc32(msgspec.json.encode(cell.spec)):08x}"
        if cell.pid != self._pid or now - self._asked_at >= SAMPLE_INTERVAL_S:
            self._pid, self._asked_at = cell.pid, now
            self.fds, self.threads = (
                (None, None) if cell.pid is None else (_fds(cell.pid), _threads(cell.pid))
            )


_FACTS: "WeakKeyDictionary[Cell, _Facts]" = WeakKeyDictionary()


def _fds(pid: int) -> int | None:
    """Count the open descriptors of a process. Since Linux 6.2 the directory's size says it."""
    try:
        size = os.stat(f"/proc/{pid}/fd").st_size  # noqa: PTH116 - fifty of them per document
        return size or len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
    except OSError:
        return None


def _threads(pid: int) -> int | None:
    """Count the threads of a process: each is a directory linked to the one they lie in."""
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2  # noqa: PTH116
    except OSError:
        return None


def _substate(cell: Cell) -> str:
    if cell.state == "held":
        return f"gate {', '.join(cell.shut_gates)}"
    if cell.suspended:
        return "paused"
    return "stopped" if cell.paused else cell.substate


def _actor(office: "Office", view: _View | None, cell: Cell, now: float) -> dict[str, Any]:
    spec, name, pid = cell.spec, cell.spec.name, cell.pid
    child = None if view is None else view.children.get(name)
    last_hour = cell.restarts_last_hour(now)
    facts = _FACTS.get(cell) or _FACTS.setdefault(cell, _Facts())
    facts.renew(cell, now)
    return {
        "name": name,
        "parent": spec.group,
        "type": "worker",
        "role": spec.role,
        "state": cell.state,
        "substate": _substate(cell),
        "desired": "up" if child is None or child.wanted else "down",
        "pid": pid,
        "generation": cell.generation,
        "started_at": cell.started_at if pid is not None else None,
        "uptime_s": None if cell.ready_at is None else round(now - cell.ready_at, 3),
        "ready": cell.ready,
        "restarts": {
            "total": cell.restarts,
            "window": 0 if view is None else view.window_used,
            "last_1h": last_hour,
        },
        "flapping": last_hour >= FLAPPING_PER_HOUR,
        "backoff": {"k": child.failures if child else 0, "next_in_s": office.next_in_s(name)},
        "cpu_pct": cell.meter.cpu_pct if pid is not None else None,
        "mem": {
            "anon": cell.meter.anon if pid is not None else None,
            "warn": spec.memory_warn,
            "soft": spec.memory_soft,
            "hard": spec.memory_hard,
        },
        "cpus": list(spec.cpus),
        "mailbox": cell.mailbox if pid is not None else None,
        "beat_age_s": None if cell.beat_at is None else round(max(0.0, now - cell.beat_at), 3),
        "fds": facts.fds,
        "threads": facts.threads,
        "status_text": cell.status_text,
        "last_exit": None if cell.last_exit is None else msgspec.to_builtins(cell.last_exit),
        "log_lines": cell.ring.count,
        "log_dropped": cell.log_dropped,
        "spec_hash": facts.spec_hash,
    }


def _group(views: dict[str, _View], view: _View) -> dict[str, Any]:
    group, spec = view.group, view.group.spec
    parent = None if spec.parent is None else views.get(spec.parent)
    child = None if parent is None else parent.children.get(spec.name)
    state, substate = _PHASES[group.phase], ""
    if child is not None and child.slot == "parked":
        state, substate = "failed", "parked"
    elif child is not None and child.slot == "waiting":
        state = "backoff"
    elif group.phase == "down" and group.reason in ("intensity", "abort"):
        state, substate = "failed", group.reason
    elif group.phase == "down" and group.reason == "auto_shutdown":
        state = "done"
    return {
        "name": spec.name,
        "parent": spec.parent,
        "state": state,
        "substate": substate,
        "desired": "up" if child is None or child.wanted else "down",
        "strategy": spec.strategy,
        "intensity": spec.intensity,
        "period": spec.period_s,
        "window_used": view.window_used,
        "on_limit": spec.on_limit,
    }
