"""What was observed: intervals against a count of every microsecond, and each cause by name."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daedalus.dataset.coverage import UNEXPLAINED, Cause, Run, cover, join_runs

Row = tuple[str, int, int]  # session, seq, captured at


def run(first_seq: int, last_seq: int, first_at: int, last_at: int, session: str = "a") -> Run:
    return Run(session, first_seq, last_seq, first_at, last_at)


def gap(start: int, end: int, reason: str = "disconnect", session: str = "a", **more) -> Cause:
    return Cause(start, end, reason, session, **more)


def told(holes) -> list[tuple[int, int, list[str]]]:
    return [(hole.start, hole.end, [cause.reason for cause in hole.causes]) for hole in holes]


# --- by example -------------------------------------------------------------------------------------------


def test_a_stream_without_holes_is_covered_from_its_first_row_to_its_last() -> None:
    found = cover([run(1, 9, 100, 200)], [])
    assert (found.start, found.end, found.share, found.rows) == (100, 200, 1.0, 9)
    assert found.is_whole


def test_a_quiet_market_is_covered() -> None:
    assert cover([run(1, 1, 0, 0), run(2, 2, 10**9, 10**9)], []).is_whole


def test_gap_rows_that_overlap_are_one_hole_with_every_cause() -> None:
    gaps = [gap(30, 50, "stale"), gap(20, 40), gap(50, 55, "error"), gap(70, 70, "checksum")]
    found = cover([run(1, 9, 0, 100)], gaps)
    assert told(found.holes) == [(20, 55, ["disconnect", "stale", "error"]), (70, 70, ["checksum"])]
    assert (found.covered, found.share, found.unexplained) == (65, 0.65, 0)


def test_before_the_first_and_after_the_last_nothing_was_collected() -> None:
    found = cover([run(1, 9, 40, 60)], [gap(30, 40)], start=0, end=100)
    assert found.not_collected == ((0, 30), (60, 100))
    assert (told(found.holes), found.covered) == ([(30, 40, ["disconnect"])], 20)


def test_a_hole_is_cut_where_the_question_ends() -> None:
    runs, gaps = [run(1, 9, 0, 100)], [gap(10, 50), gap(80, 90)]
    found = cover(runs, gaps, start=20, end=70)
    assert (told(found.holes), found.covered) == ([(20, 50, ["disconnect"])], 20)
    assert cover(runs, gaps, start=55, end=75).is_whole


def test_nothing_at_all_is_no_answer_and_a_question_has_one() -> None:
    assert cover([], []) is None
    found = cover([], [], start=5, end=10)
    assert (found.not_collected, found.share) == (((5, 10),), 0.0)


def test_numbers_that_are_missing_without_a_gap_row_are_a_fault() -> None:
    found = cover([run(1, 4, 0, 40), run(8, 9, 70, 90)], [])
    assert told(found.holes) == [(40, 70, [UNEXPLAINED])]
    (cause,) = found.holes[0].causes
    assert (cause.first_seq, cause.last_seq, cause.lost, found.unexplained) == (4, 8, 3, 1)
    assert cause.detail == "3 numbers missing, and no gap row tells of it"


@pytest.mark.parametrize(
    "teller",
    [
        gap(40, 69, first_seq=4, last_seq=8, lost=3),  # by its numbers, though it ends a moment early
        gap(35, 75, first_seq=None, last_seq=None, session="x"),  # the whole stretch was not observed
        gap(50, 50, first_seq=None, last_seq=None, lost=1),  # one record that fitted no column
    ],
)
def test_a_gap_row_tells_of_missing_numbers(teller: Cause) -> None:
    assert cover([run(1, 4, 0, 40), run(8, 9, 70, 90)], [teller]).unexplained == 0


@pytest.mark.parametrize(
    "bystander",
    [
        gap(45, 50, first_seq=2, last_seq=3),  # of other numbers
        gap(45, 50, first_seq=4, last_seq=8, session="b"),  # of another session
        gap(10, 20),  # elsewhere
        gap(40, 50, first_seq=4, last_seq=7),  # of a part
    ],
)
def test_a_gap_row_of_something_else_does_not(bystander: Cause) -> None:
    assert cover([run(1, 4, 0, 40), run(8, 9, 70, 90)], [bystander]).unexplained == 1


def test_a_session_that_does_not_begin_at_1_is_a_fault_unless_its_beginning_was_not_looked_at() -> None:
    runs = [run(1, 4, 0, 40), run(3, 9, 60, 90, "b")]
    restart = gap(40, 50, "restart", "b", first_seq=4, last_seq=1)
    assert told(cover(runs, [restart]).holes) == [(40, 60, ["restart", UNEXPLAINED])]
    assert told(cover(runs, [restart], begun=frozenset("b")).holes) == [(40, 50, ["restart"])]
    overflow = gap(50, 60, "overflow", "b", first_seq=4, last_seq=3, lost=2)
    assert cover(runs, [restart, overflow]).unexplained == 0


def test_a_change_of_session_without_a_word_is_a_fault() -> None:
    runs = [run(1, 4, 0, 40), run(1, 9, 60, 90, "b")]
    assert told(cover(runs, []).holes) == [(40, 60, [UNEXPLAINED])]
    assert told(cover(runs, [gap(45, 50, "restart", "b")]).holes) == [(45, 50, ["restart"])]


def test_d03_a_clock_that_steps_back_makes_sessions_overlap_and_no_hole() -> None:
    runs = [run(1, 4, 1000, 2000), run(1, 9, 500, 1500, "b")]
    assert cover(runs, [gap(1990, 1990, "clock_step", "b")]).unexplained == 0


def test_rows_that_are_there_twice_and_rows_out_of_order_are_counted() -> None:
    found = cover([run(1, 5, 0, 50), run(3, 8, 30, 80)], [])
    assert (found.duplicates, found.rows, found.is_whole) == (3, 11, False)
    found = cover([run(1, 5, 100, 150), run(6, 8, 90, 180)], [])
    assert (found.disordered, found.is_whole) == (1, False)


def test_what_is_lost_is_unknown_if_one_cause_does_not_know() -> None:
    (hole,) = cover([run(1, 9, 0, 90)], [gap(1, 5, lost=3), gap(4, 6, lost=2)]).holes
    assert hole.lost == 5
    (hole,) = cover([run(1, 9, 0, 90)], [gap(1, 5, lost=3), gap(4, 6)]).holes
    assert hole.lost is None


# --- against a count of every microsecond -----------------------------------------------------------------


@st.composite
def histories(draw) -> tuple[list[Row], list[Cause]]:
    """Sessions one after another, rows of them lost here and there, gap rows anywhere."""
    rows, at = [], draw(st.integers(0, 5))
    for session in "abc"[: draw(st.integers(0, 3))]:
        for seq in range(1, draw(st.integers(1, 8)) + 1):
            at += draw(st.integers(1, 4))
            if draw(st.integers(0, 4)):
                rows.append((session, seq, at))
    number = st.none() | st.integers(0, 8)
    gaps = []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, 60))
        session = draw(st.sampled_from("abc"))
        numbers = {"first_seq": draw(number), "last_seq": draw(number)}
        gaps.append(gap(start, start + draw(st.integers(0, 12)), "x", session, **numbers))
    return rows, gaps


def pieces(rows: list[Row], seed: int) -> list[Run]:
    """Rows as runs cut anywhere, in any order."""
    rng = random.Random(seed)
    found = []
    for session, seq, at in rows:
        last = found[-1] if found else None
        if last and last.session == session and last.last_seq + 1 == seq and rng.random() < 0.7:
            found[-1] = Run(session, last.first_seq, seq, last.first_at, at)
        else:
            found.append(Run(session, seq, seq, at, at))
    rng.shuffle(found)
    return found


def tells(gap: Cause, session: str, low: tuple[int, int], high: tuple[int, int]) -> bool:
    """Whether a gap row speaks of what is missing between two rows, each (seq, captured at)."""
    whole = gap.start <= low[1] and gap.end >= high[1]
    numbered = gap.first_seq is not None and gap.last_seq is not None
    if numbered and gap.session == session:
        return whole or (gap.first_seq <= low[0] and gap.last_seq >= high[0])
    return whole or (not numbered and gap.start <= high[1] and gap.end >= low[1])


def unexplained(rows: list[Row], gaps: list[Cause]) -> list[tuple[int, int]]:
    """Every stretch whose rows are missing without a word, found row by row."""
    found = []
    for number, (session, seq, at) in enumerate(rows):
        before = rows[number - 1] if number else None
        if before is not None and before[0] == session:
            if seq != before[1] + 1 and not any(tells(g, session, before[1:], (seq, at)) for g in gaps):
                found.append((before[2], at))
            continue
        if before is not None and not any(g.start <= at and g.end >= before[2] for g in gaps):
            found.append((before[2], at))
        head = [
            g
            for g in gaps
            if g.start <= at <= g.end
            or (g.session == session and g.last_seq is not None and g.last_seq >= seq)
        ]
        if seq > 1 and not head:
            known = [a for _, _, a in rows[:number]] + [g.end for g in gaps if g.end <= at]
            found.append((max(known, default=at), at))
    return found


@example(history=([("a", 2, 2)], [Cause(0, 0, "x")]), seed=0, window=None)
@given(histories(), st.integers(0, 10**6), st.tuples(st.integers(0, 70), st.integers(0, 70)) | st.none())
def test_coverage_is_what_a_count_of_every_microsecond_says(history, seed, window) -> None:
    rows, gaps = history
    low, high = (None, None) if window is None else sorted(window)
    found = cover(pieces(rows, seed), gaps, start=low, end=high)
    known = [at for _, _, at in rows] + [edge for g in gaps for edge in (g.start, g.end)]
    if found is None:
        assert (known, window) == ([], None)
        return
    if window is None:
        low, high = min(known), max(known)
    silent = unexplained(rows, gaps)
    holes = {at for a, b in (*silent, *((g.start, g.end) for g in gaps)) for at in range(a, b)}
    outside = {at for at in range(low, high) if not known or at < min(known) or at >= max(known)}
    wanted = set(range(low, high))
    assert (found.start, found.end) == (low, high)
    assert {at for hole in found.holes for at in range(hole.start, hole.end)} == holes & wanted
    assert {at for a, b in found.not_collected for at in range(a, b)} == outside
    assert found.covered == len(wanted - holes - outside)
    assert (found.rows, found.duplicates, found.disordered) == (len(rows), 0, 0)
    if window is None:
        assert found.unexplained == len(silent)


@given(histories(), st.integers(0, 10**6))
def test_runs_are_the_same_however_they_were_cut(history, seed) -> None:
    rows, gaps = history
    assert join_runs(pieces(rows, seed)) == join_runs(pieces(rows, seed + 1))
    assert cover(pieces(rows, seed), gaps) == cover(pieces(rows, seed + 1), gaps)
