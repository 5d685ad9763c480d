"""`daedalus-supervisor`: start the tree, check a configuration, print its schema, tell the version."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daedalus.kernel.errors import EXIT_CONFIG, EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from daedalus.config import Report
    from daedalus.config.faults import Fault
    from daedalus.config.source import Source
    from daedalus.kernel.spec import Tree

__all__ = ["main"]

_LOAD_TIMEOUT_S = 60


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run Daedalus: the tree of collectors, writers and feature actors that supervisor.toml describes."""


@main.command()
def version() -> None:
    """Print the version."""
    from daedalus import __version__

    click.echo(f"daedalus {__version__} (Python {sys.version.partition(' ')[0]})")


@main.command()
@click.argument("file", required=False)
@click.option("--strict", is_flag=True, help="Warnings are faults.")
@click.option("--json", "as_json", is_flag=True, help="Print {ok, faults, warnings, tree}.")
@click.option("--demo", is_flag=True, hidden=True, help="Check the built-in demonstration.")
def check(file: str | None, *, strict: bool, as_json: bool, demo: bool) -> None:
    """Validate FILE (default: ./supervisor.toml) and print the effective tree.

    Exits 2 with every fault at once. Under systemd a stop that may take longer than stop_timeout_s is one.
    """
    report = _load(file, demo=demo, stop_fails="INVOCATION_ID" in os.environ)
    faults = (*report.faults, *report.warnings) if strict else report.faults
    if as_json:
        from daedalus.cli.effective import as_data

        click.echo(json.dumps(as_data(report, strict=strict), ensure_ascii=False, indent=2))
    else:
        _complain(report.file, (*report.faults, *report.warnings))
        if report.tree is not None:
            from daedalus.cli.effective import as_text

            click.echo(as_text(report.tree, report.notes))
        else:
            click.echo(f"{report.file}: {len(report.faults)} fault(s)", err=True)
    sys.exit(EXIT_USAGE if faults else EXIT_OK)


@main.command()
def schema() -> None:
    """Print the JSON Schema of supervisor.toml, for editors."""
    from daedalus.config.docs import schema_text

    click.echo(schema_text(), nl=False)


@main.command()
@click.option(
    "--config",
    type=click.Path(),
    help="Default: $DAEDALUS_CONFIG, ./supervisor.toml, /etc/daedalus/supervisor.toml.",
)
@click.option("--demo", is_flag=True, help="No file, no network: an exchange simulator in the tree.")
@click.option("--data", type=click.Path(), help="Data directory, over [paths] data.")
@click.option("--runtime", type=click.Path(), help="Sockets, lock and spools, over [paths] runtime.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Stop cleanly after SECONDS (0: run until told).",
)
def start(config: str | None, *, demo: bool, data: str | None, runtime: str | None, duration: float) -> None:
    """Start the tree and supervise it until SIGTERM, Ctrl-C or `daedalus-ctl shutdown`."""
    if demo and config:
        raise click.UsageError("--demo brings its own configuration: leave --config out")
    from daedalus.kernel import upgrade
    from daedalus.kernel.launch import run

    given = {"data": data is not None, "runtime": runtime is not None}
    if (estate := upgrade.inherited()) is not None:  # a tree runs in this process already
        sys.exit(run(None, source=_source(estate.tree, demo=demo, given=given)))
    report = _load(config, demo=demo, data=data, runtime=runtime)
    _complain(report.file, (*report.faults, *report.warnings))
    tree = report.tree
    if tree is None:
        sys.exit(EXIT_CONFIG)
    for what, path, mode in (("data", tree.data, 0o755), ("runtime", tree.runtime, 0o700)):
        if (trouble := _prepare(Path(path), mode)) is not None:
            click.echo(
                f"cannot use the {what} directory {path}: {trouble}; choose another with --{what}", err=True
            )
            sys.exit(EXIT_CONFIG)
    talks = sys.stdout.isatty() or demo
    greet = (lambda: _greet(report, duration)) if talks else None
    source = _source(tree, demo=demo, given=given)
    sys.exit(run(tree, duration_s=duration, greet=greet, source=source))


def _source(tree: "Tree", *, demo: bool, given: dict[str, bool]) -> "Source":
    """Return how the configuration of `tree` is read again: the same file, or the demo at the same port.

    Only directories that were given on the command line are given again: one that has changed in the file
    has to be seen.
    """
    from daedalus.config.source import Source

    words = ["--demo", f"--port={_port(tree)}"] if demo else [f"--config={tree.config_path}"]
    words += [f"--{what}={getattr(tree, what)}" for what, is_given in given.items() if is_given]
    return Source(words)


def _port(tree: "Tree") -> int:
    """Return the port of the demo's simulator; 0 when it was removed."""
    import msgspec

    found = (msgspec.msgpack.decode(spec.settings) for spec in tree.actors if spec.role == "simulator")
    return next((int(settings["port"]) for settings in found), 0)


def _greet(report: "Report", duration_s: float) -> None:
    from daedalus.cli.effective import greeting
    from daedalus.config.places import runtime_dir

    usual = runtime_dir(None, "", os.environ, os.getuid()).path
    click.echo(greeting(report, duration_s=duration_s, usual_runtime=usual))
    sys.stdout.flush()


def _load(
    config: str | None,
    *,
    demo: bool = False,
    data: str | None = None,
    runtime: str | None = None,
    stop_fails: bool = False,
) -> "Report":
    """Return the Report of `python -m daedalus.config`, whose process takes pydantic away with it."""
    from daedalus.config.faults import Fault, Report
    from daedalus.config.source import Source

    flags = {"--demo": demo, "--stop-fails": stop_fails}
    options = {"--config": config, "--data": data, "--runtime": runtime}
    words = [flag for flag, given in flags.items() if given]
    source = Source([*words, *(f"{key}={value}" for key, value in options.items() if value is not None)])
    try:
        # our own interpreter and module, with the paths this process was given
        done = subprocess.run(  # noqa: S603
            source.command([]), stdout=subprocess.PIPE, timeout=_LOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        reason = f"the loader took longer than {_LOAD_TIMEOUT_S} s"
    else:
        if done.returncode == 0:
            return source.parse(done.stdout)
        reason = f"the loader left with {done.returncode}"
    fault = Fault(path="", level="error", message=f"cannot load the configuration: {reason}")
    return Report(file=config or "", faults=(fault,))


def _complain(file: str, faults: "tuple[Fault, ...]") -> None:
    for fault in faults:
        click.echo(("warning: " if fault.level == "warning" else "") + fault.text(file), err=True)


def _prepare(path: Path, mode: int) -> str | None:
    """Make a directory and write into it; return what is in the way, or None."""
    probe = path / ".daedalus-probe"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None
