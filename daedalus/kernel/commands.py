"""What the control program can ask for: one coroutine per command, `args` in, the JSON result out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.kernel import group, status
from daedalus.kernel.cell import KILL_GRACE_S, Cell
from daedalus.kernel.errors import ControlError

if TYPE_CHECKING:
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["COMMANDS", "STREAMS", "select"]

_UP = ("running", "degraded")
_LOG_POLL_S = 0.1
_MARGIN_S = 2.0


def select(supervisor: "Supervisor", names: list[str]) -> list[Cell]:
    """Return the cells that `names` mean, in start order.

    A name is group/actor, a bare name where it is unique, a group, a pattern, or "all".

    Raises:
        ControlError: nothing has that name (not_found), or a bare name has several (usage).
    """
    found: set[str] = set()
    for name in names:
        if name == "all":
            found.update(supervisor.cells)
        elif name in supervisor.cells:
            found.add(name)
        elif name in supervisor.groups:
            found.update(members(supervisor, name))
        else:
            found.update(_loose(supervisor, name))
    return [cell for name, cell in supervisor.cells.items() if name in found]


def _loose(supervisor: "Supervisor", name: str) -> list[str]:
    if any(sign in name for sign in "*?["):
        matches = [known for known in supervisor.cells if fnmatchcase(known, name)]
    else:
        matches = [known for known in supervisor.cells if known.rpartition("/")[2] == name]
        if len(matches) > 1:
            raise ControlError("usage", f"cannot tell which {name!r} is meant: {', '.join(matches)}", name)
    if not matches:
        raise ControlError("not_found", f"cannot find an actor or group named {name!r}", name)
    return matches


def members(supervisor: "Supervisor", name: str) -> list[str]:
    """Return the actors of a group and of the groups in it."""
    names: list[str] = []
    for child in supervisor.groups[name].children:
        names += [child.name] if child.name in supervisor.cells else members(supervisor, child.name)
    return names


def _chosen(supervisor: "Supervisor", args: dict[str, Any]) -> list[Cell]:
    names = args.get("actors") or []
    if not isinstance(names, list) or not names:
        raise ControlError("usage", 'cannot act on nothing: name an actor, a group or "all"')
    return select(supervisor, names)


def _brief(cell: Cell, note: str = "") -> dict[str, Any]:
    brief = {"name": cell.spec.name, "state": cell.state, "pid": cell.pid, "generation": cell.generation}
    return brief | {"note": note} if note else brief


def stop_bound_s(cell: Cell) -> float:
    """Return how long a stop of this actor can take."""
    shutdown = cell.spec.shutdown_s
    seconds = 0.0 if isinstance(shutdown, str) else shutdown
    return cell.spec.drain_s + seconds + KILL_GRACE_S + _MARGIN_S


async def _until(supervisor: "Supervisor", done: Callable[[], bool], cell: Cell, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not done():
                await supervisor.until_change()
    except TimeoutError:
        name = cell.spec.name
        raise ControlError(
            "timeout", f"cannot wait for {name} any longer: {cell.state} after {timeout_s:g} s", name
        ) from None


async def do_status(supervisor: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Return the status document of all or some actors."""
    names = args.get("select") or args.get("actors") or []
    chosen = select(supervisor, names) if names else list(supervisor.cells.values())
    return status.document(supervisor, chosen)


