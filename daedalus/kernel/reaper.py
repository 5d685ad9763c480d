"""The one place that waits for children: known ones are reported, adopted orphans are buried.

A peek (WNOWAIT) comes before every reaping, so that the owner of a known child can end its group while the
zombie still pins the group's id, and so that a worker whose pid is not registered yet is left for later.
"""

import os
from collections.abc import Callable

import msgspec

from daedalus.kernel import process

__all__ = ["Reaper", "Status"]


class Status(msgspec.Struct, frozen=True):
    """How a process ended: an exit code or a signal number, never both."""

    code: int | None = None
    signal: int | None = None
    core: bool = False


_UNKNOWN = Status()
_CHANGES = os.WSTOPPED | os.WCONTINUED | os.WNOHANG


def _status(info: "os.waitid_result") -> Status:
    if info.si_code == os.CLD_EXITED:
        return Status(code=info.si_status)
    return Status(signal=info.si_status, core=info.si_code == os.CLD_DUMPED)


class Reaper:
    """Waits for all children of this process. `collect` is called at SIGCHLD and once a second."""

    def __init__(self, before_exit: Callable[[], None]) -> None:
        """Begin with no known child. `before_exit` runs before any exit of a known child is told."""
        self._before_exit = before_exit
        self._dying: dict[int, Callable[[int], None]] = {}
        self._gone: dict[int, Callable[[Status], None]] = {}
        self._stopped: dict[int, Callable[[bool], None]] = {}
        self.expecting = 0  # workers whose pid is still to be told: unknown pids are left alone meanwhile
        self.orphans_reaped = 0

    def watch(
        self,
        pid: int,
        gone: Callable[[Status], None],
        dying: Callable[[int], None] | None = None,
        stopped: Callable[[bool], None] | None = None,
    ) -> None:
        """Report the end of `pid`: `dying(pid)` while it is a zombie, then `gone(status)`.

        Args:
            pid: a child of this process, not reaped yet.
            gone: called once, with the status.
            dying: called before the zombie is reaped.
            stopped: called with True when the process is stopped (SIGSTOP), False when it continues.
        """
        self._gone[pid] = gone
        if dying is not None:
            self._dying[pid] = dying
        if stopped is not None:
            self._stopped[pid] = stopped

    def strays(self, groups: set[int], actors: list[str]) -> list[int] | None:
        """Return children of ours that nobody watches and that belong to none of these.

        Args:
            groups: process groups that are accounted for.
            actors: names whose exec'd descendants may be ours for now.

        Returns:
            Their pids; None while one of them is between two programs, and nobody can tell yet whose it is.
        """
        marks = [f"DAEDALUS_ACTOR={name}" for name in actors]
        found = []
        for pid in process.children_of(os.getpid()):
            owner = process.group_of(pid)
            if pid in self._gone or owner is None or owner in groups:
                continue
            owned = process.environ_has(pid, *marks)
            if owned is None:
                return None
            if not owned:
                found.append(pid)
        return found

    def collect(self) -> None:
        """Look at every child that changed and reap what may be reaped."""
        self._collect_stops()
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if info is None:
                break
            pid = info.si_pid
            if pid not in self._gone:
                if self.expecting:
                    # It may be a worker whose pid is on its way. Known ones behind it in the kernel's list
                    # are found one by one.
                    self._collect_known()
                    return
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
                self.orphans_reaped += 1
            else:
                self._bury(pid)
        self._collect_lost()

    def _collect_known(self) -> None:
        for pid in list(self._gone):
            self._collect_one(pid)

    def _collect_one(self, pid: int) -> None:
        try:
            info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            self._tell(pid, _UNKNOWN)
            return
        if info is not None:
            self._bury(pid)

    def _collect_lost(self) -> None:
        """Tell the end of children that somebody else has waited for: their status is unknown."""
        if self._gone:
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self._collect_known()

    def _bury(self, pid: int) -> None:
        self._before_exit()
        if pid in self._dying:
            self._dying[pid](pid)
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        self._tell(pid, _UNKNOWN if info is None else _status(info))

    def _tell(self, pid: int, status: Status) -> None:
        self._dying.pop(pid, None)
        self._stopped.pop(pid, None)
        self._gone.pop(pid)(status)

    def _collect_stops(self) -> None:
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, _CHANGES)
            except ChildProcessError:
                return
            if info is None:
                return
            told = self._stopped.get(info.si_pid)
            if told is not None:
                told(info.si_code == os.CLD_STOPPED)
