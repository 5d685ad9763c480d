"""Reading /proc and judging what was read."""

import os

import pytest

from daedalus.kernel.bootstrap import fold_cpus
from daedalus.kernel.limits import Meter, level, parse_anon, parse_cpu_ticks

STATUS = "Name:\tx\nVmRSS:\t 900 kB\nRssAnon:\t     100 kB\nRssFile:\t 700 kB\nRssShmem:\t      28 kB\n"


def test_anonymous_and_shared_memory_count_and_page_cache_does_not() -> None:
    assert parse_anon(STATUS) == 128 * 1024


def test_a_zombie_has_no_figure_rather_than_zero() -> None:
    assert parse_anon("Name:\tx\nState:\tZ (zombie)\n") is None


def test_a_name_with_brackets_does_not_shift_the_fields() -> None:
    assert parse_cpu_ticks("7 (a) b (c) S " + " ".join(str(n) for n in range(4, 30))) == 14 + 15


@pytest.mark.parametrize(
    ("anon", "expected"), [(9, "ok"), (10, "warn"), (20, "soft"), (29, "soft"), (30, "hard")]
)
def test_a_limit_is_reached_at_its_value(anon: int, expected: str) -> None:
    assert level(anon, 10, 20, 30) == expected
    assert level(anon, None, None, None) == "ok"


def test_soft_needs_three_samples_in_a_row() -> None:
    meter = Meter()
    meter.anon = 25
    assert [meter.judge(None, 20, 30) for _ in range(2)] == ["warn", "warn"]
    meter.anon = 5
    assert meter.judge(None, 20, 30) == "ok"
    meter.anon = 25
    assert [meter.judge(None, 20, 30) for _ in range(3)] == ["warn", "warn", "soft"]


def test_a_sample_of_ourselves_is_plausible() -> None:
    meter = Meter()
    meter.sample(os.getpid(), 1.0)
    assert meter.cpu_pct is None
    meter.sample(os.getpid(), 3.0)
    assert meter.anon is not None
    assert meter.anon > 1 << 20
    assert meter.cpu_pct is not None
    assert meter.cpu_pct >= 0.0


def test_cores_fold_onto_those_there_are() -> None:
    assert fold_cpus([0, 1, 2, 3], [0, 1]) == [0, 1]
    assert fold_cpus([3], [4, 7]) == [7]
    assert fold_cpus([1, 2], [1, 2]) == [1, 2]  # a core that is there is meant
    assert fold_cpus([3], []) == []
