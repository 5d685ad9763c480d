"""When a process makes way for a fresh one."""

from pathlib import Path

import pytest

from daedalus.actors.recycling import SAMPLE_S, Limits, Recycling, anonymous_bytes, slope

MIB = 1 << 20
LIMITS = Limits(mb_per_h=32, soft_bytes=240 * MIB)


def first(recycling: Recycling, memory_mib, hours: float = 4.0) -> tuple[float, str] | None:
    """Return (age in h, why) of the first verdict."""
    for minute in range(round(hours * 60)):
        age_s = minute * SAMPLE_S
        why = recycling.sample(age_s, round(memory_mib(age_s / 3600) * MIB))
        if why is not None:
            return age_s / 3600, why
    return None


def test_c01_memory_that_only_grows_is_seen_before_the_soft_limit() -> None:
    found = first(Recycling(LIMITS), lambda hours: 110 + 40 * hours)
    assert found is not None
    assert 1.4 < found[0] < 1.6, "at 70 % of the soft limit, and an hour after the first half"
    assert found[1].startswith("memory grows by 40 MiB/h and is at 169 MiB")


@pytest.mark.parametrize(
    "memory",
    [
        lambda _: 200.0,
        lambda hours: 120 + 20 * hours if hours < 3 else 180,  # slowly
        lambda hours: 60 + min(120 * hours, 110),  # while it starts: half an hour is its own
        lambda hours: 170 + 60 * (hours > 3),  # a step
        lambda hours: 175 + 60 * ((hours * 60) % 30 < 3),  # bursts
        lambda hours: 20 + 40 * hours if hours < 3 else 20,  # far from the limit
    ],
)
def test_c01_memory_that_settles_steps_or_bursts_recycles_nothing(memory) -> None:
    assert first(Recycling(LIMITS), memory) is None


def test_without_a_known_limit_the_slope_alone_decides() -> None:
    found = first(Recycling(Limits(mb_per_h=32)), lambda hours: 20 + 40 * hours)
    assert found is not None
    assert found[0] < 1.6


def test_age_recycles_and_not_all_at_once() -> None:
    ages = [
        first(Recycling(Limits(after_h=10), name), lambda _: 50.0, 11)[0]  # type: ignore[index]
        for name in ("binance", "coinbase", "kraken", "okx")
    ]
    assert all(9.0 <= age <= 10.05 for age in ages)
    assert len(set(ages)) == 4


def test_nothing_is_recycled_when_both_are_off() -> None:
    assert first(Recycling(Limits()), lambda hours: 50 + 500 * hours) is None


def test_the_slope_is_the_median_of_all_slopes() -> None:
    points = [(float(x), 3.0 * x) for x in range(20)]
    points[7] = (7.0, 1000.0)
    assert slope(points) == pytest.approx(3.0)
    assert slope([]) == 0.0


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_memory_is_counted_in_pages_as_large_as_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": page}.__getitem__)
    (tmp_path / "statm").write_text("100 50 20 1 0 30 0\n")
    assert anonymous_bytes(tmp_path / "statm") == 30 * page


def test_this_process_has_memory_of_its_own() -> None:
    assert MIB < anonymous_bytes() < 4096 * MIB
