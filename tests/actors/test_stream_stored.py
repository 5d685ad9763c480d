"""The order of one symbol's records where what is stored can be asked: no gap that is not one there."""

from hypothesis import given
from hypothesis import strategies as st

from daedalus.actors.stream import NEWEST, Ask, State, Stream, Tail
from daedalus.records import Flag
from tests.actors.test_stream import CHANNELS, live
from tests.market import Fact, Tape, between


def behind(records: list[Fact], tail: Tail) -> list[Fact]:
    """Return what bronze gives for a question: `dataset.tail` on a list in the order of capture."""
    sessions = list(dict.fromkeys(record.session_id for record in records))
    first = sessions.index(tail.session_id)
    last = sessions.index(tail.until_session) if tail.until_session else len(sessions)
    return [
        record
        for record in records
        if first <= sessions.index(record.session_id) <= last
        and (record.session_id != tail.session_id or record.ts_recv > tail.after)
        and (record.session_id != tail.until_session or record.ts_recv < tail.until)
    ]


def later(tape: Tape, session_id: str) -> Tape:
    new = Tape(session_id=session_id)
    new.us = tape.us + 1_000_000
    return new


def test_before_a_hole_is_given_up_what_is_stored_is_asked() -> None:
    records = Tape().of("bbtb")
    stream = Stream(CHANNELS, bronze=True)
    live(stream, records[0])
    live(stream, records[3])
    assert stream.answer(False, []) == []
    assert stream.wanted == Tail("s1", records[0].ts_recv, "s1", records[3].ts_recv)
    assert stream.tail(records[1:2], more=True)[0].record == records[1]
    assert [feed.record for feed in stream.tail(records[2:3])] == records[2:]
    assert [feed.record for feed in stream.tail([])] == [], "nobody asked"
    assert (stream.gaps, stream.wanted, stream.waiting) == (0, None, 0)


def test_what_is_not_even_stored_is_a_gap_and_is_asked_for_once() -> None:
    records = Tape().of("bbbb")
    stream = Stream(CHANNELS, bronze=True)
    live(stream, records[0])
    live(stream, records[2])
    assert stream.unanswered() == []
    assert isinstance(stream.wanted, Tail)
    assert [feed.record.flags for feed in stream.tail([])] == [Flag.AFTER_GAP]
    assert (stream.gaps, stream.wanted) == (1, None)
    assert live(stream, records[3]) == records[3:]


def test_where_bronze_cannot_be_read_the_collector_is_asked_again_and_then_it_is_a_gap() -> None:
    records = Tape().of("bbb")
    stream = Stream(CHANNELS, bronze=True)
    live(stream, records[0])
    live(stream, records[2])
    stream.unanswered()
    assert stream.tail(None) == []
    assert isinstance(stream.wanted, Ask)
    assert [feed.record.flags for feed in stream.unanswered()] == [Flag.AFTER_GAP]


def test_the_end_of_a_session_is_read_before_the_next_one_begins() -> None:
    tape = Tape()
    old = tape.of("btbt")
    new = later(tape, "s2").of("bt")
    stream = Stream(CHANNELS, bronze=True)
    assert live(stream, *old[:2]) == old[:2]
    assert stream.live(new[1]) == []
    assert stream.wanted == Tail("s1", old[1].ts_recv, "s2", new[1].ts_recv)
    fed = [feed.record for feed in stream.tail(behind(old + new, stream.wanted))]
    assert fed == [*old[2:], *new]
    assert (stream.gaps, stream.late, stream.wanted) == (0, 0, None)


def test_a_restart_goes_on_behind_what_was_fed_and_asks_at_once() -> None:
    records = Tape().of("btbkbtt")
    before = Stream(CHANNELS, bronze=True)
    live(before, *records[:3])
    stream = Stream(CHANNELS, bronze=True)
    stream.resume(before.state)
    assert stream.wanted == Ask(
        "s1", {"orderbook": (3, NEWEST), "trades": (2, NEWEST), "ticker": (1, NEWEST)}
    )
    assert stream.live(records[5]) == []
    answer = between(records[:6], "s1", stream.wanted.ranges)
    assert [feed.record for feed in stream.answer(True, answer)] == records[3:6]
    assert stream.wanted == Ask("s1", {"orderbook": (4, NEWEST), "ticker": (2, NEWEST)})
    assert stream.answer(True, []) == [], "what came before it was heard is here, so nothing was lost between"
    assert stream.duplicates == 1
    assert live(stream, records[6]) == records[6:]
    assert stream.gaps == 0


