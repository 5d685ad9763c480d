"""What a collector says of itself in one line."""

from daedalus.actors.standing import standing
from daedalus.actors.streamstate import Hole, StreamState
from daedalus.exchanges.adapter import Stream

AT = 1_700_000_000_000_000_000


def streams(*reasons: str | None) -> list[StreamState]:
    made = []
    for number, reason in enumerate(reasons):
        state = StreamState(Stream(f"S{number}/USD", "trades"), f"S{number}-USD")
        if reason is not None:
            state.hole = Hole(reason, AT + number, None, None)
        made.append(state)
    return made


def test_nothing_is_said_when_all_is_well() -> None:
    assert standing(streams(None, None), {"trades": 0.49}) == ""
    assert standing([], {}) == ""


def test_streams_that_are_down_are_counted_by_what_they_are() -> None:
    reasons = ("stale", None, "stale", "disconnect", "overflow", "checksum")
    assert (
        standing(streams(*reasons), {})
        == "2 of 6 streams down; 1 of 6 streams shedding; 2 of 6 streams stale"
    )


def test_an_exchange_of_which_nothing_comes_is_unreachable() -> None:
    said = "exchange unreachable since 2023-11-14T22:13:20Z"
    assert standing(streams("disconnect", "stale"), {}) == said
    frames = StreamState(Stream("all", "frames"), "all")
    assert standing([*streams("disconnect"), frames], {}) == said


def test_a_full_spool_a_full_disk_and_a_clock_are_told() -> None:
    said = standing(
        streams(None),
        {"trades": 0.6, "orderbook": 0.8},
        disk="disk 1.9 % free: nothing is stored",
        clock_ok=False,
    )
    assert said == "orderbook spool 80 % full; disk 1.9 % free: nothing is stored; clock not synchronised"
