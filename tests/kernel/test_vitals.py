"""What an actor says is hostile until it is parsed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel import vitals


class Heard:
    """A cell as far as `hear` needs one."""

    def __init__(self) -> None:
        self.state = "running"
        self.beat_at: float | None = 1.0
        self.mailbox: int | None = None
        self.stats: dict[str, Any] | None = None
        self.stats_at: float | None = None
        self.status_text = self.reported = ""
        self.ignoring = False
        self.drained: tuple[int | None, int | None] | None = None
        self.extended: list[float] = []

    def extend(self, delay_s: float) -> None:
        self.extended.append(delay_s)

    def emit(self, kind: str, **values: Any) -> None:
        pass


def hear(**said: str) -> Heard:
    cell = Heard()
    vitals.hear(cell, said, 2.0)  # type: ignore[arg-type]
    return cell


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "", "-1", "1e9", "٣", "²", "nan"])
def test_what_is_no_count_is_taken_for_unknown(text: str) -> None:
    cell = hear(
        X_DAEDALUS_MAILBOX=text, EXTEND_TIMEOUT_USEC=text, X_DAEDALUS_DRAINED="1", X_DAEDALUS_FLUSHED=text
    )
    assert (cell.mailbox, cell.extended, cell.drained) == (None, [], (None, None))


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"a":' + "[" * 30_000, "null", '{"a": ' + "9" * 30 + "}", "\udcff"]
)
def test_statistics_that_are_none_leave_the_last_ones(text: str) -> None:
    assert hear(X_DAEDALUS_STATS=text).stats is None


def test_a_good_word_is_taken() -> None:
    cell = hear(
        X_DAEDALUS_MAILBOX="7", EXTEND_TIMEOUT_USEC="2500000", X_DAEDALUS_STATS='{"rows": 3}', WATCHDOG="1"
    )
    assert (cell.mailbox, cell.extended, cell.stats, cell.beat_at) == (7, [2.5], {"rows": 3}, 2.0)
    assert hear(EXTEND_TIMEOUT_USEC="9" * 15).extended == [vitals.EXTEND_MAX_S]


WORDS = (
    *(
        "X_DAEDALUS_MAILBOX",
        "X_DAEDALUS_STATS",
        "X_DAEDALUS_DRAINED",
        "X_DAEDALUS_IN_FLIGHT",
        "X_DAEDALUS_ERROR",
    ),
    *("X_DAEDALUS_IGNORE", "EXTEND_TIMEOUT_USEC", "STATUS", "READY", "WATCHDOG"),
)


@given(st.dictionaries(st.sampled_from(WORDS), st.text()))
def test_nothing_that_is_said_raises(said: dict[str, str]) -> None:
    hear(**said)
