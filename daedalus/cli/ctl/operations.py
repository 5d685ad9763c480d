"""The commands that act on actors: one request each, answered when it is done, with progress meanwhile."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from daedalus.cli.ctl.connection import READ_TIMEOUT_S, Connection, Refused
from daedalus.cli.ctl.options import Options, example, global_options, one_name, some_names
from daedalus.cli.ctl.output import show
from daedalus.cli.ctl.patience import Patience
from daedalus.cli.ctl.text import STATES

__all__ = [
    "add",
    "drain",
    "kill",
    "pause",
    "remove",
    "reset",
    "restart",
    "resume",
    "rolling_restart",
    "start",
    "stop",
    "wait",
]


def _act(
    options: Options, cmd: str, names: tuple[str, ...], *, goal: str = "", done: str = "", **args: Any
) -> None:
    """Ask for something that may take its time, and print what became of each actor.

    Args:
        options: where the supervisor is, and how long to wait.
        cmd: the command.
        names: the actors.
        goal: the state that is waited for.
        done: what to say of each; empty: its state.
        args: further arguments of the command.
    """
    connection = Connection(options)
    with Patience(options, list(names), goal=goal) as idle:
        result = connection.call(cmd, {"actors": list(names), **args}, options.timeout, idle)
    show(options, result, lambda result: _outcome(result, done))


def _outcome(result: dict[str, Any], done: str = "") -> str:
    return "\n".join(f"{item['name']}: {_fate(item, done)}" for item in result["actors"])


def _fate(item: dict[str, Any], done: str) -> str:
    words = item.get("note") or done or item["state"]
    counts = [
        f"{label} {item[key]}"
        for key, label in (("in_flight", "in flight"), ("flushed", "flushed"))
        if item.get(key) is not None
    ]
    pid = [f"pid {item['pid']}"] if item["pid"] else []
    return f"{words} ({', '.join([*pid, *counts])})" if pid or counts else str(words)


def _operation(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        some_names(required=True),
        click.option("--wait/--no-wait", default=True, help="Return when it is done (default), or at once."),
        click.option(
            "--propagate", is_flag=True, help="As the group's strategy says: with the siblings it couples."
        ),
    ):
        function = decorate(function)
    return function


@click.command(epilog=example("daedalus-ctl start ingest/collector-kraken"))
@_operation
@click.option("--strict", is_flag=True, help="An actor that already runs is an error (6).")
@global_options
def start(options: Options, names: tuple[str, ...], wait: bool, propagate: bool, strict: bool) -> None:
    """Start actors that are down, in start order.

    One that cannot start exits 1 and stays as it was; one that is being restarted exits 6.
    """
    _act(options, "start", names, wait=wait, propagate=propagate, strict=strict)


@click.command(epilog=example("daedalus-ctl stop 'ingest/*'"))
@_operation
@global_options
def stop(options: Options, names: tuple[str, ...], wait: bool, propagate: bool) -> None:
    """Drain and stop actors, last started first; they stay down until started.

    Without --timeout it waits as long as drain_s and shutdown_s of the actors allow. "all" stops every actor
    and leaves the supervisor (see: shutdown).
    """
    _act(options, "stop", names, wait=wait, propagate=propagate)


@click.command(epilog=example("daedalus-ctl restart store/writer-trades"))
@_operation
@global_options
def restart(options: Options, names: tuple[str, ...], wait: bool, propagate: bool) -> None:
    """Drain, stop and start actors, one after the other. Planned: nothing is counted."""
    _act(options, "restart", names, wait=wait, propagate=propagate)


@click.command("rolling-restart", epilog=example("daedalus-ctl rolling-restart store --min-healthy 10"))
@some_names(required=True)
@click.option(
    "--min-healthy",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="The next only after the one before ran for so long.",
)
@global_options
def rolling_restart(options: Options, names: tuple[str, ...], min_healthy: float) -> None:
    """Restart actors one at a time, last started first; the first failure ends it.

    The rest is then left as it was, and the exit code is 1.
    """
    _act(options, "rolling-restart", names, min_healthy_s=min_healthy)


@click.command(epilog=example("daedalus-ctl drain ingest/collector-kraken"))
@some_names(required=True)
@global_options
def drain(options: Options, names: tuple[str, ...]) -> None:
    """Let actors bring home what they hold and stop; say what was left.

    As stop, but one that was not drained within its drain_s exits 1.
    """
    _act(options, "drain", names)


@click.command(epilog=example("daedalus-ctl kill ops/my-script --signal SIGHUP"))
@some_names(required=True)
@click.option(
    "-s", "--signal", default="SIGTERM", show_default=True, metavar="SIG", help="Its name or number."
)
@global_options
def kill(options: Options, names: tuple[str, ...], signal: str) -> None:
    """Send a signal to the leading process of actors.

    The supervisor takes a death that follows as a crash: the actor is restarted as its restart type says. To
    end an actor for good, use stop.
    """
    _act(options, "kill", names, done=f"{signal} sent", signal=signal)


@click.command(epilog=example("daedalus-ctl pause live/gateway"))
@some_names(required=True)
@global_options
def pause(options: Options, names: tuple[str, ...]) -> None:
    """Freeze actors (SIGSTOP). Their heartbeat clock rests until resume."""
    _act(options, "pause", names, done="paused")


@click.command(epilog=example("daedalus-ctl resume live/gateway"))
@some_names(required=True)
@global_options
def resume(options: Options, names: tuple[str, ...]) -> None:
    """Let paused actors go on (SIGCONT)."""
    _act(options, "resume", names, done="resumed")


@click.command(epilog=example("daedalus-ctl reset ingest/collector-kraken"))
@some_names(required=True)
@global_options
def reset(options: Options, names: tuple[str, ...]) -> None:
    """Forget failures and backoff; what is failed or waits, and is wanted, is started at once."""
    _act(options, "reset", names)


@click.command(epilog=example("daedalus-ctl wait all --for running --timeout 60"))
@some_names(required=True)
@click.option(
    "--for",
    "state",
    type=click.Choice(STATES),
    default="running",
    show_default=True,
    help="The state to wait for.",
)
@global_options
def wait(options: Options, names: tuple[str, ...], state: str) -> None:
    """Wait until actors are in a state. Exits 5 when --timeout is over first."""
    _act(options, "wait", names, goal=state, **{"for": state})


@click.command(
    epilog=example('echo \'{"command": ["/usr/bin/python3", "x.py"]}\' | daedalus-ctl add ops/x --spec -')
)
@one_name()
@click.option(
    "--spec",
    "file",
    type=click.Path(),
    metavar="FILE.json",
    help="Its keys as in supervisor.toml; - is standard input.",
)
@global_options
def add(options: Options, name: str, file: str | None) -> None:
    """Add an actor to the running tree and start it.

    Without --spec it is the one of that name in supervisor.toml. One that is only added here is gone when its
    group is restarted by its parent, as in OTP; a reload leaves it alone.
    """
    args: dict[str, Any] = {"name": name}
    if file is not None:
        args["spec"] = _read(file)
    connection = Connection(options)
    with Patience(options, [name]) as idle:
        result = connection.call("add", args, options.timeout, idle)
    show(options, result, _outcome)


def _read(file: str) -> dict[str, Any]:
    try:
        spec = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused("usage", f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise Refused("usage", f"cannot read {file} as JSON: {error}") from None
    if not isinstance(spec, dict):
        raise Refused("usage", f"cannot use {file}: not an object of keys but {type(spec).__name__}")
    return spec


@click.command(epilog=example("daedalus-ctl remove ops/x"))
@some_names(required=True)
@global_options
def remove(options: Options, names: tuple[str, ...]) -> None:
    """Take actors that are stopped out of the tree. One that runs exits 6."""
    result = Connection(options).call("remove", {"actors": list(names)}, options.timeout or READ_TIMEOUT_S)
    show(options, result, lambda result: "\n".join(f"{name}: removed" for name in result["removed"]))
