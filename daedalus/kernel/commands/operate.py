"""Commands that bring actors up and down. Each takes its turn in the queues of the groups concerned.

An operation waits for what it began, within a bound of its own: the sum of what the actor's specification
allows. The client's patience is another matter: when it ends, the operation goes on.
"""

import asyncio
import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

from daedalus.kernel import group
from daedalus.kernel.cell import Cell
from daedalus.kernel.commands.office import Office
from daedalus.kernel.commands.queue import operations
from daedalus.kernel.commands.select import brief, child_of, chosen, members, names_in, seconds_in
from daedalus.kernel.errors import ControlError
from daedalus.kernel.spec import KILL_GRACE_S, stop_bound

__all__ = [
    "do_drain",
    "do_restart",
    "do_rolling_restart",
    "do_start",
    "do_stop",
    "need_no_end",
    "stop_bound_s",
    "until",
    "until_up",
]

UP = ("running", "degraded")
MIN_HEALTHY_S = 2.0
_MARGIN_S = 2.0  # for the reaping, the queue of the loop and a loaded machine


def stop_bound_s(cell: Cell) -> float:
    """Return how long to wait for a stop of this actor; infinite where its specification says so."""
    return stop_bound(cell.spec) + _MARGIN_S


def start_bound_s(cell: Cell) -> float:
    """Return how long a start of this actor can take."""
    return cell.spec.start_timeout_s + KILL_GRACE_S + _MARGIN_S


async def until(office: Office, done: Callable[[], bool], cell: Cell, timeout_s: float) -> None:
    """Wait for a change that makes `done` true.

    Raises:
        ControlError: it did not within `timeout_s` (timeout).
    """
    try:
        async with asyncio.timeout(None if timeout_s == math.inf else timeout_s):
            while not done():
                await office.until_change()
    except TimeoutError:
        name = cell.spec.name
        raise ControlError(
            "timeout", f"cannot wait for {name} any longer: {cell.state} after {timeout_s:g} s", name
        ) from None


async def until_up(office: Office, cell: Cell) -> None:
    """Wait for READY, or for gates to be waited for; anything else is a start that failed.

    Raises:
        ControlError: it failed (failed), or it is not decided within the bound (timeout).
    """

    def decided() -> bool:
        if cell.state in (*UP, "held"):
            return True
        child = child_of(office, cell)
        return cell.state not in ("starting", "killing") and (child is None or child.slot != "starting")

    await until(office, decided, cell, start_bound_s(cell))
    if cell.state not in (*UP, "held", "done", "ignored"):
        raise ControlError("failed", f"cannot start {cell.spec.name}: {why(cell)}", cell.spec.name)


def why(cell: Cell) -> str:
    """Return in words why an actor is not up."""
    return cell.last_exit.message if cell.last_exit else cell.state


def need_no_end(office: Office) -> None:
    """Refuse to change a tree that is being stopped.

    Raises:
        ControlError: it is (busy).
    """
    if office.state in ("stopping", "stopped"):
        raise ControlError("busy", "cannot change anything: the supervisor is stopping")


def _event(kind: type[group.Start | group.Stop | group.Restart], cell: Cell, args: dict[str, Any]) -> Any:
    """Return the operator's wish; to the actor alone, unless the group's strategy is to follow it."""
    return kind(cell.spec.name, propagate=True) if args.get("propagate") else kind(cell.spec.name)


async def _until_followed(office: Office, cell: Cell, args: dict[str, Any]) -> None:
    """Wait until the group has done what follows, or is kept from it by a child that waits to be retried."""
    if not args.get("propagate"):
        return
    owner = cell.spec.group

    def followed() -> bool:
        group_now = office.groups[owner]
        slots = {child.name: child.slot for child in group_now.children}
        return not group_now.plan or slots.get(group_now.plan[0][1]) in ("waiting", "parked", "held")

    cells = [office.cells[name] for name in members(office, owner)]
    await until(office, followed, cell, sum(stop_bound_s(other) + start_bound_s(other) for other in cells))