async def do_stop(supervisor: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Stop actors, last started first; they stay down."""
    cells = _chosen(supervisor, args)
    report = []
    for cell in reversed(cells):
        note = "" if cell.live or cell.state == "backoff" else "already stopped"
        supervisor.feed(cell.spec.group, group.Stop(cell.spec.name))
        if args.get("wait", True):
            await _until(supervisor, lambda cell=cell: not cell.live, cell, stop_bound_s(cell))  # type: ignore[misc]
        report.append(_brief(cell, note))
    return {"actors": report}


async def do_start(supervisor: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Start actors that are down, in start order."""
    report = []
    for cell in _chosen(supervisor, args):
        name = cell.spec.name
        if cell.state in _UP or cell.state == "starting":
            if args.get("strict"):
                raise ControlError("running", f"cannot start {name}: it is {cell.state}", name)
            report.append(_brief(cell, "already running"))
            continue
        if cell.state == "backoff":
            raise ControlError("restarting", f"cannot start {name}: it is being restarted", name)
        if cell.live:
            raise ControlError("busy", f"cannot start {name}: it is {cell.state}", name)
        _need_open_group(supervisor, cell)
        supervisor.feed(cell.spec.group, group.Start(name))
        if args.get("wait", True):
            await _until_up(supervisor, cell)
        report.append(_brief(cell))
    return {"actors": report}


async def do_restart(supervisor: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Stop and start actors, one after the other, in start order. Planned: nothing is counted."""
    report = []
    for cell in _chosen(supervisor, args):
        before = cell.generation
        _need_open_group(supervisor, cell)
        supervisor.feed(cell.spec.group, group.Restart(cell.spec.name))
        if args.get("wait", True):
            bound_s = stop_bound_s(cell)
            await _until(supervisor, lambda cell=cell, before=before: cell.generation > before, cell, bound_s)  # type: ignore[misc]
            await _until_up(supervisor, cell)
        report.append(_brief(cell))
    return {"actors": report}


def _need_open_group(supervisor: "Supervisor", cell: Cell) -> None:
    phase = supervisor.groups[cell.spec.group].phase
    if phase not in ("opening", "open"):
        name = cell.spec.name
        raise ControlError("busy", f"cannot start {name}: its group {cell.spec.group} is {phase}", name)


async def _until_up(supervisor: "Supervisor", cell: Cell) -> None:
    """Wait for READY; anything but starting and running is a start that failed."""
    bound_s = cell.spec.start_timeout_s + KILL_GRACE_S + _MARGIN_S
    await _until(supervisor, lambda: cell.state not in ("starting", "killing"), cell, bound_s)
    if cell.state not in (*_UP, "done", "ignored"):
        why = cell.last_exit.message if cell.last_exit else cell.state
        raise ControlError("failed", f"cannot start {cell.spec.name}: {why}", cell.spec.name)


async def do_shutdown(supervisor: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Stop the whole tree. The reply comes before the end: the socket goes with the supervisor."""
    del args
    pid = status.own_pid()
    asyncio.get_running_loop().call_soon(supervisor.shutdown)
    return {"pid": pid}


async def do_count(supervisor: "Supervisor", args: dict[str, Any]) -> dict[str, int]:
    """Count the direct children of a group, as OTP does."""
    name = args.get("group") or supervisor.root
    if name not in supervisor.groups:
        raise ControlError("not_found", f"cannot find a group named {name!r}", name)
    children = supervisor.groups[name].children
    nested = sum(child.name in supervisor.groups for child in children)
    active = sum(child.slot in ("up", "starting", "stopping") for child in children)
    return {
        "specs": len(children),
        "active": active,
        "supervisors": nested,
        "workers": len(children) - nested,
    }


async def do_spec(supervisor: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Return the effective values of one actor or group under their TOML names."""
    names = args.get("actors") or []
    if len(names) == 1 and names[0] in supervisor.groups:
        values: dict[str, Any] = msgspec.to_builtins(supervisor.groups[names[0]].spec)
        return values
    cells = _chosen(supervisor, args)
    if len(cells) != 1:
        raise ControlError("usage", f"cannot show {len(cells)} specifications at once: name one actor")
    shown: dict[str, Any] = msgspec.to_builtins(cells[0].spec)
    shown.pop("settings")
    return shown


async def stream_events(supervisor: "Supervisor", args: dict[str, Any]) -> AsyncIterator[Any]:
    """Give the events after `since` (exclusive), and with `follow` all to come."""
    since = int(args.get("since") or 0)
    if args.get("follow"):
        async for event in supervisor.events.follow(since):
            yield event
    for event in supervisor.events.since(since):
        yield event


async def stream_logs(supervisor: "Supervisor", args: dict[str, Any]) -> AsyncIterator[Any]:
    """Give the last `lines` lines of actors, merged by time, and with `follow` all to come."""
    cells = select(supervisor, args.get("actors") or ["all"])
    seen = {cell.spec.name: cell.ring.count for cell in cells}
    lines = [
        (line, cell) for cell in cells for line in cell.ring.lines if line.ts >= float(args.get("since") or 0)
    ]
    lines.sort(key=lambda item: item[0].ts)
    wanted = args.get("lines")
    for line, cell in lines[-int(wanted) :] if wanted is not None else lines:
        yield {"actor": cell.spec.name, **msgspec.to_builtins(line)}
    while args.get("follow"):
        await asyncio.sleep(_LOG_POLL_S)
        fresh = [
            (line, cell) for cell in cells for line in cell.ring.lines if line.seq > seen[cell.spec.name]
        ]
        for line, cell in sorted(fresh, key=lambda item: item[0].ts):
            seen[cell.spec.name] = max(seen[cell.spec.name], line.seq)
            yield {"actor": cell.spec.name, **msgspec.to_builtins(line)}


COMMANDS: dict[str, Callable[["Supervisor", dict[str, Any]], Awaitable[Any]]] = {
    "status": do_status,
    "start": do_start,
    "stop": do_stop,
    "restart": do_restart,
    "shutdown": do_shutdown,
    "count": do_count,
    "spec": do_spec,
}
STREAMS: dict[str, Callable[["Supervisor", dict[str, Any]], AsyncIterator[Any]]] = {
    "events": stream_events,
    "logs": stream_logs,
}
