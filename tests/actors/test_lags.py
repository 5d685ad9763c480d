"""The lags of the last rows."""

from daedalus.actors.lags import KEPT, Lags


def test_percentiles_are_of_the_last_rows_only() -> None:
    lags = Lags()
    assert (lags.ms(50), lags.ms(99)) == (None, None)
    for number in range(KEPT):
        lags.note(10**15 + number)
    for number in range(KEPT):
        lags.note(number * 1_000_000)
    assert lags.ms(50) == KEPT // 2
    assert lags.ms(99) == KEPT * 99 // 100
    lags.note(10**15)
    assert lags.ms(0) == 1.0, "the oldest made room"
