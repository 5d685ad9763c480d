"""What an operator does to a child: start, stop, restart, add, remove, reset. Pure; see `restart`.

Theory of operation: an order is about one child unless it is told to propagate, and none of them counts as a
failure. A start by hand that fails leaves things as they were, as OTP's restart_child does; what waits or is
parked is merely tried sooner. Orders are served between the steps of a restart that keeps failing.
"""

from msgspec.structs import replace

from daedalus.kernel.group import LIVE, Add, Child, Remove, Reset, Restart, Start, Stop
from daedalus.kernel.turn import Turn

__all__ = ["add", "remove", "reset", "restart", "start", "stop", "unblock"]


def start(turn: Turn, child: Child, event: Start) -> None:
    """Start the child, and with `propagate` its whole restart set, in order."""
    name = child.name
    turn.put(name, wanted=True, again=child.again or child.slot == "stopping")
    if not turn.runs:
        return
    if event.propagate and turn.coupled:
        members = turn.restart_set(name)
        for other in members:
            turn.put(other, wanted=not turn.children[other].leaving)
            unblock(turn, turn.children[other])
        leaving = [other for other in members if turn.children[other].leaving]
        rest = [
            entry
            for entry in turn.plan
            if entry[1] not in members or entry[1] in leaving or entry[0] == "renew"
        ]  # to stop them first would be against the order
        turn.plan = [*(("start", other) for other in members if other not in leaving), *rest]
    elif child.slot in ("waiting", "parked"):
        turn.retry(turn.children[name])
    elif child.slot not in (*LIVE, "held") and ("ripe", name) not in turn.plan:  # there it is started anyway
        turn.put(name, manual=True, prior_slot=child.slot, prior_wanted=child.wanted)
        _launch(turn, turn.children[name])


def unblock(turn: Turn, child: Child) -> None:
    """Make a start of the child possible where the plan would wait or pass by."""
    turn.plan = [entry for entry in turn.plan if entry != ("ripe", child.name)]
    if child.slot == "failed":
        turn.settle(child.name, "down", keep=True)
    elif child.slot in ("waiting", "parked"):
        turn.put(child.name, slot="down", retry_at=None)


def _launch(turn: Turn, child: Child) -> None:
    """Start it now. If it had failed for good, those that waited for it under rest_for_one come after it."""
    turn.launch(child.name)
    if child.slot == "failed" and turn.spec.strategy == "rest_for_one":
        later = [
            other
            for other in turn.restart_set(child.name)[1:]
            if turn.children[other].slot == "down" and ("start", other) not in turn.plan
        ]
        turn.plan = [entry for entry in turn.plan if entry != ("start", child.name)]
        turn.plan += [("start", child.name), *(("start", other) for other in later)]


def stop(turn: Turn, child: Child, event: Stop) -> None:
    """Stop the child, and with `propagate` its whole restart set, in reverse; it stays down."""
    together = event.propagate and turn.coupled
    members = turn.restart_set(child.name) if together else [child.name]
    if together:
        stops = [("stop", other) for other in reversed(members) if turn.children[other].slot in LIVE]
        turn.plan = [*stops, *(entry for entry in turn.plan if entry[1] not in members)]  # type: ignore[list-item]
    else:
        turn.cancel_restart(child)
    for name in reversed(members):
        slot = turn.children[name].slot
        turn.put(name, wanted=False, again=False)
        if slot not in LIVE:
            turn.settle(name, "down")
        elif slot != "stopping" and not together and turn.phase != "closing":
            turn.halt(name)


def restart(turn: Turn, child: Child, event: Restart) -> None:
    """Stop the child and start it again; with `propagate` its restart set goes with it."""
    name = child.name
    turn.put(name, wanted=True, again=child.slot in LIVE and turn.runs)
    if not turn.runs:
        return
    if event.propagate and turn.coupled:
        unblock(turn, child)
        turn.regroup(name, whole=True)
    elif child.slot in ("up", "starting"):
        turn.halt(name)
    elif child.slot in ("waiting", "parked"):
        turn.retry(turn.children[name])
    elif child.slot not in ("stopping", "held") and ("ripe", name) not in turn.plan:
        _launch(turn, child)


def add(turn: Turn, event: Add) -> None:
    """Take a new child in and start it when its turn comes."""
    child, last = event.child, len(turn.children)
    if child.name in turn.children:
        return
    if not child.by_hand:
        last = sum(not other.by_hand for other in turn.children.values())
        if turn.written:
            turn.written = (*turn.written, child)
    at = last if event.at is None or child.by_hand else min(event.at, last)
    entries = list(turn.children.items())
    child = replace(
        child, slot="down", manual=child.by_hand, prior_slot="removed" if child.by_hand else "down"
    )
    turn.children = dict([*entries[:at], (child.name, child), *entries[at:]])
    if ("opened", "") in turn.plan:
        turn.plan.insert(turn.plan.index(("opened", "")), ("start", child.name))
    elif turn.runs and child.wanted:
        turn.launch(child.name)


def remove(turn: Turn, child: Child, _: Remove) -> None:
    """Forget a child that has no process and waits for no restart."""
    if child.slot in (*LIVE, "waiting"):
        return
    turn.cancel_restart(child)
    turn.written = tuple(other for other in turn.written if other.name != child.name)
    turn.settle(child.name, "removed")


def reset(turn: Turn, child: Child, _: Reset) -> None:
    """Forget the failures, and start at once what waits for them or gave up."""
    turn.window = ()
    turn.put(child.name, failures=0, spared_at=None)
    if not turn.runs or not child.wanted:
        return
    if child.slot in ("waiting", "parked"):
        turn.retry(turn.children[child.name])
    elif child.slot == "failed":
        _launch(turn, child)
