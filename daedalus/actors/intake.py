"""What a collector does with what its exchange says: the adapters' `Sink`.

    fact ─▶ told before? ─▶ room? ─▶ number ─▶ encode once ─▶ spool and link ─▶ PUB
                              └─ no: shed, count, gap row when there is room again

The rules are elsewhere and pure (`session`, `tradeids`, `sidewatch`); this performs them, within the step of
the event loop in which the message arrived: nothing is queued here.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from daedalus.actors.channel import Outlet, Seam
from daedalus.actors.replay import ReplayIndex
from daedalus.actors.rows import Stamp, make_instrument
from daedalus.actors.session import Session, StreamState
from daedalus.actors.sidewatch import SideWatch
from daedalus.actors.times import is_time
from daedalus.exchanges.adapter import (
    BookFact,
    Control,
    DepthFact,
    EventFact,
    Fact,
    Fault,
    InstrumentFact,
    Now,
    Stream,
    TickerFact,
    TradeFact,
)
from daedalus.kernel.clock import CaptureClock, Clock
from daedalus.kernel.journal import Mark
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.topic import Publisher
from daedalus.records import FRAMES, Gap, encode
from daedalus.wire import KIND_OF_CHANNEL, topic

__all__ = ["ALL_FRAMES", "CLOCK_STEP_NS", "Intake"]

ALL_FRAMES = Stream("all", FRAMES)
"""The one stream of raw messages: of every connection of the collector."""

CLOCK_STEP_NS = 250_000_000
_SNAPSHOT_EVERY_NS = 1_000_000_000  # an exchange whose book is not valid now is asked again
_DAY_NS = 86_400_000_000_000
_LOGGED_MAX = 50  # gap rows told one by one from look to look: a thousand streams may end at once
_CHAINED = ("orderbook", "depth")  # their gaps end at a snapshot, not at an acknowledgement


_CHANNEL_OF: dict[type, str] = {
    BookFact: "orderbook", TradeFact: "trades", TickerFact: "ticker", DepthFact: "depth",
}  # fmt: skip


class Intake:
    """One exchange's records, from the adapter to the spools."""

    def __init__(
        self, exchange: str, streams: Sequence[Stream], clock: Clock, names: Mapping[str, str] | None = None
    ) -> None:
        """Begin a session; nothing is taken before `open`.

        Args:
            exchange: sanitised name.
            streams: what is subscribed; `ALL_FRAMES` where raw messages are recorded.
            clock: of the machine.
            names: symbol as configured -> its name on disk, where that is not the usual one.
        """
        self._system = clock
        self._clock = CaptureClock(clock)
        self.session = Session(exchange, streams, _session_id(clock), self.capture().ts_recv, names)
        self.sides = SideWatch()
        self.outlets: dict[str, Outlet] = {}
        self.index = ReplayIndex({})
        self.publisher: Publisher | None = None
        self.snapshots: Callable[[], Sequence[DepthFact]] = tuple
        self.closing = False
        self.left: dict[Stream, int] = {}  # last good message, ns, of connections closed by us
        self._facts: dict[type, dict[str, StreamState]] = {}
        self._topics: dict[Stream, bytes] = {}
        self._gap_topics: dict[str, bytes] = {}
        self._chains: list[StreamState] = []  # streams of changes of a full book
        self._logged = 0  # gap rows since the last look
        self._broken = False  # one of them needs a snapshot, and there is room for it
        self._told: dict[str, tuple[int, InstrumentFact]] = {}  # day and content of what was stored last
        self._untold: dict[str, InstrumentFact] = {}  # markets that found no room
        self._first_of: dict[
            str, StreamState
        ] = {}  # symbol as configured -> the stream that its market goes with
        self._route()

    def _route(self) -> None:
        by_channel: dict[str, dict[str, StreamState]] = {}
        for key, state in self.session.streams.items():
            by_channel.setdefault(key.channel, {})[key.symbol] = state
            self._first_of.setdefault(key.symbol, state)
            kind = KIND_OF_CHANNEL.get(key.channel)
            if kind is not None:  # other channels are stored, not published
                self._topics[key] = topic(kind, self.session.exchange, state.symbol)
            self._gap_topics[state.symbol] = topic("gap", self.session.exchange, state.symbol)
        self._facts = {kind: by_channel.get(channel, {}) for kind, channel in _CHANNEL_OF.items()}
        self._chains = list(by_channel.get("depth", {}).values())

    def open(self, outlets: dict[str, Outlet], publisher: Publisher) -> None:
        """Take the roads out of here."""
        self.outlets = outlets
        self.publisher = publisher
        # nobody replays raw messages
        self.index = ReplayIndex({name: one.spool for name, one in outlets.items() if name != FRAMES})

    # -- the sink

    def capture(self) -> Now:
        """Return the capture time of the message in hand."""
        ts_recv, mono_ns = self._clock.now()
        return Now(ts_recv, mono_ns, self._system.wall_ns() // 1_000_000)

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        """Store and publish what one raw message said."""
        for item in items:
            states = self._facts.get(type(item))
            if states is not None:
                state = states.get(item.symbol)  # type: ignore[union-attr]
            elif isinstance(item, Control):
                self._controlled(item, now)
                continue
            else:
                state = self._event_state(item)
            if state is not None:
                self._take_fact(state, item, now)  # type: ignore[arg-type]
        if self._broken:
            self.mend(now)

    def _event_state(self, item: object) -> StreamState | None:
        if not isinstance(item, EventFact):
            return None
        return self.session.streams.get(Stream(item.symbol, item.channel))

    def _controlled(self, control: Control, now: Now) -> None:
        if control.kind != "subscribed":
            return
        for key in control.streams:
            if key.channel not in _CHAINED and key in self.session.streams:
                self.store_gap(self.session.found(key, now))

    def _take_fact(self, state: StreamState, fact: Fact, now: Now) -> None:
        session = self.session
        outlet = self.outlets[state.channel]
        missing = None
        if fact.ts_event is not None and not is_time(fact.ts_event):
            fact = structs.replace(fact, ts_event=None)
        if type(fact) is TradeFact:
            ids = session.trades.of[fact.symbol]
            if state.hole is not None or state.closing is not None:
                missing = ids.hole_before(fact)
            if not ids.is_new(fact):
                return
        if not self._has_room(outlet):
            session.shed_row(state)
            return
        if self._chains and session.unusable(state, fact):
            session.shed_row(state)
            self._broken = True
            return
        if state.last_at is None or state.hole is not None or state.closing is not None:
            self._resume(state, now, missing)
        row = session.row(state, fact, now)
        data = encode(row)
        if not outlet.store(data, state.symbol, Mark(row.ts_recv, row.seq, row.session_id)):
            session.refused(state)
            return
        session.stored(state, row)
        self.sides.see(fact, row.ts_recv)
        place = (row.seq, outlet.spool.next_seq - 1)
        self.index.add(state.symbol, state.channel, place, row.session_id)
        there = self._topics.get(state.key)
        if there is not None and self.publisher is not None:
            self.publisher.publish((there, data))

    def _resume(self, state: StreamState, now: Now, missing: int | None = None) -> None:
        """Store the gap rows that end with the row in hand."""
        session = self.session
        if state.shed_since is not None:
            self.store_gap(session.room(state.key, now, missing))
        if state.hole is not None or state.last_at is None:
            self.store_gap(session.found(state.key, now, first=True, missing=missing))
        self.store_gap(session.closed(state, now, missing))

    def instruments(self, facts: Sequence[InstrumentFact]) -> None:
        """Store what the exchange says of its markets: once a day, and whenever it has changed.

        What finds no room is kept, the newest of each market, and tried again at every `look`.
        """
        for fact in facts:
            self._untold.pop(fact.symbol, None)
            state = self._first_of.get(fact.symbol)
            if state is not None and not self._tell_market(state, fact):
                self._untold[fact.symbol] = fact

    def _tell_market(self, state: StreamState, fact: InstrumentFact) -> bool:
        """Store a market unless that is done for today; return False if there is no room for it."""
        session = self.session
        now = self.capture()
        day = now.ts_recv // _DAY_NS
        if self._told.get(fact.symbol) == (day, fact):
            return True
        outlet = self.outlets[state.channel]
        if not self._has_room(outlet):
            return False
        mark = session.mark_of(state.symbol, state.channel) or Mark(session.started_at, 0, session.session_id)
        at = session.tick(fact.symbol, now.ts_recv)
        stamp = Stamp(session.exchange, state.symbol, session.session_id, session.clock_ok, at, 0, 0)
        if not outlet.store(encode(make_instrument(fact, now, stamp)), state.symbol, mark):
            return False
        self._told[fact.symbol] = (day, fact)
        return True

    def frame(self, now: Now, connection: int, payload: bytes | memoryview, *, text: bool) -> None:
        """Store a raw message word for word."""
        session = self.session
        state = session.streams.get(ALL_FRAMES)
        if state is None:
            return
        outlet = self.outlets[FRAMES]
        if not self._has_room(outlet):
            session.shed_row(state)
            return
        if state.last_at is None or state.hole is not None:
            self._resume(state, now)
        row = session.frame(state, connection, _text(payload) if text else bytes(payload), now)
        if not outlet.store(encode(row), state.symbol, Mark(row.ts_recv, row.seq, row.session_id)):
            session.refused(state)
            return
        session.stored(state, row)

    def last_trade(self, symbol: str) -> str | None:
        """Return the id of the last trade stored of a symbol, by this process or one before."""
        ids = self.session.trades.of.get(symbol)
        return None if ids is None else ids.last

    def last_trade_at(self, symbol: str) -> int | None:
        """Return the exchange's time, ns, of the last trade stored of a symbol, as far as it is known."""
        ids = self.session.trades.of.get(symbol)
        return None if ids is None else ids.last_ts

    def unfilled(self, stream: Stream, since: int, until: int | None, detail: str) -> None:
        """Store the gap row of a stretch that REST did not fill: it lies in another gap."""
        if not self.closing and stream in self.session.streams:
            gap = self.session.unfilled(stream, since, until, detail, self.capture())
            self.store_gap(gap, self.session.mark(gap))

    def lost(self, fault: Fault, since: int | None) -> None:
        """Open the gaps of a fault. Of connections that we close ourselves only the end is noted."""
        if self.closing:
            if since is not None:
                self.left.update(dict.fromkeys(fault.streams, since))
            return
        if not fault.local and ALL_FRAMES in self.session.streams:  # a connection ended: so did its messages
            fault = structs.replace(fault, streams=(*fault.streams, ALL_FRAMES))
        for gap in self.session.lost(fault, since, self.capture()):
            self.store_gap(gap, self.session.mark(gap))

    # -- gap rows

    def store_gap(self, gap: Gap | None, mark: Mark | None = None) -> None:
        """Store and publish a gap row; without room it is owed. `mark`: else that of the gap's end."""
        if gap is None:
            return
        if mark is None:
            stored = self.session.named[gap.symbol, gap.channel].stored_seq
            mark = Mark(gap.ended_at, stored or 0, gap.session_id)
        outlet = self.outlets[gap.channel]
        if outlet.owed:
            self._settle(outlet)
        data = outlet.store_gap(gap, mark)
        if data is not None:
            self._publish_gap(gap, data)
        self._logged += 1
        if self._logged > _LOGGED_MAX:
            return
        get_logger().info(
            "gap_recorded",
            symbol=gap.symbol,
            channel=gap.channel,
            reason=gap.reason,
            length_s=round((gap.ended_at - gap.started_at) / 1e9, 3),
            lost=gap.lost_estimate,
            detail=gap.detail,
        )

    def settle(self) -> int:
        """Store gap rows that are owed, as far as there is room; return how many."""
        return sum(self._settle(outlet) for outlet in self.outlets.values())

    def _has_room(self, outlet: Outlet) -> bool:
        """Whether the next row may be stored; the gap rows that are owed go before it."""
        if outlet.owed:
            self._settle(outlet)
        return outlet.has_room()

    def _settle(self, outlet: Outlet) -> int:
        settled = outlet.settle()
        for gap, data in settled:
            self._publish_gap(gap, data)
        return len(settled)

    def _publish_gap(self, gap: Gap, data: bytes) -> None:
        if self.publisher is not None:
            self.publisher.publish((self._gap_topics[gap.symbol], data))

    def welcomed(self, channel: str, marks: dict[str, Mark], seams: list[Seam]) -> None:
        """Take what the writer of a channel says that earlier processes stored."""
        for gap in self.session.restarted(channel, marks, self.capture(), seams):
            # the writer keeps the last mark: it must not fall behind the rows that are there already
            self.store_gap(gap, self.session.mark(gap))

    def end(self) -> None:
        """Write the last gap rows: every socket is closed."""
        self._untold.clear()  # nothing goes behind the last gap rows; the next process asks anew
        for gap in self.session.ended(self.capture(), self.left):
            self.store_gap(gap)
        self._log_rest()

    # -- what time does

    def mend(self, now: Now) -> None:
        """Give every broken chain of changes its snapshot, if there is room and the book is valid."""
        self._broken = False
        due = {
            state.key.symbol: state
            for state in self._chains
            if state.needs_snapshot
            and (state.shed_since is not None or _our_doing(state))
            and now.mono_ns - state.snapshot_asked_at >= _SNAPSHOT_EVERY_NS
            and self._has_room(self.outlets[state.channel])
        }
        if not due:
            return
        for state in due.values():
            state.snapshot_asked_at = now.mono_ns
        for fact in self.snapshots():
            if fact.symbol in due:
                self._take_fact(due[fact.symbol], fact, now)

    def check_clock(self) -> bool:
        """Begin a new session if the wall clock was stepped; return whether it was."""
        drift_ns = self._clock.drift_ns()
        if abs(drift_ns) <= CLOCK_STEP_NS:
            return False
        self._clock = CaptureClock(self._system)
        for gap in self.session.stepped(_session_id(self._system), self.capture(), drift_ns):
            self.store_gap(gap, self.session.mark(gap))
        get_logger().warning(
            "clock_stepped", step_s=round(drift_ns / 1e9, 3), session_id=self.session.session_id
        )
        return True

    def look(self) -> None:
        """Do what waits for no message: overdue gap rows, gap rows that are owed, chains that are broken."""
        now = self.capture()
        for gap in self.session.overdue(now):
            self.store_gap(gap, self.session.mark(gap))
        self.settle()
        self._log_rest()
        if self._untold:
            self.instruments(list(self._untold.values()))
        if self._chains:
            self.mend(now)

    def _log_rest(self) -> None:
        rest, self._logged = self._logged - _LOGGED_MAX, 0
        if rest > 0:
            get_logger().info("gaps_recorded", gaps=rest)


def _our_doing(state: StreamState) -> bool:
    """Whether a hole was not the exchange's: its adapter's book is whole, and sends no snapshot by itself."""
    return state.hole is not None and state.hole.reason in ("overflow", "clock_step")


def _text(payload: bytes | memoryview) -> str | bytes:
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError:
        return bytes(payload)


def _session_id(clock: Clock) -> str:
    at = time.gmtime(clock.wall_ns() // 1_000_000_000)
    return f"{time.strftime('%Y%m%dT%H%M%S', at)}-{secrets.token_hex(4)}"
