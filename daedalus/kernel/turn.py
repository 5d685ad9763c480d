"""One event's worth of work on a copy of a group: the slots of its children, and its plan. Pure.

The plan is a queue of steps that must happen one after the other. Its head is in flight until an event about
its child completes it, so every step can be looked at again and again until it is found done:

    stop      the child has no process
    start     the child has been given its start: it is up, or will not be for now
    ripe      the child's delay is over: what a failed child's group restart waits for
    renew     the child has been stopped and is started again, alone
    opened    all before it has been started: the parent is told
    close     all before it has been stopped: the parent is told
"""

from typing import Any

from msgspec.structs import replace

from daedalus.kernel.group import (
    LIVE,
    Child,
    Closed,
    Group,
    Hold,
    Instruction,
    Opened,
    Park,
    Reason,
    Settle,
    Settled,
    StartChild,
    StopChild,
    Verb,
)

__all__ = ["Step", "Turn"]

Step = tuple[Verb, str]


class Turn:
    """A group in the middle of a decision. Nothing here decides *that* a child is restarted."""

    def __init__(self, group: Group, now: float) -> None:
        """Begin with the group as it is at `now`, monotonic seconds."""
        self.now = now
        self.spec = group.spec
        self.children = {child.name: child for child in group.children}
        self.written = group.written
        self.phase = group.phase
        self.window = group.window
        self.plan: list[Step] = list(group.plan)
        self.reason = group.reason
        self.out: list[Instruction] = []

    def result(self) -> tuple[Group, tuple[Instruction, ...]]:
        """Return the group as it is now, and what is to be done."""
        group = Group(
            spec=self.spec,
            children=tuple(self.children.values()),
            written=self.written,
            phase=self.phase,
            window=self.window,
            plan=tuple(self.plan),
            reason=self.reason,
        )
        return group, tuple(self.out)

    @property
    def runs(self) -> bool:
        """Whether children may be started."""
        return self.phase in ("opening", "open")

    @property
    def coupled(self) -> bool:
        """Whether a failure of one child is the business of others."""
        return self.spec.strategy in ("one_for_all", "rest_for_one")

    @property
    def at_once(self) -> bool:
        """Whether children are stopped together when the group closes."""
        return self.spec.strategy == "simple_one_for_one" or (
            self.spec.parallel_stop and self.spec.strategy == "one_for_one"
        )

    # Slots.

    def put(self, name: str, **changes: Any) -> None:
        """Change what is known of a child."""
        self.children[name] = replace(self.children[name], **changes)

    def launch(self, name: str) -> None:
        """Have the child started now."""
        self.put(name, slot="starting", retry_at=None)
        self.out.append(StartChild(name))

    def launch_step(self, name: str) -> None:
        """Start a child that others wait for, the first time not without limit."""
        self.launch(name)
        child = self.children[name]
        limited = self.phase == "opening" or not self.coupled
        if limited and child.failures == 0 and child.hold_s != float("inf"):
            self.out.append(Hold(name, child.hold_s))

    def halt(self, name: str) -> None:
        """Have the child stopped now."""
        self.put(name, slot="stopping")
        self.out.append(StopChild(name))

    def settle(self, name: str, slot: Settled, *, keep: bool = False) -> None:
        """Leave the child without a process, and with its start given, if that was waited for.

        One that has left the file is forgotten, and a temporary one too, unless it is to `keep`, or the group
        closes: what the group was made with comes back with it.
        """
        child = self.children[name]
        temporary = child.restart == "temporary" and not keep and self.phase != "closing"
        if child.leaving or temporary or slot == "removed":
            del self.children[name]
            self.plan = [step for step in self.plan if step[1] != name]
            self.out.append(Settle(name, "removed"))
        else:
            self.put(name, slot=slot, again=False, manual=False, up_since=None, retry_at=None)
            self.out.append(Settle(name, slot))
        if child.slot == "starting" and self.plan[:1] == [("start", name)]:  # it had its start
            self.plan.pop(0)

    def retry(self, child: Child) -> None:
        """Try again now what waits or is parked; under a group strategy that is another group restart."""
        name = child.name
        if child.slot == "parked":
            self.window = ()
        if ("ripe", name) in self.plan:
            self.put(name, slot="down", retry_at=None)
        elif self.coupled and ("start", name) not in self.plan:
            self.put(name, slot="down", retry_at=None)
            self.regroup(name)
        else:
            self.launch(name)

    # The plan.

    def advance(self) -> None:
        """Do the plan's steps until one has to be waited for."""
        while self.plan:
            step = verb, name = self.plan[0]
            if verb == "opened":
                self.open()
            elif verb == "close":
                self.phase = "down"
                self.plan.clear()
                self.out.append(Closed(self.reason))
            elif name in self.children and not self._did(verb, self.children[name]):
                return
            if self.plan[:1] == [step]:
                self.plan.pop(0)

    def _did(self, verb: Verb, child: Child) -> bool:
        """Begin a step, or find it done."""
        match verb:
            case "stop":
                return self._did_stop(child)
            case "renew":
                return self._did_renew(child)
            case "ripe":
                return self._did_ripen(child)
            case _:
                return self._did_start(child)

    def _did_stop(self, child: Child) -> bool:
        if child.slot in ("up", "starting"):
            self.halt(child.name)
        elif child.slot in ("waiting", "parked", "held") and ("start", child.name) not in self.plan:
            self.settle(child.name, "down")
        return child.slot not in LIVE

    def _did_start(self, child: Child) -> bool:
        if child.slot == "failed":  # those that need it cannot be started either
            self.forgo(child.name)
            return True
        if not child.wanted or child.slot == "up":
            return True
        if child.slot == "held":
            return not child.blocking
        if child.slot in ("down", "done", "ignored", "parked"):
            self.launch_step(child.name)
        return False

    def _did_renew(self, child: Child) -> bool:
        if not child.wanted or child.leaving:
            return True
        if child.slot in ("up", "starting"):
            self.put(child.name, again=True, failures=0)
            self.halt(child.name)
        return child.slot not in LIVE

    def _did_ripen(self, child: Child) -> bool:
        if child.slot in ("waiting", "parked"):
            return False
        self.plan.remove(("ripe", child.name))
        if not any(verb == "ripe" for verb, _ in self.plan):
            self._clear_the_way()
        return True

    def _clear_the_way(self) -> None:
        """Stop those of a restart set that were started by hand while it waited, as OTP's retry does."""
        first = next((name for verb, name in self.plan if verb == "start"), None)
        if first is not None:
            members = self.restart_set(first)
            if any(self.children[name].slot in LIVE for name in members if name != first):
                self.regroup(first)

    def open(self) -> None:
        """Tell the parent that the group is up, once."""
        if self.phase == "opening":
            self.phase = "open"
            self.out.append(Opened())
        self.plan = [step for step in self.plan if step[0] != "opened"]

    def begin_close(self, reason: Reason) -> None:
        """Stop all children in reverse order; what only waits is settled now, and no timer starts it."""
        if not self.runs:
            return
        self.phase, self.reason = "closing", reason
        for name in list(reversed(self.children)):
            if self.children[name].slot in ("waiting", "parked", "held"):
                self.settle(name, "down")
        order = list(reversed(self.children))
        self.plan = [("stop", name) for name in order]
        self.plan.append(("close", ""))
        if self.at_once:
            for name in order:
                if self.children[name].slot in ("up", "starting"):
                    self.halt(name)

    # Sets of children that depend on one another.

    def restart_set(self, name: str) -> list[str]:
        """Return who is restarted together with the child, in start order."""
        names = list(self.children)
        if self.spec.strategy == "one_for_all":
            return names
        if self.spec.strategy == "rest_for_one":
            return names[names.index(name) :]
        return [name]

    def regroup(self, name: str, *, whole: bool = False) -> None:
        """Plan a restart of the child's set: stop the others (or the `whole`), wait, start all in order.

        A restart already under way is merged: all that either would start is started after both delays.
        """
        members = self.restart_set(name)
        planned = {other for verb, other in self.plan if verb == "start"}
        order = [other for other in self.children if other in members or other in planned]
        stops: list[Step] = [
            ("stop", other)
            for other in reversed(members)
            if (whole or other != name) and self.children[other].slot in LIVE
        ]
        ripe: list[Step] = [
            ("ripe", other)
            for other in order
            if self.children[other].slot in ("waiting", "parked")
            and (other == name or ("ripe", other) in self.plan)
        ]
        rest = [step for step in self.plan if step[0] not in ("start", "ripe") and step[1] not in members]
        self.plan = stops + ripe + [("start", other) for other in order] + rest

    def forgo(self, name: str) -> None:
        """Leave down those that need the child, where a start of them was planned."""
        if self.spec.strategy == "rest_for_one" and name in self.children:
            later = self.restart_set(name)[1:]
            self._drop_starts(later)

    def cancel_restart(self, child: Child) -> None:
        """End the restart of a set because an operator stopped the child it waits for. Later ones stay down.

        If another restart under way includes the set, that one goes on.
        """
        waits = ("ripe", child.name) in self.plan
        tries = child.failures > 0 and self.plan[:1] == [("start", child.name)]
        if not self.coupled or not (waits or tries):
            return
        self.plan = [step for step in self.plan if step != ("ripe", child.name)]
        if not any(verb == "ripe" for verb, _ in self.plan):
            names = list(self.children)
            self._drop_starts(names[names.index(child.name) :])

    def _drop_starts(self, names: list[str]) -> None:
        dropped = [name for name in names if ("start", name) in self.plan]
        self.plan = [step for step in self.plan if step[0] != "start" or step[1] not in dropped]
        for name in dropped:
            if self.children[name].slot == "parked":
                self.settle(name, "down", keep=True)

    def park_with(self, name: str) -> None:
        """Park a child without a process beside the one whose restart it waits for."""
        leaders = (
            self.children[other] for verb, other in self.plan if verb == "ripe" and other in self.children
        )
        retry_at = next((item.retry_at for item in leaders if item.slot == "parked"), None)
        child = self.children.get(name)
        waits = ("start", name) in self.plan and child is not None and child.slot == "down" and child.wanted
        if retry_at is not None and waits:
            self.put(name, slot="parked", retry_at=retry_at)
            self.out.append(Park(name, max(0.0, retry_at - self.now)))
