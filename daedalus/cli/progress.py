"""How far long work is, on a terminal's standard error; nothing where nobody looks."""

import sys
import time

import click

__all__ = ["Progress"]

_EVERY_S = 0.2


class Progress:
    """One line that is written over: `reading 12 of 300 files`."""

    def __init__(self, verb: str, what: str) -> None:
        """Begin silently. `verb` and `what`: the words around the numbers."""
        self._words = (verb, what)
        self._shown = False
        self._next = time.monotonic() + _EVERY_S
        self._terminal = sys.stderr.isatty()

    def step(self, done: int, of: int) -> None:
        """Tell how many are done, and of how many."""
        now = time.monotonic()
        if self._terminal and now >= self._next:
            self._next = now + _EVERY_S
            self._shown = True
            verb, what = self._words
            click.echo(f"\r{verb} {done} of {of} {what}\x1b[K", nl=False, err=True)

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            click.echo("\r\x1b[K", nl=False, err=True)
