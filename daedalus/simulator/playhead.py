"""The playhead: which events are due. Pure: it is told the time and owns no clock.

Events of all sources run in one order, that of their playback times. Sources of the present (the model)
give times relative to their origin; when playback was held up for long, the origin moves with it, so that a
stopped process does not return with a burst.
"""

import heapq
from collections.abc import Iterator, Sequence
from enum import StrEnum

from daedalus.simulator.market import Event, Market, Source

__all__ = ["Playhead", "State"]

_S = 1_000_000_000
LATE_NS = 2 * _S  # a model that is later than this skips ahead


class State(StrEnum):
    """Life of a playback."""

    WAITING = "waiting"
    PLAYING = "playing"
    PAUSED = "paused"
    ENDED = "ended"


class Playhead:
    """The merged events of all sources, released by the clock."""

    def __init__(
        self, sources: Sequence[Source], markets: Sequence[Market], *, speed: float = 1.0, skip_s: float = 0.0
    ) -> None:
        """Merge `sources`; `markets[i]` belongs to `sources[i]`.

        Args:
            sources: where events come from.
            markets: in the same order.
            speed: playback seconds per second.
            skip_s: of playback that happen at once and unheard: books move, nothing is released.
        """
        self.state = State.WAITING
        self._sources = sources
        self._speed = speed
        self._started_ns = 0  # monotonic time of playback time 0
        self._paused_ns = 0  # monotonic time of the pause
        streams = [_tagged(market, source.events()) for market, source in zip(markets, sources, strict=True)]
        self._events = heapq.merge(*streams, key=lambda pair: pair[1].at_ns)
        self._next: tuple[Market, Event] | None = None
        self.position_ns = round(skip_s * _S)
        if self.position_ns:
            self._next = next(self._events, None)
        while self._next is not None and self._next[1].at_ns < self.position_ns:
            market, event = self._next
            market.apply(event)
            self._next = next(self._events, None)

    def start(self, mono_ns: int, wall_ns: int) -> None:
        """Begin to play, or go on after a pause. Does nothing when it plays or has ended."""
        if self.state is State.PAUSED:
            self.state = State.PLAYING
            self._delay(mono_ns - self._paused_ns)
        if self.state is State.WAITING:
            self.state = State.PLAYING
            self._started_ns = mono_ns - round(self.position_ns / self._speed)
            for source in self._sources:
                source.origin_ns = wall_ns - self.position_ns
            # Only now: a source of the present dates its events by its origin.
            self._next = self._next or next(self._events, None)

    def pause(self, mono_ns: int) -> None:
        """Hold what is being played."""
        if self.state is State.PLAYING:
            self.state = State.PAUSED
            self._paused_ns = mono_ns

    def due_ns(self) -> int | None:
        """Return the monotonic time of the next event; None when there is none (any more)."""
        if self.state is State.PLAYING and self._next is None:
            self.state = State.ENDED
        if self._next is None or self.state is not State.PLAYING:
            return None
        return self._started_ns + round(self._next[1].at_ns / self._speed)

    def take(self, mono_ns: int, limit: int = 256) -> Iterator[tuple[Market, Event]]:
        """Yield the events that are due, applied to their markets, at most `limit`."""
        for _ in range(limit):
            due = self.due_ns()
            if due is None or due > mono_ns or self._next is None:
                return
            market, event = self._next
            self.position_ns = event.at_ns
            self._next = next(self._events, None)
            yield market, market.apply(event)

    def catch_up(self, mono_ns: int) -> bool:
        """Skip ahead when a model is late; return whether it was. Recordings are never skipped."""
        due = self.due_ns()
        if due is None or mono_ns - due < LATE_NS or any(source.recorded for source in self._sources):
            return False
        self._delay(mono_ns - due)
        return True

    def _delay(self, late_ns: int) -> None:
        self._started_ns += late_ns
        for source in self._sources:
            source.origin_ns += late_ns


def _tagged(market: Market, events: Iterator[Event]) -> Iterator[tuple[Market, Event]]:
    for event in events:
        yield market, event
