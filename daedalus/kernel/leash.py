"""The leash: what ends an actor when its supervisor is dead and it does not leave by itself.

The death of the supervisor sends SIGTERM to every actor, and a sound one drains what is in memory and goes.
One whose loop hangs, whose drain or stop never ends, or that ignores the signal would live on, and hold its
sockets and locks against the next start. So one thread of each actor sleeps on the supervisor's pidfd, and
when that speaks gives the loop a moment more, then kills the actor's whole group.

A thread needs the interpreter lock: code that never gives it back is out of reach here, and is swept at the
next start. A stopped process (SIGSTOP) is woken by the kernel: see `zygote`.
"""

import os
import select
import signal
import threading
import time

__all__ = ["cut", "is_orphan", "tie"]


def is_orphan(supervisor_pid: int) -> bool:
    """Return whether the supervisor that this process was made by is gone. Pid 0: there was none."""
    return supervisor_pid not in (0, os.getppid())


def cut(supervisor_pid: int) -> None:
    """Kill this process and its group if it is an orphan: nobody else will bury what it started."""
    if is_orphan(supervisor_pid):
        if os.getpgrp() == os.getpid():  # a group of others is not ours to kill
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def tie(supervisor_pid: int, grace_s: float) -> None:
    """Kill this process and its group `grace_s` after the end of its parent `supervisor_pid`.

    Call it in the actor's own process, after the last fork. Pid 0 means that nobody supervises.
    """
    if supervisor_pid == 0:
        return
    try:
        pidfd = os.pidfd_open(supervisor_pid)
    except ProcessLookupError:
        pidfd = -1
    if pidfd >= 0 and is_orphan(supervisor_pid):  # it died before: this is another's pid by now
        os.close(pidfd)
        pidfd = -1
    threading.Thread(target=_hold, args=(pidfd, supervisor_pid, grace_s), name="leash", daemon=True).start()


def _hold(pidfd: int, supervisor_pid: int, grace_s: float) -> None:
    if pidfd >= 0:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll()
    time.sleep(grace_s)
    cut(supervisor_pid)
