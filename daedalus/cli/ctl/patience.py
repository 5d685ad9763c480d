"""What somebody who waits for an operation is told, and when a supervisor that says nothing is given up.

The operation has one connection and waits on it; once a second the state is asked on a second one. Progress
goes to standard error, if that is a terminal, on one line that is written over. A wait without `--timeout` is
bounded by the supervisor, which knows its actors; against one that hangs, the second connection is the bound.
"""

import sys
from collections.abc import Callable
from typing import Any

import click

from daedalus.cli.ctl.connection import READ_TIMEOUT_S, Connection, Refused
from daedalus.cli.ctl.options import Options

__all__ = ["Patience"]

ALIVE_EVERY_S = 5.0  # nobody is told: only look whether there still is somebody to wait for
_SHOWN = 3
_MOVING = ("starting", "draining", "stopping", "killing", "stuck", "held", "backoff")


class Patience:
    """Called with the seconds waited so far; prints what is waited for."""

    def __init__(self, options: Options, names: list[str], *, goal: str = "", leaving: bool = False) -> None:
        """Prepare.

        Args:
            options: how to reach the supervisor, and whether anybody wants to hear.
            names: the actors the operation is about; empty: all.
            goal: the state that is waited for; empty: any that lasts.
            leaving: the supervisor is on its way out, and its silence is no surprise.
        """
        self._options = options
        self._names = names
        self._goal = goal
        self._leaving = leaving
        self._talks = sys.stderr.isatty() and not options.json and not options.quiet
        self._second: Connection | None = None
        self._asked_s = 0.0
        self._written = 0  # columns of the line that stands

    def __call__(self, waited_s: float) -> None:
        """Tell, or look whether the supervisor lives.

        Raises:
            Refused: timeout; it does not answer on another connection either.
        """
        if not self._talks and (
            self._options.timeout or self._leaving or waited_s - self._asked_s < ALIVE_EVERY_S
        ):
            return
        self._asked_s = waited_s
        try:
            names = self._pending()
        except Refused as refused:
            self._hang_up()
            if refused.code == "timeout" and not self._leaving:
                message = f"cannot wait any longer: the supervisor has not answered for {READ_TIMEOUT_S:g} s"
                raise Refused("timeout", message) from None
            names = []
        if self._talks:
            self._write(
                f"waiting: {', '.join(names)} ({waited_s:.0f} s)" if names else f"waiting ({waited_s:.0f} s)"
            )

    def _pending(self) -> list[str]:
        if self._second is None:
            self._second = Connection(self._options)
        document = self._second.call("status", {"select": self._names}, READ_TIMEOUT_S, margin_s=0.0)
        moving = [f"{item['name']} {item['state']}" for item in document["actors"] if self._waited_for(item)]
        more = len(moving) - _SHOWN
        return [*moving[:_SHOWN], *([f"{more} more"] if more > 0 else [])]

    def _waited_for(self, item: dict[str, Any]) -> bool:
        if not self._goal:
            return item["state"] in _MOVING
        # what is degraded runs
        return item["state"] != self._goal and (self._goal, item["state"]) != ("running", "degraded")

    def _write(self, line: str) -> None:
        click.echo("\r" + line.ljust(self._written), nl=False, err=True)
        self._written = len(line)

    def _hang_up(self) -> None:
        if self._second is not None:
            self._second.close()
            self._second = None

    def __enter__(self) -> Callable[[float], None]:
        """Begin to wait."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the line, so that the result stands alone."""
        self._hang_up()
        if self._written:
            click.echo("\r" + " " * self._written + "\r", nl=False, err=True)
            self._written = 0
