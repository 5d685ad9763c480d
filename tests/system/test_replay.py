"""Recordings of real exchanges through real processes: what is stored equals what was sent."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.system import configs, truth
from tests.system.tree import Simulator, Tree, rows, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(180)]

BINANCE = ("BTC/USDT", "ETH/USDT")
LIVE_ONLY = "# every update is a row\n[features]\nemit_interval_s = 0\n"


def _top(side: list[dict[str, float]], levels: int = 20) -> list[tuple[float, float]]:
    return [(level["price"], level["size"]) for level in side[:levels]]


def _assert_layout(tree: Tree) -> None:
    """Partitions in the data equal those in the path, and the three readers open every file."""
    import duckdb
    import polars as pl
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    files = tree.segments("*")
    assert files
    for path in files:
        table = pq.ParquetFile(path).read()
        parts = dict(part.split("=", 1) for part in path.parts if "=" in part)
        assert set(parts) == {"exchange", "symbol", "year", "month", "day", "hour"}
        for name, value in parts.items():
            assert {str(v) for v in table.column(name).unique().to_pylist()} == {value}, (path, name)
    for channel in {path.relative_to(tree.data / "raw" / "ready").parts[1] for path in files}:
        pattern = str(tree.data / "raw" / "ready" / "*" / channel / "**" / "*.parquet")
        total = sum(pq.ParquetFile(path).metadata.num_rows for path in tree.segments(channel))
        for hive in (True, False):
            assert pl.scan_parquet(pattern, hive_partitioning=hive).select(pl.len()).collect().item() == total
            relation = duckdb.sql(f"select count(*) from read_parquet('{pattern}', hive_partitioning={hive})")
            assert relation.fetchall() == [(total,)]
            found = [str(path) for path in tree.segments(channel)]
            partitioning = "hive" if hive else None
            assert ds.dataset(found, partitioning=partitioning).count_rows() == total


def _assert_capture_order(tree: Tree) -> None:
    """Capture times are strictly increasing per symbol, over all channels; seq is gapless per session."""
    times: dict[tuple[str, str], list[Any]] = defaultdict(list)
    seqs: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for channel in ("orderbook", "trades", "ticker"):
        for row in rows(tree, channel, ["exchange", "symbol", "capture_ts", "seq", "session_id"]):
            times[row["exchange"], row["symbol"]].append(row["capture_ts"])
            seqs[row["exchange"], row["symbol"], channel, row["session_id"]].append(row["seq"])
    for key, stamps in times.items():
        assert len(set(stamps)) == len(stamps), key
    for key, numbers in seqs.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), key


def _explained(tree: Tree, symbol: str, ids: list[str], stored: list[dict[str, Any]]) -> set[str]:
    """Return the trades that lie in a gap row; one of them is what was under way at the stop."""
    place = {number: at for at, number in enumerate(ids)}
    at = {(row["session_id"], row["seq"]): place[row["trade_id"]] for row in stored}
    found: set[str] = set()
    for gap in rows(tree, "gaps"):
        if (gap["channel"], gap["symbol"]) == ("trades", symbol.replace("/", "-")):
            first, last = (at.get((gap["session_id"], gap[key])) for key in ("first_seq", "last_seq"))
            found |= set(ids[first:last])
    return found


def test_every_binance_trade_is_stored_once_and_every_book_is_true(short_tmp: Path, recordings: Path) -> None:
    files = {
        "BTC/USDT": recordings / "binance_spot" / "btcusdt_20240808.gz",
        "ETH/USDT": recordings / "binance_spot" / "ethusdt_20240808.gz",
    }
    arguments = [word for symbol, file in files.items() for word in ("--recording", f"{file}:{symbol}")]
    simulator = Simulator(*arguments, "--speed", "10", log=short_tmp / "simulator.log")
    tree = Tree(short_tmp, configs.binance(simulator.addresses, BINANCE) + LIVE_ONLY)
    try:
        tree.wait_running()
        wait_for("the end of the recording", lambda: simulator.ask()["state"] == "ended", 90)
        assert tree.stop() == 0, tree.tail()
        assert tree.active() == []
        stored: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows(tree, "trades"):
            stored[row["symbol_raw"]].append(row)
        for symbol, file in files.items():
            expected = truth.binance_trades(file)
            found = stored[symbol]
            assert len({row["trade_id"] for row in found}) == len(found), "a trade is stored twice"
            live = {row["trade_id"]: (row["price"], row["amount"], row["side"]) for row in found}
            assert all(expected[number] == values for number, values in live.items())
            assert set(expected) - set(live) <= _explained(tree, symbol, list(expected), found)
            assert len(live) > 0.99 * len(expected)
        for symbol, file in files.items():
            books = truth.binance_books(file)
            seen = set()
            for row in rows(tree, "orderbook"):
                if row["symbol_raw"] == symbol:
                    seen.add(row["nonce"])
                    if row["nonce"] in books:
                        assert (_top(row["bids"]), _top(row["asks"])) == books[row["nonce"]], row["nonce"]
            # From the first book on, every update of the exchange has its row.
            owed = {nonce for nonce in books if nonce >= min(seen)}
            assert owed <= seen
            assert len(owed) > 0.98 * len(books)
        _assert_capture_order(tree)
        _assert_layout(tree)
    finally:
        tree.close()
        simulator.close()


def test_every_coinbase_trade_is_stored_once_and_every_book_is_true(
    short_tmp: Path, recordings: Path
) -> None:
    file = recordings / "coinbase_exchange" / "level2_matches_ticker_20210417.gz"
    books = truth.coinbase_books(file)
    products = tuple(sorted(product.replace("-", "/") for product in books))
    arguments = [word for symbol in products for word in ("--recording", f"{file}:{symbol}")]
    simulator = Simulator(*arguments, "--speed", "5", log=short_tmp / "simulator.log")
    tree = Tree(short_tmp, configs.coinbase(simulator.addresses, products) + LIVE_ONLY)
    try:
        tree.wait_running()
        wait_for("the end of the recording", lambda: simulator.ask()["state"] == "ended", 60)
        assert tree.stop() == 0, tree.tail()
        assert tree.active() == []
        trades = truth.coinbase_trades(file)
        stored: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows(tree, "trades"):
            stored[row["symbol"]].append(row)
        for product, expected in trades.items():
            live = [row for row in stored[product] if not row["flags"] & 128]
            assert len({row["trade_id"] for row in stored[product]}) == len(stored[product])
            assert {r["trade_id"]: (r["price"], r["amount"], r["side"]) for r in live} == expected
            assert all(row["side"] != row["side_raw"].lower() for row in live), "side is the taker's"
        found: dict[str, list[Any]] = defaultdict(list)
        for row in sorted(rows(tree, "orderbook"), key=lambda row: row["seq"]):
            found[row["symbol"]].append((_top(row["bids"]), _top(row["asks"])))
        for product, expected_books in books.items():
            assert found[product] == expected_books, product
        _assert_capture_order(tree)
        _assert_layout(tree)
    finally:
        tree.close()
        simulator.close()
