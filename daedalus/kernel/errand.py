"""A short-lived child that does one thing for the supervisor and says what came of it.

Some work must not leave its libraries in the supervisor's memory (reading the configuration), some must not
be able to break it (trying whether a new version can be imported). There is one reaper in this process, so
asyncio's own subprocesses, which wait for themselves, are out of the question.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from daedalus.kernel import process
from daedalus.kernel.reaper import Reaper, Status

__all__ = ["Done", "run"]

OUTPUT_MAX = 64 << 20  # bytes of one stream; what is beyond is thrown away
_CHUNK = 1 << 16


class Done(NamedTuple):
    """What came of an errand."""

    status: Status
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Whether it left with 0."""
        return self.status.code == 0

    def complaint(self) -> str:
        """Return the last line it wrote to standard error, or how it ended."""
        lines = self.stderr.decode("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1]
        if self.status.signal is not None:
            return f"killed by signal {self.status.signal}"
        return f"exit {self.status.code}"


class _Sink:
    """The reading end of one stream, on the loop."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self.data = bytearray()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return
        if len(self.data) < OUTPUT_MAX:
            self.data += chunk
        if not chunk:
            self.close()

    def close(self) -> None:
        if self._reader >= 0:
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1
        if not self.ended.done():
            self.ended.set_result(None)


async def run(
    command: Sequence[str],
    reaper: Reaper,
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    cores: Sequence[int] = (),
) -> Done:
    """Run `command` to its end and return what it said.

    Args:
        command: program and arguments.
        reaper: the one that waits for children of this process.
        timeout_s: after so many seconds it is killed, and its status is a signal.
        environment: in place of ours.
        cores: where it may run; default: where we may. What it reports about the machine depends on them.

    Raises:
        OSError: it could not be started.
    """
    stdout, stderr = _Sink(), _Sink()
    exited: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
    ours = os.sched_getaffinity(0)
    try:
        if cores:
            os.sched_setaffinity(0, cores)  # inherited, so it holds from the child's first step
        child = subprocess.Popen(  # noqa: ASYNC220, S603 - the loop's own would wait for it; the words are ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout.writer,
            stderr=stderr.writer,
            env=environment,
            process_group=0,
        )
        pid = process.release(child)
        reaper.watch(pid, lambda status: _settle(exited, status), dying=process.kill_group_of)
    except OSError:
        stdout.close()
        stderr.close()
        raise
    finally:
        os.sched_setaffinity(0, ours)
        os.close(stdout.writer)
        os.close(stderr.writer)
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(asyncio.shield(exited), stdout.ended, stderr.ended)
    except (TimeoutError, asyncio.CancelledError) as error:
        if not exited.done():
            process.signal_group(pid, signal.SIGKILL)
        if isinstance(error, asyncio.CancelledError):
            raise
        await exited
    finally:
        stdout.close()
        stderr.close()
    return Done(exited.result(), bytes(stdout.data), bytes(stderr.data))


def _settle(future: "asyncio.Future[Status]", status: Status) -> None:
    if not future.done():
        future.set_result(status)