def test_a_restart_that_no_collector_answers_reads_what_is_stored() -> None:
    tape = Tape()
    old = tape.of("btbt")
    new = later(tape, "s2").of("btbt")
    before = Stream(CHANNELS, bronze=True)
    live(before, *old[:2])
    stream = Stream(CHANNELS, bronze=True)
    stream.resume(before.state)
    assert stream.answer(False, []) == []
    assert stream.wanted == Tail("s1", old[1].ts_recv)
    fed = stream.tail([*old[2:], *new[:2]])
    assert [feed.record for feed in fed] == [*old[2:], *new[:2]]
    assert stream.wanted is None
    assert live(stream, *new[2:]) == new[2:]
    assert (stream.gaps, stream.late) == (0, 0)


def test_a_restart_before_the_first_record_begins_with_what_is_stored_since_then() -> None:
    tape = Tape()
    old = tape.of("btb")
    new = later(tape, "s2").of("btb")
    stream = Stream(CHANNELS, bronze=True)
    stream.resume(State({}, (), "", 77))
    assert stream.wanted == Tail("", 77)
    assert stream.live(new[1]) == []
    assert [feed.record for feed in stream.tail([*old, *new[:1]])] == [*old, *new[:1]]
    assert stream.wanted == Ask("s2", {"orderbook": (2, NEWEST), "ticker": (1, NEWEST)})
    assert [feed.record for feed in stream.answer(True, [])] == new[1:2]
    assert live(stream, new[2]) == new[2:]
    assert (stream.gaps, stream.late) == (0, 0)


def test_the_flag_that_is_owed_outlives_a_restart() -> None:
    records = Tape().of("bbb")
    before = Stream(["orderbook"])
    live(before, records[0])
    before._gapped.add("orderbook")
    stream = Stream(["orderbook"], bronze=True)
    stream.resume(before.state)
    stream.answer(True, records[1:])
    assert stream.state.owed == ()


def test_records_beyond_the_buffer_are_asked_for_later_instead_of_being_a_gap() -> None:
    records = Tape().of("b" * 12)
    stream = Stream(["orderbook"], buffer_limit=2, bronze=True)
    fed = live(stream, records[0], *records[2:9])
    assert (stream.waiting, stream.overflows) == (2, 5)
    fed += [feed.record for feed in stream.answer(True, records[1:2])]
    fed += live(stream, records[9])
    fed += [feed.record for feed in stream.answer(True, between(records, "s1", stream.wanted.ranges))]
    assert fed == records[:10]
    assert stream.gaps == 0


@given(
    sessions=st.lists(
        st.tuples(st.text("btk", min_size=1, max_size=12), st.integers(0, 6), st.integers(0, 6)),
        min_size=1,
        max_size=4,
    ),
    kills=st.dictionaries(st.integers(1, 40), st.integers(0, 8), max_size=4),
    answers=st.lists(st.sampled_from(["all", "refused", "never"]), min_size=1, max_size=6),
    delay=st.integers(0, 3),
)
def test_whoever_is_killed_the_engines_see_what_is_stored_exactly_once(
    sessions: list[tuple[str, int, int]], kills: dict[int, int], answers: list[str], delay: int
) -> None:
    """Collectors begin and end with rows nobody heard; the actor is killed, and comes back rows later."""
    tape = Tape()
    stored: list[Fact] = []
    unheard: set[int] = set()
    for number, (letters, first, last) in enumerate(sessions):
        tape = later(tape, f"s{number}")
        begin = len(stored)
        stored += tape.of(letters)
        unheard |= {*range(begin, min(begin + first, len(stored)))}
        unheard |= {*range(max(begin, len(stored) - last), len(stored))}
    stream, waited, turn = Stream(CHANNELS, bronze=True), 0, 0
    fed: list[Fact] = []

    def settle(at: int) -> None:
        nonlocal turn
        there = stored[: at + 1]
        while (wanted := stream.wanted) is not None:
            if isinstance(wanted, Tail):
                fed.extend(feed.record for feed in stream.tail(behind(there, wanted)))
                continue
            answer, turn = answers[turn % len(answers)] if fed else "all", turn + 1
            running = wanted.session_id == there[-1].session_id
            if answer == "never":
                fed.extend(feed.record for feed in stream.unanswered())
            elif answer == "all" and running:
                found = between(there, wanted.session_id, wanted.ranges)
                fed.extend(feed.record for feed in stream.answer(True, found))
            else:
                fed.extend(feed.record for feed in stream.answer(False, []))

    for at, record in enumerate(stored):
        if at in kills and stream.state.session_id:
            state = stream.state
            stream = Stream(CHANNELS, bronze=True)
            stream.resume(state)
            unheard |= {*range(at, min(at + kills[at], len(stored)))}
        if at not in unheard:
            fed += [feed.record for feed in stream.live(record)]
        waited = waited + 1 if stream.wanted else 0
        if waited > delay or not fed:  # a cold start is another matter
            settle(at)
    settle(len(stored) - 1)
    begins = stored.index(fed[0]) if fed else 0
    assert fed == stored[begins : begins + len(fed)], "in order, unchanged, none twice, none left out"
    assert len(fed) == 0 or begins + len(fed) > max(set(range(len(stored))) - unheard)
