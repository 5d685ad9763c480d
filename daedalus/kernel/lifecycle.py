"""One actor's states, as a table. Pure: an event comes in, the next state and what to do go out.

Theory of operation: an actor is either down (no process of it lives), waiting for something, or live. The
group above decides *whether* it runs (`restart`); this table decides *how* a process is brought up and down:
each live state has at most one timer, and the timer's event leads one step closer to SIGKILL. An exit is
told together with the group's verdict, so that each exit event names where the actor goes.

Two rules hold for every row: a late timer is no event at all (the shell cancels timers by name, and an
event that has no row raises and leaves the state as it was), and nothing leads from a live state to
`starting` but an exit, so that there is never more than one process group per actor.
"""

from typing import Literal

import msgspec

__all__ = [
    "DOWN",
    "LIVE",
    "STATES",
    "TABLE",
    "Exit",
    "IllegalTransitionError",
    "classify",
    "diagram",
    "step",
    "verdict",
]

State = Literal[
    "stopped", "held", "starting", "running", "degraded", "draining", "stopping", "killing", "stuck",
    "backoff", "done", "failed", "ignored",
]  # fmt: skip
Event = Literal[
    "start", "hold", "ready", "degrade", "recover", "drain", "stop", "kill", "drain_timeout",
    "shutdown_timeout", "kill_timeout", "gone", "back_off", "finish", "fail", "ignore",
]  # fmt: skip
Action = Literal[
    "spawn", "send_drain", "send_term", "send_kill", "alert", "disarm", "arm_start", "arm_drain",
    "arm_shutdown", "arm_kill",
]  # fmt: skip
Class = Literal[
    "normal", "requested", "abnormal", "hung", "memory", "oom", "start_timeout", "shutdown_timeout",
    "spawn_error", "fatal", "recycle",
]  # fmt: skip

RECYCLE_SPARE_S = 60.0  # planned restarts closer together than this are failures
MEMORY_SPARE_S = 600.0

DOWN: tuple[State, ...] = ("stopped", "done", "failed", "ignored", "backoff", "held")
LIVE: tuple[State, ...] = ("starting", "running", "degraded", "draining", "stopping", "killing", "stuck")
STATES: tuple[State, ...] = ("stopped", "held", *LIVE, "backoff", "done", "failed", "ignored")

_SETTLED: dict[Event, State] = {
    "gone": "stopped",
    "back_off": "backoff",
    "finish": "done",
    "fail": "failed",
    "ignore": "ignored",
}


def _table() -> dict[tuple[State, Event], tuple[State, tuple[Action, ...]]]:
    table: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
        ("starting", "ready"): ("running", ("disarm",)),
        # Before READY there may be no handler yet that could drain.
        ("starting", "drain"): ("stopping", ("send_term", "arm_shutdown")),
        ("starting", "stop"): ("stopping", ("send_term", "arm_shutdown")),
        ("running", "degrade"): ("degraded", ()),
        ("degraded", "recover"): ("running", ()),
        ("draining", "drain_timeout"): ("stopping", ("send_term", "arm_shutdown")),
        ("draining", "stop"): ("stopping", ("send_term", "arm_shutdown")),
        ("stopping", "shutdown_timeout"): ("killing", ("send_kill", "arm_kill")),
        ("killing", "kill_timeout"): ("stuck", ("alert",)),
        ("stuck", "kill"): ("stuck", ("send_kill",)),
    }
    serving: tuple[State, ...] = ("running", "degraded")
    for state in serving:
        table[state, "drain"] = ("draining", ("send_drain", "arm_drain"))
        table[state, "stop"] = ("stopping", ("send_term", "arm_shutdown"))
    killable: tuple[State, ...] = ("starting", "running", "degraded", "draining", "stopping")
    for state in killable:
        table[state, "kill"] = ("killing", ("send_kill", "arm_kill"))
    for state in DOWN:
        table[state, "start"] = ("starting", ("spawn", "arm_start"))
        table[state, "hold"] = ("held", ())  # also while held: a gate may shut again before the start
    for event, settled in _SETTLED.items():
        for state in (*LIVE, *DOWN):
            table[state, event] = (settled, ("disarm",))
    return table


TABLE = _table()


class IllegalTransitionError(Exception):
    """The event has no row in the state. Raised with both, and with the state left as it was."""


