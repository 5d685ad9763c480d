"""What the control program can ask for: one coroutine per command, `args` in, the JSON result out.

`select` says which actors are meant, `queue` whose turn it is; `operate`, `shape` and `signals` change
something, `show` and `follow` only look. READS are the commands a person of the read-only group may give.
LAST_WORDS are those whose answer must be written in the very turn they return: the next one ends the program.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

from daedalus.kernel.commands.follow import stream_events, stream_logs
from daedalus.kernel.commands.office import Command, Office
from daedalus.kernel.commands.operate import do_drain, do_restart, do_rolling_restart, do_start, do_stop
from daedalus.kernel.commands.select import select
from daedalus.kernel.commands.shape import do_add, do_reexec, do_reload, do_remove, do_reset, do_shutdown
from daedalus.kernel.commands.show import do_count, do_health, do_spec, do_stats, do_status, do_wait
from daedalus.kernel.commands.signals import do_kill, do_pause, do_resume

__all__ = ["COMMANDS", "LAST_WORDS", "READS", "STREAMS", "Office", "select"]

_LOOKS: dict[str, Command] = {
    "status": do_status,
    "stats": do_stats,
    "health": do_health,
    "count": do_count,
    "spec": do_spec,
    "wait": do_wait,
}
COMMANDS: dict[str, Command] = _LOOKS | {
    "start": do_start,
    "stop": do_stop,
    "restart": do_restart,
    "drain": do_drain,
    "rolling-restart": do_rolling_restart,
    "kill": do_kill,
    "pause": do_pause,
    "resume": do_resume,
    "add": do_add,
    "remove": do_remove,
    "reset": do_reset,
    "reload": do_reload,
    "shutdown": do_shutdown,
    "reexec": do_reexec,
}
STREAMS: dict[str, Callable[[Office, dict[str, Any]], AsyncIterator[Any]]] = {
    "events": stream_events,
    "logs": stream_logs,
}
READS = frozenset({*_LOOKS, *STREAMS})
LAST_WORDS = frozenset({"shutdown", "reexec"})
