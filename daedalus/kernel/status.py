"""The status document: everything a person or a program may know about the tree, in one round trip."""

import asyncio
import ctypes
import os
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus import __version__
from daedalus.kernel import restart
from daedalus.kernel.cell import Cell

if TYPE_CHECKING:
    from daedalus.kernel.group import Child, Group
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["document", "own_pid"]

FLAPPING_PER_HOUR = 10
_TIMEX_BYTES = 256  # struct timex is 208
_TIME_ERROR = 5
_PHASES = {"down": "stopped", "opening": "starting", "open": "running", "closing": "stopping"}


def own_pid() -> int:
    """Return the supervisor's pid."""
    return os.getpid()


def document(supervisor: "Supervisor", cells: list[Cell]) -> dict[str, Any]:
    """Return the document with these cells. Memory in bytes, durations in seconds."""
    now = asyncio.get_running_loop().time()
    return {
        "v": 1,
        "ts": time.time(),
        "supervisor": {
            "pid": os.getpid(),
            "version": __version__,
            "uptime_s": round(time.monotonic() - supervisor.started_mono, 3),
            "config_hash": supervisor.tree.config_hash,
            "config_path": supervisor.tree.config_path,
            "runtime": supervisor.tree.runtime,
            "data": supervisor.tree.data,
            "state": supervisor.state,
            "loop_lag_ms": round(supervisor.loop_lag_ms, 3),
            "zygotes": [{"name": name, "pid": pid} for name, pid in supervisor.nursery.pids().items()],
            "orphans_reaped": supervisor.reaper.orphans_reaped,
            "foreign_datagrams": supervisor.foreign_datagrams,
            "log_dropped": supervisor.output.dropped,
            "host": _host(),
        },
        "actors": [_actor(supervisor, cell, now) for cell in cells],
        "groups": [_group(supervisor, group, now) for group in supervisor.groups.values()],
    }


def _host() -> dict[str, Any]:
    """Return the load, the temperature where there is one, and whether the clock is synchronised."""
    temperature = None
    zone = Path("/sys/class/thermal/thermal_zone0/temp")
    if zone.exists():
        temperature = int(zone.read_text("ascii")) / 1000
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    synced = None if state < 0 else state != _TIME_ERROR
    return {"load_1m": os.getloadavg()[0], "temperature_c": temperature, "clock_synced": synced}


def _child(supervisor: "Supervisor", parent: str | None, name: str) -> "Child | None":
    if parent is None:
        return None
    return next((item for item in supervisor.groups[parent].children if item.name == name), None)


def _actor(supervisor: "Supervisor", cell: Cell, now: float) -> dict[str, Any]:
    spec, name = cell.spec, cell.spec.name
    child = _child(supervisor, spec.group, name)
    last_hour = cell.restarts_last_hour(now)
    waiting_s = supervisor.next_in_s(name)
    up_s = None if cell.ready_at is None else round(now - cell.ready_at, 3)
    return {
        "name": name,
        "parent": spec.group,
        "type": "worker",
        "role": spec.role,
        "state": cell.state,
        "substate": "stopped" if cell.paused else cell.substate,
        "desired": "up" if child is None or child.wanted else "down",
        "pid": cell.pid,
        "generation": cell.generation,
        "started_at": cell.started_at if cell.pid is not None else None,
        "uptime_s": up_s,
        "ready": cell.ready,
        "restarts": {
            "total": cell.restarts,
            "window": restart.window_used(supervisor.groups[spec.group], now),
            "last_1h": last_hour,
        },
        "flapping": last_hour >= FLAPPING_PER_HOUR,
        "backoff": {"k": child.failures if child else 0, "next_in_s": waiting_s},
        "cpu_pct": cell.meter.cpu_pct if cell.pid is not None else None,
        "mem": {
            "anon": cell.meter.anon if cell.pid is not None else None,
            "warn": spec.memory_warn,
            "soft": spec.memory_soft,
            "hard": spec.memory_hard,
        },
        "cpus": list(spec.cpus),
        "mailbox": cell.mailbox if cell.pid is not None else None,
        "beat_age_s": None if cell.beat_at is None else round(max(0.0, now - cell.beat_at), 3),
        "fds": _entries(cell.pid, "fd"),
        "threads": _entries(cell.pid, "task"),
        "status_text": cell.status_text,
        "last_exit": None if cell.last_exit is None else msgspec.to_builtins(cell.last_exit),
        "log_lines": cell.ring.count,
        "log_dropped": cell.log_dropped,
        "spec_hash": f"{zlib.crc32(msgspec.json.encode(spec)):08x}",
    }


def _entries(pid: int | None, kind: str) -> int | None:
    """Count the open descriptors (fd) or threads (task) of a process."""
    if pid is None:
        return None
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/{kind}").iterdir())
    except OSError:
        return None


def _group(supervisor: "Supervisor", group: "Group", now: float) -> dict[str, Any]:
    spec = group.spec
    child = _child(supervisor, spec.parent, spec.name)
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
        "window_used": restart.window_used(group, now),
        "on_limit": spec.on_limit,
    }
