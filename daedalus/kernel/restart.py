"""One supervisor's decisions, as OTP makes them. Pure: (group, event, now) -> (group, instructions).

Theory of operation: a group is an ordered tuple of children, a window of restart times and a plan. The plan
is a queue of steps that must happen one after the other (a start in order, a stop in reverse, a group
restart); `turn` works it off. What needs no order (a restart under one_for_one, an operator's stop) bypasses
the plan. So a command is served between two attempts of a restart that keeps failing, as in OTP, where a
failed restart is a message to oneself.

Only a decision to restart counts towards intensity, and a group restart counts once. Where this differs from
OTP, and why, is told to users in docs/supervision.md.
"""

from collections.abc import Callable
from typing import Any

from daedalus.kernel import orders
from daedalus.kernel.group import (
    LIVE,
    Add,
    Begin,
    Child,
    Close,
    Due,
    Ended,
    Event,
    Expired,
    Group,
    Held,
    Instruction,
    Park,
    Ready,
    Released,
    Remove,
    Reset,
    Reshape,
    Restart,
    Start,
    Stop,
    Wait,
)
from daedalus.kernel.intensity import delay_s, park_delay_s, recent, used
from daedalus.kernel.reshape import reshape
from daedalus.kernel.turn import Turn

__all__ = ["delay_s", "step", "validate", "window_used"]


def window_used(group: Group, now: float) -> int:
    """Return how many restarts the window holds at `now`."""
    return used(group.window, now, group.spec.period_s)


def step(group: Group, event: Event, now: float) -> tuple[Group, tuple[Instruction, ...]]:
    """Return the group after `event` and what is to be done, in order.

    Args:
        group: the group before the event.
        event: what happened. Late timers and news of removed children change nothing.
        now: monotonic seconds.
    """
    turn = Turn(group, now)
    if isinstance(event, Begin | Close | Add | Reshape):
        _ABOUT_THE_GROUP[type(event)](turn, event)
    else:
        child = turn.children.get(event.child)
        if child is not None and not (child.leaving and isinstance(event, _COMMANDS)):
            _ABOUT_A_CHILD[type(event)](turn, child, event)
    turn.advance()
    return turn.result()


def validate(group: Group) -> None:
    """Assert what holds between any two events. For tests."""
    names = [child.name for child in group.children]
    assert len(names) == len(set(names)), names
    slots = {child.name: child.slot for child in group.children}
    if group.phase == "down":
        assert not [name for name in names if slots[name] in LIVE], f"closed with live children: {slots}"
        assert not group.plan, group.plan
    if group.phase == "closing":
        assert group.plan[-1:] == (("close", ""),), group.plan
    if group.phase in ("down", "closing"):
        waits = [name for name in names if slots[name] in ("waiting", "parked", "held")]
        assert not waits, f"a group that is {group.phase} has a timer or a gate for {waits}"
    else:
        for child in group.children:
            idle = child.slot not in ("waiting", "parked", "starting", "held")
            idle = idle or ("stop", child.name) in group.plan
            assert child.wanted or idle, f"{child.name} is {child.slot} though nobody wants it"
    assert group.phase in ("down", "closing") or len(group.window) <= group.spec.intensity, group.window
    assert len(group.plan) == len(set(group.plan)), group.plan
    for verb, name in group.plan:
        if verb == "ripe":
            assert slots.get(name) in ("waiting", "parked", "down"), f"the plan waits for {name}, {slots}"


# Life of the group.


def _begin(turn: Turn, _: Begin) -> None:
    """Start all wanted children in order. Nothing is left of an earlier life but the operator's will."""
    if turn.phase != "down":
        return
    turn.phase, turn.window, turn.reason = "opening", (), ""
    for child in list(turn.children.values()):
        if child.by_hand:
            turn.settle(child.name, "removed")
    if turn.written:
        made = {child.name: child for child in turn.written}
        turn.children = {name: turn.children.get(name, child) for name, child in made.items()}
    for name in turn.children:
        turn.put(
            name, slot="down", failures=0, up_since=None, again=False, manual=False, leaving=False,
            retry_at=None,
        )  # fmt: skip
    turn.plan = [("start", name) for name in turn.children]
    turn.plan.append(("opened", ""))
    if turn.spec.strategy == "simple_one_for_one":
        for name, child in list(turn.children.items()):
            if child.wanted:
                turn.launch_step(name)


