"""Runs the sealer: a child of the writer, one at a time, started again while closed journals wait.

The child needs pyarrow, which would cost the writer 50 MB; it dies with the writer, and whatever it leaves
half done the next one completes. It runs at low priority beside the live path; one that begins while the
writer waits for the last of them keeps the writer's own, because nobody may raise it again.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable

import msgspec

from daedalus.kernel.telemetry import get_logger

__all__ = ["Sealing"]

_NICE = 10
_RETRY_BASE_S = 1.0
_RETRY_CAP_S = 60.0
_STDERR_BYTES = 2000


class Sealing:
    """Seals when it is told to, until nothing waits."""

    def __init__(self, arguments: list[str], waiting: Callable[[], int]) -> None:
        """Store what to run.

        Args:
            arguments: of the sealer: `--data …`; `--parent` is added.
            waiting: returns how many closed journals there are.
        """
        self.sealed = 0  # journals
        self.rows = 0
        self.failures = 0
        self.cpu_s = 0.0
        self.bytes_out = 0  # of segments
        self.bytes_written = 0  # to disk, by all sealers
        self._arguments = arguments
        self._waiting = waiting
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hurry = asyncio.Event()
        self._finishing = False
        self._child: asyncio.subprocess.Process | None = None
        self._log = get_logger()

    def want(self) -> None:
        """Say that a journal was closed."""
        self._idle.clear()
        self._wanted.set()

    def retry(self) -> None:
        """Say that what made it fail may have passed: a pause ends now."""
        self._hurry.set()

    async def run(self) -> None:
        """Seal whenever wanted, for ever. For the actor to spawn."""
        failed = 0
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting():
                failed = 0 if await self._once() else failed + 1
                if failed:
                    self.failures += 1
                    await self._pause(min(_RETRY_BASE_S * 2.0 ** (failed - 1), _RETRY_CAP_S))
            if not self._wanted.is_set():
                self._idle.set()

    async def finish(self) -> None:
        """Wait until nothing is left to be sealed. After failures it is tried again without much delay."""
        if self._waiting():
            self.want()
        self._finishing = True
        self._hurry.set()
        await self._idle.wait()

    async def kill(self) -> None:
        """End the child, if there is one, at once."""
        child = self._child
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def _pause(self, delay_s: float) -> None:
        if self._finishing:
            await asyncio.sleep(min(delay_s, _RETRY_BASE_S))
            return
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), delay_s)

    async def _once(self) -> bool:
        """Run the sealer over all that waits; False if it failed."""
        began, urgent = time.monotonic(), self._finishing
        # From the main thread: the child's death signal is bound to the thread that makes it.
        self._child = child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "daedalus.dataset.seal",
            *self._arguments,
            "--parent",
            str(os.getpid()),
            *(("--urgent",) if urgent else ()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
        )
        try:
            if not urgent:
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, child.pid, _NICE)
            out, err = await child.communicate()
        except asyncio.CancelledError:
            await self.kill()
            raise
        finally:
            self._child = None
        written = [self._tell(line) for line in out.splitlines()]
        self.bytes_written += max(written, default=0)  # each line has what its program wrote so far
        if child.returncode != 0:
            self._log.error(
                "seal_failed",
                code=child.returncode,
                after_s=round(time.monotonic() - began, 3),
                waiting=self._waiting(),
                stderr=err[-_STDERR_BYTES:].decode(errors="replace"),
            )
        return child.returncode == 0

    def _tell(self, line: bytes) -> int:
        """Take one line of the sealer; return what it has written so far, bytes."""
        try:
            summary = msgspec.json.decode(line, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return 0  # not ours: a library that prints
        written = summary.get("bytes_written")
        written = written if isinstance(written, int) else 0
        if "error" in summary:
            return written  # told by its exit code and on stderr
        self.sealed += 1
        rows, cpu_s, bytes_out = summary.get("rows"), summary.get("cpu_s"), summary.get("bytes_out")
        self.bytes_out += bytes_out if isinstance(bytes_out, int) else 0
        self.rows += rows if isinstance(rows, int) else 0
        self.cpu_s += cpu_s if isinstance(cpu_s, float) else 0.0
        if summary.get("damaged_bytes"):
            self._log.warning(
                "journal_damaged",
                journal=summary.get("journal"),
                damaged_bytes=summary["damaged_bytes"],
                gap_rows=summary.get("gap_rows"),
                kept_in="raw/quarantine",
            )
        segments = summary.pop("segments", None)
        self._log.info(
            "journal_sealed", segments=len(segments) if isinstance(segments, list) else 0, **summary
        )
        return written
