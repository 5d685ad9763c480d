"""What actors print: read from their pipes, kept in a ring per actor, forwarded to our standard error.

A full pipe stops the actor that writes to it, so pipes are always read; what cannot be forwarded at once
waits in a bounded backlog, and what does not fit there is dropped, oldest first, and counted.
"""

import asyncio
import contextlib
import json
import os
import select
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from daedalus.kernel.columns import columns, parse

__all__ = ["Forwarder", "Line", "Pipe", "Ring"]

RING_LINES = 256
RING_BYTES = 64 * 1024
LINE_MAX = 16 * 1024  # bytes; a longer line is split and marked
TAIL_LINES = 20
READ_BUDGET = 64 * 1024  # bytes per pipe and turn of the loop
BACKLOG_LINES = 4096
_ATOMIC = 4096  # a pipe that polls writable takes this much without blocking
_RETRY_S = 0.05
_SPLIT_MARK = "…"


class Line(msgspec.Struct, frozen=True):
    """One printed line. `seq` counts per actor from 1, over all its generations."""

    seq: int
    ts: float  # wall seconds
    generation: int
    stream: str  # stdout | stderr
    text: str


class Ring:
    """The last lines of one actor: at most RING_LINES and RING_BYTES."""

    def __init__(self) -> None:
        """Begin empty."""
        self.lines: deque[Line] = deque()
        self.count = 0  # ever
        self._bytes = 0

    def append(self, ts: float, generation: int, stream: str, text: str) -> Line:
        """Keep a line, forgetting the oldest where there is no room."""
        self.count += 1
        line = Line(self.count, ts, generation, stream, text)
        self.lines.append(line)
        self._bytes += len(text)
        while len(self.lines) > RING_LINES or (self._bytes > RING_BYTES and len(self.lines) > 1):
            self._bytes -= len(self.lines.popleft().text)
        return line

    def stderr_tail(self, generation: int) -> list[str]:
        """Return the last lines that one generation wrote to standard error."""
        found = [
            line.text for line in self.lines if line.generation == generation and line.stream == "stderr"
        ]
        return found[-TAIL_LINES:]


class Pipe:
    """The reading end of one stream of one process, on the loop."""

    def __init__(self, printed: Callable[[str], None]) -> None:
        """Make the pipe and begin to read. `printed` gets each line; `writer` is the other end."""
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self._printed = printed
        self._rest = b""
        self._open = True
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._reader, READ_BUDGET)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)
        while len(self._rest) >= LINE_MAX:
            self._printed(self._rest[:LINE_MAX].decode("utf-8", "replace") + _SPLIT_MARK)
            self._rest = self._rest[LINE_MAX:]

    def _tell(self, line: bytes) -> None:
        while len(line) > LINE_MAX:
            self._printed(line[:LINE_MAX].decode("utf-8", "replace") + _SPLIT_MARK)
            line = line[LINE_MAX:]
        self._printed(line.decode("utf-8", "replace"))

    def close_writer(self) -> None:
        """Close our copy of the writing end, once the process has its own."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def drain(self) -> None:
        """Read what is there, so that an exit is told after the last line."""
        with contextlib.suppress(BlockingIOError):
            while self._open and (data := os.read(self._reader, READ_BUDGET)):
                self._take(data)

    def close(self) -> None:
        """Stop reading. A line without an end is a line all the same."""
        self.close_writer()
        if not self._open:
            return
        self._open = False
        asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)
        if self._rest:
            self._tell(self._rest)
            self._rest = b""


class Forwarder:
    """Writes lines to a descriptor that may be slow, without ever blocking the loop."""

    def __init__(self, fd: int, *, people: bool = False) -> None:
        """Forward to `fd`. It is left in the mode it is in: it may be shared with a shell.

        Args:
            fd: where to write.
            people: somebody reads it on a terminal: columns in place of JSON.
        """
        self._fd = fd
        self._people = people
        self._backlog: deque[bytes] = deque()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._handle: asyncio.TimerHandle | None = None
        self.dropped = 0

    def actor_line(self, actor: str, line: Line) -> bool:
        """Forward what an actor printed: events as they are, anything else as an event around it.

        Returns:
            False when an older line had to be dropped for it.
        """
        said = parse(line.text)
        if said is None:
            return self.event("actor_printed", at=line.ts, actor=actor, stream=line.stream, line=line.text)
        return self.write(columns({"actor": actor, **said}) if self._people else line.text)

    def event(self, name: str, **values: Any) -> bool:
        """Write one event: a JSON line, or columns for people."""
        event = {"event": name, **values}
        if self._people:
            return self.write(columns(event))
        return self.write(json.dumps(event, default=str, ensure_ascii=False))

    def write(self, text: str) -> bool:
        """Write one line, now or soon. False: an older line was dropped for it."""
        kept = True
        if len(self._backlog) >= BACKLOG_LINES:
            self._backlog.popleft()
            self.dropped += 1
            kept = False
        self._backlog.append(text.encode("utf-8", "replace") + b"\n")
        self._flush()
        return kept

    def _flush(self) -> None:
        while self._backlog:
            events = self._poll.poll(0)
            if not events:
                if self._handle is None:
                    self._handle = asyncio.get_running_loop().call_later(_RETRY_S, self._retry)
                return
            data = self._backlog[0]
            try:
                written = os.write(self._fd, data[:_ATOMIC])
            except OSError:  # nobody reads any more
                self.dropped += len(self._backlog)
                self._backlog.clear()
                return
            if written == len(data):
                self._backlog.popleft()
            else:
                self._backlog[0] = data[written:]

    def _retry(self) -> None:
        self._handle = None
        self._flush()

    def close(self) -> None:
        """Write what can be written and forget the rest."""
        self._flush()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
