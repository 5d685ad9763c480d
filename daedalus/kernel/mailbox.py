"""A ZeroMQ socket on the event loop: the plain socket and `add_reader`, drained in bounded gulps.

zmq.asyncio costs 19.5 µs a message, this 1.6 (x86, measured). The price is one rule: ZeroMQ's descriptor is
edge-triggered and covers both directions: it wakes the loop once for what has happened since somebody last
looked. A gulp that ends for want of messages has looked. A send has looked as well, and swallowed the news:
after every send, `touched` asks the socket again, or the loop sleeps on a full mailbox.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import zmq

__all__ = ["Mailbox", "ipc_address"]

_SUN_PATH_MAX = 107


def ipc_address(path: str) -> str:
    """Return the ZeroMQ address of a Unix socket at `path`.

    Raises:
        ValueError: the path does not fit in a socket address (107 bytes).
    """
    if len(path.encode()) > _SUN_PATH_MAX:
        raise ValueError(
            f"cannot use the socket path {path}: {len(path.encode())} bytes, at most {_SUN_PATH_MAX}; "
            "choose a shorter runtime directory"
        )
    return f"ipc://{path}"


class Mailbox:
    """Feeds the messages of one socket to a handler, at most `budget` of them per turn of the loop."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        handler: Callable[[list[Any]], Any],
        *,
        budget: int = 256,
        after: Callable[[], Any] | None = None,
        pace_s: float = 0.0,
        copy: bool = True,
    ) -> None:
        """Begin to read `socket`.

        Args:
            socket: a plain, connected or bound socket; the caller closes it, after `close`.
            handler: called with the parts of each message, in order.
            budget: messages per turn, so that timers and heartbeats get theirs.
            after: called once after each non-empty gulp (to flush what the handler gathered).
            pace_s: how long after a gulp the next one is taken, unless it used up its budget. A busy mailbox
                that nobody waits for is then woken by a timer, for many messages at once, and not by each.
            copy: whether the parts are bytes, or ZeroMQ's own frames: large parts are then not copied.
        """
        self._socket = socket
        self._handler = handler
        self._after = after
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._pace_s = pace_s
        self._hurried = False
        self._copy = copy
        self._timed: asyncio.TimerHandle | None = None  # while it runs nothing else wakes us
        self._handle: asyncio.Handle | None = None
        self._on_writable: Callable[[], Any] | None = None
        self._paused = False
        self._closed = False
        self._fd: int = socket.FD
        self._loop.add_reader(self._fd, self._drain)
        self.touched()

    def touched(self) -> None:
        """Tell the mailbox that its socket was sent on: what that swallowed is seen to in the next turn."""
        if self._timed is None and self._handle is None and not self._closed and self._pending():
            self._handle = self._loop.call_soon(self._drain)

    def hurry(self) -> None:
        """For handlers: somebody waits for what comes next, so this gulp is followed by no pause."""
        self._hurried = True

    def when_writable(self, callback: Callable[[], Any]) -> None:
        """Call `callback` once, as soon as the socket takes messages again; a later call replaces it."""
        self._on_writable = callback
        self.touched()

    def _pending(self) -> int:
        events = int(self._socket.get(zmq.EVENTS))
        return events & (zmq.POLLIN if self._on_writable is None else zmq.POLLIN | zmq.POLLOUT)

    def pause(self) -> None:
        """Leave the messages where they are: ZeroMQ's high-water mark then holds up the peers."""
        if not self._paused and not self._closed:
            self._paused = True
            self._quiet()
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read on after `pause`."""
        if self._paused and not self._closed:
            self._paused = False
            self._loop.add_reader(self._fd, self._drain)
            self.touched()

    def drain(self) -> None:
        """Hand over what has arrived, one gulp, now and not in the next turn."""
        self._drain()

    def _drain(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._closed or self._paused:
            return
        timed = self._quiet()
        receive, look, handler, copy = self._socket.recv, self._socket.get, self._handler, self._copy
        got = 0
        # A look costs less than the exception of a receive that finds nothing, and frames know whether there
        # is more of their message, which costs another look otherwise.
        while got < self._budget and not self._paused and int(look(zmq.EVENTS)) & zmq.POLLIN:
            frame = receive(zmq.NOBLOCK, copy=False)
            frames = [frame]
            while frame.more:
                frame = receive(zmq.NOBLOCK, copy=False)
                frames.append(frame)
            got += 1
            handler([frame.bytes for frame in frames] if copy else frames)
        if got and self._after is not None:
            self._after()
        self._rest(got, timed=timed)
        if self._on_writable is not None and self._pending() & zmq.POLLOUT:
            callback, self._on_writable = self._on_writable, None
            callback()

    def _rest(self, got: int, *, timed: bool) -> None:
        """See to it that somebody wakes us: the timer of the pace, or the descriptor."""
        if self._paused or self._closed:
            return
        hurried, self._hurried = self._hurried, False
        if self._pace_s and 0 < got < self._budget and not hurried:
            if not timed:
                self._loop.remove_reader(self._fd)
            self._timed = self._loop.call_later(self._pace_s, self._drain)
            return
        if timed:
            self._loop.add_reader(self._fd, self._drain)
        if got == self._budget:
            self.touched()  # there may be more; a gulp that ended for want of messages has looked

    def _quiet(self) -> bool:
        """End the pace, if one is kept; True if there was one, and the descriptor is not watched."""
        timed, self._timed = self._timed, None
        if timed is not None:
            timed.cancel()
        return timed is not None

    def close(self) -> None:
        """Stop reading. The socket stays open."""
        if not self._closed:
            self._closed = True
            self._quiet()
            if not self._paused:
                self._loop.remove_reader(self._fd)
            if self._handle is not None:
                self._handle.cancel()
                self._handle = None
