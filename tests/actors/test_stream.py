"""The order of one symbol's records: tables of small cases, then any loss at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus import wire
from daedalus.actors.stream import NEWEST, Ask, Stream
from daedalus.records import Flag
from tests.market import Fact, Tape, between

CHANNELS = ("orderbook", "trades", "ticker")


def live(stream: Stream, *records: Fact) -> list[Fact]:
    """Publish records; asked whether there was anything before a session's first one, say no."""
    fed = []
    for record in records:
        settled = stream.wanted is None
        fed += stream.live(record)
        if settled and stream.wanted is not None and wire.channel(record) not in stream.wanted.ranges:
            fed += stream.answer(True, [])
    return [feed.record for feed in fed]


def test_records_without_holes_pass_at_once() -> None:
    records = Tape().of("btbkbtt")
    stream = Stream(CHANNELS)
    assert live(stream, *records) == records
    assert stream.wanted is None
    assert (stream.gaps, stream.filled, stream.duplicates) == (0, 0, 0)


def test_a_hole_is_asked_for_with_all_that_other_channels_may_have_lost() -> None:
    records = Tape().of("bbtbbtb")
    stream = Stream(CHANNELS)
    live(stream, *records[:3])
    assert live(stream, records[6]) == []
    assert stream.wanted == Ask("s1", {"orderbook": (3, 4), "trades": (2, NEWEST), "ticker": (1, NEWEST)})
    assert stream.waiting == 1


def test_an_answer_is_merged_with_what_waited_in_capture_order() -> None:
    records = Tape().of("bb" + "tbk" + "btb")
    stream = Stream(CHANNELS)
    assert live(stream, *records[:2]) == records[:2]
    assert live(stream, *records[5:]) == []  # t, b and k in the middle were lost
    fed = stream.answer(True, records[2:5])
    assert [feed.record for feed in fed] == records[2:]
    assert [feed.replayed for feed in fed] == [True] * 3 + [False] * 3
    assert stream.wanted is None
    assert (stream.filled, stream.gaps) == (3, 0)
    assert all(not feed.record.flags & Flag.AFTER_GAP for feed in fed)


def test_an_answer_that_knows_more_than_was_heard_live_does_not_run_ahead() -> None:
    records = Tape().of("b" + "b" + "bt" + "bt")
    stream = Stream(CHANNELS)
    live(stream, records[0])
    live(stream, records[2])
    fed = stream.answer(True, between(records, "s1", stream.wanted.ranges))
    assert [feed.record for feed in fed] == records[:3][1:]
    assert live(stream, *records[3:]) == records[3:]


def test_without_an_answer_the_next_record_carries_the_gap() -> None:
    records = Tape().of("bbbbt")
    stream = Stream(CHANNELS)
    live(stream, records[0])
    live(stream, records[2])
    fed = [feed.record for feed in stream.give_up()]
    assert [record.seq for record in fed] == [3]
    assert fed[0].flags & Flag.AFTER_GAP
    assert stream.gaps == 1
    assert live(stream, *records[3:]) == records[3:], "only the first record after it carries the flag"


def test_a_refusal_leaves_at_least_the_hole_itself_to_ask_for() -> None:
    records = Tape().of("bbbb")
    stream = Stream(CHANNELS)
    live(stream, records[0])
    live(stream, records[3])
    assert stream.answer(False, []) == []
    assert stream.wanted == Ask("s1", {"orderbook": (2, 3)})
    assert [feed.record for feed in stream.answer(True, records[1:3])] == records[1:]


def test_a_second_refusal_is_a_gap() -> None:
    records = Tape().of("bbbb")
    stream = Stream(CHANNELS)
    live(stream, records[0])
    live(stream, records[3])
    stream.answer(False, [])
    assert [feed.record.flags for feed in stream.answer(False, [])] == [Flag.AFTER_GAP]
    assert (stream.gaps, stream.wanted) == (1, None)


def test_a_cold_start_warms_from_what_is_left_and_is_no_gap() -> None:
    records = Tape().of("btbtbtbt")
    stream = Stream(CHANNELS)
    assert live(stream, records[6]) == []
    assert stream.wanted == Ask("s1", {"orderbook": (1, 3), "trades": (1, NEWEST), "ticker": (1, NEWEST)})
    fed = [feed.record for feed in stream.answer(False, records[3:7])]  # the ring begins at the second trade
    assert fed == records[3:7]
    assert stream.gaps == 0
    assert live(stream, records[7]) == [records[7]]


def test_an_answer_cut_at_its_limit_is_continued() -> None:
    records = Tape().of("bbbbbbb")
    stream = Stream(CHANNELS)
    live(stream, records[0])
    live(stream, records[6])
    assert [feed.record for feed in stream.answer(True, records[1:3], more=True)] == records[1:3]
    assert stream.wanted.ranges["orderbook"] == (4, 6)
    assert [feed.record for feed in stream.answer(True, records[3:6])] == records[3:]


