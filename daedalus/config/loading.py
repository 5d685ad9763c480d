"""From the text of supervisor.toml to a Report: the tree, or every fault at once."""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from daedalus.config import places
from daedalus.config.faults import Fault, Report
from daedalus.config.problems import Problems
from daedalus.kernel.errors import ConfigError
from daedalus.kernel.spec import ActorSpec, Tree

if TYPE_CHECKING:
    from daedalus.config.expand import Machine, Planned
    from daedalus.config.models import File

__all__ = ["Wanted", "find", "free_port", "load", "report"]

# What each zygote imports before it freezes. None of these opens a socket, a loop or a thread.
_PRELOAD_LIGHT = (
    *("zmq", "msgspec", "structlog", "zstandard", "picows"),
    *("daedalus.records", "daedalus.kernel.actor", "daedalus.kernel.link", "daedalus.kernel.journal"),
    *("daedalus.features", "daedalus.features.engine", "daedalus.actors.writer", "daedalus.actors.gateway"),
    *("daedalus.actors.feature", "daedalus.actors.collector"),
)
_PRELOAD_CCXT = (
    *("zmq", "msgspec", "structlog", "ccxt.pro", "daedalus.records", "daedalus.kernel.actor"),
    *("daedalus.kernel.link", "daedalus.exchanges.ccxt_pro", "daedalus.actors.collector"),
)


class Wanted(NamedTuple):
    """What a report is made for, besides the tree."""

    actor: str = ""  # one actor's specification, as it would be in this file
    table: dict[str, Any] | None = None  # with this table in place of its own
    stop_fails: bool = False  # a stop that takes longer than stop_timeout_s is a fault, not a warning


def find(config: str | None = None) -> Path:
    """Return the configuration file to use.

    Raises:
        ConfigError: it, or every place it is looked for, is missing.
    """
    looked = (config,) if config else places.candidates(os.environ)
    for candidate in looked:
        path = Path(candidate)
        if path.is_file():
            return path.resolve()
        if path.is_dir():
            raise ConfigError(f"cannot read the configuration: {candidate} is a directory")
    where = " or ".join(looked)
    raise ConfigError(f"cannot read the configuration: no such file: {where}")


def report(
    path: str | Path | None,
    *,
    data: str | None = None,
    runtime: str | None = None,
    demo: bool = False,
    port: int = 0,
    wanted: Wanted = Wanted(),  # noqa: B008 - a tuple
) -> Report:
    """Read, check and expand a configuration; what is wrong with it is in the Report.

    Args:
        path: the file; None with `demo`.
        data: overrides [paths] data.
        runtime: overrides [paths] runtime.
        demo: the built-in demonstration instead of a file.
        port: of the demo's simulator.
        wanted: what else is to be found out.
    """
    try:
        return _report(path, data, runtime, port if demo else None, wanted)
    except RecursionError:
        fault = Fault(path="", level="error", message="cannot use the configuration: it is nested too deeply")
        return Report(file="demo" if demo else str(path), faults=(fault,))


def _report(
    path: str | Path | None, data: str | None, runtime: str | None, port: int | None, wanted: Wanted
) -> Report:
    """Do what `report` says; with a port it is the demo."""
    from daedalus.config import asked

    instead = asked.instead(wanted)
    if port is not None:
        from daedalus.config import demo as built_in
        from daedalus.config.reading import checked

        tables, extra = built_in.plan(port)
        problems = Problems("", instead and instead[0])
        file = checked(tables, problems, instead)
        if file is None:
            return Report(file="demo", faults=problems.of("error"))
        return _expanded("demo", file, problems, (data or "./demo-data", runtime), extra, wanted)
    name = str(Path(path or "supervisor.toml").resolve())
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems = Problems()
        problems.error(
            (), f"cannot read the configuration {name}: {getattr(error, 'strerror', None) or error}"
        )
        return Report(file=name, faults=problems.of("error"))
    from daedalus.config.reading import read

    problems = Problems(text, instead and instead[0])
    file = read(text, problems, instead)
    if file is None:
        return Report(file=name, faults=problems.of("error"))
    return _expanded(name, file, problems, (data, runtime), (), wanted)


def load(
    path: str | Path | None = None, *, data: str | None = None, runtime: str | None = None, demo: bool = False
) -> Tree:
    """Return the tree of a configuration file (or of the demo).

    Raises:
        ConfigError: the file is missing or has faults; `faults` holds one line for each.
    """
    port = free_port() if demo else 0
    found = report(None if demo else path or find(), data=data, runtime=runtime, demo=demo, port=port)
    if found.tree is None:
        lines = tuple(fault.text(found.file) for fault in found.faults)
        raise ConfigError(f"cannot use {found.file}: {len(lines)} fault{'s'[: len(lines) != 1]}", lines)
    return found.tree


