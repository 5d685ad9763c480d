"""What changes in a running tree: an actor added by hand, a configuration read again.

The configuration is read and checked whole in another process before anything is touched; `reload.plan` says
what has changed; this file does it, and touches nothing that the plan does not name.
"""

import asyncio
import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from daedalus.kernel import bootstrap, group, process, source
from daedalus.kernel import reload as planning
from daedalus.kernel.cell import Cell
from daedalus.kernel.errors import ControlError
from daedalus.kernel.group import child_of_actor
from daedalus.kernel.plant import children_of, group_of, images_of
from daedalus.kernel.spec import ActorSpec, Tree

if TYPE_CHECKING:
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["add", "plant", "reload", "reload_unasked", "remove"]

SETTLE_S = 120.0  # how long a reload waits for what it started; it goes on all the same
_MOVING = ("starting", "draining", "stopping", "killing")


async def add(supervisor: "Supervisor", name: str, table: dict[str, Any] | None) -> Cell:
    """Add an actor: as the file has it, or as `table` (TOML keys) describes it.

    Raises:
        ControlError: it is there already, the file or the table has faults, or its group is not there.
    """
    extra = ["--actor", name, *([] if table is None else ["--table", json.dumps(table)])]
    account = await source.ask(supervisor.source, supervisor.reaper, extra, cores=supervisor.cores)
    spec = account.actor
    if spec is None:
        raise ControlError("not_found", f"cannot add {name}: the file has no such actor", name)
    if spec.name in supervisor.cells:
        raise ControlError("already_present", f"cannot add {spec.name}: it is there already", spec.name)
    if spec.group not in supervisor.groups:
        raise ControlError("not_found", f"cannot add {spec.name}: there is no group {spec.group}", spec.name)
    supervisor.nursery.ensure(images_of(replace(supervisor.tree, actors=(spec,))))
    cell = supervisor.cells[spec.name] = supervisor.new_cell(spec)
    _arrange(supervisor)
    of = supervisor.groups[spec.group].spec
    by_hand = table is not None
    if not by_hand:  # it is in the file, and stays when its group is restarted
        supervisor.tree = replace(supervisor.tree, actors=(*supervisor.tree.actors, spec))
    supervisor.feed(spec.group, group.Add(replace(child_of_actor(spec, of), by_hand=by_hand)))
    return cell


def remove(supervisor: "Supervisor", cell: Cell) -> None:
    """Forget an actor that has no process. If the file has it, a reload brings it back."""
    actors = tuple(spec for spec in supervisor.tree.actors if spec.name != cell.spec.name)
    supervisor.tree = replace(supervisor.tree, actors=actors)
    supervisor.feed(cell.spec.group, group.Remove(cell.spec.name))


def reload_unasked(supervisor: "Supervisor") -> None:
    """Reload because of a signal, in its turn among the operators' requests; what is wrong is logged."""
    from daedalus.kernel.commands.queue import operations

    async def work() -> None:
        try:
            with operations(supervisor).place(supervisor.groups) as place:
                async with place.turn(*place.first):
                    await reload(supervisor)
        except ControlError as error:
            supervisor.report("reload_refused", error=str(error))

    task = asyncio.get_running_loop().create_task(work())
    supervisor.tasks.add(task)
    task.add_done_callback(supervisor.tasks.discard)


async def reload(supervisor: "Supervisor", *, dry_run: bool = False) -> dict[str, Any]:
    """Read the configuration again, and do what has changed with the smallest possible effect.

    Returns:
        {applied, changes, unchanged, warnings}.

    Raises:
        ControlError: the configuration has faults, or asks for what only a restart of the service can do.
            Nothing has changed then.
    """
    account = await source.ask(supervisor.source, supervisor.reaper, [], cores=supervisor.cores)
    assert account.tree is not None
    new = account.tree
    plan = planning.plan(supervisor.tree, new)
    result = {
        "applied": False,
        "changes": [msgspec.to_builtins(change) for change in plan.changes],
        "unchanged": plan.unchanged,
        "warnings": [warning.text(account.file) for warning in account.warnings],
    }
    if dry_run:
        return result
    if plan.refused:
        keys = ", ".join(plan.refused)
        raise ControlError("config", f"cannot reload: a change of {keys} {planning.REFUSAL}")
    moved = [item.name for item in plan.changes if (item.kind, item.keys) == ("group", ("parent",))]
    if moved:
        message = f"cannot reload: the parent of group {moved[0]} has changed, which {planning.REFUSAL}"
        raise ControlError("config", message, moved[0])
    supervisor.systemd.reloading()
    if plan.changes:
        _apply(supervisor, new, plan)
    supervisor.report("tree_reloaded", changes=len(plan.changes), unchanged=plan.unchanged)
    supervisor.record("reload", None, None, changes=len(plan.changes), unchanged=plan.unchanged)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            await _settled(supervisor, {change.name for change in plan.changes})
    supervisor.systemd.ready()
    return result | {"applied": True}