def _parts(cells: list[Cell]) -> list[tuple[str, list[Cell]]]:
    """Return the cells group by group, in the order they are in."""
    return [(name, list(part)) for name, part in groupby(cells, key=lambda cell: cell.spec.group)]


# Down.


async def do_stop(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Stop actors, last started first; they stay down."""
    return {"actors": await _stop(office, args, brief)}


async def do_drain(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Stop actors and tell what each left behind and brought home; null where it did not say.

    Raises:
        ControlError: one did not drain within its `drain_s` (failed). All are down all the same.
    """
    late: list[Cell] = []

    def drained(cell: Cell, note: str) -> dict[str, Any]:
        if note:  # it was down: what it said in its last life is no answer to this
            return brief(cell, note) | {"in_flight": None, "flushed": None}
        if cell.drain_timed_out:
            late.append(cell)
        in_flight, flushed = cell.drained or (None, None)
        return brief(cell) | {"in_flight": in_flight, "flushed": flushed}

    report = await _stop(office, {**args, "wait": True}, drained)
    if late:
        words = ", ".join(f"{cell.spec.name} within {cell.spec.drain_s:g} s" for cell in late)
        raise ControlError("failed", f"cannot drain {words}: it was stopped all the same", late[0].spec.name)
    return {"actors": report}


async def _stop(
    office: Office, args: dict[str, Any], tell: Callable[[Cell, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    cells = chosen(office, args)[::-1]
    report = []
    with operations(office).place(cell.spec.group for cell in cells) as place:
        for name, part in _parts(cells):
            spec = office.groups[name].spec
            at_once = spec.parallel_stop or spec.strategy == "simple_one_for_one"
            async with place.turn(name):
                for some in [part] if at_once else [[cell] for cell in part]:
                    notes = [_down(cell) for cell in some]
                    for cell in some:
                        office.feed(name, _event(group.Stop, cell, args))
                    if args.get("wait", True):
                        await _until_down(office, some, args)
                    report += [tell(cell, note) for cell, note in zip(some, notes, strict=True)]
    return report


def _down(cell: Cell) -> str:
    return "" if cell.live or cell.state in ("backoff", "held") else "already stopped"


async def _until_down(office: Office, cells: list[Cell], args: dict[str, Any]) -> None:
    for cell in cells:
        await until(office, lambda cell=cell: not cell.live, cell, stop_bound_s(cell))  # type: ignore[misc]
        await _until_followed(office, cell, args)


# Up.


async def do_start(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Start actors that are down, in start order; and groups that are, where a group was named."""
    cells = chosen(office, args)
    lifts = {
        name: parent
        for name in names_in(args)
        if name in office.groups and (parent := office.groups[name].spec.parent) is not None
    }
    report = []
    with operations(office).place([*lifts.values(), *(cell.spec.group for cell in cells)]) as place:
        for name, parent in lifts.items():
            await place.reach(parent)
            _lift(office, name, parent)
        for name, part in _parts(cells):
            async with place.turn(name):
                report += [await _start(office, cell, args) for cell in part]
    return {"actors": report}


def _lift(office: Office, name: str, parent: str) -> None:
    """Start a group that is down, as its parent's child; it starts those of its actors that are wanted."""
    if office.groups[name].phase != "down":
        return
    if office.groups[parent].phase not in ("opening", "open"):
        raise ControlError("busy", f"cannot start {name}: its parent {parent} is down", name)
    office.feed(parent, group.Start(name))


async def _start(office: Office, cell: Cell, args: dict[str, Any]) -> dict[str, Any]:
    """Start one actor. The results are those of OTP's restart_child."""
    need_no_end(office)
    name, owner = cell.spec.name, cell.spec.group
    waits = args.get("wait", True)
    if waits and _is_due(office, cell):  # its group is opening and comes to it, in order
        bound_s = sum(start_bound_s(office.cells[other]) for other in members(office, owner))
        await until(office, lambda: not _is_due(office, cell), cell, bound_s)
        await until_up(office, cell)
        return brief(cell, _held(cell))
    if cell.state in (*UP, "starting", "held"):
        if args.get("strict"):
            raise ControlError("running", f"cannot start {name}: it is {cell.state}", name)
        if cell.state == "starting" and waits:
            await until_up(office, cell)
        return brief(cell, _held(cell) or "already running")
    if cell.state == "backoff":
        raise ControlError("restarting", f"cannot start {name}: it is being restarted", name)
    if cell.live:
        raise ControlError("busy", f"cannot start {name}: it is {cell.state}", name)
    _need_open_group(office, cell)
    office.feed(owner, _event(group.Start, cell, args))
    if waits:
        await _until_followed(office, cell, args)
        await until_up(office, cell)
    return brief(cell, _held(cell))


def _is_due(office: Office, cell: Cell) -> bool:
    """Return whether its opening group has yet to give it its first start."""
    owner, name = office.groups[cell.spec.group], cell.spec.name
    return owner.phase == "opening" and ("start", name) in owner.plan and cell.state in ("stopped", "done")


def _held(cell: Cell) -> str:
    return f"waits for {', '.join(cell.shut_gates)}" if cell.state == "held" else ""


def _need_open_group(office: Office, cell: Cell) -> None:
    phase = office.groups[cell.spec.group].phase
    if phase not in ("opening", "open"):
        name = cell.spec.name
        raise ControlError("busy", f"cannot start {name}: its group {cell.spec.group} is {phase}", name)


# Down and up.


async def do_restart(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Stop and start actors, one after the other, in start order. Planned: nothing is counted."""
    cells = chosen(office, args)
    report = []
    with operations(office).place(cell.spec.group for cell in cells) as place:
        for name, part in _parts(cells):
            async with place.turn(name):
                for cell in part:
                    await _restart(office, cell, args)
                    report.append(brief(cell, _held(cell)))
    return {"actors": report}


async def _restart(office: Office, cell: Cell, args: dict[str, Any]) -> None:
    need_no_end(office)
    _need_open_group(office, cell)
    before = cell.generation

    def over() -> bool:
        if cell.generation > before:
            return True
        child = child_of(office, cell)
        return not cell.live and (child is None or child.slot not in ("starting", "stopping"))

    office.feed(cell.spec.group, _event(group.Restart, cell, args))
    if args.get("wait", True):
        await _until_followed(office, cell, args)
        await until(office, over, cell, stop_bound_s(cell))
        await until_up(office, cell)


async def do_rolling_restart(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Restart actors one at a time, last started first, each after the one before has proved itself.

    Actors that are down on purpose stay down.

    Raises:
        ControlError: one did not come up, or did not stay up (failed). The rest is left untouched.
    """
    cells = chosen(office, args)[::-1]
    healthy_s = seconds_in(args, "min_healthy_s", MIN_HEALTHY_S)
    report: list[dict[str, Any]] = []
    with operations(office).place(cell.spec.group for cell in cells) as place:
        for name, part in _parts(cells):
            async with place.turn(name):
                for cell in part:
                    child = child_of(office, cell)
                    if child is None or not child.wanted:
                        report.append(brief(cell, "down on purpose: left alone"))
                        continue
                    await _roll(office, cell, healthy_s, len(cells) - len(report) - 1)
                    report.append(brief(cell))
    return {"actors": report}


async def _roll(office: Office, cell: Cell, healthy_s: float, left: int) -> None:
    name = cell.spec.name
    try:
        await _restart(office, cell, {})
    except ControlError as error:
        if error.code not in ("failed", "timeout"):
            raise
        raise ControlError("failed", f"{error}; {left} actors left untouched", name) from None
    generation = cell.generation
    try:
        async with asyncio.timeout(healthy_s):
            while cell.generation == generation and cell.state in UP:
                await office.until_change()
    except TimeoutError:
        return
    told = _held(cell) or why(cell)
    raise ControlError(
        "failed",
        f"cannot roll on: {name} did not run for {healthy_s:g} s: {told}; {left} left untouched",
        name,
    )
