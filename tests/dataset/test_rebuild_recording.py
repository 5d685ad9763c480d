"""From real messages to Parquet and back: the full book rebuilt from stored rows is the true one."""

from pathlib import Path
from typing import Any

import pytest

import daedalus
from daedalus.actors.rows import Stamp, make_row
from daedalus.exchanges.adapter import Now
from tests.dataset.makings import T0, entry, seal_all, write_journal
from tests.exchanges import binance_kit as kit
from tests.exchanges.binance_kit import ETH, SWAP, Spot1000, Truth, recorded, replay

LEVELS = 20


def digest(bids: Any, asks: Any) -> int:
    """One number for a book: all the books at once would be gigabytes."""
    return hash((tuple(map(tuple, bids)), tuple(map(tuple, asks))))


def store(data: Path, lines: list[bytes], make: Any, symbol: str) -> dict[int, int]:
    """Seal what a recording says as depth and orderbook; return update id -> digest of the true full book."""
    adapter = make({"orderbook": [symbol], "depth": [symbol]}, levels=LEVELS)
    truth, true, rows = Truth(), {}, {"depth": [], "orderbook": []}
    for number, (_, items) in enumerate(replay(adapter, lines, truth)):
        at = T0 + number * 1_000_000
        now = Now(at, number, at // 1_000_000)
        for channel, facts in (("depth", kit.depths(items)), ("orderbook", kit.books(items))):
            for fact in facts:
                seq = len(rows[channel]) + 1
                stamp = Stamp(
                    "binance",
                    "S",
                    "s1",
                    clock_ok=True,
                    ts_recv=at + seq % 1000 * 1000,
                    seq=seq,
                    flags=fact.flags,
                )
                rows[channel].append(make_row(fact, now, stamp))
                true[truth.last] = digest(*truth.book.top(1 << 30))
    for channel, records in rows.items():
        groups = [[entry(records[at : at + 500], at + 1)] for at in range(0, len(records), 500)]
        write_journal(data, channel, groups)
        seal_all(data, channel)
    return true


@pytest.mark.parametrize(
    ("file", "make", "symbol", "updates"),
    [
        ("binance_spot/ethusdt_20240808.gz", Spot1000, ETH, 3400),
        ("binance_usdm/btcusdt_20240808.gz", kit.BinanceUsdmAdapter, SWAP, 950),
    ],
)
def test_full_books_from_stored_depth_are_the_true_ones_and_their_tops_the_stored_books(
    tmp_path: Path, recordings: Path, file: str, make: Any, symbol: str, updates: int
) -> None:
    lines = [raw for raw in recorded(recordings, file) if kit.is_snapshot(raw) or b"@depth" in raw[:40]][
        :3500
    ]
    true = store(tmp_path, lines, make, symbol)
    tops = {
        row["nonce"]: tuple(
            tuple((level["price"], level["size"]) for level in row[side]) for side in ("bids", "asks")
        )
        for row in daedalus.scan(tmp_path, "orderbook").collect().iter_rows(named=True)
    }
    seen = checked = compared = 0
    for book in daedalus.rebuild(daedalus.scan(tmp_path, "depth")):
        seen += 1
        # of several changes in one message, the buffered ones behind a snapshot, the truth knows the last
        if book.nonce in true:
            checked += 1
            assert digest(book.bids, book.asks) == true[book.nonce], book.nonce
        if book.nonce in tops:
            compared += 1
            assert (book.bids[:LEVELS], book.asks[:LEVELS]) == tops[book.nonce]
    assert (checked >= updates, compared >= updates, seen - checked < 20) == (True, True, True)
