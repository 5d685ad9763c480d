"""The nouns of one supervisor: a group and its children, what happens to it, what it has done.

A child is an actor or another group; only the shell knows the difference. Its slot is `up`, `starting`,
`stopping` (live), `waiting` (OTP's "restarting": a backoff runs), `parked`, or one of the slots without a
process. The decisions over these nouns are in `restart`.
"""

from typing import Literal

import msgspec

from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec

__all__ = [
    "Begin",
    "Child",
    "Close",
    "Closed",
    "Due",
    "Ended",
    "Event",
    "Expired",
    "Group",
    "Hold",
    "Instruction",
    "Opened",
    "Park",
    "Ready",
    "Reason",
    "Restart",
    "Settle",
    "Slot",
    "Start",
    "StartChild",
    "Stop",
    "StopChild",
    "Verdict",
    "Wait",
    "child_of_actor",
    "child_of_group",
]

Slot = Literal["down", "starting", "up", "stopping", "waiting", "parked", "done", "failed", "ignored"]
Verb = Literal["start", "stop", "opened", "close"]
Verdict = Literal["normal", "abnormal", "fatal", "planned", "ignored"]
Reason = Literal["", "requested", "intensity", "abort", "auto_shutdown"]


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """What a group knows about one child."""

    name: str
    restart: Literal["permanent", "transient", "temporary"] = "permanent"
    significant: bool = False
    backoff: Backoff = Backoff()
    hold_s: float = 20.0  # how long a first start that keeps failing may hold up others
    abort: bool = False  # a failed first start ends the group
    slot: Slot = "down"
    wanted: bool = True
    failures: int = 0  # since the last stable run
    up_since: float | None = None
    spared_at: float | None = None  # the last restart that was planned and did not count
    again: bool = False  # stopping in order to be started again
    manual: bool = False  # started by hand: a failure of this start is not retried


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One supervisor: its specification, its children in start order and what it is doing."""

    spec: GroupSpec
    children: tuple[Child, ...] = ()
    phase: Literal["down", "opening", "open", "closing"] = "down"
    window: tuple[float, ...] = ()  # times of counted restarts
    plan: tuple[tuple[Verb, str], ...] = ()
    reason: Reason = ""  # why it is closing or was closed


# What happens to a group.


class Begin(msgspec.Struct, frozen=True):
    """Start all wanted children in order."""


class Close(msgspec.Struct, frozen=True):
    """Stop all children in reverse order, then report Closed."""

    reason: Reason = "requested"


class Ready(msgspec.Struct, frozen=True):
    """The child is up."""

    child: str


class Ended(msgspec.Struct, frozen=True):
    """No process of the child is left. `luck` in [0, 1) draws the jitter.

    `spare_s`: a planned restart counts only if the last one was less than this long ago.
    """

    child: str
    verdict: Verdict = "abnormal"
    luck: float = 0.0
    spare_s: float = 60.0


class Due(msgspec.Struct, frozen=True):
    """The child's backoff or its time in the park is over."""

    child: str


class Expired(msgspec.Struct, frozen=True):
    """The child has held up the others long enough."""

    child: str


class Start(msgspec.Struct, frozen=True):
    """An operator wants the child up."""

    child: str


class Stop(msgspec.Struct, frozen=True):
    """An operator wants the child down, and to stay down."""

    child: str


class Restart(msgspec.Struct, frozen=True):
    """Stop the child and start it again; planned, not counted."""

    child: str


Event = Begin | Close | Ready | Ended | Due | Expired | Start | Stop | Restart


# What the shell is told to do.


class StartChild(msgspec.Struct, frozen=True):
    """Start it, then say Ready or Ended."""

    child: str


class StopChild(msgspec.Struct, frozen=True):
    """Drain and stop it, then say Ended."""

    child: str


class Wait(msgspec.Struct, frozen=True):
    """Show it as in backoff and say Due after `delay_s`. It counted as the `failures`-th in a row."""

    child: str
    delay_s: float
    failures: int


class Park(msgspec.Struct, frozen=True):
    """Show it as failed (parked) and say Due after `delay_s`."""

    child: str
    delay_s: float


class Settle(msgspec.Struct, frozen=True):
    """It stays without a process: show it so, and forget its timers."""

    child: str
    slot: Literal["down", "done", "failed", "ignored", "removed"]


class Hold(msgspec.Struct, frozen=True):
    """Say Expired after `delay_s`."""

    child: str
    delay_s: float


class Opened(msgspec.Struct, frozen=True):
    """All children have been given their start: tell the parent Ready."""


class Closed(msgspec.Struct, frozen=True):
    """No child lives: tell the parent Ended."""

    reason: Reason


Instruction = StartChild | StopChild | Wait | Park | Settle | Hold | Opened | Closed


def child_of_actor(spec: ActorSpec, group: GroupSpec) -> Child:
    """Return the child that stands for an actor."""
    return Child(
        name=spec.name,
        restart=spec.restart,
        significant=spec.significant,
        backoff=spec.backoff,
        hold_s=spec.start_timeout_s,
        abort=(spec.start_failure or group.start_failure) == "abort",
    )


def child_of_group(spec: GroupSpec, parent: GroupSpec) -> Child:
    """Return the child that stands for a nested group. Its hold is its children's business."""
    return Child(
        name=spec.name, restart=spec.restart, hold_s=float("inf"), abort=parent.start_failure == "abort"
    )
