"""When silence is suspicious, and how far behind the exchange we are. Pure: times come from outside.

Three signs, on one connection or many: nothing arrives at all; one stream of several says nothing, or the
same again and again; a subscription was sent and never acknowledged. The first two are suspicions only,
because a quiet market looks the same: `ccxt_verify` asks the exchange.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from daedalus.exchanges.adapter import Control, Fact, Now, Stream, stream_of
from daedalus.exchanges.ccxt_connection import Connection
from daedalus.exchanges.freshness import BookWatch, Freshness, StreamWatch

__all__ = ["Suspicion", "Watch"]

_PACED = {"orderbook", "trades", "ticker", "bidask", "ohlcv"}  # the others may be silent for days
_NS = 1_000_000_000
_LAG_FADE = 1e-5  # per fact: how fast the smallest delay is forgotten, for clocks that drift apart


class Suspicion(NamedTuple):
    """A connection, and the streams on it that are suspected."""

    connection: Connection
    streams: tuple[Stream, ...]
    frozen: bool  # these streams alone: the connection speaks
    detail: str
    certain: bool = False  # needs no proof


class Watch:
    """Silence and lag of one exchange. Monotonic times in ns, limits in s."""

    def __init__(self, minimum_s: float, maximum_s: float) -> None:
        """Begin without a pace: the limits are adaptive between the two."""
        self._minimum = minimum_s
        self._maximum = maximum_s
        self._streams: dict[Stream, StreamWatch] = {}
        self._offset: float | None = None  # ns: the smallest delay, which is clocks more than network
        self.lag_ns = 0.0  # of the last fact with a time, beyond the smallest seen

    def fresh(self) -> Freshness:
        """Return the watch of a new connection."""
        return Freshness(self._minimum, self._maximum)

    def opened(self, streams: Iterable[Stream], mono_ns: int) -> None:
        """Begin the watch of streams that are being subscribed; what is known of their pace stays."""
        for stream in streams:
            if stream.channel in _PACED:
                watch = self._streams.get(stream)
                if watch is None:
                    make = BookWatch if stream.channel == "orderbook" else StreamWatch
                    watch = self._streams[stream] = make(stream, self._minimum, self._maximum)
                watch.opened(mono_ns)

    def heard(self, items: Sequence[Fact | Control], now: Now) -> None:
        """Note what one message said."""
        for item in items:
            if isinstance(item, Control):
                continue
            watch = self._streams.get(stream_of(item))
            if watch is not None:
                watch.heard(item, now.mono_ns)
            if item.ts_event is not None:
                self._lagging(now.ts_recv - item.ts_event)

    def _lagging(self, delay_ns: int) -> None:
        """Take the delay of a fact; a recorder's clock may well be behind the exchange's: never clamp."""
        if self._offset is None or delay_ns < self._offset:
            self._offset = float(delay_ns)
        self._offset += (delay_ns - self._offset) * _LAG_FADE
        self.lag_ns = delay_ns - self._offset

    def suspicions(self, connections: Iterable[Connection], mono_ns: int) -> list[Suspicion]:
        """Return what has been silent for too long, once; its watch begins anew, with a longer limit."""
        out = []
        for connection in connections:
            late = connection.overdue(mono_ns)
            limit_s = connection.freshness.limit_s
            if late:
                detail = "a subscription was not acknowledged"
                out.append(Suspicion(connection, tuple(late), frozen=True, detail=detail, certain=True))
            elif connection.freshness.stale(mono_ns):
                detail = f"no message for {limit_s:.1f} s"
                out.append(Suspicion(connection, tuple(connection.streams), frozen=False, detail=detail))
            elif frozen := self._silent(connection, mono_ns):
                names = ", ".join(f"{stream.channel} {stream.symbol}" for stream in frozen)
                detail = f"nothing new of {names} for too long"
                out.append(Suspicion(connection, tuple(frozen), frozen=True, detail=detail))
        return out

    def _silent(self, connection: Connection, mono_ns: int) -> list[Stream]:
        found = []
        for stream in connection.streams:
            watch = self._streams.get(stream)
            if watch is not None and (mono_ns - watch.last) / _NS > watch.limit_s(mono_ns):
                watch.alarm(mono_ns)
                found.append(stream)
        return found
