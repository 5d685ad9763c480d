"""Where log lines go: to the journal where our standard error is the journal, else to standard error.

Neither may ever make the loop wait. What cannot be passed on at once waits in a bounded backlog; what does
not fit there is dropped, oldest first, counted, and told.
"""

import asyncio
import os
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.kernel.columns import columns, parse, safe
from daedalus.kernel.journald import Journal, is_journal
from daedalus.kernel.lines import PRIORITIES, dump, escape, level_of, stamp

if TYPE_CHECKING:
    from daedalus.kernel.logs import Line

__all__ = ["BACKLOG_CHARS", "BACKLOG_LINES", "TELL_S", "Forwarder"]

BACKLOG_LINES = 4096
BACKLOG_CHARS = 4 << 20
TELL_S = 60.0  # drops are told so often at most
_TURN_LINES = 512  # from the backlog in one turn of the loop
_ATOMIC = 4096  # a pipe that polls writable takes this much without blocking
_IDENTIFIER = "daedalus"


class _Entry(msgspec.Struct, frozen=True):
    """One line that waits, and what the journal wants to know beside it."""

    text: str  # the line on standard error
    message: str = ""  # the journal's, where it differs
    level: str = "info"
    event: str = ""
    actor: str = ""
    generation: int | None = None
    stream: str = ""

    def fields(self) -> dict[str, str]:
        """Return it as the journal has it."""
        found = {
            "MESSAGE": self.message or self.text,
            "PRIORITY": str(PRIORITIES.get(self.level, PRIORITIES["info"])),
            "SYSLOG_IDENTIFIER": _IDENTIFIER,
            "DAEDALUS_ACTOR": self.actor,
            "DAEDALUS_GENERATION": "" if self.generation is None else str(self.generation),
            "DAEDALUS_STREAM": self.stream,
            "DAEDALUS_EVENT": self.event,
        }
        return {key: value for key, value in found.items() if value}


class _Kept(msgspec.Struct):
    """What one image of the supervisor leaves to the next."""

    entries: list[_Entry]
    written: int
    dropped: int
    told: int


