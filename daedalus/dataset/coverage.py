"""How much of a stretch of time a stream was observed, and why not the rest. Pure.

Theory of operation. Rows come as *runs*: stretches of one session whose numbers follow one another without
a hole. The stream was collected from its first row, or the first gap row, to its last. In between everything
is covered but

- the gaps: each row of the gaps table is a hole with its cause; holes that meet are one, with all causes;
- what no gap row tells of although the numbers do: numbers missing within a session, or a change of session
  without a word. That is a fault of the collection, and its cause is "unexplained".

Before the first and after the last nothing was collected: not covered, and nobody's fault. A silence within a
session is covered: a market may be quiet, and a frozen stream has its gap row (reason stale).

All times are µs UTC, all stretches half open: [start, end).
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

__all__ = ["UNEXPLAINED", "Cause", "Coverage", "Hole", "Run", "cover", "join_runs"]

UNEXPLAINED = "unexplained"


class Run(msgspec.Struct, frozen=True):
    """Rows of one session whose numbers follow one another."""

    session: str
    first_seq: int
    last_seq: int
    first_at: int  # capture of the first row
    last_at: int  # capture of the last one
    disordered: int = 0  # rows not captured after the row before them


class Cause(msgspec.Struct, frozen=True):
    """Why a stretch was not observed: a row of the gaps table, or what the numbers show."""

    start: int
    end: int
    reason: str
    session: str = ""
    first_seq: int | None = None
    last_seq: int | None = None
    lost: int | None = None  # rows; None: unknown
    detail: str | None = None


class Hole(msgspec.Struct, frozen=True):
    """A stretch that was not observed. Of length 0 where single rows are missing."""

    start: int
    end: int
    causes: tuple[Cause, ...]

    @property
    def lost(self) -> int | None:
        """Rows that are missing, as far as all of its causes tell."""
        known = [cause.lost for cause in self.causes]
        return None if None in known else sum(lost for lost in known if lost is not None)


class Coverage(msgspec.Struct, frozen=True):
    """The answer for one stream."""

    start: int
    end: int
    covered: int  # µs
    holes: tuple[Hole, ...]
    not_collected: tuple[tuple[int, int], ...]
    rows: int  # in the runs that were looked at
    duplicates: int  # rows whose number was there before
    disordered: int  # rows not captured after the row before them

    @property
    def share(self) -> float | None:
        """The covered part of the stretch, 0 to 1; None: the stretch has no length."""
        return self.covered / (self.end - self.start) if self.end > self.start else None

    @property
    def unexplained(self) -> int:
        """How many holes no gap row tells of."""
        return sum(cause.reason == UNEXPLAINED for hole in self.holes for cause in hole.causes)

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.holes or self.not_collected or self.duplicates or self.disordered)


def cover(
    runs: Iterable[Run],
    gaps: Sequence[Cause],
    *,
    start: int | None = None,
    end: int | None = None,
    begun: frozenset[str] = frozenset(),
) -> Coverage | None:
    """Return what was observed of [start, end); of all that was collected where they are None.

    Args:
        runs: of one stream, in any order, also pieces of runs.
        gaps: its gap rows, in any order.
        start: µs UTC.
        end: µs UTC.
        begun: sessions of which earlier rows exist that were not looked at: their number 1 is not missed.

    Returns:
        None when there is nothing to go by: no runs, no gaps, and no stretch.
    """
    sessions, duplicates = _sessions(runs)
    rows = [run for session in sessions for run in session]
    known = [*rows_bounds(rows), *((gap.start, gap.end) for gap in gaps)]
    if not known and (start is None or end is None):
        return None
    first, last = (min(a for a, _ in known), max(b for _, b in known)) if known else (0, 0)
    to_the_end = end is None
    start = first if start is None else start
    end = max(last, start) if end is None else end
    limit = max(end, start) + to_the_end  # rows missing right before the last one are asked for as well
    causes = [*gaps, *_within(sessions, gaps, begun), *_between(sessions, gaps)]
    clipped = (_clipped(hole, start, end, limit) for hole in _merged(causes))
    holes = [part for part in clipped if part is not None]
    outside = _outside(first, last, start, end) if known else ([(start, end)] if end > start else [])
    missing = sum(b - a for a, b in outside) + sum(hole.end - hole.start for hole in holes)
    return Coverage(
        start=start,
        end=end,
        covered=max(0, end - start) - missing,
        holes=tuple(holes),
        not_collected=tuple(outside),
        rows=sum(run.last_seq - run.first_seq + 1 for run in rows) + duplicates,
        duplicates=duplicates,
        disordered=sum(run.disordered for run in rows) + _disordered(sessions),
    )


def rows_bounds(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Return the time from first to last row of each run."""
    return [(min(run.first_at, run.last_at), max(run.first_at, run.last_at)) for run in runs]


def join_runs(runs: Iterable[Run]) -> list[Run]:
    """Return the runs of each session by number, those that continue one another joined."""
    return [run for session in _sessions(runs)[0] for run in session]


