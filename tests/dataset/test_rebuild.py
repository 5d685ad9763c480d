"""The full book from stored changes: the rule of docs/formats.md, against a book kept by hand."""

import doctest
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import daedalus
from daedalus.dataset.layout import HOUR_NS
from daedalus.records import Flag
from tests.dataset.makings import T0, depth, entry, seal_all, sealed, write_journal

ROOT = Path(__file__).resolve().parent.parent.parent


def seqs(books) -> list[int]:
    return [book.seq for book in books]


def test_a_snapshot_is_the_book_and_an_update_changes_it() -> None:
    first = depth(1, "snapshot", bids=[(100, 1), (99, 2)], asks=[(101, 1), (103, 3)])
    second = depth(2, bids=[(99, 0), (98, 4), (100, 5)], asks=[(102, 7), (150, 0)])
    one, two = daedalus.rebuild([first, second])
    assert (one.bids, one.asks) == (((100, 1), (99, 2)), ((101, 1), (103, 3)))
    assert (two.bids, two.asks) == (((100, 5), (98, 4)), ((101, 1), (102, 7), (103, 3)))
    assert (two.exchange, two.symbol, two.seq, two.nonce, two.capture_ts) == (
        *("binance", "BTC-USDT"),
        *(2, 20, second.ts_recv),
    )
    assert next(iter(daedalus.rebuild([first], levels=1))).asks == ((101, 1),)


def test_before_the_first_snapshot_and_after_a_hole_nothing_is_known() -> None:
    whole = {"bids": [(1, 1)], "asks": [(2, 1)]}
    rows = [
        *(depth(3), depth(4, "snapshot", **whole), depth(5), depth(7), depth(8)),  # 6 is missing
        *(depth(9, "snapshot", **whole), depth(10, flags=Flag.AFTER_GAP), depth(11)),
        *(
            depth(12, "snapshot", **whole),
            depth(1, session_id="s2"),
            depth(2, "snapshot", session_id="s2", **whole),
        ),
    ]
    assert seqs(daedalus.rebuild(rows)) == [4, 5, 9, 12, 2]


def test_an_empty_side_is_empty_and_no_level_of_size_0_is_kept() -> None:
    (one,) = daedalus.rebuild([depth(1, "snapshot", bids=[(1, 0)], asks=[])])
    assert (one.bids, one.asks) == ((), ())


def test_two_symbols_are_two_books() -> None:
    rows = [
        depth(1, "snapshot", bids=[(1, 1)]),
        depth(1, "snapshot", bids=[(9, 9)], symbol="ETH-USDT"),
        depth(2, bids=[(2, 2)]),
        depth(2, bids=[(8, 8)], symbol="ETH-USDT"),
    ]
    assert [(book.symbol[:3], book.bids) for book in daedalus.rebuild(rows)] == [
        ("BTC", ((1, 1),)),
        ("ETH", ((9, 9),)),
        ("BTC", ((2, 2), (1, 1))),
        ("ETH", ((9, 9), (8, 8))),
    ]


@pytest.mark.parametrize("bad", [0, -1])
def test_a_wrong_count_of_levels_is_refused_at_once(bad) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        daedalus.rebuild([], levels=bad)


def test_a_row_that_is_neither_is_refused() -> None:
    with pytest.raises(ValueError, match="a snapshot or an update, not 'delta'"):
        list(daedalus.rebuild([depth(1, "delta")]))


level = st.tuples(st.integers(1, 30).map(float), st.integers(0, 3).map(float))
side = st.lists(level, max_size=6)


@given(st.lists(st.tuples(st.sampled_from(["update", "update", "snapshot"]), side, side), max_size=20))
def test_every_book_is_the_one_kept_by_hand(changes) -> None:
    books: list[dict[float, float]] = [{}, {}]
    rows, expected, known = [], [], False
    for seq, (kind, *sides) in enumerate(changes, 1):
        rows.append(depth(seq, kind, bids=sides[0], asks=sides[1]))
        known |= kind == "snapshot"
        for book, levels in zip(books, sides, strict=True):
            if kind == "snapshot":
                book.clear()
            book.update(dict(levels))
        if known:
            bids, asks = ([(p, s) for p, s in sorted(book.items()) if s] for book in books)
            expected.append((tuple(reversed(bids)), tuple(asks)))
    assert [(book.bids, book.asks) for book in daedalus.rebuild(rows)] == expected
    top = [(book.bids, book.asks) for book in daedalus.rebuild(rows, levels=2)]
    assert top == [(bids[:2], asks[:2]) for bids, asks in expected]


def test_stored_rows_give_the_same_books_over_hours_and_days_of_any_number_of_digits(tmp_path) -> None:
    """14:00 on 31 January to 4:00 on 1 February: by path these hours are not in order."""
    rows = [depth(1, "snapshot", bids=[(100, 1)], asks=[(101, 1)])]
    rows += [
        depth(seq, bids=[(100 - seq, 1.0)], asks=[(101, float(seq))], ts=T0 + (seq - 1) * HOUR_NS)
        for seq in range(2, 15)
    ]
    for number, some in enumerate((rows[:6], rows[6:]), 1):
        write_journal(tmp_path, "depth", [[entry(some, 1 if number == 1 else 7)]], number)
        seal_all(tmp_path, "depth")
    frame = daedalus.scan(tmp_path, "depth", exchange="binance", symbol="BTC/USDT")
    direct = list(daedalus.rebuild(rows))
    for stored in (daedalus.rebuild(frame), daedalus.rebuild(frame.collect())):
        assert [(b.seq, b.bids, b.asks) for b in stored] == [(b.seq, b.bids, b.asks) for b in direct]
    assert frame.collect()["seq"].to_list() == list(range(1, 15))


def test_sessions_that_overlap_after_a_clock_step_are_rebuilt_one_after_the_other(tmp_path) -> None:
    def session(name: str, first_ms: int) -> list:
        start = T0 + first_ms * 1_000_000
        return [
            depth(seq, "update" if seq > 1 else "snapshot", session_id=name, ts=start + seq * 2_000_000)
            for seq in range(1, 6)
        ]

    sealed(tmp_path, "depth", [*session("a", 5), *session("b", 0)])
    found = daedalus.rebuild(daedalus.scan(tmp_path, "depth"))
    assert [(book.session_id, book.seq) for book in found] == [
        (name, n) for name in "ba" for n in range(1, 6)
    ]


def test_the_example_of_the_page_works(tmp_path, monkeypatch) -> None:
    sealed(
        tmp_path / "data",
        "depth",
        [
            depth(1, "snapshot", bids=[(100.0, 1.0)], asks=[(101.0, 2.0)]),
            depth(2, bids=[(100.5, 3.0)]),
        ],
    )
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(>>> import daedalus\n.*?rebuild.*?)```", page, re.DOTALL)
    test = doctest.DocTestParser().get_doctest(example, {}, "formats.md", None, None)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


def test_a_frame_without_rows_gives_no_books() -> None:
    assert list(daedalus.rebuild(pl.DataFrame(schema=daedalus_schema()))) == []


def daedalus_schema() -> dict[str, pl.DataType]:
    from daedalus.dataset.scan import _schema

    return dict(_schema("depth"))