class Forwarder:
    """Writes lines to a descriptor that may be slow, without ever blocking the loop."""

    def __init__(self, fd: int, *, people: bool = False, journal: Journal | None = None) -> None:
        """Forward to `fd`. It is left in the mode it is in: it may be shared with a shell.

        Args:
            fd: where to write.
            people: somebody reads it on a terminal: columns in place of JSON.
            journal: the journal's socket; by default it is taken where `fd` is the journal.
        """
        self._fd = fd
        self._people = people
        self._journal = journal or (Journal() if is_journal(fd, os.environ) else None)
        self._backlog: deque[_Entry] = deque()
        self._chars = 0
        self._written = 0  # bytes of the oldest entry that standard error has already
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._awaited = -1  # the descriptor that must become writable
        self._again: asyncio.Handle | None = None
        self._told = 0
        self._told_at: float | None = None
        self.dropped = 0

    def actor_line(self, actor: str, line: "Line") -> bool:
        """Forward what an actor printed: events as they are, anything else as an event around it.

        Returns:
            False when an older line had to be dropped for it.
        """
        said = parse(line.text)
        if said is None:
            return self._printed(actor, line)
        level = said.get("level")
        return self._put(
            _Entry(
                text=columns({"actor": actor, **said}) if self._people else escape(line.text),
                level=level if isinstance(level, str) else "info",
                event=said["event"],
                actor=actor,
                generation=line.generation,
                stream=line.stream,
            )
        )

    def _printed(self, actor: str, line: "Line") -> bool:
        return self.event(
            "actor_printed",
            at=line.ts,
            actor=actor,
            generation=line.generation,
            stream=line.stream,
            line=line.text,
        )

    def event(self, name: str, *, at: float | None = None, level: str = "", **values: Any) -> bool:
        """Write one event: a JSON line, or columns for people.

        Args:
            name: `noun_participle`.
            at: wall seconds; now by default.
            level: info, warning, error; by default what the event is known for.
            values: what belongs to it; `actor`, `generation` and `stream` become fields of the journal.

        Returns:
            False when an older line had to be dropped for it.
        """
        level = level or level_of(name, values)
        head = {"event": name, "timestamp": stamp(time.time() if at is None else at), "level": level}
        event = {**head, **values}
        generation = values.get("generation")
        return self._put(
            _Entry(
                text=columns(event) if self._people else dump(event),
                message=safe(values["line"]) if name == "actor_printed" else "",
                level=level,
                event=name,
                actor=str(values.get("actor") or ""),
                generation=generation if isinstance(generation, int) else None,
                stream=str(values.get("stream") or ""),
            )
        )

    def write(self, text: str) -> bool:
        """Write one line, now or soon. False: an older line was dropped for it."""
        return self._put(_Entry(text))

    def tell_drops(self, now: float | None = None) -> None:
        """Say in the log how much of it was lost, when that grew and was not said within the last minute.

        Args:
            now: monotonic seconds; the clock's by default.
        """
        now = time.monotonic() if now is None else now
        if self.dropped > self._told and (self._told_at is None or now - self._told_at >= TELL_S):
            lines, self._told, self._told_at = self.dropped - self._told, self.dropped, now
            self.event("log_dropped", lines=lines, lines_total=self.dropped)

    # The backlog.

    def _put(self, entry: _Entry) -> bool:
        self._backlog.append(entry)
        self._chars += len(entry.text)
        kept = self._shed()
        if self._awaited < 0 and self._again is None:
            self._flush()
        return kept

    def _shed(self) -> bool:
        """Drop what does not fit: the oldest, but never a line of which a part is written."""
        kept = True
        while len(self._backlog) > BACKLOG_LINES or (self._chars > BACKLOG_CHARS and len(self._backlog) > 2):
            place = 1 if self._written else 0
            self._chars -= len(self._backlog[place].text)
            del self._backlog[place]
            self.dropped += 1
            kept = False
        return kept

    def _flush(self) -> None:
        self._again = None
        self._await(-1)  # first of all: the journal may open another socket under the same number
        for _ in range(_TURN_LINES):
            if not self._backlog:
                return
            blocked = self._pass_on(self._backlog[0])
            if blocked >= 0:
                self._await(blocked)
                return
        if self._backlog:  # others want their turn
            self._again = asyncio.get_running_loop().call_soon(self._flush)

    def _pass_on(self, entry: _Entry) -> int:
        """Pass on the oldest entry, or a part of it. Returns the descriptor that blocks, -1 for none."""
        if self._journal is not None and not self._written:
            try:
                if not self._journal.send(entry.fields()):
                    return self._journal.fileno()
            except OSError:  # no journal at the moment: the line goes the old way
                pass
            else:
                self._forget()
                return -1
        if not self._poll.poll(0):
            return self._fd
        data = entry.text.encode("utf-8", "replace") + b"\n"
        try:
            self._written += os.write(self._fd, data[self._written : self._written + _ATOMIC])
        except OSError:  # nobody reads any more
            self.dropped += len(self._backlog)
            self._backlog.clear()
            self._chars = self._written = 0
            return -1
        if self._written >= len(data):
            self._forget()
        return -1

    def _forget(self) -> None:
        self._chars -= len(self._backlog.popleft().text)
        self._written = 0

    def _await(self, fd: int) -> None:
        if self._awaited >= 0:
            asyncio.get_running_loop().remove_writer(self._awaited)
        self._awaited = fd
        if fd >= 0:
            asyncio.get_running_loop().add_writer(fd, self._flush)

    # The end, and the next image.

    def dump(self) -> bytes:
        """Return what the next image of this supervisor must write, and what it must know was lost."""
        kept = _Kept(list(self._backlog), self._written, self.dropped, self._told)
        return msgspec.json.encode(kept)

    def load(self, data: bytes) -> None:
        """Go on where the image before left off; what was written since comes after.

        Raises:
            msgspec.DecodeError: `data` is not from `dump`.
        """
        kept = msgspec.json.decode(data, type=_Kept)
        self._backlog.extendleft(reversed(kept.entries))
        self._chars += sum(len(entry.text) for entry in kept.entries)
        self._written = kept.written
        self.dropped += kept.dropped
        self._told += kept.told
        self._shed()
        self._flush()

    def close(self) -> None:
        """Write what can be written and forget the rest."""
        self._await(-1)
        while self._backlog and self._pass_on(self._backlog[0]) < 0:
            pass
        self.dropped += len(self._backlog)
        self._backlog.clear()
        self._chars = self._written = 0
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._journal is not None:
            self._journal.close()