def free_port() -> int:
    """Return a loopback port that is free now; the demo's simulator binds it a moment later."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _machine(data: str, runtime: str) -> "Machine":
    from daedalus.config.expand import Machine

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(data, runtime, tuple(sorted(os.sched_getaffinity(0))), memory)


def _expanded(
    name: str,
    file: "File",
    problems: Problems,
    flags: tuple[str | None, str | None],
    extra: "tuple[Planned, ...]",
    wanted: Wanted,
) -> Report:
    """Expand and check the tables. `flags`: data and runtime directory, over those of the file."""
    from daedalus.config import arithmetic, asked, budgets, checks, expand, gates, limits, markets, roles

    data, runtime = flags
    place = places.runtime_dir(runtime, file.paths.runtime, os.environ, os.getuid())
    machine = _machine(places.data_dir(data, file.paths.data, os.environ), place.path)
    markets.check_exchanges(file, problems)
    markets.check_features(file, problems)
    groups = expand.groups(file, demo=bool(extra))
    sequence = expand.order(groups)
    checks.check_groups(groups, problems)
    checks.check_control(file.control, _is_unix_group, problems)
    checks.check_gateway(file.gateway, problems)
    actors = gates.check_gates(_actors(file, machine, problems, extra), sequence, problems)
    built_in = {spec.name for spec, _ in actors if spec.role != "foreign"}
    checks.check_names(file, built_in, groups, problems)
    checks.check_actors(actors, groups, problems)
    limits.check_cores(actors, machine, problems)
    limits.check_memory(actors, machine, problems)
    limits.check_disk(file.disk, problems)
    arithmetic.check_intensity(actors, groups, problems)
    arithmetic.check_stop(actors, groups, file.supervisor.stop_timeout_s, problems, fail=wanted.stop_fails)
    limits.check_paths(actors, machine, problems, volatile=place.volatile)
    if file.sync.enabled and not file.sync.bucket and not problems.has(("sync", "bucket")):
        problems.error(("sync", "bucket"), "the key 'bucket' is missing: sync is enabled")
    if "listen" in file.dashboard.model_fields_set and file.dashboard.listen:
        problems.warn(("dashboard", "listen"), "the dashboard is not built yet: its actor is not started")
    specs = tuple(spec for group in sequence for spec, _ in actors if spec.group == group)
    actor = asked.pick(wanted.actor, file, specs, machine, problems) if wanted.actor else None
    faults = problems.of("error")
    tree = None
    if not faults:
        tree = Tree(
            runtime=machine.runtime,
            data=machine.data,
            groups=tuple(groups[group] for group in sequence),
            actors=specs,
            config_path=name,
            preload=_preload(specs),
            supervisor_cpus=roles.place(0, machine.cores),
            control_group=file.control.group,
            readonly_group=file.control.readonly_group,
        )
        tree = msgspec.structs.replace(tree, config_hash=_digest(tree))
    facts = {"simulator": f"http://127.0.0.1:{extra[0].settings['port']}/ctl"} if extra else {}
    return Report(
        file=name,
        faults=faults,
        warnings=problems.of("warning"),
        tree=tree,
        actor=None if faults else actor,
        facts=facts,
        notes=budgets.notes(file),
    )


def _digest(tree: Tree) -> str:
    meaning = (tree.groups, tree.actors, tree.control_group, tree.readonly_group)
    return hashlib.sha256(msgspec.msgpack.encode(meaning, order="sorted")).hexdigest()[:16]


def _is_unix_group(name: str) -> bool:
    import grp

    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):  # ValueError: not a name at all
        return False
    return True


def _actors(
    file: "File", machine: "Machine", problems: Problems, extra: "tuple[Planned, ...]"
) -> list[tuple[ActorSpec, tuple[str, ...]]]:
    from daedalus.config import expand

    try:
        return expand.actors(file, machine, problems, extra)
    except OverflowError:  # a whole number of more than 64 bits; check_exchanges has said where
        return []
    except ValueError as error:  # a symbol that cannot be a name; check_exchanges has said so with its path
        if not problems.of("error"):
            problems.error(("exchanges",), str(error))
        return []


def _preload(specs: tuple[ActorSpec, ...]) -> dict[str, tuple[str, ...]]:
    images = {"light": _PRELOAD_LIGHT, "ccxt": _PRELOAD_CCXT}
    used = {spec.zygote for spec in specs if spec.target}
    return {
        name: tuple(module for module in modules if _exists(module))
        for name, modules in images.items()
        if name in used
    }


def _exists(module: str) -> bool:
    """Return whether a module can be imported, without importing it (only its package, when it is ours)."""
    if not module.startswith("daedalus."):
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    return importlib.util.find_spec(module) is not None
