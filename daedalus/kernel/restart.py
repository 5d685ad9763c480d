"""One supervisor's decisions, as OTP makes them. Pure: (group, event, now) -> (group, instructions).

Theory of operation: a group is an ordered tuple of children, a window of restart times and a plan. The plan
is a queue of steps that must happen one after the other (a start in order, a stop in reverse, a group
restart); its head is in flight until an event about its child completes it. What needs no order (a restart
under one_for_one, an operator's stop) bypasses the plan. So a command is served between two attempts of a
restart that keeps failing, as in OTP, where a failed restart is a message to oneself.

Only a decision to restart counts towards intensity, and a group restart counts once. Where this differs from
OTP: restarts back off; over the limit a child may be parked instead of its supervisor ended; a failed first
start is retried and holds up the others only so long; what an operator stopped stays stopped.
"""

from msgspec.structs import replace

from daedalus.kernel.group import (
    Begin,
    Child,
    Close,
    Closed,
    Due,
    Ended,
    Event,
    Expired,
    Group,
    Hold,
    Instruction,
    Opened,
    Park,
    Ready,
    Reason,
    Restart,
    Settle,
    Slot,
    Start,
    StartChild,
    Stop,
    StopChild,
    Verb,
    Wait,
)
from daedalus.kernel.spec import Backoff

__all__ = ["delay_s", "step", "validate", "window_used"]

PARK_JITTER = 0.1

_LIVE = ("starting", "up", "stopping")


def delay_s(backoff: Backoff, failures: int, luck: float = 0.0) -> float:
    """Return the delay before the restart after the `failures`-th failure in a row, seconds.

    0, base, base*factor … capped; then up to `jitter` of it more, as `luck` in [0, 1) says.
    """
    if failures <= 1:
        return 0.0
    exponent = min(failures - 2, 1000)
    try:
        delay = backoff.base_s * backoff.factor**exponent
    except OverflowError:
        delay = backoff.cap_s
    return min(backoff.cap_s, delay) * (1.0 + backoff.jitter * luck)


def window_used(group: Group, now: float) -> int:
    """Return how many restarts the window holds at `now`."""
    return sum(now - at <= group.spec.period_s for at in group.window)


def step(group: Group, event: Event, now: float) -> tuple[Group, tuple[Instruction, ...]]:
    """Return the group after `event` and what is to be done, in order.

    Args:
        group: the group before the event.
        event: what happened. Late timers and news of removed children change nothing.
        now: monotonic seconds.
    """
    return _Turn(group, now).take(event)


def validate(group: Group) -> None:
    """Assert what holds between any two events. For tests."""
    names = [child.name for child in group.children]
    assert len(names) == len(set(names)), names
    live = [child.name for child in group.children if child.slot in _LIVE]
    if group.phase == "down":
        assert not live, f"a closed group has live children {live}"
        assert not group.plan, group.plan
    if group.phase == "closing":
        assert group.plan[-1:] == (("close", ""),), group.plan
    for child in group.children:
        if child.slot in ("waiting", "parked", "starting"):
            assert child.wanted, f"{child.name} is {child.slot} though nobody wants it"


