"""`daedalus-ctl`: look at a running tree and tell it what to do.

It starts as fast as it can: click, socket and json are all it imports, and the supervisor does the measuring.
Data go to standard output, everything else to standard error. Exit codes: 0 ok, 1 failed, 2 usage,
3 status differs from what is wanted, 4 no such actor, 5 timed out, 6 conflict, 7 unreachable, 8 denied.
"""

import functools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

from daedalus.cli import ctl_text
from daedalus.kernel.errors import (
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_DIVERGES,
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    EXIT_OK,
    EXIT_TIMEOUT,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
)
from daedalus.kernel.locate import find_socket

__all__ = ["main"]

EXIT_CODES = {
    "failed": EXIT_FAILED,
    "usage": EXIT_USAGE,
    "config": EXIT_USAGE,
    "not_found": EXIT_NOT_FOUND,
    "timeout": EXIT_TIMEOUT,
    "running": EXIT_CONFLICT,
    "restarting": EXIT_CONFLICT,
    "busy": EXIT_CONFLICT,
    "already_present": EXIT_CONFLICT,
    "unreachable": EXIT_UNREACHABLE,
    "denied": EXIT_DENIED,
}
ANSWER_MARGIN_S = 5.0  # the supervisor keeps the time; this is for one that does not answer at all
READ_TIMEOUT_S = 10.0


class Refused(Exception):  # noqa: N818 - what the supervisor said, not a fault of ours
    """The error object of a reply, or of our own making."""

    def __init__(self, code: str, message: str, actor: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "actor": actor}


class Options:
    """The options that hold for every command, wherever on the line they stood."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return self.values.get(name)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the global options to a command or to the program itself."""

    @functools.wraps(function)
    def wrapped(**values: Any) -> Any:
        options = click.get_current_context().find_root().ensure_object(Options)
        for name in ("socket", "runtime", "json", "no_color", "quiet", "timeout"):
            given = values.pop(f"global_{name}")
            if given not in (None, False):
                options.values[name] = given
        return function(options, **values)

    for decorate in (
        click.option("--socket", "global_socket", metavar="PATH", help="The control socket itself."),
        click.option(
            "--runtime", "global_runtime", metavar="DIR", help="The supervisor's runtime directory."
        ),
        click.option("--json", "global_json", is_flag=True, help="Print the bare result as JSON."),
        click.option("--no-color", "global_no_color", is_flag=True, help="No colours, even on a terminal."),
        click.option("-q", "--quiet", "global_quiet", is_flag=True, help="Print nothing when all went well."),
        click.option("--timeout", "global_timeout", type=float, metavar="SECONDS", help="Wait no longer."),
    ):
        wrapped = decorate(wrapped)
    return wrapped


