"""The watchdog's arithmetic and its conscience."""

import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel.watchdog import PING_MAX_S, Step, doubts, interval_s


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_PID": "7"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000002"}, 10.0),
        ({"WATCHDOG_USEC": "1"}, 5e-7),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "30s"}, None),
        ({"WATCHDOG_USEC": "³"}, None),
        ({"WATCHDOG_USEC": str(2**64 - 1)}, None),
        ({"WATCHDOG_USEC": "9" * 10_000}, None),
    ],
)
def test_the_interval_is_half_of_what_the_manager_waits_and_only_ours(
    environ: dict[str, str], expected: float | None
) -> None:
    assert interval_s(environ, 7) == expected


@given(st.dictionaries(st.sampled_from(["WATCHDOG_USEC", "WATCHDOG_PID"]), st.text() | st.from_regex(r"\d+")))
def test_any_environment_gives_a_usable_interval_or_none(environ: dict[str, str]) -> None:
    found = interval_s(environ, os.getpid())
    assert found is None or 0 < found <= PING_MAX_S


def test_all_is_well_when_the_loop_is_prompt_steps_are_within_bounds_and_the_socket_accepts() -> None:
    steps = [Step("store", 45.0, 45.0), Step("own", 1e6, math.inf)]
    assert doubts(loop_lag_s=1.99, steps=steps, accepting=True) == ()


@pytest.mark.parametrize(
    ("lag_s", "steps", "accepting", "word"),
    [
        (2.0, [], True, "2.0 s late"),
        (math.nan, [], True, "late"),
        (0.0, [Step("store", 1.0, 2.0), Step("ingest", 15.1, 15.0)], True, "group ingest"),
        (0.0, [Step("store", math.nan, 2.0)], True, "group store"),
        (0.0, [], False, "control socket"),
    ],
)
def test_one_doubt_withholds_the_ping_and_says_what_it_is(
    lag_s: float, steps: list[Step], accepting: bool, word: str
) -> None:
    (text,) = doubts(loop_lag_s=lag_s, steps=steps, accepting=accepting)
    assert word in text


def test_every_doubt_is_named() -> None:
    assert len(doubts(loop_lag_s=9.0, steps=iter([Step("g", 2.0, 1.0)]), accepting=False)) == 3