def test_a_new_session_is_taken_up_from_its_first_record() -> None:
    old = Tape().of("btb")
    tape = Tape(session_id="s2")
    tape.us += 1_000_000
    new = tape.of("btb")
    stream = Stream(CHANNELS)
    assert live(stream, *old, *new) == [*old, *new]
    assert stream.gaps == 0


def test_the_lost_beginning_of_a_new_session_is_asked_for() -> None:
    old = Tape().of("b")
    tape = Tape(session_id="s2")
    tape.us += 1_000_000
    new = tape.of("btb")
    stream = Stream(CHANNELS)
    live(stream, *old, new[2])
    assert stream.wanted == Ask("s2", {"orderbook": (1, 1), "trades": (1, NEWEST), "ticker": (1, NEWEST)})
    assert [feed.record for feed in stream.answer(True, new[:2])] == new


def test_the_first_record_of_a_session_asks_what_the_other_channels_had_before() -> None:
    stream, old = Stream(CHANNELS), Tape().of("bt")
    tape = Tape(session_id="s2")
    tape.us += 1_000_000
    new = tape.of("bt")
    for records, session in ((old, "s1"), (new, "s2")):
        assert stream.live(records[0]) == []
        assert stream.wanted == Ask(session, {"trades": (1, NEWEST), "ticker": (1, NEWEST)})
        assert [feed.record for feed in stream.answer(True, [])] == records[:1]
        assert [feed.record for feed in stream.live(records[1])] == records[1:], "one question a session"


def test_a_channel_that_is_alone_is_not_asked_about() -> None:
    records = Tape().of("bb")
    stream = Stream(["orderbook"])
    assert [feed.record for record in records for feed in stream.live(record)] == records


def test_the_first_book_of_a_session_lost_alone_is_fed_before_what_followed_it() -> None:
    records = Tape().of("bttkb")  # the subscription took effect after the book was published
    stream = Stream(CHANNELS)
    assert [feed for record in records[1:4] for feed in stream.live(record)] == []
    fed = stream.answer(True, between(records[:4], "s1", stream.wanted.ranges))
    assert [feed.record for feed in fed] == records[:4]
    assert [feed.replayed for feed in fed] == [True, False, False, False]
    assert [feed.record for feed in stream.live(records[4])] == records[4:]
    assert (stream.filled, stream.gaps, stream.late) == (1, 0, 0)


@pytest.mark.parametrize("answer", ["none", "refused", "full"])
def test_a_session_whose_beginning_nobody_tells_begins_without_a_false_gap(answer: str) -> None:
    records = Tape().of("tbkt")
    stream = Stream(CHANNELS, buffer_limit=2)
    fed = stream.live(records[0]) + stream.live(records[1])
    assert fed == []
    fed += {
        "none": stream.give_up,
        "refused": lambda: stream.answer(False, []),
        "full": lambda: stream.live(records[2]),
    }[answer]()
    fed += [feed for record in records[2 + (answer == "full") :] for feed in stream.live(record)]
    assert [feed.record for feed in fed] == records, "unchanged: no record carries a flag"
    assert (stream.gaps, stream.late, stream.wanted) == (0, 0, None)


def test_a_session_after_a_clock_step_backwards_is_not_late() -> None:
    old = Tape().of("b")
    tape = Tape(session_id="s2")
    tape.us -= 3_600_000_000
    new = tape.of("bt")
    stream = Stream(CHANNELS)
    assert live(stream, *old, *new) == [*old, *new]
    assert stream.late == 0


def test_backfilled_records_are_counted_in_the_order_but_never_fed() -> None:
    tape = Tape()
    records = [tape.trade(), tape.trade(flags=Flag.BACKFILLED), tape.trade()]
    stream = Stream(CHANNELS)
    assert live(stream, *records) == [records[0], records[2]]
    assert stream.wanted is None


def test_a_gap_before_a_backfilled_record_is_told_by_the_next_one_fed() -> None:
    tape = Tape()
    records = [tape.trade(), tape.trade(), tape.trade(flags=Flag.BACKFILLED), tape.trade()]
    stream = Stream(CHANNELS)
    live(stream, records[0], records[2])
    assert stream.give_up() == []
    assert [record.flags for record in live(stream, records[3])] == [Flag.AFTER_GAP]


def test_duplicates_are_dropped_and_counted() -> None:
    records = Tape().of("bbb")
    stream = Stream(CHANNELS)
    assert live(stream, records[0], records[1], records[0], records[1], records[2]) == records
    assert stream.duplicates == 2


def test_what_would_stand_out_of_order_is_a_gap_not_a_step_back_in_time() -> None:
    records = Tape().of("btbt")  # the first trade is lost alone, and missed only when the second one comes
    stream = Stream(CHANNELS)
    assert live(stream, records[0], records[2], records[3]) == [records[0], records[2]]
    fed = [feed.record for feed in stream.answer(True, [records[1]])]
    assert [record.seq for record in fed] == [2]
    assert fed[0].flags & Flag.AFTER_GAP
    assert stream.late == 1


