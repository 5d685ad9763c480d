"""From the specification of a tree to its groups and their children. Pure."""

from msgspec.structs import replace

from daedalus.kernel.group import Child, Group, child_of_actor, child_of_group
from daedalus.kernel.spec import PROGRAMS, GroupSpec, Tree

__all__ = ["children_of", "group_of", "images_of"]


def children_of(tree: Tree, name: str) -> tuple[Child, ...]:
    """Return the children of a group in start order: its actors, then the groups in it."""
    spec = next(item for item in tree.groups if item.name == name)
    actors = [child_of_actor(item, spec) for item in tree.actors if item.group == name]
    nested = [child_of_group(item, spec) for item in tree.groups if item.parent == name]
    return (*actors, *nested)


def group_of(tree: Tree, spec: GroupSpec, wanted_down: frozenset[str] = frozenset()) -> Group:
    """Return a group that is down. `wanted_down`: children that an operator stopped in an earlier life."""
    children = tuple(
        replace(child, wanted=child.name not in wanted_down) for child in children_of(tree, spec.name)
    )
    return Group(spec=spec, children=children, written=children)


def images_of(tree: Tree) -> dict[str, tuple[str, ...]]:
    """Return the zygotes that the actors of a tree are forked from, with what each imports.

    Foreign programs need one too, if only a bare one: made by it they cost neither an interpreter
    of their own nor the supervisor's time.
    """
    used = {spec.zygote if spec.target else PROGRAMS for spec in tree.actors}
    return {name: tree.preload.get(name, ()) for name in sorted(used, reverse=True)}
