"""Every column, on a real recording with its accidents, equals brute force over the window."""

import math
from dataclasses import dataclass

import msgspec
import pytest

from daedalus.features import FeatureEngine
from daedalus.features.params import parse
from daedalus.records import BookSnapshot, Trade
from tests.features.recorded import Record, events
from tests.features.reference import Reference

PARAMS: dict[str, object] = {
    "emit_interval_s": 0,
    "emit_ofi_levels": True,
    "bands_bps": [0.5, 1, 2, 5, 10],
    "horizons_s": [0.25, 1, 5, 15, 60],
    "max_state_staleness_s": 10,
    "spread_regime_window_s": 20,
}


@dataclass
class Accident:
    """What is done to the stream from a book on."""

    at: int
    flags: int = 0
    side: str = ""
    session: str = "s"
    later_s: float = 0.0


def with_accidents(stream: tuple[Record, ...], accidents: list[Accident]) -> list[Record]:
    """Return the stream with gaps, sessions, silence, empty, crossed and shallow books."""
    plan = {accident.at: accident for accident in accidents}
    out: list[Record] = []
    shift, session, count = 0, "s", -1
    for record in stream:
        changes: dict[str, object] = {}
        if isinstance(record, BookSnapshot):
            count += 1
            if (accident := plan.get(count)) is not None:
                shift += int(accident.later_s * 1e9)
                session = accident.session
                changes["flags"] = accident.flags
                changes |= {
                    "": {},
                    "no bids": {"bids": b""},
                    "no asks": {"asks": b""},
                    "crossed": {"bids": record.asks, "asks": record.bids},
                    "locked": {"bids": record.asks[:16] + record.bids},
                    "one level": {"bids": record.bids[:16], "asks": record.asks[:16]},
                    "zero size": {"asks": record.asks[:8] + bytes(8) + record.asks[16:]},
                }[accident.side]
        elif count % 7 == 3:
            changes["side"] = None
        changes |= {"ts_recv": record.ts_recv + shift, "session_id": session}
        out.append(msgspec.structs.replace(record, **changes))
    return out


ACCIDENTS = [
    Accident(120, flags=2),
    Accident(180, side="no bids"),
    Accident(200, side="no asks", flags=2),
    Accident(260, side="crossed"),
    Accident(261, side="locked"),
    Accident(300, side="one level"),
    Accident(330, side="zero size"),
    Accident(400, flags=256),
    Accident(450, later_s=2.5),
    Accident(500, later_s=70.0),
    Accident(560, session="t"),
    Accident(600, session="t", later_s=10.0),
]


@pytest.mark.parametrize(("name", "levels", "books"), [("btcusdt", 300, 1300), ("ethusdt", 25, 800)])
@pytest.mark.usefixtures("recordings")
def test_every_column_equals_brute_force_on_a_real_book(name: str, levels: int, books: int) -> None:
    stream = with_accidents(events(name, books, levels), ACCIDENTS)
    engine = FeatureEngine(PARAMS, trades=True)
    truth = Reference(parse(PARAMS), trades=True)
    names = engine.schema.names
    filled: set[str] = set()
    rows = 0
    for record in stream:
        expected, row = truth.update(record), engine.update(record)
        assert (expected is None) == (row is None) == isinstance(record, Trade)
        if expected is None or row is None:
            continue
        unknown = set(expected) - set(names)
        assert not unknown
        for column, value in zip(names, row, strict=True):
            want = expected.get(column)
            where = f"{column} of row {rows}: engine {value}, brute force {want}"
            assert math.isnan(value) == (want is None), where
            if want is not None:
                filled.add(column)
                assert abs(value - want) <= 1e-9 * abs(want) + tolerance(column), where
        rows += 1
    assert rows == books
    if levels >= 300:  # the deep book fills every column
        assert {n for n in names if n not in filled} == set()


def tolerance(column: str) -> float:
    """Return what brute force itself loses to cancellation, in the column's unit."""
    if column.startswith(("rv_", "log_return")):
        return 1e-15
    if column in ("micro_minus_mid", "vwap_spread", "spread", "cog_vs_mid"):
        return 1e-9
    if "slope" in column or "decay_rate" in column:
        return 1e-7
    return 1e-11
