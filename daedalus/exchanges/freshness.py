"""When silence is a fault: a limit that follows a connection's own pace, and each stream's own.

A quiet pair is not dead and a frozen one is not healthy; no fixed number tells them apart. The limit is a
multiple of the longest pause seen lately, between two configured bounds.

A connection is heard by anything that arrives on it. A stream is heard by its own facts alone, so that one
of several that falls silent is noticed while its socket lives; and a book that repeats itself, with the
same update id or the same time of the exchange, is not heard at all: it is frozen. But where an exchange
says of a stream that nothing has changed, it is heard.

The upper bound is the connection's and the books'. Trades come when somebody trades: two minutes without one
prove nothing of a pair that has one a minute, so for trades and tickers their own pauses count beyond it.
"""

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from daedalus.exchanges.adapter import BookFact, DepthFact, Fact, Stream, TickerFact, TradeFact

__all__ = ["BookWatch", "Freshness", "QuietWatch", "Silence", "StreamWatch", "Watches"]

_PAUSES = 8.0  # times the longest recent pause
_DECAY = 0.999  # per message: the memory of a pause fades over about a thousand messages
_NS = 1_000_000_000

_FADE = 1 / (600 * _NS)  # a stream comes in bursts: the memory of its pauses fades with time, not messages
_FADE_MAX = 0.1  # of the time gone by: pauses that are long against ten minutes are remembered for longer
_EVIDENCE = 20  # messages that make a pace; until then only the upper bound counts
_LONG = _FADE_MAX / _FADE  # ns
_ALARMS_MAX = 5
_FORGIVEN_NS = 6 * 3600 * _NS  # one alarm after so long: a pair as quiet as that is dropped 4 times a day


class Freshness:
    """Silence of one connection. Times are monotonic nanoseconds, limits seconds."""

    def __init__(self, minimum_s: float, maximum_s: float) -> None:
        """Begin without a message: the limit is `maximum_s` until a pace is known."""
        self._minimum = minimum_s
        self._maximum = maximum_s
        self._last: int | None = None
        self._pause_s: float | None = None
        self._alarms = 0

    def opened(self, mono_ns: int) -> None:
        """Start the watch at a new connection. The pace is kept: it is the market's, not the socket's."""
        self._last = mono_ns

    def seen(self, mono_ns: int) -> None:
        """Note a message."""
        if self._last is not None:
            pause = (mono_ns - self._last) / _NS
            faded = (self._pause_s or 0.0) * _DECAY
            self._pause_s = pause if pause > faded else faded  # noqa: FURB136 - as below
        self._last = mono_ns
        self._alarms = 0

    @property
    def last(self) -> int | None:
        """When the last message came, or the watch began."""
        return self._last

    @property
    def limit_s(self) -> float:
        """Silence that is a fault, s. Doubled for each alarm that a reconnection did not cure."""
        if self._pause_s is None:
            limit = self._maximum
        else:
            limit = min(max(_PAUSES * self._pause_s, self._minimum), self._maximum)
        return limit * (1 << self._alarms)

    def stale(self, mono_ns: int) -> bool:
        """Return whether the silence is a fault, and start the watch anew if it is."""
        if self._last is None or (mono_ns - self._last) / _NS <= self.limit_s:
            return False
        self._alarms = min(self._alarms + 1, _ALARMS_MAX)
        self._last = mono_ns
        return True


class Silence(NamedTuple):
    """A stream that has been silent for too long."""

    stream: Stream
    silent_s: float
    limit_s: float