async def _settled(supervisor: "Supervisor", names: set[str]) -> None:
    """Return when nothing that was changed is on its way any more."""

    def moving() -> bool:
        cells = supervisor.cells
        concerned = {cells[name].spec.group for name in names if name in cells} | names
        return any(_works(item) for name, item in supervisor.groups.items() if name in concerned) or any(
            name in cells and cells[name].state in _MOVING for name in names
        )

    while moving():
        await supervisor.until_change()


def _works(item: group.Group) -> bool:
    """Return whether a group carries out its plan; one that waits for a delay or a gate does not."""
    if not item.plan:
        return False
    child = next((child for child in item.children if child.name == item.plan[0][1]), None)
    return child is None or child.slot not in ("waiting", "parked", "held")


def _apply(supervisor: "Supervisor", new: Tree, plan: planning.Plan) -> None:
    old, supervisor.tree = supervisor.tree, new
    supervisor.nursery.ensure(images_of(new))
    before = {spec.name for spec in old.actors}
    for spec in new.actors:
        cell = supervisor.cells.get(spec.name)
        if cell is None and spec.name not in before:  # what was there and has gone was temporary
            supervisor.cells[spec.name] = supervisor.new_cell(spec)
        elif cell is not None and cell.spec != spec:
            _retell(supervisor, cell, spec)
    down = supervisor.register.known.down
    for of in new.groups:
        if of.name not in supervisor.groups:
            supervisor.groups[of.name] = group_of(new, of, down)
    _arrange(supervisor)
    again = {change.name for change in plan.changes if change.action == "restart"}
    known = {of.name for of in old.groups}
    for of in new.groups:
        if of.name in known:
            children = children_of(new, of.name)
            members = tuple(child.name for child in children if child.name in again)
            supervisor.feed(of.name, group.Reshape(of, children, members))


def plant(supervisor: "Supervisor", name: str) -> Cell:
    """Return a new cell for an actor of the tree that had ended for good: its group begins again."""
    spec = next(spec for spec in supervisor.tree.actors if spec.name == name)
    cell = supervisor.cells[name] = supervisor.new_cell(spec)
    _arrange(supervisor)
    return cell


def _retell(supervisor: "Supervisor", cell: Cell, spec: ActorSpec) -> None:
    """Give a cell its new specification; what can change while it runs changes now."""
    before, cell.spec = cell.spec, spec
    if cell.pid is None:
        return
    if cell.body.leaf is not None and before.memory_hard != spec.memory_hard:
        cell.body.leaf.set_limits(spec.memory_hard)
    if (before.cpus, before.nice, before.ionice) != (spec.cpus, spec.nice, spec.ionice):
        cores = bootstrap.fold_cpus(list(spec.cpus), list(supervisor.cores)) or list(supervisor.cores)
        for thread in process.threads_of_group(cell.pid):
            with contextlib.suppress(OSError):  # gone, or not ours to move
                os.sched_setaffinity(thread, cores)
                os.setpriority(os.PRIO_PROCESS, thread, spec.nice)
                bootstrap.set_ionice(spec.ionice, thread)


def _arrange(supervisor: "Supervisor") -> None:
    """Put cells and groups into start order, which is the order everything is shown in."""
    first = {spec.name: number for number, spec in enumerate(supervisor.tree.groups)}
    names = sorted(supervisor.groups, key=lambda name: first.get(name, len(first)))
    supervisor.groups = {name: supervisor.groups[name] for name in names}
    place = {name: number for number, name in enumerate(supervisor.groups)}
    inside = {spec.name: number for number, spec in enumerate(supervisor.tree.actors)}
    cells = sorted(
        supervisor.cells.values(),
        key=lambda cell: (place.get(cell.spec.group, len(place)), inside.get(cell.spec.name, len(inside))),
    )
    supervisor.cells = {cell.spec.name: cell for cell in cells}