class Connection:
    """One connection to the supervisor."""

    def __init__(self, options: Options) -> None:
        """Connect.

        Raises:
            Refused: unreachable, denied, or a path that cannot be one.
        """
        try:
            path = find_socket(os.environ, path=options.socket or "", runtime=options.runtime or "")
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(READ_TIMEOUT_S)
            self._socket.connect(path)
        except ValueError as error:
            raise Refused("usage", str(error)) from None
        except PermissionError as error:
            message = str(error) if error.errno is None else f"cannot use {path}: {error.strerror}"
            raise Refused("denied", message) from None
        except FileNotFoundError as error:
            message = str(error) if error.errno is None else f"cannot reach a supervisor: no socket {path}"
            raise Refused("unreachable", message) from None
        except OSError as error:
            message = f"cannot reach a supervisor at {path}: {error.strerror or error}"
            raise Refused("unreachable", message) from None
        self._file = self._socket.makefile("rb")

    def call(self, cmd: str, args: dict[str, Any], timeout: float | None) -> Any:
        """Ask and return the result. The last line of a stream ends it, see `stream`."""
        for result, more in self._ask(
            cmd, args, timeout, wait_s=None if timeout is None else timeout + ANSWER_MARGIN_S
        ):
            if not more:
                return result
        return None

    def stream(self, cmd: str, args: dict[str, Any], *, follow: bool) -> Iterator[Any]:
        """Ask and yield the results one by one."""
        for result, more in self._ask(cmd, args, None, wait_s=None if follow else READ_TIMEOUT_S):
            if more:
                yield result

    def _ask(
        self, cmd: str, args: dict[str, Any], timeout: float | None, wait_s: float | None
    ) -> Iterator[tuple[Any, bool]]:
        request = {"v": 1, "id": 1, "cmd": cmd, "args": args, "timeout": timeout}
        self._socket.settimeout(wait_s)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            more = True
            while more:
                line = self._file.readline()
                if not line:
                    raise Refused("unreachable", "cannot go on: the supervisor closed the connection")
                reply = json.loads(line)
                if not reply["ok"]:
                    error = reply["error"]
                    raise Refused(error["code"], error["message"], error.get("actor"))
                more = reply.get("more", False)
                yield reply["result"], more
        except TimeoutError:
            raise Refused("timeout", f"cannot get an answer to {cmd} within {wait_s:g} s") from None
        except OSError as error:
            raise Refused("unreachable", f"cannot reach the supervisor: {error.strerror or error}") from None


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@_options
def ctl(options: Options) -> None:
    """Look at a running tree of actors and tell it what to do."""
    del options


@ctl.command()
@click.argument("names", nargs=-1, metavar="[ACTOR|GROUP|GLOB]...")
@click.option("--wide", is_flag=True, help="More columns.")
@click.option("--watch", type=float, metavar="SECONDS", help="Show it again and again.")
@_options
def status(options: Options, names: tuple[str, ...], wide: bool, watch: float | None) -> None:
    """Show every actor: its state, process, memory, mailbox and last error."""
    connection = Connection(options)
    while True:
        document = connection.call("status", {"select": list(names)}, options.timeout or READ_TIMEOUT_S)
        if options.json:
            _print_json(document)
        elif not options.quiet:
            if watch and sys.stdout.isatty():
                click.clear()
            color = sys.stdout.isatty() and not options.no_color and not os.environ.get("NO_COLOR")
            click.echo(ctl_text.table(document, wide=wide, width=_width(), color=color), nl=False)
        if not watch:
            break
        sys.stdout.flush()
        time.sleep(watch)
    sys.exit(EXIT_DIVERGES if ctl_text.diverges(document) else EXIT_OK)


def _width() -> int | None:
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None


def _act(options: Options, cmd: str, args: dict[str, Any]) -> None:
    result = Connection(options).call(cmd, args, options.timeout)
    if options.json:
        _print_json(result)
    elif not options.quiet:
        for actor in result["actors"]:
            note = actor.get("note") or actor["state"]
            pid = f" (pid {actor['pid']})" if actor["pid"] else ""
            click.echo(f"{actor['name']}: {note}{pid}")


def _operation(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.argument("actors", nargs=-1, required=True, metavar="ACTOR..."),
        click.option("--wait/--no-wait", default=True, help="Return when it is done (default), or at once."),
    ):
        function = decorate(function)
    return function


@ctl.command()
@_operation
@click.option("--strict", is_flag=True, help="An actor that already runs is an error.")
@_options
def start(options: Options, actors: tuple[str, ...], wait: bool, strict: bool) -> None:
    """Start actors that are down."""
    _act(options, "start", {"actors": list(actors), "wait": wait, "strict": strict})


@ctl.command()
@_operation
@_options
def stop(options: Options, actors: tuple[str, ...], wait: bool) -> None:
    """Drain and stop actors; they stay down until started."""
    _act(options, "stop", {"actors": list(actors), "wait": wait})


@ctl.command()
@_operation
@_options
def restart(options: Options, actors: tuple[str, ...], wait: bool) -> None:
    """Drain, stop and start actors, one after the other."""
    _act(options, "restart", {"actors": list(actors), "wait": wait})


