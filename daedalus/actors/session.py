"""The book-keeping of a collector's session: numbers, capture order, and holes. Pure.

Every stream (symbol, channel) numbers its rows from 1 in each session. Capture time is strictly increasing
per symbol over all channels. A stretch that was not observed is a hole; it is opened with the last good
message before it and closed by the first good one after it, and then it is a Gap row.

    lost ──▶ [hole] ──found──▶ Gap            disconnect, stale, sequence, error, clock_step
    first process of its kind: no hole        nothing was ever stored: nothing is missing
    marks of an earlier process ──▶ [hole]    restart
    shed ──▶ [hole, rows are numbered and counted] ──stored──▶ Gap   overflow
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from daedalus.actors.rows import Stamp, make_row
from daedalus.exchanges.adapter import Fact, Fault, Now, Stream, TradeFact
from daedalus.kernel.journal import Mark
from daedalus.records import Flag, Gap, Row, sanitise

__all__ = ["Session", "StreamState"]

_US = 1000  # ns
_TRADE_IDS = 20_000  # per symbol: reaches back further than any snapshot of recent trades


class _Hole(NamedTuple):
    reason: str
    started_at: int  # ns UTC
    first_seq: int | None
    detail: str | None
    lost: int | None = None  # rows known to be lost


class StreamState:
    """One stream of the running session."""

    __slots__ = (
        "after_gap",
        "channel",
        "earlier",
        "first_at",
        "hole",
        "key",
        "last_at",
        "received",
        "reconnects",
        "seq",
        "shed",
        "shed_since",
        "stored_seq",
        "symbol",
    )

    def __init__(self, key: Stream) -> None:
        self.key = key
        self.symbol = sanitise(key.symbol)
        self.channel = key.channel
        self.seq = 0
        self.stored_seq: int | None = None  # of the last row that was stored, also by an earlier process
        self.earlier: Mark | None = None  # of the last row that an earlier process stored
        self.first_at: int | None = None  # capture of the first good message of this process
        self.last_at: int | None = None  # capture of the last row or other good message
        self.hole: _Hole | None = None
        self.after_gap = False
        self.received = 0
        self.reconnects = 0
        self.shed = 0  # rows, since start
        self.shed_since: int | None = None  # `shed` when the overflow began


class Session:
    """All streams of one collector."""

    def __init__(self, exchange: str, streams: Iterable[Stream], session_id: str, started_at: int) -> None:
        """Begin the first session of a process.

        Args:
            exchange: sanitised name.
            streams: what is subscribed, symbols as configured.
            session_id: unique.
            started_at: capture time, ns.
        """
        self.exchange = exchange
        self.session_id = session_id
        self.started_at = started_at
        self.clock_ok = True
        self.streams = {key: StreamState(key) for key in streams}
        self.duplicates = 0
        self._last_ts: dict[str, int] = {}  # symbol as configured -> the last capture time given out
        self._trade_ids: dict[str, dict[str, None]] = {key.symbol: {} for key in self.streams}
        self._marked: set[str] = set()  # channels whose earlier marks are known

    # -- what came before this process

    def remember_trades(self, trades: Iterable[tuple[str, str | None]]) -> None:
        """Take (sanitised symbol, trade id) of trades stored by an earlier process: they come only once."""
        known = {sanitise(symbol): ids for symbol, ids in self._trade_ids.items()}
        for symbol, trade_id in trades:
            if trade_id is not None and symbol in known:
                known[symbol][trade_id] = None

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
            for state in self.streams.values():
                if (state.symbol, state.channel) == (symbol, channel):
                    hole = _Hole("restart", before.ts_recv, before.seq or None, f"until {first.session_id}")
                    gaps.append(self._gap(state, hole, first.ts_recv, first.seq, now))
        for state in self.streams.values():
            mark = marks.get(state.symbol)
            if state.channel != channel or mark is None or mark.session_id == self.session_id:
                continue
            state.earlier = mark
            hole = _Hole("restart", mark.ts_recv, mark.seq or None, None)
            if state.stored_seq is None:
                state.stored_seq = mark.seq or None
            if state.first_at is None:
                state.hole = hole._replace(lost=state.hole.lost if state.hole is not None else None)
            else:  # told late: what came since the first good message was observed, up to a hole of its own
                gaps.append(self._gap(state, hole, state.first_at, 1, now))
        return gaps

    # -- holes

    def lost(self, fault: Fault, since: int | None, now: Now) -> None:
        """Open a hole in the streams of a fault, where none is open yet."""
        for key in fault.streams:
            state = self.streams.get(key)
            if state is None:
                continue
            state.reconnects += 1
            if state.hole is None:
                last = max((at for at in (since, state.last_at) if at is not None), default=now.ts_recv)
                state.hole = _Hole(fault.reason, last, state.stored_seq, fault.detail)

    def found(self, key: Stream, now: Now) -> Gap | None:
        """Take a good message of a stream; return the gap it ends. The next row is the first after it."""
        state = self.streams[key]
        if state.last_at is None and key.channel not in self._marked:
            state.after_gap = True  # nobody could tell yet what came before: carry nothing over
        if state.first_at is None:
            state.first_at = now.ts_recv
        state.last_at = now.ts_recv
        hole, state.hole = state.hole, None
        if hole is None:
            return None
        state.after_gap = True
        return self._gap(state, hole, now.ts_recv, state.seq + 1, now)

    def stepped(self, session_id: str, now: Now) -> None:
        """Begin a new session because the wall clock moved: numbers begin at 1, times may go back."""
        self.session_id = session_id
        self._last_ts.clear()
        for state in self.streams.values():
            if state.shed_since is not None:
                self._unshed(state)
            if state.hole is None and state.last_at is not None:
                state.hole = _Hole("clock_step", state.last_at, state.stored_seq, None)
            state.seq = 0
        self.started_at = now.ts_recv  # last: what was shed before began in the old session

    def ended(self, now: Now) -> list[Gap]:
        """Return the gaps that are still open at shutdown."""
        gaps = []
        for state in self.streams.values():
            if state.shed_since is not None:
                self._unshed(state)
            hole, state.hole = state.hole, None
            if hole is not None:
                gaps.append(self._gap(state, hole, now.ts_recv, None, now))
        return gaps

    def mark(self, gap: Gap) -> Mark:
        """Return the mark of a gap that ended in the past: of what its stream has by now, not of its end."""
        for state in self.streams.values():
            if (state.symbol, state.channel) != (gap.symbol, gap.channel):
                continue
            if state.last_at is not None:
                return Mark(max(gap.ended_at, state.last_at), state.stored_seq or 0, self.session_id)
            if state.earlier is not None:
                return state.earlier
        return Mark(gap.ended_at, 0, gap.session_id)

    def last_seq(self, gap: Gap) -> int:
        """Return the number of the last stored row of a gap's stream, 0 if there is none."""
        for state in self.streams.values():
            if (state.symbol, state.channel) == (gap.symbol, gap.channel):
                return state.stored_seq or 0
        return 0

    def _gap(self, state: StreamState, hole: _Hole, ended_at: int, last_seq: int | None, now: Now) -> Gap:
        return Gap(
            exchange=self.exchange,
            symbol=state.symbol,
            collected_at=now.wall_ms,
            ts_recv=self._tick(state.key.symbol, now.ts_recv),
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
        """Number a row that finds no room, and count it."""
        state.seq += 1
        state.received += 1
        self.refused(state)

    def refused(self, state: StreamState) -> None:
        """Count a row that was numbered already and found no room."""
        if state.shed_since is None:
            state.shed_since = state.shed
        state.shed += 1

    def room(self, key: Stream, now: Now) -> Gap | None:
        """There is room again: return the gap of what was shed, to be stored before the next row."""
        state = self.streams[key]
        if state.shed_since is None:
            return None
        self._unshed(state)
        return self.found(key, now)

    def _unshed(self, state: StreamState) -> None:
        lost = state.shed - (state.shed_since or 0)
        state.shed_since = None
        if state.hole is None:
            began = state.last_at if state.last_at is not None else self.started_at
            state.hole = _Hole("overflow", began, state.stored_seq, None, lost)
        elif state.hole.lost is not None:  # an overflow that a clock step did not end
            state.hole = state.hole._replace(lost=state.hole.lost + lost)

    # -- rows

    def is_duplicate(self, fact: Fact) -> bool:
        """Return whether a trade was taken before; the second time it is, the first time it is remembered."""
        if not isinstance(fact, TradeFact) or fact.trade_id is None:
            return False
        ids = self._trade_ids[fact.symbol]
        if fact.trade_id in ids:
            self.duplicates += 1
            return True
        ids[fact.trade_id] = None
        if len(ids) > _TRADE_IDS:
            del ids[next(iter(ids))]
        return False

    def last_trade(self, symbol: str) -> str | None:
        """Return the id of the last trade that is remembered of a symbol."""
        return next(reversed(self._trade_ids.get(symbol, {})), None)

    def stored(self, state: StreamState, row: Row) -> Mark:
        """Note that a row was stored; return its mark."""
        state.stored_seq = row.seq
        state.last_at = row.ts_recv
        return Mark(row.ts_recv, row.seq, row.session_id)

    def row(self, state: StreamState, fact: Fact, now: Now) -> Row:
        """Number and stamp a fact."""
        state.seq += 1
        state.received += 1
        flags = fact.flags
        if state.after_gap:
            # backfilled rows carry it too, but no kernel sees them: the first live row must have it
            flags |= Flag.AFTER_GAP
            state.after_gap = bool(flags & Flag.BACKFILLED)
        ts_recv = self._tick(fact.symbol, now.ts_recv)
        stamp = Stamp(
            self.exchange, state.symbol, self.session_id, self.clock_ok, ts_recv, state.seq, int(flags)
        )
        return make_row(fact, now, stamp)

    def _tick(self, symbol: str, ts: int) -> int:
        last = self._last_ts.get(symbol, 0)
        if ts <= last:
            ts = last + _US
        self._last_ts[symbol] = ts
        return ts
