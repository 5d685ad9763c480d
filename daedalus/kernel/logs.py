"""What actors print: read from their pipes and kept in a ring per actor; `forward` passes it on.

A full pipe stops the actor that writes to it, so pipes are always read and are as large as the kernel lets
them be; how much is read in one turn of the loop is bounded, so that one actor's flood is no other's drought.
"""

import asyncio
import contextlib
import fcntl
import os
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Self

import msgspec

from daedalus.kernel.forward import BACKLOG_LINES, Forwarder

__all__ = ["BACKLOG_LINES", "Forwarder", "Line", "Pipe", "Ring"]

RING_LINES = 256
RING_BYTES = 64 * 1024
LINE_MAX = 16 * 1024  # bytes; a longer line is split and marked
TAIL_LINES = 20
TAIL_CHARS = 4096  # of one of them
READ_BUDGET = 8 * 1024  # bytes per pipe and turn of the loop: some 500 short lines, 8 ms on a fast machine
TURN_BUDGET = 4 * READ_BUDGET  # bytes of all pipes: who comes too late has the next turn
PIPE_BYTES = 1 << 20
LARGE_PIPES_MAX = (
    32  # half of what the kernel lets one user have (pipe-user-pages-soft) before it gives crumbs
)
_SPLIT_MARK = "…"


class Line(msgspec.Struct, frozen=True):
    """One printed line. `seq` counts per actor from 1, over all its generations."""

    seq: int
    ts: float  # wall seconds
    generation: int
    stream: str  # stdout | stderr
    text: str


