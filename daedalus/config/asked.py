"""One actor as it would be in a file: what `daedalus-ctl add` asks for."""

from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.config.faults import nearest
from daedalus.config.problems import Problems
from daedalus.kernel.spec import ActorSpec

if TYPE_CHECKING:
    from daedalus.config.expand import Machine
    from daedalus.config.loading import Wanted
    from daedalus.config.models import File

__all__ = ["instead", "pick"]

_INSTANCES_MAX = 1_000_000


def instead(wanted: "Wanted") -> tuple[tuple[str, ...], Any] | None:
    """Return where the table that was given belongs, and the table; None when there is none.

    The table of an instance, pool/w@3, is that of its template.
    """
    if wanted.table is None:
        return None
    return ("actors", wanted.actor.partition("@")[0]), wanted.table


def pick(
    name: str, file: "File", specs: tuple[ActorSpec, ...], machine: "Machine", problems: Problems
) -> ActorSpec | None:
    """Return the actor of that name; when there is none, it is noted what to do about it."""
    found = [spec for spec in specs if spec.name == name]
    found = found or [spec for spec in specs if spec.name.partition("/")[2] == name]
    if len(found) == 1:
        return found[0]
    path = ("actors", name)
    base, at, number = name.partition("@")
    table = file.actors.get(base)
    groups = file.groups.get(base.partition("/")[0])
    template = groups is not None and groups.strategy == "simple_one_for_one" and table is not None
    if problems.has(("actors", base)):
        return None
    if found:
        names = ", ".join(spec.name for spec in found)
        problems.error(path, f"cannot tell which actor {name!r} is: {names}")
    elif at and template and table is not None:
        if number.isascii() and number.isdecimal() and 1 <= int(number[:9]) <= _INSTANCES_MAX:
            from daedalus.config.expand import instance

            # As a number, so that @1 and @01 are not two.
            spec = instance(file, base, table, machine)
            return msgspec.structs.replace(spec, name=f"{base}@{int(number[:9])}")
        problems.error(path, f"cannot use the instance {number!r} of {base}: instances are numbered from 1")
    elif at:
        problems.error(
            path, f"there is no template {base!r}", "instances belong to a simple_one_for_one group"
        )
    elif template:
        problems.error(path, f"{name} is a template, not an actor", f"name an instance, {name}@1")
    else:
        near = nearest(name, [spec.name for spec in specs])
        problems.error(path, f"there is no actor {name!r} in this file", near or "give its specification")
    return None
