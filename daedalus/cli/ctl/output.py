"""How something reaches standard output: JSON, text, or nothing; and a reader who has seen enough."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from daedalus.cli.ctl.options import Options

__all__ = ["colored", "say", "say_json", "show", "width"]


def say(text: str, *, nl: bool = True) -> None:
    """Print to standard output. Whoever reads us and leaves (`| head`) ends the program in silence."""
    try:
        click.echo(text, nl=nl)
    except BrokenPipeError:
        # What is still buffered must not complain when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def say_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    say(json.dumps(value, ensure_ascii=False))


def show(options: Options, result: Any, text: Callable[[Any], str]) -> None:
    """Print a result as the options want it; `text` makes it readable."""
    if options.json:
        say_json(result)
    elif not options.quiet and (words := text(result)):
        say(words.rstrip("\n"))


def colored(options: Options) -> bool:
    """Return whether standard output may have colours: a terminal, and nobody against it."""
    return sys.stdout.isatty() and not options.no_color and not os.environ.get("NO_COLOR")


def width() -> int | None:
    """Return the columns of the terminal that standard output is; None where it is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None
