"""The book-keeping of a collector's session: numbers, capture order, and holes. Pure.

Every stream (symbol, channel) numbers its rows from 1 in each session. Capture time is strictly increasing
per symbol over all channels. A stretch that was not observed is a hole; it is opened with the last good
message before it and closed by the first good one after it, and then it is a Gap row.

    lost ──▶ [hole] ──found──▶ Gap            disconnect, stale, sequence, checksum, error, clock_step
    first process of its kind: no hole        nothing was ever stored: nothing is missing
    marks of an earlier process ──▶ [hole]    restart
    shed ──▶ [hole, rows are numbered and counted] ──stored──▶ Gap   overflow
                                              (with a fault inside, nobody can count what is lost)
    ended ──▶ Gap                             what the exchange sent after the last message that was read

Where trade ids count up by one, the gap row of trades waits (CLOSING_NS at most) for the first of them: it
tells how many are missing. A `depth` stream is a chain of changes: where it is broken, only a snapshot ends
the hole.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from daedalus.actors.rows import Stamp, make_row
from daedalus.actors.streamstate import Hole, StreamState
from daedalus.actors.times import is_believable
from daedalus.actors.tradeids import TradeMemory
from daedalus.exchanges.adapter import DepthFact, Fact, Fault, Now, Stream, TradeFact
from daedalus.kernel.journal import Mark
from daedalus.records import Flag, Frame, Gap, Row, sanitise

__all__ = ["CLOSING_NS", "Session", "StreamState"]

CLOSING_NS = 5_000_000_000
_US = 1000  # ns
_AFTER_GAP, _BACKFILLED = int(Flag.AFTER_GAP), int(Flag.BACKFILLED)  # plain: an IntFlag costs 0.5 µs
_NOT_LIVE = _BACKFILLED | int(Flag.SNAPSHOT)


class Session:
    """All streams of one collector."""

    def __init__(
        self,
        exchange: str,
        streams: Iterable[Stream],
        session_id: str,
        started_at: int,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Begin the first session of a process.

        Args:
            exchange: sanitised name.
            streams: what is subscribed, symbols as configured.
            session_id: unique.
            started_at: capture time, ns.
            names: symbol as configured -> its name on disk, where that is not the usual one.
        """
        self.exchange = exchange
        self.session_id = session_id
        self.started_at = started_at
        self.asked_at: int | None = None  # when the exchange was first asked for anything
        self.clock_ok = True
        given = names or {}
        self.streams = {
            key: StreamState(key, given.get(key.symbol) or sanitise(key.symbol)) for key in streams
        }
        self.named = {(state.symbol, state.channel): state for state in self.streams.values()}
        self.trades = TradeMemory(
            {state.key.symbol: state.symbol for state in self.streams.values() if state.channel == "trades"}
        )
        self.shed_because: str | None = None  # detail of the overflow rows that begin now
        self._last_ts: dict[str, int] = {}  # symbol as configured -> the last capture time given out
        self._marked: set[str] = set()  # channels whose earlier marks are known

    # -- what came before this process

    def restarted(
        self, channel: str, marks: Mapping[str, Mark], now: Now, seams: Iterable[tuple[str, Mark, Mark]] = ()
    ) -> list[Gap]:
        """Take what earlier processes left in a channel; return gaps that already ended.

        Args:
            channel: of the streams.
            marks: of the last row of each symbol (sanitised).
            now: when this became known.
            seams: (symbol, last mark before, first mark after) of changes between earlier sessions that
                no gap row tells: the process after it ended before it could know what came before.
        """
        self._marked.add(channel)
        gaps = []
        for symbol, before, first in seams:
            state = self.named.get((symbol, channel))
            if state is not None:
                hole = Hole("restart", before.ts_recv, before.seq or None, f"until {first.session_id}")
                gaps.append(self._gap(state, hole, first.ts_recv, first.seq, now))
        for symbol, mark in marks.items():
            state = self.named.get((symbol, channel))
            if state is None or mark.session_id == self.session_id:
                continue
            state.earlier = mark
            hole = Hole("restart", mark.ts_recv, mark.seq or None, None)
            if state.stored_seq is None:
                state.stored_seq = mark.seq or None
            if state.first_at is None:
                if state.shed_since is not None and state.hole is not None:
                    hole = hole._replace(detail=state.hole.detail, mixed=True)
                state.hole = hole
            else:  # told late: what came since the first good message was observed, up to a hole of its own
                gaps.append(self._gap(state, hole, state.first_at, 1, now))
        if channel == "trades":
            self.trades.told({symbol: mark.ts_recv for symbol, mark in marks.items()})
        return gaps

    # -- holes

    def lost(self, fault: Fault, since: int | None, now: Now) -> list[Gap]:
        """Open a hole in the streams of a fault, where none is open yet; return gaps that end for it."""
        gaps = []
        for key in fault.streams:
            state = self.streams.get(key)
            if state is None:
                continue
            state.reconnects += 1
            if (gap := self.closed(state, now)) is not None:
                gaps.append(gap)
            if state.hole is None:
                began = self._last_good(state, since, now)
                state.hole = Hole(fault.reason, began, state.stored_seq, fault.detail)
            elif state.hole.reason == "overflow":
                state.hole = state.hole.mixed_with(f"{fault.reason}: {fault.detail}")
        return gaps

    def _last_good(self, state: StreamState, since: int | None, now: Now) -> int:
        """Return when a stream, or its connection, was last good; else when it was first asked for."""
        known = [at for at in (since, state.last_at) if at is not None]
        return max(known) if known else (now.ts_recv if self.asked_at is None else self.asked_at)

    def found(self, key: Stream, now: Now, *, first: bool = False, missing: int | None = None) -> Gap | None:
        """Take a good message of a stream; return the gap it ends.

        Args:
            key: the stream.
            now: when.
            first: it becomes the next row; else it is an acknowledgement, and the next row is yet to come.
            missing: trades that are missing before that row, by their ids; None: nobody can tell.
        """
        state = self.streams[key]
        if state.shed_since is not None:
            return None  # heard, but there is no room: the hole goes on
        if state.last_at is None and key.channel not in self._marked:
            state.after_gap = True  # nobody could tell yet what came before: carry nothing over
        if state.first_at is None:
            state.first_at = now.ts_recv
        state.last_at = now.ts_recv
        hole, state.hole = state.hole, None
        if hole is None:
            return None
        state.after_gap = True
        if key.channel == "trades" and hole.lost is None and not hole.mixed:
            if not first and self.trades.of[key.symbol].contiguous:
                state.closing = (hole, now.ts_recv)
                return None
            hole = hole._replace(lost=missing)
        return self._gap(state, hole, now.ts_recv, state.seq + 1, now)

    def closed(self, state: StreamState, now: Now, missing: int | None = None) -> Gap | None:
        """Return the gap that waited for its first row, which comes now or not in time."""
        if state.closing is None:
            return None
        (hole, ended_at), state.closing = state.closing, None
        return self._gap(state, hole._replace(lost=missing), ended_at, state.seq + 1, now)

    def overdue(self, now: Now) -> list[Gap]:
        """Return the gaps that have waited long enough for their first row."""
        return [
            gap
            for state in self.streams.values()
            if state.closing is not None
            and now.ts_recv - state.closing[1] >= CLOSING_NS
            and (gap := self.closed(state, now)) is not None
        ]

    def stepped(self, session_id: str, now: Now, step_ns: int = 0) -> list[Gap]:
        """Begin a new session because the wall clock moved: numbers begin at 1, times may go back.

        The two ends of a hole that is open now are times of two clocks. Its row is as long as they say, and
        of no length if the clock went back; so the beginning by the old clock, and the step, are its detail.

        Args:
            session_id: of the new session.
            now: by the new clock.
            step_ns: new clock minus old clock, ns.

        Returns:
            the gaps of the session before that still waited for a row; they are stored first.
        """
        gaps = [gap for state in self.streams.values() if (gap := self.closed(state, now)) is not None]
        self.session_id = session_id
        self._last_ts.clear()
        for state in self.streams.values():
            self._unshed(state)
            if state.hole is None and state.last_at is not None:
                state.hole = Hole("clock_step", state.last_at, state.stored_seq, None)
            if state.hole is not None:
                state.hole = state.hole.also(_stepped(state.hole.started_at, step_ns))
            state.seq = 0
        self.started_at = now.ts_recv  # last: what was shed before began in the old session
        if self.asked_at is not None:
            self.asked_at = now.ts_recv
        return gaps

    def ended(self, now: Now, since: Mapping[Stream, int] | None = None) -> list[Gap]:
        """Return the last gaps: those still open, and from the last good message to now of every other.

        What the exchange sent while the collector had ceased to read is lost, and nobody will know how much.

        Args:
            now: when every socket was closed.
            since: capture time, ns, of the last good message of each stream's connection, where known.
        """
        gaps = []
        for state in self.streams.values():
            if (gap := self.closed(state, now)) is not None:
                gaps.append(gap)
            self._unshed(state)
            hole, state.hole = state.hole, None
            if hole is None and self.asked_at is not None:
                last = self._last_good(state, (since or {}).get(state.key), now)
                hole = Hole("restart", last, state.stored_seq, "stopped")
            if hole is not None:
                gaps.append(self._gap(state, hole, now.ts_recv, None, now))
        return gaps

    def mark(self, gap: Gap) -> Mark:
        """Return the mark of a gap that ended in the past: of what its stream has by now, not of its end."""
        mark = self.mark_of(gap.symbol, gap.channel)
        if mark is None:
            return Mark(gap.ended_at, 0, gap.session_id)
        own = mark.session_id == self.session_id
        return Mark(max(gap.ended_at, mark.ts_recv), mark.seq, mark.session_id) if own else mark

    def mark_of(self, symbol: str, channel: str) -> Mark | None:
        """Return the mark of what a stream (stored name, channel) has by now; None: nothing is known."""
        state = self.named.get((symbol, channel))
        if state is None:
            return None
        if state.closing is not None:  # its gap row is not stored yet: nothing may say that it is
            return Mark(state.closing[0].started_at, state.stored_seq or 0, self.session_id)
        if state.last_at is not None:
            return Mark(state.last_at, state.stored_seq or 0, self.session_id)
        return state.earlier

    def unfilled(self, key: Stream, since: int, until: int | None, detail: str, now: Now) -> Gap:
        """Return the gap of a stretch, ns, that was missed and that nobody filled; until None: to now."""
        ended_at = now.ts_recv if until is None else min(until, now.ts_recv)
        hole = Hole("error", since, None, detail)
        return self._gap(self.streams[key], hole, ended_at, None, now)

    def _gap(self, state: StreamState, hole: Hole, ended_at: int, last_seq: int | None, now: Now) -> Gap:
        state.gaps += 1
        return Gap(
            exchange=self.exchange,
            symbol=state.symbol,
            collected_at=now.wall_ms,
            ts_recv=self.tick(state.key.symbol, now.ts_recv),
            channel=state.channel,
            started_at=min(hole.started_at, ended_at),
            ended_at=ended_at,
            session_id=self.session_id,
            first_seq=hole.first_seq,
            last_seq=last_seq,
            reason=hole.reason,
            lost_estimate=hole.lost,
            detail=hole.detail,
        )

    # -- overflow

    def shed_row(self, state: StreamState) -> None:
        """Number a row that finds no room, or cannot be used, and count it."""
        state.seq += 1
        state.received += 1
        self.refused(state)

    def refused(self, state: StreamState) -> None:
        """Count a row that was numbered already and found no room."""
        if state.shed_since is None:
            state.shed_since = state.shed
            if state.hole is None and state.closing is None:
                began = state.last_at if state.last_at is not None else self.started_at
                state.hole = Hole("overflow", began, state.stored_seq, self.shed_because, 0)
            elif state.closing is not None:  # its first row finds no room: it has not ended
                (state.hole, _), state.closing = state.closing, None
            if state.hole is not None and state.hole.reason != "overflow":
                state.hole = state.hole._replace(mixed=True)
        state.shed += 1

    def room(self, key: Stream, now: Now, missing: int | None = None) -> Gap | None:
        """There is room again: return the gap of what was shed, to be stored before the next row."""
        state = self.streams[key]
        if state.shed_since is None:
            return None
        self._unshed(state)
        return self.found(key, now, first=True, missing=missing)

    def _unshed(self, state: StreamState) -> None:
        if state.shed_since is None:
            return
        lost = state.shed - state.shed_since
        state.shed_since = None
        if state.hole is not None and state.hole.lost is not None:
            state.hole = state.hole._replace(lost=state.hole.lost + lost)

    # -- rows

    def is_duplicate(self, fact: Fact) -> bool:
        """Return whether a trade was taken before; the second time it is, the first time it is remembered."""
        return isinstance(fact, TradeFact) and not self.trades.of[fact.symbol].is_new(fact)

    def unusable(self, state: StreamState, fact: Fact) -> bool:
        """Return whether a change of the full book has nothing before it that it changes."""
        return isinstance(fact, DepthFact) and fact.kind != "snapshot" and state.needs_snapshot

    def stored(self, state: StreamState, row: Row) -> None:
        """Note that a row was stored."""
        state.stored_seq = row.seq
        state.last_at = row.ts_recv
        state.rows += 1

    def row(self, state: StreamState, fact: Fact, now: Now) -> Row:
        """Number and stamp a fact."""
        state.seq += 1
        state.received += 1
        flags = fact.flags
        if state.after_gap:
            # backfilled rows carry it too, but no kernel sees them: the first live row must have it
            flags |= _AFTER_GAP
            state.after_gap = bool(flags & _BACKFILLED)
        ts_recv = self.tick(fact.symbol, now.ts_recv)
        stamp = Stamp(self.exchange, state.symbol, self.session_id, self.clock_ok, ts_recv, state.seq, flags)
        if (
            fact.ts_event is not None
            and not flags & _NOT_LIVE
            and is_believable(fact.ts_event, ts_recv, clock_ok=self.clock_ok)
        ):
            state.lags_ns.append(ts_recv - fact.ts_event)
            if type(fact) is TradeFact:
                self.trades.of[fact.symbol].note_time(fact.ts_event)
        return make_row(fact, now, stamp)

    def frame(self, state: StreamState, connection: int, payload: str | bytes, now: Now) -> Frame:
        """Number and stamp a raw message."""
        state.seq += 1
        state.received += 1
        state.after_gap = False  # a frame has no flags: its number and the gap row say so
        return Frame(
            exchange=self.exchange,
            symbol=state.symbol,
            collected_at=now.wall_ms,
            ts_recv=self.tick(state.key.symbol, now.ts_recv),
            connection=connection,
            text=payload if isinstance(payload, str) else None,
            binary=payload if isinstance(payload, bytes) else None,
            seq=state.seq,
            session_id=self.session_id,
            capture_mono_ns=now.mono_ns,
            clock_ok=self.clock_ok,
        )

    def tick(self, symbol: str, ts: int) -> int:
        """Return capture time `ts`, ns, or a little more: it rises with every row of a symbol."""
        last = self._last_ts.get(symbol, 0)
        if ts <= last:
            ts = last + _US
        self._last_ts[symbol] = ts
        return ts


def _stepped(began: int, step_ns: int) -> str:
    at = datetime.fromtimestamp(began // 1_000_000_000, UTC)
    us = began // _US % 1_000_000
    return (
        f"clock stepped by {step_ns / 1e9:+.3f} s, last good {at:%Y-%m-%dT%H:%M:%S}.{us:06}Z by the old clock"
    )