def _sessions(runs: Iterable[Run]) -> tuple[list[list[Run]], int]:
    """Return the runs of each session, sessions by time, and how many rows are there twice."""
    by_session: dict[str, list[Run]] = {}
    for run in runs:
        by_session.setdefault(run.session, []).append(run)
    duplicates = 0
    found = []
    for pieces in by_session.values():
        pieces.sort(key=lambda run: (run.first_seq, run.last_seq))
        joined = [pieces[0]]
        for run in pieces[1:]:
            before = joined[-1]
            if run.first_seq > before.last_seq + 1:
                joined.append(run)
                continue
            duplicates += max(0, min(before.last_seq, run.last_seq) - run.first_seq + 1)
            joined[-1] = _joined(before, run)
        found.append(joined)
    return sorted(found, key=lambda session: (session[0].first_at, session[0].session)), duplicates


def _joined(before: Run, run: Run) -> Run:
    backwards = run.first_seq == before.last_seq + 1 and run.first_at <= before.last_at
    further = run.last_seq > before.last_seq
    return Run(
        before.session,
        before.first_seq,
        run.last_seq if further else before.last_seq,
        before.first_at,
        run.last_at if further else before.last_at,
        before.disordered + run.disordered + backwards,
    )


def _disordered(sessions: list[list[Run]]) -> int:
    """Count runs that begin before the run of lower numbers ended."""
    return sum(
        after.first_at <= before.last_at for session in sessions for before, after in pairwise(session)
    )


def _within(sessions: list[list[Run]], gaps: Sequence[Cause], begun: frozenset[str]) -> list[Cause]:
    """Return the numbers missing in a session that no gap row tells of."""
    found = []
    for session in sessions:
        first = session[0]
        if first.first_seq > 1 and first.session not in begun and not _head_told(first, gaps):
            others = (run for other in sessions if other is not session for run in other)
            since = [run.last_at for run in others] + [gap.end for gap in gaps]
            since = [at for at in since if at <= first.first_at]
            found.append(
                _unexplained(max(since, default=first.first_at), first.first_at, first, 0, first.first_seq)
            )
        for before, after in pairwise(session):
            if not any(_tells(gap, before, after) for gap in gaps):
                low, high = sorted((before.last_at, after.first_at))
                found.append(_unexplained(low, high, after, before.last_seq, after.first_seq))
    return found


def _unexplained(start: int, end: int, run: Run, last: int, following: int) -> Cause:
    missing = following - last - 1
    return Cause(
        start, end, UNEXPLAINED, run.session, last or None, following, missing,
        f"{missing} number{'s'[: missing != 1]} missing, and no gap row tells of it",
    )  # fmt: skip


def _tells(gap: Cause, before: Run, after: Run) -> bool:
    """Return whether a gap row speaks of the hole between two runs of a session."""
    low, high = sorted((before.last_at, after.first_at))
    if gap.start <= low and gap.end >= high:
        return True
    if gap.session == before.session and gap.first_seq is not None and gap.last_seq is not None:
        return gap.first_seq <= before.last_seq and gap.last_seq >= after.first_seq
    return (gap.first_seq is None or gap.last_seq is None) and gap.start <= high and gap.end >= low


def _head_told(first: Run, gaps: Sequence[Cause]) -> bool:
    """Return whether a gap row speaks of the numbers before the first of a session."""
    return any(
        gap.start <= first.first_at <= gap.end
        or (gap.session == first.session and gap.last_seq is not None and gap.last_seq >= first.first_seq)
        for gap in gaps
    )


def _between(sessions: list[list[Run]], gaps: Sequence[Cause]) -> list[Cause]:
    """Return the changes of session that no gap row tells of."""
    found = []
    latest: int | None = None
    for session in sessions:
        first_at = session[0].first_at
        if (
            latest is not None
            and first_at > latest
            and not any(gap.start <= first_at and gap.end >= latest for gap in gaps)
        ):
            detail = f"the session {session[0].session} begins, and no gap row tells of it"
            found.append(Cause(latest, first_at, UNEXPLAINED, session[0].session, detail=detail))
        latest = max(session[-1].last_at, latest if latest is not None else session[-1].last_at)
    return found


def _merged(causes: Iterable[Cause]) -> list[Hole]:
    """Return holes that do not meet, in order of time, each with its causes in order."""
    holes: list[Hole] = []
    for cause in sorted(causes, key=lambda cause: (cause.start, cause.end, cause.reason)):
        start, end = cause.start, max(cause.start, cause.end)
        if holes and start <= holes[-1].end:
            last = holes.pop()
            holes.append(Hole(last.start, max(last.end, end), (*last.causes, cause)))
        else:
            holes.append(Hole(start, end, (cause,)))
    return holes


def _reaches(item: Hole | Cause, start: int, end: int, limit: int) -> bool:
    """Return whether something reaches into [start, end); without a length: whether it is before `limit`."""
    if item.start == item.end:
        return start <= item.start < limit
    return item.start < end and item.end > start


def _clipped(hole: Hole, start: int, end: int, limit: int) -> Hole | None:
    """Return the part of a hole in [start, end), with the causes that reach into it."""
    if not _reaches(hole, start, end, limit):
        return None
    causes = tuple(cause for cause in hole.causes if _reaches(cause, start, end, limit))
    return Hole(max(hole.start, start), min(hole.end, end), causes or hole.causes)


def _outside(first: int, last: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return what of [start, end) lies before the first or after the last."""
    if last <= start or first >= end:
        return [(start, end)] if end > start else []
    return [(a, b) for a, b in ((start, min(first, end)), (max(last, start), end)) if b > a]
