"""Operations on one group are done one after the other; those on different groups do not wait for each other.

A command takes its place in the queue of every group it is about, in all of them at once: so two commands
stand in the same order everywhere, and neither can wait for the other in a circle. Reads never queue. Nor do
signals (kill, pause, resume): they change nothing a group decides, and are wanted most while something hangs.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from weakref import WeakKeyDictionary

from daedalus.kernel.commands.office import Office
from daedalus.kernel.errors import ControlError

__all__ = ["WAITING_MAX", "Operations", "Place", "operations"]

WAITING_MAX = 64  # per group, behind the one at work


class Operations:
    """The queues of one supervisor."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._queues: dict[str, deque[Place]] = {}

    def lengths(self) -> dict[str, int]:
        """Return the operations at work or waiting, per group; idle groups are left out."""
        return {group: len(queue) for group, queue in self._queues.items()}

    @contextlib.contextmanager
    def place(self, groups: Iterable[str]) -> Iterator["Place"]:
        """Take a place in these queues, and give up what is left of it at the end.

        Raises:
            ControlError: one of them is full (busy); no place is taken then.
        """
        wanted = dict.fromkeys(groups)
        for group in wanted:
            waiting = len(self._queues.get(group, ())) - 1
            if waiting >= WAITING_MAX:
                raise ControlError(
                    "busy", f"cannot queue another operation on group {group}: {waiting} are waiting"
                )
        place = Place(self, wanted)
        for group in wanted:
            self._queues.setdefault(group, deque()).append(place)
            self._wake(group)
        try:
            yield place
        finally:
            for group in wanted:
                self.leave(group, place)

    def leave(self, group: str, place: "Place") -> None:
        """Give up a place in one queue. It need not be taken any more."""
        queue = self._queues.get(group)
        if queue is None or place not in queue:
            return
        queue.remove(place)
        if queue:
            self._wake(group)
        else:
            del self._queues[group]

    def _wake(self, group: str) -> None:
        self._queues[group][0].first[group].set()


class Place:
    """One command's place in the queues of its groups."""

    def __init__(self, operations: Operations, groups: Iterable[str]) -> None:
        self._operations = operations
        self.first = {group: asyncio.Event() for group in groups}

    async def reach(self, *groups: str) -> None:
        """Wait until all before it have done with these groups. They are kept until the command ends."""
        for group in groups:
            await self.first[group].wait()

    @contextlib.asynccontextmanager
    async def turn(self, *groups: str) -> AsyncIterator[None]:
        """Wait until all before it have done with these groups; let the next in at the end."""
        await self.reach(*groups)
        try:
            yield
        finally:
            for group in groups:
                self._operations.leave(group, self)


_OF: "WeakKeyDictionary[Office, Operations]" = WeakKeyDictionary()


def operations(office: Office) -> Operations:
    """Return the queues of this supervisor."""
    found = _OF.get(office)
    if found is None:
        found = _OF[office] = Operations()
    return found
