"""What free space means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.actors.diskmarks import DiskMarks


def levels(*free: float) -> list[str]:
    marks = DiskMarks(10, 5, 2)
    return [marks.level(round(one * 1000), 100_000) for one in free]


@pytest.mark.parametrize(
    ("free", "level"),
    [
        (100, "ok"),
        (10, "ok"),
        (9.9, "warn"),
        (5, "warn"),
        (4.9, "evict"),
        (2, "evict"),
        (1.9, "stop"),
        (0, "stop"),
    ],
)
def test_a_level_begins_below_its_mark(free: float, level: str) -> None:
    assert levels(free) == [level]


def test_a_level_is_left_one_point_above_its_mark() -> None:
    assert levels(1.9, 2.5, 2.9, 3.0) == ["stop", "stop", "stop", "evict"]
    assert levels(9.9, 10.5, 9.9, 11.0, 10.5) == ["warn", "warn", "warn", "ok", "ok"]
    assert levels(1.0, 50.0) == ["stop", "ok"]


def test_a_mark_of_nothing_is_off() -> None:
    marks = DiskMarks(0, 0, 0)
    assert [marks.level(0, 100), marks.level(1, 100)] == ["ok", "ok"]


def test_a_file_system_without_a_size_changes_nothing() -> None:
    marks = DiskMarks(10, 5, 2)
    assert (marks.level(0, 0), marks.free_pct) == ("ok", None)
    marks.level(1, 100)
    assert (marks.level(0, 0), marks.free_pct) == ("stop", 1.0)


def test_marks_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="warn 1 %, evict 5 %"):
        DiskMarks(1, 5, 2)


@given(st.lists(st.floats(0, 100), max_size=50))
def test_memory_makes_a_level_harsher_by_at_most_one_point(free: list[float]) -> None:
    order = ["ok", "warn", "evict", "stop"]
    for said, one in zip(levels(*free), free, strict=True):
        below = max(one - 1.002, 0.0)
        assert order.index(levels(one)[0]) <= order.index(said) <= order.index(levels(below)[0])
