"""When a feature actor's checkpoints are written, and by whom: a thread that lives for one file.

What is saved is taken on the loop, between two records, so that it is of one moment; packing, writing and
waiting for the disk are the thread's. A disk that refuses costs a checkpoint, never a row.
"""

import asyncio
import threading
import zlib
from collections.abc import Callable

from daedalus.actors.checkpoints import Checkpoint, Checkpoints
from daedalus.kernel.telemetry import get_logger

__all__ = ["Saving"]

_SHARES = 1 << 32


class Saving:
    """Saves every interval, when asked to, and at the end."""

    def __init__(
        self, files: Checkpoints, take: Callable[[], tuple[Checkpoint, bytes] | None], interval_s: float
    ) -> None:
        """Store what to do.

        Args:
            files: where to.
            take: returns what is to be saved; None: nothing is, now.
            interval_s: between two files.
        """
        self.saved = self.failed = 0
        self._files, self._take, self._interval_s = files, take, interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._busy: asyncio.Future[None] | None = None
        self._again = False

    def begin(self) -> None:
        """Save from now on. Actors that began together do not save together."""
        share = zlib.crc32(str(self._files.directory).encode()) / _SHARES
        self._timer = asyncio.get_running_loop().call_later(self._interval_s * (0.5 + share / 2), self._due)

    def _due(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._due)
        self.soon()

    def soon(self) -> None:
        """Save now; if that is being done already, once more afterwards."""
        if self._busy is not None:
            self._again = True
            return
        taken = self._take()
        if taken is None:
            return
        loop = asyncio.get_running_loop()
        self._busy = loop.create_future()
        threading.Thread(target=self._write, args=(loop, *taken), name="checkpoint", daemon=True).start()

    def _write(self, loop: asyncio.AbstractEventLoop, head: Checkpoint, engine: bytes) -> None:
        error = None
        try:
            self._files.save(head, engine)
        except OSError as found:
            error = found
        loop.call_soon_threadsafe(self._written, error)

    def _written(self, error: OSError | None) -> None:
        assert self._busy is not None
        self._busy.set_result(None)
        self._busy = None
        self.saved += error is None
        self.failed += error is not None
        if error is not None:
            get_logger().error("checkpoint_failed", path=str(self._files.directory), error=str(error))
        if self._again:
            self._again = False
            self.soon()

    async def wait(self) -> None:
        """Wait until what was asked for is on disk, or refused by it."""
        while self._busy is not None:
            await asyncio.shield(self._busy)

    async def finish(self) -> None:
        """Save once more and be done."""
        if self._timer is not None:
            self._timer.cancel()
        await self.wait()
        self.soon()
        await self.wait()