class Ring:
    """The last lines of one actor: at most RING_LINES and RING_BYTES.

    What it said last on standard error is kept apart, so that a flood of output cannot wash it away.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.lines: deque[Line] = deque()
        self.count = 0  # ever
        self._bytes = 0
        self._tail: deque[tuple[int, str]] = deque(maxlen=TAIL_LINES)  # generation, line

    def append(self, ts: float, generation: int, stream: str, text: str) -> Line:
        """Keep a line, forgetting the oldest where there is no room."""
        self.count += 1
        line = Line(self.count, ts, generation, stream, text)
        self.lines.append(line)
        if stream == "stderr":
            self._tail.append((generation, text[:TAIL_CHARS]))
        self._bytes += _size(text)
        while len(self.lines) > RING_LINES or (self._bytes > RING_BYTES and len(self.lines) > 1):
            self._bytes -= _size(self.lines.popleft().text)
        return line

    def stderr_tail(self, generation: int) -> list[str]:
        """Return the last lines that one generation wrote to standard error."""
        return [text for born, text in self._tail if born == generation]

    def dump(self) -> bytes:
        """Return what the next image of this supervisor must know."""
        return msgspec.json.encode(_Kept(count=self.count, lines=list(self.lines), tail=list(self._tail)))

    def load(self, data: bytes) -> None:
        """Go on where the image before left off: its lines, then the next number.

        Raises:
            msgspec.DecodeError: `data` is not from `dump`.
        """
        kept = msgspec.json.decode(data, type=_Kept)
        self.count, self.lines = kept.count, deque(kept.lines)
        self._tail.extend(kept.tail)
        self._bytes = sum(_size(line.text) for line in self.lines)


class _Kept(msgspec.Struct):
    """What one image of the supervisor leaves to the next."""

    count: int
    lines: list[Line]
    tail: list[tuple[int, str]]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


class Pipe:
    """The reading end of one stream of one process, on the loop."""

    # Of all pipes:
    _large: ClassVar[int] = 0
    _turn: ClassVar[asyncio.AbstractEventLoop | None] = None  # whose turn `_spent` counts
    _spent: ClassVar[int] = 0
    _late: ClassVar[dict[Callable[[], None], None]] = {}  # readers without room in this turn, in order

    def __init__(self, printed: Callable[[str], None]) -> None:
        """Make the pipe and begin to read. `printed` gets each line; `writer` is the other end."""
        reader, self.writer = os.pipe2(os.O_CLOEXEC)
        if Pipe._large < LARGE_PIPES_MAX:
            with contextlib.suppress(OSError):  # not allowed to: it works as it is
                fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._begin(reader, b"", printed)

    @classmethod
    def adopt(cls, fd: int, rest: bytes, printed: Callable[[str], None]) -> Self:
        """Go on reading what an earlier image of this process let go with `release`."""
        self = cls.__new__(cls)
        self.writer = -1
        self._begin(fd, rest, printed)
        return self

    def _begin(self, reader: int, rest: bytes, printed: Callable[[str], None]) -> None:
        self._reader = reader
        self._printed = printed
        self._rest = rest
        self._open = reader >= 0
        self._is_large = False
        if self._open:
            os.set_inheritable(reader, False)
            os.set_blocking(reader, False)
            self._is_large = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ) >= PIPE_BYTES
            Pipe._large += self._is_large
            asyncio.get_running_loop().add_reader(reader, self._read)

    def _read(self) -> None:
        if not self._open:
            return
        if not self._may_read():
            Pipe._late[self._read] = None
            return
        Pipe._late.pop(self._read, None)
        try:
            data = os.read(self._reader, READ_BUDGET)
        except BlockingIOError:
            return
        Pipe._spent += len(data)
        if not data:
            self.close()
            return
        self._take(data)

    @classmethod
    def _may_read(cls) -> bool:
        """Return whether this turn of the loop has room for one more."""
        loop = asyncio.get_running_loop()
        if Pipe._turn is not loop:
            if Pipe._turn is not None:  # a loop that ended within its turn
                Pipe._late.clear()
            Pipe._turn, Pipe._spent = loop, 0
            loop.call_soon(cls._end_turn)
        return Pipe._spent < TURN_BUDGET

    @classmethod
    def _end_turn(cls) -> None:
        """Begin the next turn with who was too late: the kernel names the same ones first each time."""
        Pipe._turn = None
        late, Pipe._late = Pipe._late, {}
        for read in late:
            read()

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line.removesuffix(b"\r"))
        while len(self._rest) > LINE_MAX:
            self._rest = self._tell_part(self._rest)

    def _tell(self, line: bytes) -> None:
        while len(line) > LINE_MAX:
            line = self._tell_part(line)
        self._printed(line.decode("utf-8", "replace"))

    def _tell_part(self, line: bytes) -> bytes:
        """Tell the first LINE_MAX bytes, no character cut in two, and return what is left."""
        end = LINE_MAX
        while end > LINE_MAX - 3 and line[end] & 0xC0 == 0x80:  # within a character of UTF-8
            end -= 1
        self._printed(line[:end].decode("utf-8", "replace") + _SPLIT_MARK)
        return line[end:]

    def close_writer(self) -> None:
        """Close our copy of the writing end, once the process has its own."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def drain(self) -> None:
        """Read what is there, so that an exit is told after the last line.

        Not more than a pipe holds: somebody who still writes would keep us here for ever. `finish` does the
        same without holding up the loop.
        """
        left = PIPE_BYTES
        with contextlib.suppress(BlockingIOError):
            while self._open and left > 0 and (data := os.read(self._reader, READ_BUDGET)):
                left -= len(data)
                self._take(data)

    async def finish(self) -> None:
        """Read what is there, turn by turn, and close: the last line is told when this returns."""
        left = PIPE_BYTES
        if self._open:
            asyncio.get_running_loop().remove_reader(self._reader)
        with contextlib.suppress(BlockingIOError):
            while self._open and left > 0 and (data := os.read(self._reader, READ_BUDGET)):
                left -= len(data)
                self._take(data)
                await asyncio.sleep(0)
        self.close()

    def release(self) -> tuple[int, bytes]:
        """Let go of the reading end for the next image of this process.

        Returns:
            The descriptor, which an exec leaves open now, -1 when the pipe had ended; and the beginning of
            a line whose end has not come yet.
        """
        fd, rest = (self._reader if self._open else -1), self._rest
        self.close_writer()
        if self._open:
            self._let_go()
            os.set_inheritable(fd, True)
        self._rest = b""
        return fd, rest

    def _let_go(self) -> None:
        self._open = False
        Pipe._large -= self._is_large
        asyncio.get_running_loop().remove_reader(self._reader)

    def close(self) -> None:
        """Stop reading. A line without an end is a line all the same."""
        self.close_writer()
        if not self._open:
            return
        self._let_go()
        os.close(self._reader)
        if self._rest:
            self._tell(self._rest)
            self._rest = b""
