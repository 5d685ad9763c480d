"""The nouns of one supervisor: a group and its children, what happens to it, what it has done.

A child is an actor or another group; only the shell knows the difference. Its slot is `up`, `starting`,
`stopping` (live), `waiting` (OTP's "restarting": a backoff runs), `parked`, `held` (a gate is shut), or one
of the slots in which nothing is under way. The decisions over these nouns are in `restart`.
"""

from typing import Literal

import msgspec

from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec

__all__ = [
    "LIVE",
    "Add",
    "Begin",
    "Child",
    "Close",
    "Closed",
    "Due",
    "Ended",
    "Event",
    "Expired",
    "Group",
    "Held",
    "Hold",
    "Instruction",
    "Opened",
    "Park",
    "Ready",
    "Reason",
    "Released",
    "Remove",
    "Reset",
    "Reshape",
    "Restart",
    "Settle",
    "Settled",
    "Slot",
    "Start",
    "StartChild",
    "Stop",
    "StopChild",
    "Verb",
    "Verdict",
    "Wait",
    "child_of_actor",
    "child_of_group",
]

Slot = Literal["down", "starting", "up", "stopping", "waiting", "parked", "held", "done", "failed", "ignored"]
Settled = Literal["down", "done", "failed", "ignored", "removed"]
Verb = Literal["start", "stop", "ripe", "renew", "opened", "close"]
Verdict = Literal["normal", "abnormal", "fatal", "planned", "ignored"]
Reason = Literal["", "requested", "intensity", "abort", "auto_shutdown"]

LIVE: tuple[Slot, ...] = ("starting", "up", "stopping")  # a process may exist


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """What a group knows about one child."""

    name: str
    restart: Literal["permanent", "transient", "temporary"] = "permanent"
    significant: bool = False
    backoff: Backoff = Backoff()
    hold_s: float = 20.0  # how long a first start that keeps failing may hold up others
    abort: bool = False  # a failed first start ends the group
    blocking: bool = False  # while held it holds up its later siblings
    by_hand: bool = False  # an operator added it; it is not in the file
    slot: Slot = "down"
    wanted: bool = True
    failures: int = 0  # since the last stable run
    up_since: float | None = None
    spared_at: float | None = None  # the last restart that was planned and did not count
    again: bool = False  # stopping in order to be started again
    leaving: bool = False  # no longer in the file: stopped, then removed
    retry_at: float | None = None  # parked until then
    manual: bool = False  # started by hand: a failure of this start is not retried, and leaves it as it was
    prior_slot: Settled = "down"  # as it was before the start by hand
    prior_wanted: bool = True


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One supervisor: its specification, its children in start order and what it is doing.

    `written` is for a shell that can make a forgotten child anew: with it the group has, each time it
    begins, all the children of the file again, as in OTP, where a restarted supervisor asks its `init`.
    Left empty, a temporary child that ended stays away for good.
    """

    spec: GroupSpec
    children: tuple[Child, ...] = ()
    written: tuple[Child, ...] = ()
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


class Held(msgspec.Struct, frozen=True):
    """A gate of the child is shut: it was told to start and has no process. Not a failure."""

    child: str


class Released(msgspec.Struct, frozen=True):
    """All gates of the child are open."""

    child: str


class Start(msgspec.Struct, frozen=True):
    """An operator wants the child up; with `propagate` also those a restart would take along."""

    child: str
    propagate: bool = False


class Stop(msgspec.Struct, frozen=True):
    """An operator wants the child down, and to stay down; `propagate` as in Start."""

    child: str
    propagate: bool = False


class Restart(msgspec.Struct, frozen=True):
    """Stop the child and start it again; planned, not counted.

    With `propagate` the strategy's whole restart set goes with it, else the child alone.
    """

    child: str
    propagate: bool = False


class Add(msgspec.Struct, frozen=True):
    """Take a new child in, at an index (None: the end), and start it. A known name changes nothing.

    One that was added by hand goes to the end, and is not kept if it cannot be started.
    """

    child: Child
    at: int | None = None


class Remove(msgspec.Struct, frozen=True):
    """Forget a child that has no process. One that has, or is in backoff, stays."""

    child: str


class Reset(msgspec.Struct, frozen=True):
    """Forget the child's failures and the group's window; start it if it is wanted and has given up."""

    child: str


class Reshape(msgspec.Struct, frozen=True):
    """Take over a changed file with the smallest effect.

    New ones are started, those no longer there stopped and removed, the names in `restart` restarted one
    after the other. The rest keep their processes, their failures and the operator's will.
    """

    spec: GroupSpec
    children: tuple[Child, ...]
    restart: tuple[str, ...] = ()


Event = (
    Begin
    | Close
    | Ready
    | Ended
    | Due
    | Expired
    | Held
    | Released
    | Start
    | Stop
    | Restart
    | Add
    | Remove
    | Reset
    | Reshape
)


# What the shell is told to do.


class StartChild(msgspec.Struct, frozen=True):
    """Start it, then say Ready or Ended; Held at once if a gate is shut."""

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
    slot: Settled


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
        blocking=spec.blocking,
    )


def child_of_group(spec: GroupSpec, parent: GroupSpec) -> Child:
    """Return the child that stands for a nested group. Its hold is its children's business."""
    return Child(
        name=spec.name,
        restart=spec.restart,
        backoff=spec.backoff,
        hold_s=float("inf"),
        abort=parent.start_failure == "abort",
    )
