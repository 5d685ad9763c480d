"""What a writer says about its disk: what it cannot do, and how full it is; in the log and in `status`.

Several things may be refused at once, each by itself (an append may go through in space that was set aside
while no new journal can be made). The writer is stalled while there is one of them.
"""

import errno
import time
from collections.abc import Callable

from daedalus.kernel.telemetry import get_logger

__all__ = ["Condition"]


class Condition:
    """The disk as one writer finds it."""

    def __init__(self, channel: str, say: Callable[[str], object]) -> None:
        """Begin with a disk that takes everything.

        Args:
            channel: for the log.
            say: shows one line in `status`; empty: nothing to say.
        """
        self._channel = channel
        self._say = say
        self._refused: dict[str, str] = {}  # what is not possible -> why
        self._since = 0.0  # s, monotonic
        self._level = "ok"
        self._free_pct: float | None = None
        self._log = get_logger()

    @property
    def cause(self) -> str:
        """Return why the writer is stalled ("ENOSPC"); empty when it is not."""
        return next(iter(self._refused.values()), "")

    @property
    def stalled_s(self) -> float:
        """Return for how long, s; 0 when it is not."""
        return time.monotonic() - self._since if self._refused else 0.0

    def refused(self, what: str, error: OSError) -> None:
        """Take note that the disk refuses `what`: "append", "rotate", "open", "seal"."""
        cause = errno.errorcode.get(error.errno or 0, "EIO")
        if self._refused.get(what) == cause:
            return
        before = self.cause
        if not self._refused:
            self._since = time.monotonic()
        self._refused[what] = cause
        if self.cause != before:
            self._log.error(
                "journal_stalled", channel=self._channel, refused=what, error=str(error), cause=cause
            )
        self._tell()

    def done(self, what: str) -> bool:
        """Take note that `what` went through; True if the writer is stalled no more."""
        if self._refused.pop(what, None) is None:
            return False
        resumed = not self._refused
        if resumed:
            after_s = round(time.monotonic() - self._since, 3)
            self._log.info("journal_resumed", channel=self._channel, after_s=after_s)
        self._tell()
        return resumed

    def space(self, level: str, free_pct: float | None) -> None:
        """Take note of how full the disk is; a change of level is told."""
        before, self._level, self._free_pct = self._level, level, free_pct
        if level == before:
            if level != "ok" or self._refused:
                self._tell()  # again: the figure moves, and a datagram may have been lost
            return
        free = None if free_pct is None else round(free_pct, 2)
        self._log.warning(
            "disk_level_changed", channel=self._channel, level=level, before=before, free_pct=free
        )
        self._tell()

    def _tell(self) -> None:
        parts = [f"cannot {what}: {cause}" for what, cause in self._refused.items()]
        if self._refused.keys() & {"open", "append"}:
            parts.append("nothing is acknowledged, spools fill")
        if self._level != "ok":
            parts.append(f"disk {self._level}: {self._free_pct:.1f} % free")
        self._say("; ".join(parts))
