"""Signals to actors: kill, pause, resume. They decide nothing about a group, so they do not queue."""

import signal
from collections.abc import Callable
from typing import Any

from daedalus.kernel.cell import Cell
from daedalus.kernel.commands.office import Office
from daedalus.kernel.commands.select import brief, chosen
from daedalus.kernel.errors import ControlError

__all__ = ["do_kill", "do_pause", "do_resume", "signal_number"]


def signal_number(value: object) -> int:
    """Return the number of a signal given as SIGUSR1, usr1, 10 or "10".

    Raises:
        ControlError: there is no such signal (usage).
    """
    text = str(value).strip().upper()
    try:
        if text.isdecimal() and len(text) <= 2:
            return int(signal.Signals(int(text)))
        return int(signal.Signals[text if text.startswith("SIG") else f"SIG{text}"])
    except (KeyError, ValueError):
        raise ControlError("usage", f"cannot send signal {value!r:.40}: there is none of that name") from None


def _each(
    office: Office, args: dict[str, Any], verb: str, act: Callable[[Cell], str | None]
) -> dict[str, Any]:
    """Do it to all actors or, when one has no process, to none. `act` returns a note; None: too late."""
    cells = chosen(office, args)
    for cell in cells:
        _need_process(cell, verb)
    report = []
    for cell in cells:
        note = act(cell)
        if note is None:
            raise ControlError("failed", f"cannot {verb} {cell.spec.name}: it has just ended", cell.spec.name)
        report.append(brief(cell, note))
    return {"actors": report}


def _need_process(cell: Cell, verb: str) -> None:
    if cell.pid is None:
        raise ControlError("failed", f"cannot {verb} {cell.spec.name}: it is {cell.state}", cell.spec.name)


async def do_kill(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Send a signal to the leaders of actors. What becomes of them is for their group to decide."""
    if args.get("signal") in (None, ""):
        raise ControlError("usage", "cannot send a signal without its name")
    number = signal_number(args["signal"])
    return _each(office, args, "signal", lambda cell: "" if cell.send(number) else None)


async def do_pause(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Stop actors in their tracks. Their heartbeats are not awaited meanwhile; all other clocks run on."""
    for cell in chosen(office, args):
        _need_process(cell, "pause")
        if cell.state not in ("running", "degraded"):
            raise ControlError("busy", f"cannot pause {cell.spec.name}: it is {cell.state}", cell.spec.name)

    def pause(cell: Cell) -> str | None:
        before = cell.suspended
        return ("already paused" if before else "") if cell.pause() else None

    return _each(office, args, "pause", pause)


async def do_resume(office: Office, args: dict[str, Any]) -> dict[str, Any]:
    """Let paused actors go on; also those that somebody else stopped."""

    def resume(cell: Cell) -> str | None:
        before = cell.suspended or cell.paused
        return ("" if before else "was not paused") if cell.resume() else None

    return _each(office, args, "resume", resume)
