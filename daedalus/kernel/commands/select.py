"""Which actors a command means: names, bare names, groups, templates and patterns, in start order."""

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from daedalus.kernel.cell import Cell
from daedalus.kernel.commands.office import Office
from daedalus.kernel.errors import ControlError
from daedalus.kernel.group import Child

__all__ = [
    "NAME_MAX",
    "brief",
    "child_of",
    "chosen",
    "is_instance",
    "members",
    "names_in",
    "seconds_in",
    "select",
    "texts_in",
]

NAME_MAX = 255  # characters; patterns are compiled and kept, so they are bounded too
INSTANCE = "@"  # pool/w@3 is the third instance of the template pool/w


def texts_in(args: dict[str, Any], key: str) -> list[str]:
    """Return a list of names from the arguments; an empty one when it is missing.

    Raises:
        ControlError: it is no list of names (usage).
    """
    names = args.get(key) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ControlError("usage", f"cannot read {key}: {names!r:.100} is not a list of names")
    for name in names:
        if len(name) > NAME_MAX:
            raise ControlError(
                "usage", f"cannot use a name of {len(name)} characters, at most {NAME_MAX}: {name:.40}…"
            )
    return names


def seconds_in(args: dict[str, Any], key: str, default: float) -> float:
    """Return a duration from the arguments, seconds.

    Raises:
        ControlError: it is no finite number of at least 0 (usage).
    """
    value = args.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ControlError("usage", f"cannot use {key} {value!r:.40}: it must be 0 or more seconds")
    return float(value)


def names_in(args: dict[str, Any]) -> list[str]:
    """Return the names a command is to act on.

    Raises:
        ControlError: there are none (usage).
    """
    names = texts_in(args, "actors")
    if not names:
        raise ControlError("usage", 'cannot act on nothing: name an actor, a group or "all"')
    return names


def chosen(office: Office, args: dict[str, Any]) -> list[Cell]:
    """Return the cells a command is to act on, in start order.

    Raises:
        ControlError: none are named, or a name means nothing or too much.
    """
    return select(office, names_in(args))


def select(office: Office, names: list[str]) -> list[Cell]:
    """Return the cells that `names` mean, in start order.

    A name is group/actor, a bare name where it is unique, a template (all its instances), a group, a
    pattern, or "all".

    Raises:
        ControlError: nothing has that name (not_found), or a bare name has several (usage).
    """
    found: set[str] = set()
    for name in names:
        if name == "all":
            found.update(office.cells)
        elif name in office.cells:
            found.add(name)
        elif name in office.groups:
            found.update(members(office, name))
        else:
            found.update(_loose(office, name))
    ordered = [name for name in members(office, office.root) if name in found]
    return [office.cells[name] for name in (*ordered, *(found - set(ordered)))]


def _loose(office: Office, name: str) -> list[str]:
    if any(sign in name for sign in "*?["):
        matches = [known for known in office.cells if fnmatchcase(known, name)]
    elif not (matches := _instances(office, name)):
        matches = [known for known in office.cells if known.rpartition("/")[2] == name]
        if len(matches) > 1:
            raise ControlError("usage", f"cannot tell which {name!r} is meant: {', '.join(matches)}", name)
    if not matches:
        raise ControlError("not_found", f"cannot find an actor or group named {name!r}", name)
    return matches


def _instances(office: Office, name: str) -> list[str]:
    """Return the instances of the template with this full or bare name."""
    templates = {known: known.partition(INSTANCE)[0] for known in office.cells if INSTANCE in known}
    return [known for known, template in templates.items() if name in (template, template.rpartition("/")[2])]


def is_instance(cell: Cell) -> bool:
    """Return whether an actor was made from a template."""
    return INSTANCE in cell.spec.name


def members(office: Office, name: str) -> list[str]:
    """Return the actors of a group and of the groups in it, in start order."""
    return list(_walk(office, name))


def _walk(office: Office, name: str) -> Iterator[str]:
    for child in office.groups[name].children:
        if child.name in office.cells:
            yield child.name
        elif child.name in office.groups:
            yield from _walk(office, child.name)


def child_of(office: Office, cell: Cell) -> Child | None:
    """Return what the cell's group knows about it; None once it is forgotten."""
    group = office.groups.get(cell.spec.group)
    if group is None:
        return None
    return next((child for child in group.children if child.name == cell.spec.name), None)


def brief(cell: Cell, note: str = "") -> dict[str, Any]:
    """Return the line about one actor that answers an operation."""
    line = {"name": cell.spec.name, "state": cell.state, "pid": cell.pid, "generation": cell.generation}
    return line | {"note": note} if note else line