class _Turn:
    """One event's worth of work on a copy of the group."""

    def __init__(self, group: Group, now: float) -> None:
        self.now = now
        self.spec = group.spec
        self.children = {child.name: child for child in group.children}
        self.phase = group.phase
        self.window = group.window
        self.plan = list(group.plan)
        self.reason = group.reason
        self.out: list[Instruction] = []

    def take(self, event: Event) -> tuple[Group, tuple[Instruction, ...]]:
        """Apply the event, then move the plan on as far as it goes."""
        match event:
            case Begin():
                self._begin()
            case Close(reason):
                self._close(reason)
            case Ready(name) if name in self.children:
                self._ready(self.children[name])
            case Ended() if event.child in self.children:
                self._ended(self.children[event.child], event)
            case Due(name) if name in self.children:
                self._due(self.children[name])
            case Expired(name) if name in self.children:
                self._expired(name)
            case Start(name) if name in self.children:
                self._start(self.children[name])
            case Stop(name) if name in self.children:
                self._stop(self.children[name])
            case Restart(name) if name in self.children:
                self._restart(self.children[name])
            case _:
                pass
        self._advance()
        group = Group(
            spec=self.spec,
            children=tuple(self.children.values()),
            phase=self.phase,
            window=self.window,
            plan=tuple(self.plan),
            reason=self.reason,
        )
        return group, tuple(self.out)

    # The plan.

    def _put(self, name: str, slot: Slot) -> None:
        self.children[name] = replace(self.children[name], slot=slot)

    def _launch(self, name: str) -> None:
        self._put(name, "starting")
        self.out.append(StartChild(name))

    def _halt(self, name: str) -> None:
        self._put(name, "stopping")
        self.out.append(StopChild(name))

    def _settle(self, name: str, slot: Slot) -> None:
        """Leave the child without a process. A temporary one is forgotten for good."""
        child = self.children[name]
        if child.restart == "temporary" and slot != "ignored" and self.phase != "closing":
            slot_shown: Slot | str = "removed"
            del self.children[name]
        else:
            slot_shown = slot
            self.children[name] = replace(child, slot=slot, again=False, manual=False, up_since=None)
        self.out.append(Settle(name, slot_shown))  # type: ignore[arg-type]

    def _advance(self) -> None:
        """Do the plan's steps until one has to be waited for."""
        while self.plan:
            verb, name = self.plan[0]
            if verb == "opened":
                self._open()
            elif verb == "close":
                self.phase = "down"
                self.out.append(Closed(self.reason))
                self.plan.clear()
                return
            elif name in self.children and not self._did(verb, self.children[name]):
                return
            if self.plan and self.plan[0] == (verb, name):
                self.plan.pop(0)

    def _did(self, verb: Verb, child: Child) -> bool:
        """Begin a step, or find it done."""
        if verb == "stop":
            if child.slot in ("waiting", "parked"):
                self._settle(child.name, "down")
                return True
            if child.slot in ("up", "starting"):
                self._halt(child.name)
            return child.slot not in _LIVE
        if not child.wanted or child.slot in ("up", "failed", "ignored"):
            return True
        if child.slot in ("down", "done"):
            self._launch(child.name)
            if self.phase == "opening" and child.hold_s != float("inf"):
                self.out.append(Hold(child.name, child.hold_s))
        return False

    def _open(self) -> None:
        if self.phase == "opening":
            self.phase = "open"
            self.out.append(Opened())
        self.plan = [entry for entry in self.plan if entry[0] != "opened"]

    # Life of the group.

    def _begin(self) -> None:
        if self.phase != "down":
            return
        self.phase, self.window, self.reason = "opening", (), ""
        for name, child in self.children.items():
            self.children[name] = replace(
                child, slot="down", failures=0, up_since=None, again=False, manual=False
            )
        self.plan = [("start", name) for name in self.children]
        self.plan.append(("opened", ""))

    def _close(self, reason: Reason) -> None:
        if self.phase in ("down", "closing"):
            return
        self.phase, self.reason = "closing", reason
        order = list(reversed(self.children))
        self.plan = [("stop", name) for name in order]
        self.plan.append(("close", ""))
        if self.spec.parallel_stop or self.spec.strategy == "simple_one_for_one":
            for name in order:
                if self.children[name].slot in ("up", "starting"):
                    self._halt(name)

    # News of a child.

    def _ready(self, child: Child) -> None:
        if child.slot == "starting":
            self.children[child.name] = replace(child, slot="up", up_since=self.now, manual=False)

    def _ended(self, child: Child, event: Ended) -> None:
        if child.slot not in _LIVE:
            return
        if child.slot == "stopping" or self.phase == "closing":
            if child.again and child.wanted and self.phase != "closing":
                self.children[child.name] = replace(child, again=False)
                self._launch(child.name)
            else:
                self._settle(child.name, "down")
        elif event.verdict == "ignored":
            self._settle(child.name, "ignored")
        elif event.verdict == "fatal":
            self._block_later(child.name)
            self._settle(child.name, "failed")
        elif event.verdict == "planned" and not self._spent(child, event.spare_s):
            self.children[child.name] = replace(child, spared_at=self.now)
            self._launch(child.name)
        elif child.restart == "temporary" or (child.restart == "transient" and event.verdict == "normal"):
            self._settle(child.name, "done")
            self._auto_shutdown(child)
        elif child.manual:
            self.children[child.name] = replace(child, wanted=False)
            self._settle(child.name, "down")
        elif child.abort and child.slot == "starting" and self.phase == "opening":
            self._settle(child.name, "down")
            self._close("abort")
        else:
            self._count(child, event.luck)

    def _spent(self, child: Child, spare_s: float) -> bool:
        return child.spared_at is not None and self.now - child.spared_at < spare_s

    def _block_later(self, name: str) -> None:
        """Under rest_for_one, later siblings need the one that failed for good: they go and stay down."""
        if self.spec.strategy != "rest_for_one":
            return
        later = self._restart_set(name)[1:]
        stops: list[tuple[Verb, str]] = [
            ("stop", other) for other in reversed(later) if self.children[other].slot in _LIVE
        ]
        rest = [entry for entry in self.plan if entry[1] not in later]
        self.plan = stops + rest

    def _auto_shutdown(self, child: Child) -> None:
        if not child.significant or self.spec.auto_shutdown == "never":
            return
        others = [other for other in self.children.values() if other.significant and other.name != child.name]
        active = any(other.slot in (*_LIVE, "waiting") for other in others)
        if self.spec.auto_shutdown == "any_significant" or not active:
            self._close("auto_shutdown")

    # Restarting.

    def _count(self, child: Child, luck: float) -> None:
        """Count a decision to restart; the (intensity+1)-th within the period is one too many."""
        recent = tuple(at for at in self.window if self.now - at <= self.spec.period_s)
        self.window = (*recent, self.now)
        stable = child.up_since is not None and self.now - child.up_since >= child.backoff.reset_after_s
        failures = 1 if stable else child.failures + 1
        child = replace(child, failures=failures, up_since=None, manual=False)
        self.children[child.name] = child
        if len(self.window) <= self.spec.intensity:
            self._put(child.name, "waiting")
            self.out.append(Wait(child.name, delay_s(child.backoff, failures, luck), failures))
            self._plan_group_restart(child.name)
        elif self.spec.on_limit == "park":
            self._put(child.name, "parked")
            self.out.append(Park(child.name, self.spec.park_retry_s * (1.0 + PARK_JITTER * luck)))
            self._plan_group_restart(child.name)
            self._open()  # parking must not keep later groups waiting
        else:
            self._settle(child.name, "down")
            self._close("intensity")

    def _restart_set(self, name: str) -> list[str]:
        names = list(self.children)
        if self.spec.strategy == "one_for_all":
            return names
        if self.spec.strategy == "rest_for_one":
            return names[names.index(name) :]
        return [name]

    def _plan_group_restart(self, name: str) -> None:
        """Under a group strategy: stop the others of the set in reverse, then start the set in order.

        The start of the failed child waits for its delay, and all after it wait for it. A restart that was
        already under way is absorbed: its children are in this set, or stay behind it.
        """
        members = self._restart_set(name)
        if self.spec.strategy not in ("one_for_all", "rest_for_one"):
            if self.phase == "opening" and self.children[name].slot == "parked":
                self.plan = [entry for entry in self.plan if entry != ("start", name)]
            return
        steps: list[tuple[Verb, str]] = [
            ("stop", other)
            for other in reversed(members)
            if other != name and self.children[other].slot in _LIVE
        ]
        steps.append(("start", name))
        steps += (
            [("start", other) for other in members if other != name]
            if self.spec.strategy == "rest_for_one"
            else []
        )
        if self.spec.strategy == "one_for_all":
            steps = steps[:-1] + [("start", other) for other in members]
        self.plan = steps + [entry for entry in self.plan if entry[1] not in members]

    def _due(self, child: Child) -> None:
        if child.slot == "parked":
            self.window = ()
        elif child.slot != "waiting":
            return
        if (
            self.plan
            and self.spec.strategy in ("one_for_all", "rest_for_one")
            and self.plan[0] != ("start", child.name)
        ):
            self._put(child.name, "down")  # the plan comes to it
        else:
            self._launch(child.name)

    def _expired(self, name: str) -> None:
        """Let the others go on: later groups always, later siblings where order carries no meaning."""
        if self.plan and self.plan[0] == ("start", name) and self.children[name].slot != "up":
            if self.spec.strategy not in ("one_for_all", "rest_for_one"):
                self.plan.pop(0)
            self._open()

    # Commands.

    def _start(self, child: Child) -> None:
        self.children[child.name] = child = replace(child, wanted=True)
        if child.slot in _LIVE or self.phase not in ("opening", "open"):
            return
        self.children[child.name] = replace(child, manual=child.slot not in ("waiting", "parked"))
        self._launch(child.name)

    def _stop(self, child: Child) -> None:
        self.children[child.name] = child = replace(child, wanted=False, again=False)
        if child.slot in ("up", "starting"):
            self._halt(child.name)
        elif child.slot != "stopping":
            self._settle(child.name, "down")
        if self.spec.strategy in ("one_for_all", "rest_for_one") and self.plan[:1] == [("start", child.name)]:
            self.plan = [entry for entry in self.plan if entry[0] != "start"]  # later ones stay down with it

    def _restart(self, child: Child) -> None:
        self.children[child.name] = child = replace(child, wanted=True, again=child.slot in _LIVE)
        if child.slot in ("up", "starting"):
            self._halt(child.name)
        elif child.slot != "stopping" and self.phase in ("opening", "open"):
            self._launch(child.name)