def _close(turn: Turn, event: Close) -> None:
    turn.begin_close(event.reason)


# News of a child.


def _ready(turn: Turn, child: Child, _: Ready) -> None:
    if child.slot == "starting":
        turn.put(child.name, slot="up", up_since=turn.now, manual=False)


def _held(turn: Turn, child: Child, _: Held) -> None:
    """A gate is shut: who asked for the start by hand has his answer, and it will be tried for good."""
    if child.slot == "stopping" or (child.slot == "starting" and not (child.wanted and turn.runs)):
        _stopped(turn, child)
    elif child.slot == "starting":
        turn.put(child.name, slot="held", up_since=None, manual=False)
        if child.blocking:
            turn.open()  # it holds up its later siblings, never later groups


def _released(turn: Turn, child: Child, _: Released) -> None:
    if child.slot == "held" and turn.runs:
        turn.put(child.name, slot="down")
        if ("start", child.name) not in turn.plan:  # else the plan comes to it
            turn.launch(child.name)


def _ended(turn: Turn, child: Child, event: Ended) -> None:
    if child.slot not in LIVE:
        return
    clean = event.verdict == "normal" and child.restart != "permanent"
    not_started = child.slot == "starting" and event.verdict in ("normal", "abnormal", "fatal") and not clean
    if child.slot == "stopping" or turn.phase == "closing" or not child.wanted:
        _stopped(turn, child)
    elif event.verdict == "ignored":
        turn.settle(child.name, "ignored")
    elif child.manual and not_started:
        _start_failed(turn, child, fatal=event.verdict == "fatal")
    elif child.abort and not_started and turn.phase == "opening":
        turn.settle(child.name, "failed" if event.verdict == "fatal" else "down")
        turn.begin_close("abort")
    elif event.verdict == "fatal":
        _block_later(turn, child.name)
        turn.settle(child.name, "failed")
        _auto_shutdown(turn, child)
    elif event.verdict == "planned" and not _spent(turn, child, event.spare_s):
        turn.put(child.name, spared_at=turn.now, up_since=None)
        turn.launch(child.name)
    elif child.restart == "temporary" or clean:
        turn.settle(child.name, "done")
        _auto_shutdown(turn, child)
    else:
        _count(turn, child, event.luck)


def _stopped(turn: Turn, child: Child) -> None:
    """It ended because it was told to."""
    name = child.name
    if not (child.again and child.wanted) or turn.phase == "closing":
        turn.settle(name, "down")
        turn.park_with(name)
    elif ("start", name) in turn.plan[1:]:  # the plan comes to it
        turn.settle(name, "down", keep=True)
    else:
        if ("renew", name) in turn.plan and ("start", name) not in turn.plan:
            turn.plan.insert(0, ("start", name))
        turn.plan = [entry for entry in turn.plan if entry not in (("renew", name), ("stop", name))]
        turn.put(name, again=False, up_since=None)
        turn.launch(name)


def _start_failed(turn: Turn, child: Child, *, fatal: bool) -> None:
    """A start by hand leaves things as they were: no retry, not counted."""
    turn.forgo(child.name)
    turn.put(child.name, wanted=child.prior_wanted)
    slot = "failed" if fatal and child.prior_slot != "removed" else child.prior_slot
    turn.settle(child.name, slot, keep=True)


def _spent(turn: Turn, child: Child, spare_s: float) -> bool:
    return child.spared_at is not None and turn.now - child.spared_at < spare_s