class StreamWatch:
    """Silence of one stream. Times are monotonic nanoseconds."""

    may_be_quiet = False  # beyond the upper bound, if its own pauses say so
    __slots__ = ("alarmed_at", "alarms", "heard_count", "last", "maximum_s", "minimum_s", "pause", "stream")

    def __init__(self, stream: Stream, minimum_s: float, maximum_s: float) -> None:
        """Begin without a pace."""
        self.stream = stream
        self.minimum_s = minimum_s
        self.maximum_s = maximum_s
        self.last = 0
        self.pause = 0.0  # the longest lately, ns
        self.heard_count = 0
        self.alarms = 0
        self.alarmed_at = 0

    def opened(self, mono_ns: int) -> None:
        """Begin anew: what a new subscription sends at once is no pace. What is known of pauses stays."""
        self.last = mono_ns
        self.heard_count = 0

    def heard(self, _fact: object, mono_ns: int) -> None:
        """Note a fact."""
        since = mono_ns - self.last
        if since > 0:  # several facts of one message are one sign of life
            pause = self.pause
            faded = pause - since * (pause * _FADE if pause < _LONG else _FADE_MAX)
            self.pause = since if since > faded else faded  # noqa: FURB136 - a call costs more than all this
            self.last = mono_ns
            self.heard_count += 1

    def limit_s(self, mono_ns: int) -> float:
        """Return how long a silence is a fault, s; doubled for each alarm that is not forgiven."""
        limit = self.maximum_s
        pauses_s = _PAUSES * self.pause / _NS
        if self.heard_count >= _EVIDENCE:
            limit = min(max(pauses_s, self.minimum_s), limit)
        if self.may_be_quiet and pauses_s > limit:
            limit = pauses_s
        return min(limit * (1 << self._unforgiven(mono_ns)), self.maximum_s * (1 << _ALARMS_MAX))

    def alarm(self, mono_ns: int) -> None:
        """Double the limit, and start the watch anew."""
        self.alarms = min(self._unforgiven(mono_ns) + 1, _ALARMS_MAX)
        self.alarmed_at = self.last = mono_ns

    def _unforgiven(self, mono_ns: int) -> int:
        return max(self.alarms - (mono_ns - self.alarmed_at) // _FORGIVEN_NS, 0) if self.alarms else 0


class BookWatch(StreamWatch):
    """Silence of a book. It keeps the last fact: a book that says the same again says nothing."""

    __slots__ = ("fact",)

    def __init__(self, stream: Stream, minimum_s: float, maximum_s: float) -> None:
        """Begin without a book."""
        super().__init__(stream, minimum_s, maximum_s)
        self.fact: BookFact | DepthFact | None = None

    def opened(self, mono_ns: int) -> None:
        """Begin anew: update ids may begin anew too."""
        super().opened(mono_ns)
        self.fact = None

    def heard(self, fact: "BookFact | DepthFact", mono_ns: int) -> None:  # type: ignore[override]
        """Note a book, unless it is the last one once more."""
        last = self.fact
        self.fact = fact
        if last is not None:
            nonce = fact.nonce
            if nonce == last.nonce if nonce is not None else _same(last, fact):
                return
        since = mono_ns - self.last
        if since > 0:  # as above, without a second call: a book is most of what arrives
            faded = self.pause * (1.0 - since * _FADE)
            self.pause = since if since > faded else faded  # noqa: FURB136 - a call costs more than all this
            self.last = mono_ns
            self.heard_count += 1


class QuietWatch(StreamWatch):
    """Silence of a stream that speaks only when somebody trades."""

    may_be_quiet = True
    __slots__ = ()


class TickerWatch(QuietWatch):
    """Silence of a ticker. It keeps the last fact, for a successor that must not tell it again."""

    __slots__ = ("fact",)

    def __init__(self, stream: Stream, minimum_s: float, maximum_s: float) -> None:
        """Begin without a ticker."""
        super().__init__(stream, minimum_s, maximum_s)
        self.fact: TickerFact | None = None

    def heard(self, fact: TickerFact, mono_ns: int) -> None:  # type: ignore[override]
        """Note a ticker."""
        self.fact = fact
        super().heard(fact, mono_ns)


def _same(last: BookFact | DepthFact, fact: BookFact | DepthFact) -> bool:
    """Return whether a book without an update id is the last one once more."""
    if fact.ts_event is not None:
        return fact.ts_event == last.ts_event
    return fact.bids == last.bids and fact.asks == last.asks


_KINDS: dict[str, tuple[type, type[StreamWatch]]] = {
    "orderbook": (BookFact, BookWatch),
    "depth": (DepthFact, BookWatch),
    "trades": (TradeFact, QuietWatch),
    "ticker": (TickerFact, TickerWatch),
}


class _Named(dict[str, StreamWatch]):
    """Watches by symbol. A symbol nobody configured gets one that nobody looks at."""

    def __init__(self, channel: str, make: type[StreamWatch], minimum_s: float, maximum_s: float) -> None:
        super().__init__()
        self._channel = channel
        self._make = make
        self._bounds = (minimum_s, maximum_s)

    def __missing__(self, symbol: str) -> StreamWatch:
        watch = self[symbol] = self._make(Stream(symbol, self._channel), *self._bounds)
        return watch


class Watches:
    """All streams of one connection."""

    def __init__(self, streams: Iterable[Stream], minimum_s: float, maximum_s: float) -> None:
        """Watch `streams`; one of a channel without a fact of its own is not watched."""
        self.by_type: dict[type, dict[str, StreamWatch]] = {
            kind: _Named(channel, make, minimum_s, maximum_s) for channel, (kind, make) in _KINDS.items()
        }
        self._all = [self.by_type[_KINDS[c][0]][symbol] for symbol, c in streams if c in _KINDS]

    def opened(self, mono_ns: int) -> None:
        """Begin anew on a new connection."""
        for watch in self._all:
            watch.opened(mono_ns)

    def reopened(self, streams: Iterable[Stream], mono_ns: int) -> None:
        """Begin anew for streams that are resynchronised."""
        for stream in streams:
            if (watch := self.find(stream)) is not None:
                watch.opened(mono_ns)

    def heard(self, fact: Fact, mono_ns: int) -> None:
        """Note a fact of whatever kind."""
        if (watches := self.by_type.get(type(fact))) is not None:
            watches[fact.symbol].heard(fact, mono_ns)

    def alive(self, streams: Iterable[Stream], mono_ns: int) -> None:
        """Note what the exchange says of streams without a fact: that nothing has changed."""
        for stream in streams:
            if (watch := self.find(stream)) is not None:
                StreamWatch.heard(watch, None, mono_ns)

    def find(self, stream: Stream) -> StreamWatch | None:
        """Return the watch of a stream, if it has one."""
        kind = _KINDS.get(stream.channel)
        return None if kind is None else self.by_type[kind[0]].get(stream.symbol)

    def books(self) -> Iterator[tuple[Stream, BookWatch]]:
        """Yield every book's stream and watch."""
        for watch in self._all:
            if isinstance(watch, BookWatch):
                yield watch.stream, watch

    def last_told(self, stream: Stream) -> BookFact | DepthFact | TickerFact | None:
        """Return the last fact of a book or a ticker; None: there was none since it was opened."""
        watch = self.find(stream)
        return watch.fact if isinstance(watch, BookWatch | TickerWatch) else None

    def learn(self, other: "Watches") -> None:
        """Take over what `other` knows of pauses and alarms: they are the market's, not the connection's."""
        for watch in self._all:
            if (known := other.find(watch.stream)) is not None:
                watch.pause, watch.alarms, watch.alarmed_at = known.pause, known.alarms, known.alarmed_at

    def silent(self, mono_ns: int, excused: Container[Stream] = ()) -> list[Silence]:
        """Return the streams that have been silent for too long, and double their limits.

        The connection will be opened again for them, and that is a trial for every stream that has used up
        half of its own limit: theirs are doubled too. Otherwise fifty quiet pairs would drop their
        connection fifty times.

        Args:
            mono_ns: now.
            excused: streams that wait for something else; their watch begins anew.
        """
        found, half = [], []
        for watch in self._all:
            if watch.stream in excused:
                watch.last = mono_ns
                continue
            silent_s = (mono_ns - watch.last) / _NS
            limit_s = watch.limit_s(mono_ns)
            if silent_s > limit_s:
                found.append(Silence(watch.stream, silent_s, limit_s))
            if silent_s > limit_s / 2:
                half.append(watch)
        if found:
            for watch in half:
                watch.alarm(mono_ns)
        return found

    def due_in(self, mono_ns: int) -> float:
        """Return seconds until the first stream will have been silent for too long, if none is heard."""
        return min(
            (watch.limit_s(mono_ns) - (mono_ns - watch.last) / _NS for watch in self._all),
            default=float("inf"),
        )