def test_a_full_buffer_ends_the_wait_and_nothing_in_it_is_lost() -> None:
    records = Tape().of("b" * 20)
    stream = Stream(CHANNELS, buffer_limit=5)
    live(stream, records[0])
    fed = live(stream, *records[2:8])
    assert [record.seq for record in fed] == [3, 4, 5, 6, 7, 8]
    assert (stream.overflows, stream.gaps, stream.wanted) == (1, 1, None)


def test_answers_nobody_waits_for_change_nothing() -> None:
    records = Tape().of("bb")
    stream = Stream(CHANNELS)
    assert stream.answer(True, records) == []
    assert stream.give_up() == []
    assert live(stream, *records) == records


@given(
    letters=st.text("btk", min_size=1, max_size=40),
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=4),
    oldest=st.integers(0, 40),
    patience=st.integers(0, 6),
    answering=st.sampled_from(["all", "left", "never"]),
    limit=st.integers(1, 50),
)
def test_whatever_is_lost_the_engine_sees_capture_order_and_every_hole_is_told(
    letters: str,
    cuts: list[tuple[int, int]],
    oldest: int,
    patience: int,
    answering: str,
    limit: int,
) -> None:
    records = Tape().of(letters)
    lost = {at for start, length in cuts for at in range(start, start + length)}
    stream = Stream(CHANNELS, buffer_limit=limit)
    fed: list[Fact] = []
    waited = 0
    for at, record in enumerate(records):
        if at in lost:
            continue
        fed += [feed.record for feed in stream.live(record)]
        waited = waited + 1 if stream.wanted else 0
        while stream.wanted is not None and waited >= patience:
            spool = records[: at + 1] if answering == "all" else records[oldest : at + 1]
            found = between(spool, "s1", stream.wanted.ranges)
            if answering == "never":
                fed += [feed.record for feed in stream.give_up()]
            else:
                fed += [feed.record for feed in stream.answer(answering == "all", found)]
    while stream.wanted is not None:
        fed += [feed.record for feed in stream.give_up()]
    assert stream.waiting == 0
    times = [record.ts_recv for record in fed]
    assert times == sorted(set(times))
    last: dict[type, int] = {}
    for record in fed:
        before = last.get(type(record))
        told = bool(record.flags & Flag.AFTER_GAP)
        if before is not None and record.seq != before + 1:
            assert told, f"a hole before {record.seq} in silence"
        last[type(record)] = record.seq


@given(
    sessions=st.lists(st.tuples(st.text("btk", min_size=1, max_size=25), st.integers(0, 24)), max_size=3),
    delay=st.integers(0, 4),
    cut_at=st.integers(1, 30),
)
def test_whatever_was_published_before_the_subscription_nothing_is_missing_or_flagged(
    sessions: list[tuple[str, int]], delay: int, cut_at: int
) -> None:
    """Of each session the first records are not heard; the answer comes some records later, in pieces."""
    stream, us = Stream(CHANNELS), 0
    fed: list[Fact] = []
    published: list[Fact] = []
    for number, (letters, unheard) in enumerate(sessions):
        tape = Tape(session_id=f"s{number}")
        tape.us = us = max(us, tape.us) + 1_000_000
        records = tape.of(letters)
        waited = 0
        for at, record in enumerate(records):
            if at >= unheard:
                fed += [feed.record for feed in stream.live(record)]
            waited = waited + 1 if stream.wanted else 0
            while stream.wanted is not None and (waited > delay or at == len(records) - 1):
                found = between(records[: at + 1], record.session_id, stream.wanted.ranges)
                more = len(found) > cut_at
                fed += [feed.record for feed in stream.answer(True, found[:cut_at], more=more)]
        published += records if unheard < len(records) else []
    assert fed == published
    assert (stream.gaps, stream.late, stream.overflows) == (0, 0, 0)


@pytest.mark.parametrize("cut", [3, 4, 5, 20])
def test_a_stretch_lost_over_all_channels_is_restored_without_a_trace(cut: int) -> None:
    """What a full queue does: a stretch is gone in all channels, the next record's too."""
    records = Tape().of("bttbkbtbbtkbtbbt" * 3)
    stream = Stream(CHANNELS)
    fed: list[Fact] = []
    for at, record in enumerate(records):
        if 10 <= at < 10 + cut:
            continue
        fed += [feed.record for feed in stream.live(record)]
        while stream.wanted is not None:
            answer = between(records[: at + 3], "s1", stream.wanted.ranges)
            fed += [feed.record for feed in stream.answer(True, answer)]
    assert fed == records
    assert (stream.gaps, stream.late) == (0, 0)
