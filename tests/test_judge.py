"""The judge of storms finds every fault it is there for, and none where there is none."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.judge import (
    BACKFILLED,
    CROSSED,
    BookRow,
    DepthRow,
    GapRow,
    Judge,
    Row,
    TradeRow,
    Verdict,
)
from tests.system.sent import Place, Truth, top_of

SPOT, ADVANCED = ("binance", "BTC/USDT"), ("coinbase", "BTC/USD")
NAME = "spot:BTC/USDT"
MS = 1000
Change = Callable[[list[Any]], list[Any]]


def _levels(step: int, best: float = 100.0) -> tuple[list[list[float]], list[list[float]]]:
    return [[best, 1.0 + step]], [[best + 1, 2.0]]


def _truth(place: Place = SPOT, count: int = 8) -> Truth:
    """Trades 1…8 and updates 11…18, one of each a millisecond apart, from 1000 ms on."""
    exchange, symbol = place
    base = {"exchange": exchange, "symbol": symbol}
    bids, asks = _levels(0)
    entries: list[dict[str, Any]] = [
        {"kind": "opening", **base, "u": 10, "ids": ["0"], "bids": bids, "asks": asks}
    ]
    for step in range(1, count + 1):
        at_ns = (1000 + step) * 1_000_000
        bids, asks = _levels(step)
        sent = [[1, step]] if exchange == "coinbase" else []
        told = {"at_ns": at_ns, "sockets": 1, "sent": sent, "ts_ns": 0}
        entries.append(
            {"kind": "trade", **base, "id": str(step), "price": 1.0, "amount": 2.0, "side": "buy", **told}
        )
        entries.append({"kind": "book", **base, "u": 10 + step, "bids": bids, "asks": asks, **told})
    entries.append({"kind": "fault", "at_ns": 0, "order": {"fault": "gap"}, "connections": []})
    return Truth(json.dumps(entry) for entry in entries)


def _at(step: int) -> int:
    """Return the capture time of what was sent at a step, µs; trades and books have times of their own."""
    return (1000 + step) * MS + 300


def _trades(steps: range = range(1, 9)) -> list[TradeRow]:
    return [
        TradeRow("s", number, _at(step), 0, str(step), 1.0, 2.0, "buy")
        for number, step in enumerate(steps, 1)
    ]


def _books(steps: range = range(1, 9), *, coinbase: bool = False) -> list[BookRow]:
    return [
        BookRow(
            "s", n, _at(step) + 1, 0, step if coinbase else 10 + step, top_of(*_levels(step)), (100.0, 101.0)
        )
        for n, step in enumerate(steps, 1)
    ]


def _without(rows: list[Any], *numbers: int) -> list[Any]:
    """Return rows without some, numbered anew: what a collector that never heard of them would store."""
    kept = [row for row in rows if row.seq not in numbers]
    return [row._replace(seq=number) for number, row in enumerate(kept, 1)]


def _gap(first: int, last: int, reason: str = "disconnect", **more: Any) -> GapRow:
    """A gap from just after step `first` to just before step `last`."""
    return GapRow(_at(first), _at(last) - 10, more.get("first_seq"), more.get("last_seq"), reason)


def _verdict(trades: list[TradeRow], books: list[BookRow], gaps: list[GapRow], **options: Any) -> Verdict:
    judge = Judge(_truth(), **options)
    judge.trades(NAME, SPOT, trades, gaps)
    judge.books(NAME, SPOT, books, gaps)
    return judge.close()


def _broken(verdict: Verdict) -> list[str]:
    return [finding.rule for finding in verdict.findings]


def test_what_is_stored_as_it_was_sent_is_in_order() -> None:
    verdict = _verdict(_trades(), _books(), [])
    assert verdict.findings == []
    assert verdict.seen["trades stored"] == verdict.seen["books"] == 8
    assert verdict.seen["faults of gap"] == 1


def test_a_missing_trade_is_found_and_in_a_gap_it_is_explained() -> None:
    rows = _without(_trades(), 4, 5)
    assert _broken(_verdict(rows, [], [])) == ["whole", "whole"]
    verdict = _verdict(rows, [], [_gap(3, 6)])
    assert verdict.findings == []
    assert verdict.seen["trades missing and explained, sent to somebody"] == 2


@pytest.mark.parametrize("gap", [_gap(1, 3), _gap(6, 8), _gap(2, 6), _gap(3, 7)])
def test_a_gap_elsewhere_or_around_stored_trades_explains_nothing(gap: GapRow) -> None:
    assert _broken(_verdict(_without(_trades(), 4, 5), [], [gap])) == ["whole", "whole"]


def test_a_trade_that_came_by_backfill_is_not_missing_and_bounds_no_hole() -> None:
    rows = _without(_trades(), 4, 5)
    late = TradeRow("s", 7, _at(8) + 50, BACKFILLED, "4", 1.0, 2.0, "buy")
    assert _broken(_verdict([*rows, late], [], [])) == ["whole"]
    assert _verdict([*rows, late], [], [_gap(3, 6)]).findings == []


def test_the_end_counts_when_the_playback_stood_still_before_it() -> None:
    rows = _trades(range(1, 7))
    assert _broken(_verdict(rows, [], [], ended=True)) == ["whole", "whole"]
    assert _verdict(rows, [], [], ended=False).findings == []
    open_end = GapRow(_at(6), _at(9), 6, None, "disconnect")
    assert _verdict(rows, [], [open_end], ended=True).findings == []


def test_a_stream_without_a_single_trade_is_found() -> None:
    assert _broken(_verdict([], [], [])) == ["whole"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda rows: [*rows, rows[3]._replace(seq=9, at_us=_at(9))], "once"),
        (lambda rows: [*rows, rows[3]._replace(session="t", seq=1, at_us=_at(9), flags=BACKFILLED)], "once"),
        (lambda rows: [*rows, rows[3]._replace(seq=9, at_us=_at(9), trade_id="99")], "once"),
        (lambda rows: [*rows[:3], rows[3]._replace(price=1.5), *rows[4:]], "once"),
        (lambda rows: [*rows[:3], rows[3]._replace(side="sell"), *rows[4:]], "once"),
        (lambda rows: [*rows[:3], rows[3]._replace(amount=2.5), *rows[4:]], "once"),
    ],
    ids=["doubled", "doubled by backfill", "invented", "other price", "other side", "other amount"],
)
def test_a_doubled_invented_or_changed_trade_is_found(change: Change, rule: str) -> None:
    assert _broken(_verdict(change(_trades()), [], [])) == [rule]


def test_a_trade_from_before_the_playback_is_nobody_s_invention() -> None:
    old = TradeRow("s", 9, _at(9), BACKFILLED, "0", 1.0, 2.0, "buy")
    assert _verdict([*_trades(), old], [], []).findings == []


def test_a_wrong_book_is_found() -> None:
    books = _books()
    books[4] = books[4]._replace(top=top_of(*_levels(3)))
    assert _broken(_verdict(_trades(), books, [])) == ["true"]
    books[4] = books[4]._replace(number=99)
    verdict = _verdict(_trades(), books, [])
    assert _broken(verdict) == ["true"]
    assert "never was" in str(verdict)


def test_one_size_of_one_level_tells_books_apart() -> None:
    bids, asks = [[100.0 - n, 1.0] for n in range(20)], [[101.0 + n, 1.0] for n in range(20)]
    changed = [*asks[:19], [120.0, 1.5]]
    assert top_of(bids, asks) != top_of(bids, changed)
    assert top_of(bids, asks) == top_of([*bids, [50.0, 1.0]], asks), "only the top is compared"
    assert top_of(bids[:3], asks) != top_of(bids, asks[:3])


def test_a_missing_book_is_found_and_in_a_gap_it_is_explained() -> None:
    books = _without(_books(), 5)
    verdict = _verdict(_trades(), books, [])
    assert _broken(verdict) == ["followed"]
    assert "1 updates between 14" in str(verdict)
    gap = GapRow(_at(4) + 1, _at(6), 4, 5, "sequence")
    assert _verdict([], books, [gap], ended=False).findings[1:] == []


def test_a_book_that_goes_back_is_found() -> None:
    books = _books()
    back = books[3]._replace(seq=9, at_us=_at(9))
    assert _broken(_verdict(_trades(), [*books, back], [])) == ["followed"]


def test_coinbase_books_are_known_by_number_and_time() -> None:
    def judged(books: list[BookRow]) -> list[str]:
        judge = Judge(_truth(ADVANCED))
        judge.books("coinbase:BTC/USD", ADVANCED, books, [])
        return _broken(judge.close())

    books = _books(coinbase=True)
    assert judged(books) == []
    assert judged([row._replace(at_us=row.at_us - 500 * MS) for row in books]) == ["true"] * 8, (
        "before it was sent"
    )
    assert judged([books[0], books[1]._replace(top=books[2].top)]) == ["true"]


@pytest.mark.parametrize(
    ("best", "flags", "rules"),
    [
        ((102.0, 101.0), CROSSED, []),
        ((102.0, 101.0), 0, ["honest"]),
        ((101.0, 101.0), 8, []),
        ((101.0, 101.0), CROSSED, ["honest"]),
        ((None, 101.0), 16, []),
        ((None, 101.0), 0, ["honest"]),
        ((100.0, 101.0), 16, ["honest"]),
    ],
)
def test_a_crossed_book_without_its_flag_is_found(best: Any, flags: int, rules: list[str]) -> None:
    books = _books()
    books[2] = books[2]._replace(best=best, flags=flags)
    assert _broken(_verdict(_trades(), books, [])) == rules


def test_a_hole_in_the_numbers_is_found_but_for_one_that_overflow_explains() -> None:
    rows = [row for row in _trades() if row.seq not in (4, 5)]
    assert _broken(_verdict(rows, [], [_gap(3, 6)])) == ["numbered"]
    assert _verdict(rows, [], [_gap(3, 6, "overflow", first_seq=3, last_seq=6)]).findings == []
    assert _broken(_verdict(rows, [], [_gap(3, 6, "overflow", first_seq=3, last_seq=7)])) == ["numbered"]


def test_a_session_that_begins_late_and_a_number_twice_are_found() -> None:
    rows = _trades()
    assert _broken(_verdict([row._replace(seq=row.seq + 1) for row in rows], [], [])) == ["numbered"]
    twice = [*rows[:7], rows[7]._replace(seq=7)]
    assert _broken(_verdict(twice, [], [])) == ["numbered"]


def test_captures_that_repeat_or_go_back_are_found() -> None:
    rows, books = _trades(), _books()
    assert _broken(_verdict(rows, [books[0]._replace(at_us=rows[0].at_us), *books[1:]], [])) == ["ordered"]
    back = [*rows[:6], rows[6]._replace(at_us=_at(8)), rows[7]._replace(at_us=_at(7))]
    assert _broken(_verdict(back, [], [])) == ["ordered"]


def test_a_book_rebuilt_from_depth_is_held_against_the_truth() -> None:
    def judged(rows: list[DepthRow]) -> list[str]:
        judge = Judge(_truth())
        judge.depth(NAME, SPOT, rows)
        return _broken(judge.close())

    bids, asks = _levels(1)
    whole = DepthRow("s", 1, _at(1), 0, 11, "snapshot", bids, asks)
    changes = [
        DepthRow("s", step, _at(step), 0, 10 + step, "update", _levels(step)[0], []) for step in range(2, 9)
    ]
    assert judged([whole, *changes]) == []
    assert judged(changes) == ["true"]
    assert judged([whole, changes[0]._replace(bids=[[99.0, 1.0]]), *changes[1:]]) == ["true"] * 7
    again = whole._replace(seq=9, at_us=_at(9), number=18, bids=_levels(8)[0])
    assert judged([whole, changes[0], again]) == []


def test_other_streams_are_judged_by_number_and_time() -> None:
    judge = Judge(_truth())
    judge.others(NAME, "ticker", [Row("s", 1, 10, 0), Row("s", 3, 20, 0)], [])
    judge.others(NAME, "bidask", [Row("s", 1, 20, 0), Row("t", 1, 30, 0)], [GapRow(5, 4, 1, 2, "stale")])
    assert _broken(judge.close()) == ["numbered", "numbered", "ordered"]
