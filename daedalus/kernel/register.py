"""What the next supervisor must know of this one, on disk: who runs, and who is to stay down.

The first is for a supervisor that follows a crash, in the runtime directory, at every change. The second is
the operator's word and outlives even a reboot, in the data directory; that disk may be slow and wears with
every write, so a thread writes it, and seldom.
"""

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from daedalus.kernel import intent, process
from daedalus.kernel.home import Home, State

if TYPE_CHECKING:
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["Register"]

SAVE_DELAY_S = 0.05


class Register:
    """Notes changes once per turn of the loop."""

    def __init__(self, home: Home, data: str, report: Callable[..., None]) -> None:
        """Read what an earlier supervisor noted of the operator's wishes.

        Args:
            home: the runtime directory.
            data: the data directory; empty: nothing is remembered beyond this life.
            report: called as report(event_name, **values).
        """
        self._home = home
        self._report = report
        self._keeper: intent.Keeper | None = None
        self._saving: asyncio.Handle | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._closing = False
        self._unwritten = False
        self.known = intent.Intent()  # of earlier supervisors on these data
        if data:
            path = intent.intent_path(data)
            self.known, trouble = intent.load(path)
            if trouble:
                self._report("intent_refused", error=trouble)
            self._keeper = intent.Keeper(path, asyncio.get_running_loop().time(), self.known)

    def note(self, supervisor: "Supervisor") -> None:
        """Note what has changed, soon: changes come in swarms, and each note is a file."""
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_DELAY_S, self._save, supervisor)

    def _save(self, supervisor: "Supervisor") -> None:
        self._saving = None
        if supervisor.finished.done():
            return
        running = {
            name: cell.identity for name, cell in supervisor.cells.items() if cell.identity is not None
        }
        for name, pid in supervisor.nursery.pids().items():
            who = process.identify(pid) if pid is not None else None
            if who is not None:
                running[f"zygote {name}"] = who
        try:
            self._home.save(State(supervisor=process.identify(os.getpid()), processes=running))
            self._unwritten = False
        except OSError as error:  # full, or gone: the tree lives on; a crash now would be swept less well
            if not self._unwritten:
                self._report("state_unwritten", path=str(self._home.path), error=str(error))
            self._unwritten = True
        self._note_intent(supervisor)

    def _note_intent(self, supervisor: "Supervisor") -> None:
        if self._keeper is None:
            return
        down = frozenset(
            child.name
            for item in supervisor.groups.values()
            for child in item.children
            if not child.wanted and child.name in supervisor.cells
        )
        totals = {name: cell.restarts for name, cell in supervisor.cells.items() if cell.restarts}
        self._keeper.note(intent.Intent(down=down, restarts=totals))
        self._arm()

    def _arm(self) -> None:
        assert self._keeper is not None
        loop = asyncio.get_running_loop()
        due_in_s = self._keeper.due_in_s(loop.time())
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if due_in_s is None or (self._writing is not None and not self._writing.done()):
            return
        if due_in_s > 0:
            self._waiting = loop.call_later(due_in_s, self._arm)
        else:
            self._writing = loop.create_task(self._write())

    async def _write(self) -> None:
        assert self._keeper is not None
        try:
            await asyncio.to_thread(self._keeper.write, asyncio.get_running_loop().time())
        except OSError as error:
            self._report("intent_unwritten", path=str(self._keeper.path), error=str(error))
        self._writing = None
        if not self._closing:
            self._arm()

    async def close(self) -> None:
        """Write what is still owed."""
        self._closing = True
        for handle in (self._saving, self._waiting):
            if handle is not None:
                handle.cancel()
        if self._writing is not None:
            await self._writing
        if self._keeper is not None:
            await self._write()