def step(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """Return the next state and what to do, in order.

    Raises:
        IllegalTransitionError: the table has no such row.
    """
    try:
        return TABLE[state, event]
    except KeyError:
        raise IllegalTransitionError(f"cannot {event} an actor that is {state}") from None


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about an exit before it is judged."""

    state: State  # when it happened
    code: int | None = None
    signal: str | None = None  # "SIGSEGV"
    core: bool = False
    requested: bool = False  # we asked for it: stop, drain or restart
    killed_for: Class | None = None  # why we sent SIGKILL, if we did
    left_for: Class | None = None  # why we drained it without being asked: memory
    detail: str = ""  # "20s", "soft", "ENOENT: /bin/nothing"
    reported: str = ""  # X_DAEDALUS_ERROR of the process itself
    clean_codes: tuple[int, ...] = ()
    fatal_codes: tuple[int, ...] = ()
    oom: bool = False  # its control group says that the kernel killed for want of memory


_WORDS = {"start_timeout": "start timeout", "shutdown_timeout": "shutdown timeout"}


def _how(exit_: Exit) -> str:
    if exit_.signal is not None:
        return f"{exit_.signal} (core)" if exit_.core else exit_.signal
    text = "exit status unknown" if exit_.code is None else f"exit {exit_.code}"
    return f"{text}: {exit_.reported}" if exit_.reported else text


def classify(exit_: Exit) -> tuple[Class, str]:  # noqa: PLR0911 - one line per rule of the design
    """Return the class of an exit and the words for it, the first rule that fits.

    Death by our own SIGKILL has the class of our reason; what happened on request is never a failure;
    a death by SIGTERM that nobody ordered is abnormal; 78 says that retrying cannot help, 75 is planned.
    """
    if exit_.killed_for is not None and exit_.signal in ("SIGKILL", "SIGABRT"):
        return exit_.killed_for, f"{_WORDS.get(exit_.killed_for, exit_.killed_for)} {exit_.detail}".rstrip()
    if exit_.requested:
        return "requested", _how(exit_)
    if exit_.oom and exit_.signal == "SIGKILL":
        return "oom", "oom"
    if exit_.left_for is not None:
        return exit_.left_for, f"{exit_.left_for} {exit_.detail}".rstrip()
    if exit_.code in (126, 127):
        return "spawn_error", exit_.reported or _how(exit_)
    if exit_.code == 78 or (exit_.code is not None and exit_.code in exit_.fatal_codes):  # EX_CONFIG
        return "fatal", _how(exit_)
    if exit_.code == 75:  # EX_TEMPFAIL
        return "recycle", _how(exit_)
    if exit_.code == 0 or (exit_.code is not None and exit_.code in exit_.clean_codes):
        return "normal", _how(exit_)
    return "abnormal", _how(exit_)


def verdict(
    class_: Class, message: str, planned: Class | None, memory_spare_s: float = MEMORY_SPARE_S
) -> tuple[Literal["normal", "abnormal", "fatal", "planned", "ignored"], float]:
    """Return what an exit means to the group, and how long ago the last planned one must be, seconds.

    Args:
        class_: the class of the exit.
        message: its words; a program that does not exist will not exist next time either.
        planned: why it left in good order without being asked, "normal" when it said IGNORE.
        memory_spare_s: restarts for memory closer together than this are failures.
    """
    if planned == "normal":
        return "ignored", 0.0
    if class_ in ("normal", "requested"):
        return "normal", 0.0
    if class_ == "fatal" or (class_ == "spawn_error" and message.startswith(("ENOENT", "EACCES"))):
        return "fatal", 0.0
    if class_ == "recycle":
        return "planned", RECYCLE_SPARE_S
    return ("abnormal", 0.0) if planned is None else ("planned", memory_spare_s)


def diagram() -> str:
    """Return the table for the documentation: a Mermaid diagram of what leads where, then every row.

    The exits, possible in every live state, would hide the rest of the picture and are left to the rows.
    """
    rows = sorted(TABLE.items(), key=lambda row: STATES.index(row[0][0]))
    arrows: dict[tuple[State, State], list[Event]] = {}
    for (state, event), (target, _) in rows:
        if event not in _SETTLED and state != target:
            arrows.setdefault((state, target), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items()]
    lines += ["```", "", "| From | Event | To | Actions |", "|---|---|---|---|"]
    for (state, event), (target, actions) in rows:
        lines.append(f"| {state} | {event} | {target} | {' '.join(actions) or '-'} |")
    return "\n".join(lines) + "\n"