@ctl.command()
@_options
@click.option(
    "--wait/--no-wait", default=True, help="Return when the supervisor has left (default), or at once."
)
def shutdown(options: Options, wait: bool) -> None:
    """Stop the whole tree and its supervisor."""
    connection = Connection(options)
    result = connection.call("shutdown", {}, options.timeout or READ_TIMEOUT_S)
    if wait:
        _wait_gone(result["pid"], options.timeout)
    if options.json:
        _print_json(result)
    elif not options.quiet:
        click.echo("supervisor: stopped" if wait else "supervisor: stopping")


def _wait_gone(pid: int, timeout: float | None) -> None:
    """Wait for the supervisor's end through a pidfd, which names it even if the pid is used again."""
    import select

    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(None if timeout is None else timeout * 1000):
        raise Refused("timeout", f"cannot wait for the end of supervisor {pid} any longer: {timeout:g} s")


@ctl.command()
@click.option("--since", type=int, default=0, metavar="SEQ", help="Only events after this number.")
@click.option("-f", "--follow", is_flag=True, help="Go on with those to come.")
@_options
def events(options: Options, since: int, follow: bool) -> None:
    """Print what happened in the tree, oldest first."""
    for event in Connection(options).stream("events", {"since": since, "follow": follow}, follow=follow):
        if options.json:
            _print_json(event)
        else:
            click.echo(ctl_text.event_line(event))
        if follow:
            sys.stdout.flush()


@ctl.command()
@click.argument("actors", nargs=-1, metavar="[ACTOR...]")
@click.option("-n", "lines", type=int, default=100, show_default=True, help="So many of the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with those to come.")
@_options
def logs(options: Options, actors: tuple[str, ...], lines: int, follow: bool) -> None:
    """Print what actors printed, merged by time."""
    args = {"actors": list(actors), "lines": lines, "follow": follow}
    for line in Connection(options).stream("logs", args, follow=follow):
        if options.json:
            _print_json(line)
        else:
            click.echo(ctl_text.log_line(line))
        if follow:
            sys.stdout.flush()


@ctl.command()
@_options
def tree(options: Options) -> None:
    """Show groups and actors as a tree."""
    document = Connection(options).call("status", {}, options.timeout or READ_TIMEOUT_S)
    if options.json:
        _print_json(document)
    else:
        click.echo(ctl_text.tree(document), nl=False)


@ctl.command()
@click.argument("group", required=False)
@_options
def count(options: Options, group: str | None) -> None:
    """Count the direct children of a group."""
    result = Connection(options).call("count", {"group": group}, options.timeout or READ_TIMEOUT_S)
    if options.json:
        _print_json(result)
    else:
        click.echo(" ".join(f"{key}={value}" for key, value in result.items()))


@ctl.command()
@click.argument("actor")
@_options
def spec(options: Options, actor: str) -> None:
    """Show the effective values of one actor or group."""
    result = Connection(options).call("spec", {"actors": [actor]}, options.timeout or READ_TIMEOUT_S)
    if options.json:
        _print_json(result)
    else:
        for key, value in result.items():
            click.echo(f"{key} = {json.dumps(value, ensure_ascii=False)}")


def _wants_json(arguments: list[str]) -> bool:
    return "--json" in arguments


def main() -> NoReturn:
    """Run the program."""
    try:
        ctl.main(standalone_mode=False, prog_name="daedalus-ctl")
    except Refused as refused:
        if _wants_json(sys.argv[1:]):
            click.echo(json.dumps({"ok": False, "error": refused.error}, ensure_ascii=False), err=True)
        else:
            click.echo(f"daedalus-ctl: {refused}", err=True)
        sys.exit(EXIT_CODES.get(refused.error["code"] or "", EXIT_FAILED))
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read us has seen enough; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_OK)
    sys.exit(EXIT_OK)


if __name__ == "__main__":
    main()