def _block_later(turn: Turn, name: str) -> None:
    """Under rest_for_one, later siblings need the one that failed for good: they go and stay down."""
    if turn.spec.strategy != "rest_for_one":
        return
    later = turn.restart_set(name)[1:]
    there = (*LIVE, "waiting", "parked", "held")
    stops = [("stop", other) for other in reversed(later) if turn.children[other].slot in there]
    turn.plan = [*stops, *(entry for entry in turn.plan if entry[1] not in later)]  # type: ignore[list-item]


def _auto_shutdown(turn: Turn, child: Child) -> None:
    """A significant child ended by itself, for good: the group may have lost its purpose."""
    if not child.significant or turn.spec.auto_shutdown == "never":
        return
    others = [other for other in turn.children.values() if other.significant and other.name != child.name]
    if turn.spec.auto_shutdown == "any_significant" or not any(_active(turn, other) for other in others):
        turn.begin_close("auto_shutdown")


def _active(turn: Turn, child: Child) -> bool:
    """Whether it runs or will: OTP's slot is a pid or `restarting`, or the start has not come to it yet."""
    to_come = child.slot == "down" and child.wanted and ("start", child.name) in turn.plan
    return to_come or child.slot in (*LIVE, "waiting", "parked", "held")


# Restarting.


def _count(turn: Turn, child: Child, luck: float) -> None:
    """Count a decision to restart; the (intensity+1)-th within the period is one too many."""
    turn.window = (*recent(turn.window, turn.now, turn.spec.period_s), turn.now)
    stable = child.up_since is not None and turn.now - child.up_since >= child.backoff.reset_after_s
    failures = 1 if stable else child.failures + 1
    name = child.name
    turn.put(name, failures=failures, up_since=None, manual=False)
    if len(turn.window) <= turn.spec.intensity:
        turn.put(name, slot="waiting")
        turn.out.append(Wait(name, delay_s(child.backoff, failures, luck), failures))
        if turn.coupled:
            turn.regroup(name)
    elif turn.spec.on_limit == "park":
        _park(turn, name, park_delay_s(turn.spec.park_retry_s, luck))
    else:
        turn.settle(name, "down")
        turn.begin_close("intensity")


def _park(turn: Turn, name: str, delay_s: float) -> None:
    """Give up on the child for a while, with its set, and on nobody else.

    The failures that led here are spent: a sibling that fails once in the meantime is not parked for them.
    """
    turn.window = ()
    turn.put(name, slot="parked", retry_at=turn.now + delay_s)
    turn.out.append(Park(name, delay_s))
    if turn.coupled:
        turn.regroup(name)
        for other in turn.restart_set(name):
            turn.park_with(other)
        turn.open()  # what is parked in a coupled plan must not keep later groups waiting
    else:
        turn.plan = [entry for entry in turn.plan if entry != ("start", name)]


def _due(turn: Turn, child: Child, _: Due) -> None:
    if not turn.runs or child.slot not in ("waiting", "parked"):
        return
    follows = turn.coupled and child.slot == "parked" and ("ripe", child.name) not in turn.plan
    if not (follows and ("start", child.name) in turn.plan):  # else it is started after the one it follows
        turn.retry(child)


def _expired(turn: Turn, child: Child, _: Expired) -> None:
    """Let the others go on: later groups always, later siblings where order carries no meaning."""
    waited_for = ("start", child.name) in turn.plan and child.slot != "up"
    if waited_for and not turn.coupled and not (child.slot == "held" and child.blocking):
        turn.plan = [entry for entry in turn.plan if entry != ("start", child.name)]
    if waited_for:
        turn.open()


_COMMANDS = (Start, Stop, Restart, Remove, Reset)

_ABOUT_THE_GROUP: dict[type, Callable[[Turn, Any], None]] = {
    Begin: _begin,
    Close: _close,
    Add: orders.add,
    Reshape: reshape,
}

_ABOUT_A_CHILD: dict[type, Callable[[Turn, Child, Any], None]] = {
    Ready: _ready,
    Ended: _ended,
    Due: _due,
    Expired: _expired,
    Held: _held,
    Released: _released,
    Start: orders.start,
    Stop: orders.stop,
    Restart: orders.restart,
    Remove: orders.remove,
    Reset: orders.reset,
}
