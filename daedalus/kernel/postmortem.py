"""What is said about an exit when all that can be known is known."""

import contextlib
import signal
import time
from typing import TYPE_CHECKING

import msgspec

from daedalus.kernel import lifecycle
from daedalus.kernel.lifecycle import Class, Exit
from daedalus.kernel.reaper import Status

if TYPE_CHECKING:
    from daedalus.kernel.cell import Cell

__all__ = ["LastExit", "examine"]


class LastExit(msgspec.Struct, frozen=True):
    """How the actor's last process ended, as shown by the control program."""

    class_: Class = msgspec.field(name="class")
    code: int | None
    signal: str | None
    at: float  # wall seconds
    message: str
    stderr_tail: list[str]


def _name(number: int | None) -> str | None:
    if number is None:
        return None
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def examine(cell: "Cell", status: Status) -> tuple[LastExit, Class | None]:
    """Return what the end of the cell's process was, and why it was planned, if it was.

    A process that said IGNORE and left with 0 was not ended but answered: its plan is "normal".
    """
    name = _name(status.signal)
    class_, message = lifecycle.classify(
        Exit(
            state=cell.state,
            code=status.code,
            signal=name,
            core=status.core,
            requested=cell.requested,
            killed_for=cell.killed_for,
            left_for=cell.left_for,
            detail=cell.detail,
            reported=cell.reported,
            clean_codes=cell.spec.clean_exit_codes,
            fatal_codes=cell.spec.fatal_exit_codes,
            oom=cell.body.oom_killed,
        )
    )
    if cell.body.error and not cell.requested:
        class_, message = "spawn_error", cell.body.error
    planned = cell.left_for if class_ == cell.left_for else None
    if cell.ignoring and class_ == "normal":
        planned = "normal"
    tail = cell.ring.stderr_tail(cell.generation)
    return LastExit(class_, status.code, name, time.time(), message, tail), planned
