"""Sums that run for days are still the sums of their windows."""

from tests.features.drift import worst


def test_d19_sums_after_100_000_updates_are_those_of_their_windows() -> None:
    """Ten million of them: `./run soak drift`."""
    assert worst(100_000, seed=1) < 1e-13
