"""Commands that only look: they never queue, and change nothing."""

import asyncio
from typing import Any, get_args

import msgspec

from daedalus.kernel import health, status
from daedalus.kernel.cell import Cell
from daedalus.kernel.commands.office import Office
from daedalus.kernel.commands.operate import UP
from daedalus.kernel.commands.queue import operations
from daedalus.kernel.commands.select import brief, chosen, select, texts_in
from daedalus.kernel.errors import ControlError
from daedalus.kernel.lifecycle import State

__all__ = ["do_count", "do_health", "do_spec", "do_stats", "do_status", "do_wait"]


def _looked_at(office: Office, args: dict[str, Any]) -> list[Cell]:
    return select(office, texts_in(args, "select") or texts_in(args, "actors") or ["all"])


async def do_status(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Return the status document of all or some actors."""
    return _document(office, _looked_at(office, args))


def _document(office: Office, cells: list[Cell]) -> dict[str, Any]:
    return status.document(office, cells, operations(office).lengths())


async def do_stats(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Return what actors last told of themselves, and how long ago."""
    return _stats(_looked_at(office, args))


def _stats(cells: list[Cell]) -> dict[str, Any]:
    now = asyncio.get_running_loop().time()
    return {
        "actors": [
            {
                "name": cell.spec.name,
                "role": cell.spec.role,
                "age_s": None if cell.stats_at is None else round(max(0.0, now - cell.stats_at), 3),
                "stats": cell.stats,
            }
            for cell in cells
        ]
    }


async def do_health(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Return the key indicators of the whole tree, judged."""
    del args
    cells = select(office, ["all"])
    return health.report(_document(office, cells), _stats(cells))


async def do_count(office: Office, args: dict[str, Any]) -> dict[str, int]:
    """Count the direct children of a group, as OTP does."""
    name = args.get("group") or office.root
    if not isinstance(name, str) or name not in office.groups:
        raise ControlError("not_found", f"cannot find a group named {name!r:.100}", str(name))
    children = office.groups[name].children
    nested = sum(child.name in office.groups for child in children)
    active = sum(child.slot in ("up", "starting", "stopping") for child in children)
    template = office.groups[name].spec.strategy == "simple_one_for_one"
    return {
        "specs": min(len(children), 1) if template else len(children),
        "active": active,
        "supervisors": nested,
        "workers": len(children) - nested,
    }


async def do_spec(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Return the effective values of one actor or group under their TOML names."""
    names = texts_in(args, "actors")
    if len(names) == 1 and names[0] in office.groups:
        values: dict[str, Any] = msgspec.to_builtins(office.groups[names[0]].spec)
        return values | {"shutdown_s": "infinity"}  # as OTP has it: a group ends when its actors have
    cells = chosen(office, args)
    if len(cells) != 1:
        raise ControlError("usage", f"cannot show {len(cells)} specifications at once: name one actor")
    shown: dict[str, Any] = msgspec.to_builtins(cells[0].spec)
    shown.pop("settings")
    return shown


async def do_wait(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Wait until all named actors are in a state. `running` is also what is degraded: it runs.

    Raises:
        ControlError: `timeout` seconds have passed (timeout), or one is gone for good (not_found).
    """
    cells, wanted = chosen(office, args), args.get("for") or "running"
    if wanted not in get_args(State):
        raise ControlError(
            "usage", f"cannot wait for {wanted!r:.40}: the states are {', '.join(get_args(State))}"
        )
    states = UP if wanted == "running" else (wanted,)
    try:
        async with asyncio.timeout(args.get("timeout")):
            while late := [cell for cell in cells if cell.state not in states]:
                _need_known(office, late)
                await office.until_change()
    except TimeoutError:
        first = late[0]
        told = ", ".join(f"{cell.spec.name} is {cell.state}" for cell in late[:5])
        raise ControlError(
            "timeout", f"cannot wait for {wanted} longer than {args['timeout']:g} s: {told}", first.spec.name
        ) from None
    return {"actors": [brief(cell) for cell in cells]}


def _need_known(office: Office, cells: list[Cell]) -> None:
    for cell in cells:
        name = cell.spec.name
        if office.cells.get(name) is not cell:
            raise ControlError("not_found", f"cannot wait for {name}: it was removed", name)
