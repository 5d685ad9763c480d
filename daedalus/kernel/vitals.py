"""Signs of life: what an actor says on the notify socket, how long it has been silent, how much it eats."""

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from daedalus.kernel.cell import Cell

__all__ = ["check_beat", "check_memory", "hear"]

INTEGER_END = 1 << 63  # neither MessagePack nor most readers of JSON have more
TEXT_MAX = 1000  # characters of what is shown of it
DIGITS_MAX = 15  # of a number that an actor tells; what is longer is no count of anything
EXTEND_MAX_S = 3600.0  # an actor may ask for time, not for ever


def hear(cell: "Cell", said: dict[str, str], now: float) -> None:
    """Take one datagram of the actor."""
    if "X_DAEDALUS_MAILBOX" in said:
        cell.mailbox = _integer(said["X_DAEDALUS_MAILBOX"])
    if "STATUS" in said:
        cell.status_text = said["STATUS"][:TEXT_MAX]
    if "X_DAEDALUS_ERROR" in said:
        cell.reported = said["X_DAEDALUS_ERROR"][:TEXT_MAX]
    if said.get("X_DAEDALUS_IGNORE") == "1":
        cell.ignoring = True
    if said.get("READY") == "1" and cell.state == "starting":
        cell.declare_ready()
    if cell.beat_at is not None and (said.get("WATCHDOG") == "1" or said.get("READY") == "1"):
        cell.beat_at = now
    if "X_DAEDALUS_STATS" in said and (stats := _stats(said["X_DAEDALUS_STATS"])) is not None:
        cell.stats, cell.stats_at = stats, now
    if "EXTEND_TIMEOUT_USEC" in said and (usec := _integer(said["EXTEND_TIMEOUT_USEC"])) is not None:
        cell.extend(min(usec / 1e6, EXTEND_MAX_S))
    if said.get("X_DAEDALUS_DRAINED") == "1":
        cell.drained = (
            _integer(said.get("X_DAEDALUS_IN_FLIGHT", "")),
            _integer(said.get("X_DAEDALUS_FLUSHED", "")),
        )
        cell.emit("drained", in_flight=cell.drained[0], flushed=cell.drained[1])


def check_beat(cell: "Cell", now: float) -> None:
    """Kill it when its loop has been silent for too long. Being stopped is no excuse, unless by `pause`."""
    timeout = cell.spec.heartbeat_timeout_s
    if timeout <= 0 or cell.spec.heartbeat_interval_s <= 0 or cell.beat_at is None:
        return
    if cell.suspended:
        return
    if cell.state in ("running", "degraded") and now - cell.beat_at > timeout:
        age = now - cell.beat_at
        cell.emit("hang", beat_age_s=round(age, 3), timeout_s=timeout)
        cell.kill_for("hung", f"{age:.1f}s")


def check_memory(cell: "Cell", now: float) -> None:
    """Sample, and act on what the limits say."""
    if cell.pid is None:
        return
    leaf = cell.body.leaf
    cell.meter.sample(cell.pid, now, leaf.anon() if leaf is not None else None)
    spec = cell.spec
    found = cell.meter.judge(spec.memory_warn, spec.memory_soft, spec.memory_hard)
    if found == "ok":
        if cell.state == "degraded":
            cell.handle("recover")
            cell.substate = ""
        return
    if found == "hard" and cell.state not in ("killing", "stuck"):
        cell.emit("memory", level="hard", anon=cell.meter.anon, limit=spec.memory_hard)
        cell.kill_for("memory", "hard")
    elif found == "soft" and cell.state in ("running", "degraded"):
        cell.emit("memory", level="soft", anon=cell.meter.anon, limit=spec.memory_soft)
        cell.leave_for("memory", "soft")
    elif cell.state == "running":
        cell.emit("memory", level="warn", anon=cell.meter.anon, limit=spec.memory_warn)
        cell.handle("degrade")
        cell.substate = "memory"


def _stats(text: str) -> dict[str, Any] | None:
    try:
        stats = msgspec.json.decode(text, type=dict[str, int | float | str | bool | None])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    fits = all(abs(value) < INTEGER_END for value in stats.values() if isinstance(value, int))
    return stats if fits else None


def _integer(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX else None
