"""A changed file meets a running group, with the smallest effect. Pure; see `restart`.

What a child is comes from the file, what it has been through stays with it: its slot, its failures, and what
the operator wants of it. Those who leave are stopped first, last started first; then, in start order, those
who are new are started and those whose program changed are stopped and started, one after the other.
"""

from msgspec.structs import replace

from daedalus.kernel.group import LIVE, Child, Reshape
from daedalus.kernel.orders import unblock
from daedalus.kernel.turn import Step, Turn

__all__ = ["reshape"]

_LIVED = (
    "slot", "wanted", "failures", "up_since", "spared_at", "again", "retry_at", "manual", "prior_slot",
    "prior_wanted",
)  # fmt: skip


def reshape(turn: Turn, event: Reshape) -> None:
    """Take over the file's view of the group."""
    turn.spec = event.spec
    if event.spec.intensity == 0:
        turn.window = ()
    turn.window = turn.window[-event.spec.intensity :]  # an older one can no longer decide anything
    new = _arrange(turn, event)
    leaving = [name for name, child in turn.children.items() if child.leaving]
    stops = _dismiss(turn, leaving)
    if not turn.runs:  # what is closing goes on stopping them
        return
    turn.plan = [step for step in turn.plan if step[1] not in leaving]
    work = [step for name in turn.children for step in _work(turn, name, new, event.restart)]
    turn.plan = stops + _merge(turn, work)


def _arrange(turn: Turn, event: Reshape) -> list[str]:
    """Put the children into the file's order, those added by hand after them; return the new ones."""
    old = turn.children
    gone = {child.name for child in turn.written} - set(old)
    turn.children, new = {}, []
    for child in event.children:
        if child.name in old:
            before = old[child.name]
            turn.children[child.name] = replace(child, **{key: getattr(before, key) for key in _LIVED})
        elif child.name not in gone or child.name in event.restart:  # one that ended for good stays away
            turn.children[child.name] = replace(child, slot="down")
            new.append(child.name)
    for name, child in old.items():
        if name not in turn.children and child.by_hand:
            turn.children[name] = child
    for name, child in old.items():
        if name not in turn.children:
            turn.children[name] = replace(child, leaving=True, wanted=False, again=False)
    if turn.written:
        turn.written = event.children
    return new


def _dismiss(turn: Turn, leaving: list[str]) -> list[Step]:
    """Forget those without a process, and return how the others are stopped."""
    stops: list[Step] = []
    for name in reversed(leaving):
        slot = turn.children[name].slot
        if slot not in LIVE:
            turn.settle(name, "removed")
        elif turn.runs:
            stops.append(("stop", name))
            if turn.spec.strategy == "simple_one_for_one" and slot != "stopping":
                turn.halt(name)
    return stops


def _work(turn: Turn, name: str, new: list[str], restart: tuple[str, ...]) -> list[Step]:
    """Return what is to be done about one child."""
    child = turn.children[name]
    if not child.wanted or (name not in new and name not in restart):
        return []
    if name in new:
        if turn.spec.strategy == "simple_one_for_one":
            turn.launch_step(name)
        return [("start", name)]
    turn.put(name, failures=0, manual=False)
    if child.slot in LIVE:
        return [("renew", name)]
    unblock(turn, child)
    if child.slot in ("done", "ignored", "held"):
        turn.settle(name, "down", keep=True)
    return [("start", name), *_after(turn, child)]


def _after(turn: Turn, child: Child) -> list[Step]:
    """Return the starts of those that could not be started before this one, which had failed for good."""
    if child.slot != "failed" or turn.spec.strategy != "rest_for_one":
        return []
    later = turn.restart_set(child.name)[1:]
    return [("start", name) for name in later if turn.children[name].slot == "down"]


def _merge(turn: Turn, work: list[Step]) -> list[Step]:
    """Return the plan with the work in it: in start order while the group opens, else after what is there."""
    plan = [*turn.plan]
    steps = [step for step in dict.fromkeys(work) if step not in plan]
    if ("opened", "") not in plan:
        return plan + steps
    at = plan.index(("opened", ""))
    before, after = [*plan[:at], *steps], plan[at:]
    if all(verb in ("start", "renew") for verb, _ in before):
        order = list(turn.children)
        before.sort(key=lambda step: order.index(step[1]))
    return before + after
