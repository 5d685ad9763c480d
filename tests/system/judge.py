"""What must hold of bronze after any storm, given what was really sent. Pure: truth and rows in, faults out.

The rules, per stored stream:

once        a trade, by its id, is stored once at most, and as it was; nothing is stored that never was
whole       each trade played between the first and the last stored one is stored, or lies in a gap row
true        each book is the simulator's book after that update, and so is each one rebuilt from depth
followed    between two stored books no update is missing, or a gap row lies between them
honest      a book's flags say crossed, locked, one-sided exactly when it is
numbered    seq goes from 1 without a hole in each session, but for holes that an overflow row encloses
ordered     capture times of a symbol never repeat, and within a stream rise with seq

A hole is explained by a gap row of its stream that lies between the rows around it: it begins no earlier than
the one before was captured, and ends no later than the one after.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from tests.system.sent import TOP, Levels, Market, Place, Truth, top_of
from tests.system.truth import PlainBook

__all__ = ["BookRow", "DepthRow", "Finding", "GapRow", "Judge", "Row", "TradeRow", "Verdict"]

SLACK_US = 2  # between a gap's edge and the row it touches: rounding of ns to µs
CLOCK_US = 100_000  # between the simulator's wall clock and the capture clock of a session
CROSSED, LOCKED, ONE_SIDED, BACKFILLED, CONFLATED = 4, 8, 16, 128, 64


class TradeRow(NamedTuple):
    """A stored trade."""

    session: str
    seq: int
    at_us: int
    flags: int
    trade_id: str
    price: float
    amount: float
    side: str | None


class BookRow(NamedTuple):
    """A stored book."""

    session: str
    seq: int
    at_us: int
    flags: int
    number: int | None  # the exchange's: Binance's update id, Coinbase's sequence_num
    top: int
    best: tuple[float | None, float | None]


class DepthRow(NamedTuple):
    """A stored change of a full book, or the whole of it."""

    session: str
    seq: int
    at_us: int
    flags: int
    number: int | None
    kind: str  # snapshot | update
    bids: Levels
    asks: Levels


class Row(NamedTuple):
    """A row of any other channel."""

    session: str
    seq: int
    at_us: int
    flags: int


class GapRow(NamedTuple):
    """A stretch that was not observed."""

    started_us: int
    ended_us: int
    first_seq: int | None
    last_seq: int | None
    reason: str
    session: str = ""


class Finding(NamedTuple):
    """A rule that does not hold."""

    rule: str
    place: str  # binance:BTC/USDT trades
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.place}: {self.detail}"


@dataclass
class Verdict:
    """What the judge found, and how much it looked at."""

    findings: list[Finding] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        by_rule = Counter(finding.rule for finding in self.findings)
        lines = ["looked at", *(f"{count:8} {what}" for what, count in sorted(self.seen.items()))]
        lines.append("broken: " + (", ".join(f"{rule} {n}" for rule, n in by_rule.items()) or "nothing"))
        lines += [f"  {finding}" for finding in self.findings[:60]]
        if len(self.findings) > 60:
            lines.append(f"  … and {len(self.findings) - 60} more")
        return "\n".join(lines)


class Judge:
    """Hears the rows of one stream after the other.

    Args:
        truth: what was sent.
        ended: the playback stood still before the collectors were stopped: nothing may be missing at the end.
    """

    def __init__(self, truth: Truth, *, ended: bool = True) -> None:
        self._truth = truth
        self._ended = ended
        self.verdict = Verdict()
        self._captures: dict[str, Counter[int]] = defaultdict(Counter)

    def trades(self, name: str, place: Place, rows: Sequence[TradeRow], gaps: Sequence[GapRow]) -> None:
        """Judge the trades that are stored as `name` (exchange:symbol) of the simulated `place`."""
        stream, market = f"{name} trades", self._truth.markets[place]
        self._numbers(name, "trades", rows, gaps)
        self._once(stream, market, rows)
        live = sorted((row for row in rows if not row.flags & BACKFILLED), key=lambda row: row.at_us)
        stored = {row.trade_id for row in rows}
        self.verdict.seen["trades stored"] += len(stored)
        self.verdict.seen[f"trades stored of {name}, of {len(market.trades)} played"] += len(stored)
        self.verdict.seen["trades backfilled"] += len(rows) - len(live)
        captured = {row.trade_id: row.at_us for row in reversed(live)}
        played = list(market.trades)
        anchors = [index for index, number in enumerate(played) if number in captured]
        if not anchors:
            if played:
                self._found("whole", stream, f"none of {len(played)} trades is stored")
            return
        last = len(played) if self._ended else anchors[-1]
        holes = Holes(gaps)
        for index in range(anchors[0], last):
            number = played[index]
            if number in stored:
                continue
            at = bisect_left(anchors, index)
            before = captured[played[anchors[at - 1]]]
            after = captured[played[anchors[at]]] if at < len(anchors) else None
            sent = market.trades[number]
            word = "sent to somebody" if sent.sockets else "sent to nobody"
            if holes.explain(before, after):
                self.verdict.seen[f"trades missing and explained, {word}"] += 1
            else:
                fate = f", {sent.fates}" if sent.fates else ""
                around = f"between {played[anchors[at - 1]]} and " + (
                    played[anchors[at]] if at < len(anchors) else "the end"
                )
                self._found("whole", stream, f"{number} ({around}; {word}{fate}; at {sent.at_ns}) is nowhere")

    def _once(self, stream: str, market: Market, rows: Sequence[TradeRow]) -> None:
        for number, count in Counter(row.trade_id for row in rows).items():
            if count > 1:
                same = [
                    f"{row.session[:8]}/{row.seq} flags {row.flags}" for row in rows if row.trade_id == number
                ]
                self._found("once", stream, f"{number} is stored {count} times: {', '.join(same)}")
        for row in rows:
            sent = market.trades.get(row.trade_id)
            if sent is None:
                if row.trade_id not in market.history:
                    self._found("once", stream, f"{row.trade_id} was never sent")
            elif (row.price, row.amount, row.side) != sent[:3]:
                self._found("once", stream, f"{row.trade_id} is stored as {row[5:]}, was {sent[:3]}")

    def books(self, name: str, place: Place, rows: Sequence[BookRow], gaps: Sequence[GapRow]) -> None:
        """Judge the books that are stored as `name` of the simulated `place`."""
        stream, market = f"{name} orderbook", self._truth.markets[place]
        self._numbers(name, "orderbook", rows, gaps)
        self.verdict.seen["books"] += len(rows)
        self.verdict.seen[f"books of {name}, of {len(market.tops)} played"] += len(rows)
        holes = Holes(gaps)
        before: tuple[BookRow, int] | None = None
        for row in sorted(rows, key=lambda row: row.at_us):
            self._flags(stream, row)
            places = self._places(place[0], market, row)
            true = [index for index in places if market.tops[index] == row.top]
            if not true:
                word = "is not the book then" if places else "is of an update that never was"
                self._found("true", stream, f"{row.session[:8]}/{row.seq}, update {row.number}, {word}")
                before = None
                continue
            if before is not None:
                self._follow(stream, before, (row, true[-1]), holes)
            before = (row, true[-1])

    def depth(self, name: str, place: Place, rows: Sequence[DepthRow]) -> None:
        """Judge the books that are rebuilt from stored `depth` rows; numbers and order are for `others`."""
        stream, market = f"{name} depth", self._truth.markets[place]
        book: PlainBook | None = None
        for row in sorted(rows, key=lambda row: row.at_us):
            if row.kind == "snapshot":
                book = PlainBook()
            if book is None:
                self._found("true", stream, f"{row.session[:8]}/{row.seq} is an update of no snapshot")
                return
            for side, levels in (("b", row.bids), ("a", row.asks)):
                for price, size in levels:
                    book.set(side, price, size)
            self.verdict.seen["books rebuilt from depth"] += 1
            top = top_of(*book.top(TOP))
            if top not in {market.tops[index] for index in self._places(place[0], market, row)}:
                where = f"{row.session[:8]}/{row.seq} ({row.kind}), update {row.number}"
                self._found("true", stream, f"the book rebuilt at {where} is not the book then")

    def _follow(
        self, stream: str, before: tuple[BookRow, int], after: tuple[BookRow, int], holes: "Holes"
    ) -> None:
        (old, first), (new, last) = before, after
        if last == first + 1 or new.flags & CONFLATED:
            return
        if holes.explain(old.at_us, new.at_us):
            self.verdict.seen["books missing and explained"] += max(0, last - first - 1)
            return
        ends = f"{old.number} ({old.session[:8]}/{old.seq}) and {new.number} ({new.session[:8]}/{new.seq})"
        self._found("followed", stream, f"{last - first - 1} updates between {ends} lie in no gap")

    def _places(self, exchange: str, market: Market, row: BookRow | DepthRow) -> list[int]:
        """Return the updates that a stored book may be of, the likeliest last."""
        if row.number is None:
            return []
        if exchange == "coinbase":  # every connection counts from 0: it is of the latest that had come so far
            latest_ns = (row.at_us + CLOCK_US) * 1000
            return [
                place for at_ns, place in sorted(market.numbered.get(row.number, ())) if at_ns <= latest_ns
            ]
        place = market.index.get(row.number)
        return [] if place is None else [place]

    def _flags(self, stream: str, row: BookRow) -> None:
        bid, ask = row.best
        if bid is None or ask is None:
            due = ONE_SIDED
        else:
            due = CROSSED if bid > ask else LOCKED if bid == ask else 0
        if due:
            self.verdict.seen["books crossed, locked or one-sided"] += 1
        if row.flags & (CROSSED | LOCKED | ONE_SIDED) != due:
            self._found(
                "honest", stream, f"{row.session[:8]}/{row.seq}: {bid} / {ask} with flags {row.flags}"
            )

    def others(self, name: str, channel: str, rows: Sequence[Row], gaps: Sequence[GapRow]) -> None:
        """Judge numbers and order of any other stream."""
        self._numbers(name, channel, rows, gaps)
        self.verdict.seen[f"rows of {channel}"] += len(rows)

    def _numbers(self, name: str, channel: str, rows: Sequence[Any], gaps: Sequence[GapRow]) -> None:
        stream = f"{name} {channel}"
        self.verdict.seen["gaps"] += len(gaps)
        for gap in gaps:
            self.verdict.seen[f"gaps of {gap.reason}"] += 1
            if gap.started_us > gap.ended_us:
                self._found("numbered", stream, f"a gap ends before it starts: {gap}")
        self._captures[name].update(row.at_us for row in rows)
        sessions: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            sessions[row.session].append(row)
        shed = {(gap.first_seq, gap.last_seq) for gap in gaps if gap.reason == "overflow"}
        for session, some in sessions.items():
            some.sort(key=lambda row: row.seq)
            if some[0].seq != 1 and (None, some[0].seq) not in shed:
                self._found("numbered", stream, f"session {session[:8]} begins at {some[0].seq}")
            for one, two in pairwise(some):
                if two.seq == one.seq:
                    self._found("numbered", stream, f"{session[:8]}/{one.seq} is stored twice")
                elif two.seq != one.seq + 1 and (one.seq, two.seq) not in shed:
                    self._found("numbered", stream, f"{session[:8]}: {one.seq} is followed by {two.seq}")
                elif two.at_us <= one.at_us:
                    self._found("ordered", stream, f"{session[:8]}/{two.seq} was captured before {one.seq}")

    def close(self) -> Verdict:
        """Return the verdict, once every stream was heard."""
        for name, times in self._captures.items():
            for at_us, count in times.items():
                if count > 1:
                    self._found("ordered", name, f"{count} rows were captured at {at_us}")
        self.verdict.seen.update({f"faults of {name}": n for name, n in self._truth.faults.items()})
        self.verdict.seen.update({f"messages {name}": n for name, n in self._truth.fates.items()})
        return self.verdict

    def _found(self, rule: str, place: str, detail: str) -> None:
        self.verdict.findings.append(Finding(rule, place, detail))


class Holes:
    """The gap rows of one stream, to be asked whether one lies between two captures."""

    def __init__(self, gaps: Iterable[GapRow]) -> None:
        self._gaps = sorted(gaps)
        self._starts = [gap.started_us for gap in self._gaps]

    def explain(self, before_us: int, after_us: int | None) -> bool:
        """Return whether a gap lies between the captures of two rows; None: there is no row after."""
        first = bisect_left(self._starts, before_us - SLACK_US)
        for gap in self._between(first, after_us):
            if after_us is None or gap.ended_us <= after_us + SLACK_US:
                return True
        return False

    def _between(self, first: int, after_us: int | None) -> Iterator[GapRow]:
        for gap in self._gaps[first:]:
            if after_us is not None and gap.started_us > after_us + SLACK_US:
                return
            yield gap
