"""The options that hold for every command, wherever on the line, and what commands share of the rest."""

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["Options", "example", "global_options", "one_name", "some_names"]

_LONGEST_S = 1e7  # a third of a year
_NAMES = ("socket", "runtime", "json", "no_color", "quiet", "timeout")


class Options:
    """What the command line said for all commands; None and False where it said nothing."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.socket: str | None = None
        self.runtime: str | None = None
        self.json = False
        self.no_color = False
        self.quiet = False
        self.timeout: float | None = None  # seconds


def global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the global options to a command or to the program itself; it gets an `Options` first."""

    @functools.wraps(function)
    def wrapped(**values: Any) -> Any:
        options = click.get_current_context().find_root().ensure_object(Options)
        for name in _NAMES:
            given = values.pop(f"global_{name}")
            if name == "timeout" and given is not None and not math.isfinite(given):
                raise click.UsageError(f"cannot wait for {given} seconds")
            if given is not None and given is not False:
                setattr(options, name, given)
        return function(options, **values)

    for decorate in (
        click.option(
            "--timeout",
            "global_timeout",
            type=click.FloatRange(min=0, min_open=True, max=_LONGEST_S),
            metavar="SECONDS",
            help="Wait no longer; what was begun goes on.",
        ),
        click.option("-q", "--quiet", "global_quiet", is_flag=True, help="Print nothing when all went well."),
        click.option("--no-color", "global_no_color", is_flag=True, help="No colours, even on a terminal."),
        click.option("--json", "global_json", is_flag=True, help="Print the bare result as JSON."),
        click.option(
            "--runtime",
            "global_runtime",
            type=click.Path(readable=False),
            metavar="DIR",
            help="The supervisor's runtime directory.",
        ),
        click.option(
            "--socket",
            "global_socket",
            type=click.Path(readable=False),
            metavar="PATH",
            help="The control socket itself.",
        ),
    ):
        wrapped = decorate(wrapped)
    return wrapped


def example(line: str) -> str:
    """Return the end of a help text: a command line to try."""
    return f"\b\nExample:\n  {line}"


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]]":
    from daedalus.cli.ctl.completion import tree_names

    return tree_names(context, parameter.name or "", incomplete)


def some_names(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the argument NAMES: actors, groups, patterns, or `all`."""
    metavar = "ACTOR..." if required else "[ACTOR|GROUP|GLOB]..."
    return click.argument("names", nargs=-1, required=required, metavar=metavar, shell_complete=_complete)


def one_name(
    parameter: str = "name", *, required: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an argument that is one actor (`name`) or one group (`group`)."""
    metavar = parameter.upper() if parameter != "name" else "ACTOR"
    return click.argument(
        parameter,
        required=required,
        metavar=metavar if required else f"[{metavar}]",
        shell_complete=_complete,
    )
