"""`daedalus-ctl top`: the status table, again every second, sorted by what one looks for.

rich draws it, and is imported only here. Without a terminal there is one frame.
"""

import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from daedalus.cli.ctl import text
from daedalus.cli.ctl.connection import READ_TIMEOUT_S, Connection
from daedalus.cli.ctl.options import Options, example, global_options
from daedalus.cli.ctl.output import colored, say, say_json

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["frame", "ordered", "top"]

REFRESH_S = 1.0
_QUIT = "q"
_START_ORDER = "s"
_SORTS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "c": ("CPU", lambda item: item["cpu_pct"]),
    "m": ("memory", lambda item: item["mem"]["anon"]),
    "r": ("restarts", lambda item: item["restarts"]["total"]),
    "b": ("mailbox", lambda item: item["mailbox"]),
}


@click.command(epilog=example("daedalus-ctl top --sort m"))
@click.option(
    "--sort",
    type=click.Choice((*_SORTS, _START_ORDER)),
    default="c",
    show_default=True,
    help="c CPU, m memory, r restarts, b mailbox (backlog), s start order.",
)
@global_options
def top(options: Options, sort: str) -> None:
    """Show the actors, most busy first, and again every second.

    Keys: c CPU, m memory, r restarts, b mailbox, s start order, q quit. Without a terminal one frame is
    printed.
    """
    connection = Connection(options)

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = connection.call("status", {}, options.timeout or READ_TIMEOUT_S)
        return found

    if options.json:
        say_json(ordered(ask(), sort))
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _live(ask, sort, color=colored(options))
    else:
        say(text.table(ordered(ask(), sort)), nl=False)


def ordered(document: dict[str, Any], sort: str) -> dict[str, Any]:
    """Return the document with the most of it first; who has no figure comes last."""
    if sort not in _SORTS:
        return document
    figure = _SORTS[sort][1]
    missing = float("-inf")
    actors = sorted(
        document["actors"], key=lambda item: missing if figure(item) is None else figure(item), reverse=True
    )
    return document | {"actors": actors}


def frame(document: dict[str, Any], sort: str, columns: int, lines: int, *, color: bool) -> str:
    """Return what fits on a screen: the head, as many actors as there is room for, two lines below."""
    head, *rows, summary = (
        text.table(ordered(document, sort), width=columns, color=color).rstrip("\n").split("\n")
    )
    room = max(1, lines - 3)
    hidden = len(rows) - room
    if hidden > 0:
        rows = [*rows[: room - 1], f"… {hidden + 1} more"]
    by = _SORTS[sort][0] if sort in _SORTS else "start order"
    keys = f"by {by} · c CPU  m memory  r restarts  b mailbox  s start order  q quit"
    return "\n".join([head, *rows, summary, keys])


def _live(ask: Callable[[], dict[str, Any]], sort: str, *, color: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=not color, highlight=False)
    document = ask()

    def draw() -> "Text":
        from rich.text import Text

        drawn = Text.from_ansi(
            frame(document, sort, console.width, console.height, color=color), no_wrap=True, overflow="crop"
        )
        drawn.stylize("reverse", 0, drawn.plain.find("\n"))
        return drawn

    with _keys() as key, Live(draw(), console=console, screen=True, auto_refresh=False) as live:
        due = time.monotonic() + REFRESH_S
        while (pressed := key(max(0.0, due - time.monotonic()))) != _QUIT:
            if pressed in _SORTS or pressed == _START_ORDER:
                sort = pressed
            if time.monotonic() >= due:
                document = ask()
                due = time.monotonic() + REFRESH_S
            live.update(draw(), refresh=True)


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Read single keys while it lasts: the function waits so many seconds for one, and returns "" without."""
    import os
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def key(wait_s: float) -> str:
        if not select.select([terminal], [], [], wait_s)[0]:
            return ""
        # a terminal that is gone reads as nothing
        return os.read(terminal, 1).decode("ascii", "replace").lower() or _QUIT

    tty.setcbreak(terminal)
    try:
        yield key
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
