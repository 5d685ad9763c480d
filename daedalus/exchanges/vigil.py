"""Who watches over a connection: silence of all, silence of one stream, a ping without an answer.

One timer for all of them, at the first of their deadlines. A limit can only shrink while a pace is learned;
a look at least every quarter of the shortest limit keeps an alarm from being later than that.
"""

import asyncio
from collections.abc import Callable, Container, Sequence
from typing import Protocol

from daedalus.exchanges.adapter import Adapter, Fault, Now, Stream
from daedalus.exchanges.freshness import Freshness, Silence, Watches
from daedalus.exchanges.shared import SocketOptions
from daedalus.exchanges.transport import Transport

__all__ = ["Vigil", "Watched"]

_NS = 1_000_000_000
_LEAST_S = 0.01


class Watched(Protocol):
    """The connection."""

    adapter: Adapter
    options: SocketOptions
    capture: Callable[[], Now]

    def drop(self, fault: Fault) -> None: ...
    def gone_silent(self, silent: Sequence[Silence]) -> None: ...


class Vigil:
    """Over one connection, while it is open."""

    def __init__(
        self, watched: Watched, pace: Freshness, watches: Watches, excused: Container[Stream]
    ) -> None:
        """Prepare.

        Args:
            watched: is told.
            pace: of the connection.
            watches: of its streams.
            excused: streams that wait for an answer of ours, and may be silent.
        """
        self._watched = watched
        self._pace = pace
        self._watches = watches
        self._excused = excused
        self._keepalive_ns = round(watched.options.keepalive_s * _NS)
        self._transport: Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._alive_at = 0  # a ping or a pong, monotonic ns
        self._pinged_at: int | None = None

    def begin(self, transport: Transport) -> None:
        """Watch from now on."""
        self._transport = transport
        mono = self._watched.capture().mono_ns
        self._alive_at = mono
        self._pace.opened(mono)
        self._watches.opened(mono)
        self._arm(mono)

    def alive(self) -> None:
        """Note a ping or a pong: the other side is there, though it may say nothing."""
        self._alive_at = self._watched.capture().mono_ns

    def stop(self) -> None:
        """Watch no longer."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, mono: int) -> None:
        options = self._watched.options
        due_s = min(self._watches.due_in(mono), options.stale_min_s / 4, options.keepalive_s / 4)
        self._timer = asyncio.get_running_loop().call_later(max(due_s, _LEAST_S), self._look)

    def _look(self) -> None:
        if self._transport is None:
            return
        watched = self._watched
        mono = watched.capture().mono_ns
        limit_s = self._pace.limit_s
        streams = watched.adapter.streams
        if self._pace.stale(mono):
            watched.drop(Fault(streams, "stale", f"no message for {limit_s:.1f} s"))
        elif silent := self._watches.silent(mono, self._excused):
            watched.gone_silent(silent)
        elif not self._answers(mono):
            detail = f"no answer to a ping for {watched.options.keepalive_s:g} s"
            watched.drop(Fault(streams, "disconnect", detail))
        else:
            self._arm(mono)

    def _answers(self, mono: int) -> bool:
        """Ping when nothing was heard; return whether the other side is there."""
        heard = max(self._pace.last or 0, self._alive_at)
        if self._pinged_at is not None and heard >= self._pinged_at:
            self._pinged_at = None
        if self._pinged_at is not None:
            return mono - self._pinged_at < self._keepalive_ns
        if mono - heard >= self._keepalive_ns and self._transport is not None:
            text = self._watched.adapter.ping()
            if text is None:
                self._transport.ping()
            else:
                self._transport.send(text)
            self._pinged_at = mono
        return True
