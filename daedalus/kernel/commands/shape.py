"""Commands that change the shape of the tree, and those about the whole of it."""

import asyncio
import os
from typing import Any

from daedalus.kernel import group
from daedalus.kernel.cell import Cell
from daedalus.kernel.commands.office import Office
from daedalus.kernel.commands.operate import need_no_end, stop_bound_s, until, until_up, why
from daedalus.kernel.commands.queue import operations
from daedalus.kernel.commands.select import NAME_MAX, brief, chosen, is_instance, names_in
from daedalus.kernel.errors import ControlError

__all__ = ["do_add", "do_reexec", "do_reload", "do_remove", "do_reset", "do_shutdown"]


async def do_add(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Add one actor, from `spec` (TOML keys) or from the file, and start it. OTP's start_child.

    Raises:
        ControlError: it is there already (already_present), it cannot be one (config), or it did not
            start (failed): then it is forgotten again, as OTP does.
    """
    name, table = args.get("name"), args.get("spec")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
        raise ControlError("usage", f"cannot add an actor named {name!r:.40}")
    if table is not None and not isinstance(table, dict):
        raise ControlError("usage", f"cannot add {name}: spec is not a table of keys")
    owner = name.rpartition("/")[0] or office.root
    with operations(office).place([owner]) as place:
        async with place.turn(owner):
            need_no_end(office)
            if name in office.cells:
                raise ControlError("already_present", f"cannot add {name}: it is there already", name)
            cell = await office.add(name, table)
            if args.get("wait", True):
                try:
                    await until_up(office, cell)
                except ControlError as error:
                    await _forget(office, cell)
                    raise ControlError(error.code, f"cannot add {name}: {why(cell)}", name) from None
            return {"actors": [brief(cell)]}


async def _forget(office: Office, cell: Cell) -> None:
    """Take back an actor that did not start: no retry, and no specification left."""
    name = cell.spec.name
    office.feed(cell.spec.group, group.Stop(name))
    await until(office, lambda: not cell.live, cell, stop_bound_s(cell))
    if office.cells.get(name) is cell:  # a temporary one is forgotten by its group
        office.remove(cell)


async def do_remove(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Forget actors that are down. OTP's delete_child; all of them or, when one cannot go, none.

    Raises:
        ControlError: one is live (running) or to be started again (restarting), or belongs to a template
            (usage): templates change in the file.
    """
    cells = chosen(office, args)
    for cell in cells:
        if is_instance(cell):
            name = cell.spec.name
            raise ControlError("usage", f"cannot remove {name}: it is an instance of a template", name)
    with operations(office).place(cell.spec.group for cell in cells) as place:
        async with place.turn(*dict.fromkeys(cell.spec.group for cell in cells)):
            need_no_end(office)
            for cell in cells:
                _need_down(office, cell)
            for cell in cells:
                office.remove(cell)
    return {"removed": [cell.spec.name for cell in cells]}


def _need_down(office: Office, cell: Cell) -> None:
    name = cell.spec.name
    if office.cells.get(name) is not cell:  # it went while we waited for our turn
        raise ControlError("not_found", f"cannot find an actor or group named {name!r}", name)
    if cell.live:
        raise ControlError("running", f"cannot remove {name}: it is {cell.state}", name)
    if cell.state == "backoff":
        raise ControlError("restarting", f"cannot remove {name}: it is being restarted", name)


async def do_reset(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Forget the failures of actors and of named groups; what waits or gave up is started at once."""
    cells = chosen(office, args)
    groups = {
        name: parent
        for name in names_in(args)
        if name in office.groups and (parent := office.groups[name].spec.parent) is not None
    }
    owners = dict.fromkeys([*groups.values(), *(cell.spec.group for cell in cells)])
    with operations(office).place(owners) as place:
        async with place.turn(*owners):
            need_no_end(office)
            for name, parent in groups.items():
                office.feed(parent, group.Reset(name))
            for cell in cells:
                office.feed(cell.spec.group, group.Reset(cell.spec.name))
    return {"actors": [brief(cell) for cell in cells]}


async def do_reload(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Read the file again and apply what has changed, or only say what would be applied."""
    if args.get("dry_run"):
        return await office.reload(dry_run=True)
    with operations(office).place(office.groups) as place:
        async with place.turn(*place.first):
            need_no_end(office)
            return await office.reload(dry_run=False)


async def do_shutdown(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Stop the whole tree. The reply comes before the end: the socket goes with the supervisor."""
    del args
    if office.state in ("starting", "running"):  # asked twice it is still one wish: only signals hurry
        asyncio.get_running_loop().call_soon(office.shutdown)
    return {"pid": os.getpid()}


async def do_reexec(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Replace the supervisor's program in place, once no operation is under way: it would be lost."""
    del args
    with operations(office).place(office.groups) as place:
        await place.reach(*place.first)
        need_no_end(office)
        return {"pid": os.getpid(), "image": await office.reexec()}
