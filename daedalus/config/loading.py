"""From the text of supervisor.toml to a Report: the tree, or every fault at once."""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from daedalus.config import places
from daedalus.config.faults import Report
from daedalus.config.problems import Problems
from daedalus.kernel.errors import ConfigError
from daedalus.kernel.spec import ActorSpec, Tree

if TYPE_CHECKING:
    from daedalus.config.expand import Machine, Planned
    from daedalus.config.models import File

__all__ = ["find", "load", "report"]

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


def find(config: str | None = None) -> Path:
    """Return the configuration file to use.

    Raises:
        ConfigError: it, or every place it is looked for, is missing.
    """
    looked = (config,) if config else places.candidates(os.environ)
    for candidate in looked:
        if Path(candidate).is_file():
            return Path(candidate).resolve()
    where = " or ".join(looked)
    raise ConfigError(f"cannot read the configuration: no such file: {where}")


def report(
    path: str | Path | None,
    *,
    data: str | None = None,
    runtime: str | None = None,
    demo: bool = False,
    port: int = 0,
) -> Report:
    """Read, check and expand a configuration.

    Args:
        path: the file; None with `demo`.
        data: overrides [paths] data.
        runtime: overrides [paths] runtime.
        demo: the built-in demonstration instead of a file.
        port: of the demo's simulator.
    """
    if demo:
        from daedalus.config import demo as built_in

        file, extra = built_in.plan(port)
        return _expanded("demo", file, Problems(), data or "./demo-data", runtime, extra)
    name = str(Path(path or "supervisor.toml").resolve())
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems = Problems()
        problems.error(
            (), f"cannot read the configuration {name}: {getattr(error, 'strerror', None) or error}"
        )
        return Report(file=name, faults=problems.of("error"))
    from daedalus.config.reading import read

    problems = Problems(text)
    tables = read(text, problems)
    if tables is None:
        return Report(file=name, faults=problems.of("error"))
    return _expanded(name, tables, problems, data, runtime, ())


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
    data: str | None,
    runtime: str | None,
    extra: "tuple[Planned, ...]",
) -> Report:
    from daedalus.config import checks, expand, limits, markets, roles

    place = places.runtime_dir(runtime, file.paths.runtime, os.environ, os.getuid())
    machine = _machine(places.data_dir(data, file.paths.data, os.environ), place.path)
    markets.check_exchanges(file, problems)
    markets.check_features(file, problems)
    groups = expand.groups(file, demo=bool(extra))
    checks.check_groups(groups, problems)
    actors = _actors(file, machine, problems, extra)
    built_in = {spec.name for spec, _ in actors if spec.role != "foreign"}
    checks.check_names(file, built_in, groups, problems)
    checks.check_actors(actors, groups, problems)
    limits.check_cores(actors, machine, problems)
    limits.check_memory(actors, machine, problems)
    limits.check_intensity(actors, groups, problems)
    limits.check_paths(actors, machine, problems, volatile=place.volatile)
    if "listen" in file.dashboard.model_fields_set and file.dashboard.listen:
        problems.warn(("dashboard", "listen"), "the dashboard is not built yet: its actor is not started")
    faults = problems.of("error")
    tree = None
    if not faults:
        sequence = expand.order(groups)
        specs = tuple(spec for group in sequence for spec, _ in actors if spec.group == group)
        tree = Tree(
            runtime=machine.runtime,
            data=machine.data,
            groups=tuple(groups[group] for group in sequence),
            actors=specs,
            config_path=name,
            preload=_preload(specs),
            supervisor_cpus=roles.place(0, machine.cores),
        )
        digest = hashlib.sha256(
            msgspec.msgpack.encode((tree.groups, tree.actors), order="sorted")
        ).hexdigest()
        tree = msgspec.structs.replace(tree, config_hash=digest[:16])
    facts = {"simulator": f"http://127.0.0.1:{extra[0].settings['port']}/ctl"} if extra else {}
    return Report(file=name, faults=faults, warnings=problems.of("warning"), tree=tree, facts=facts)


def _actors(
    file: "File", machine: "Machine", problems: Problems, extra: "tuple[Planned, ...]"
) -> list[tuple[ActorSpec, tuple[str, ...]]]:
    from daedalus.config import expand

    try:
        return expand.actors(file, machine, problems, extra)
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
