"""How an effective configuration is shown: data for programs, a tree and a greeting for people."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from daedalus.config import Report
    from daedalus.kernel.spec import ActorSpec, GroupSpec, Tree

_QUESTION = "select exchange, symbol, count(*) as trades from trades group by exchange, symbol"

__all__ = ["as_data", "as_text", "greeting", "size"]


def size(value: int | None) -> str:
    """Return bytes as people write them in supervisor.toml, `-` for no value.

    >>> size(160 << 20), size(1536), size(None)
    ('160M', '1.5K', '-')
    """
    if value is None:
        return "-"
    power = min(int(math.log(value, 1024)), 3) if value > 0 else 0
    return f"{value / 1024**power:.4g}{'BKMG'[power]}".removesuffix("B")


def as_data(report: "Report", *, strict: bool = False) -> dict[str, Any]:
    """Return what `check --json` prints: {ok, faults, warnings, tree}."""
    tree = None
    if report.tree is not None:
        tree = msgspec.to_builtins(report.tree)
        for actor, spec in zip(tree["actors"], report.tree.actors, strict=True):
            actor["settings"] = msgspec.msgpack.decode(spec.settings) if spec.settings else {}
    faults = (*report.faults, *report.warnings) if strict else report.faults
    return {
        "ok": not faults,
        "faults": msgspec.to_builtins(report.faults),
        "warnings": msgspec.to_builtins(report.warnings),
        "tree": tree,
    }


def as_text(tree: "Tree", notes: Iterable[str] = ()) -> str:
    """Return the tree for people: groups with their limits, actors with what they may use, then notes."""
    lines = [f"{tree.config_path}  ({tree.config_hash})", f"data     {tree.data}", f"runtime  {tree.runtime}"]
    if tree.control_group or tree.readonly_group:
        lines.append(f"control  {tree.control_group or '-'}, read-only {tree.readonly_group or '-'}")
    lines.append(f"bounds   start {_start_bound(tree):g} s, stop {_stop_bound(tree):g} s")
    depth = {tree.groups[0].name: 0}
    for group in tree.groups:
        depth.setdefault(group.name, depth.get(group.parent or "", 0) + 1)
        indent = "  " * depth[group.name]
        lines.append(f"{indent}{group.name}  {_limits(group)}")
        lines += [f"{indent}  {_actor(spec)}" for spec in tree.actors if spec.group == group.name]
    return "\n".join([*lines, *(f"note     {note}" for note in notes)])


def _stop_bound(tree: "Tree") -> float:
    from daedalus.config.arithmetic import stop_bounds

    return stop_bounds([(spec, ()) for spec in tree.actors], {group.name: group for group in tree.groups})[
        "root"
    ]


def _start_bound(tree: "Tree") -> float:
    """Return how long the start may take when every actor is as slow as it may be."""
    return sum(spec.start_timeout_s for spec in tree.actors)


def _limits(group: "GroupSpec") -> str:
    return f"{group.strategy}, {group.intensity} restarts in {group.period_s:g} s, then {group.on_limit}"


def _actor(spec: "ActorSpec") -> str:
    short = spec.name.partition("/")[2]
    stop = spec.shutdown_s if isinstance(spec.shutdown_s, str) else f"{spec.shutdown_s:g}"
    parts = [
        f"{short:<32} {spec.restart}",
        f"drain {spec.drain_s:g} s, stop {stop} s"
        if isinstance(spec.shutdown_s, float)
        else f"drain {spec.drain_s:g} s, stop {stop}",
        f"memory {size(spec.memory_soft)}/{size(spec.memory_hard)}",
        f"core {','.join(map(str, spec.cpus))}" if spec.cpus else "any core",
    ]
    if spec.requires:
        parts.append(f"{'blocks until' if spec.blocking else 'waits for'} {', '.join(spec.requires)}")
    return " · ".join(parts)


def greeting(report: "Report", *, duration_s: float = 0.0, usual_runtime: str = "") -> str:
    """Return what `start` says to a person: what runs, where the data lie, how to look at it.

    Args:
        report: has a tree.
        duration_s: 0 = until told.
        usual_runtime: where the other programs look by themselves; elsewhere they have to be told.
    """
    tree = report.tree
    assert tree is not None
    roles: dict[str, int] = {}
    for spec in tree.actors:
        roles[spec.role] = roles.get(spec.role, 0) + 1
    runs = (
        ", ".join(f"{count} {role}{'s' if count > 1 else ''}" for role, count in roles.items()) or "no actors"
    )
    books = [spec.name.removeprefix("live/feature-") for spec in tree.actors if spec.role == "feature"]
    where = "" if tree.runtime == usual_runtime else f" --runtime {tree.runtime}"
    lines = [
        f"Daedalus: {runs}" + (f", for {duration_s:g} s" if duration_s else "; Ctrl-C stops it"),
        *(f"  {key:<10} {value}" for key, value in report.facts.items()),
        f"  {'data':<10} {tree.data}",
        f"  {'runtime':<10} {tree.runtime}",
        "In a second terminal:",
        f"  ./run daedalus-ctl{where} status",
    ]
    if books:
        exchange, _, symbol = books[0].partition("-")
        lines.append(f"  ./run daedalus subscribe {exchange} {symbol.replace('-', '/', 1)}{where} --count 10")
        lines.append(f'  ./run daedalus query --data {tree.data} "{_QUESTION}"')
    return "\n".join(lines)
