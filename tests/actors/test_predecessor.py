"""What the predecessor got wrong between socket and disk (traps 0.10, 0.23, 0.24, 0.25): each is shown here.

Raw messages go the whole way: adapter, intake, spool, journal, seal. What is looked at are rows of Parquet,
and of features.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from daedalus.actors.sources import CollectorSettings, make_adapter
from daedalus.exchanges.adapter import Adapter, Fault, Stream
from daedalus.exchanges.coinbase import CoinbaseAdapter
from daedalus.exchanges.native import NativeExchange
from daedalus.features import FeatureEngine
from daedalus.records import Flag, unpack_side
from tests.actors.makings import Bench, make_bench
from tests.dataset.makings import sealed
from tests.exchanges.shellkit import Exchange, Rig, play
from tests.exchanges.test_coinbase import book, message, trade
from tests.loops import until

__all__ = ["make_bench"]

CHANNELS = ("orderbook", "trades", "ticker")


def collector(make_bench: Any, exchange: str, symbols: Sequence[str], **settings: Any) -> tuple[Bench, Any]:
    """Return a collector without its spools' writers, and its adapter without its socket, subscribed."""
    channels = {name: list(symbols) for name in settings.pop("channels", CHANNELS)}
    wanted = CollectorSettings(
        exchange=exchange, adapter="native", channels=channels, runtime="/r", **settings
    )
    bench = make_bench(*(Stream(symbol, name) for name in channels for symbol in symbols), exchange=exchange)
    shell = make_adapter(wanted, bench.intake)
    assert isinstance(shell, NativeExchange)
    (connection,) = shell.connections
    adapter: Adapter = connection.adapter
    adapter.subscribe()
    return bench, adapter


def hear(bench: Bench, adapter: Adapter, *messages: bytes, after_s: float = 0.001) -> None:
    """Let messages arrive one after the other, and hand over what they say as the shell does."""
    for raw in messages:
        items = adapter.feed(raw)
        bench.take(*(item for item in items if not isinstance(item, Fault)), after_s=after_s)
        for item in items:
            if isinstance(item, Fault):
                bench.intake.lost(item, None)


def stored(data: Path, bench: Bench, channel: str) -> dict[str, list[dict[str, Any]]]:
    """Seal what a channel's spool holds; return the rows of Parquet by `exchange=…/symbol=…`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sealed(data, channel, bench.rows(channel), source="native"):
        place = path.relative_to(data / "raw" / "ready" / "native" / channel).as_posix()
        found.setdefault(place.partition("/year=")[0], []).extend(pq.ParquetFile(path).read().to_pylist())
    return found


def ticker(number: int, product: str = "BTC-USD", **values: str) -> bytes:
    row = {"type": "ticker", "product_id": product, "price": "100.5", **values}
    return message("ticker", number, {"type": "update", "tickers": [row]})


def snapshot(number: int, bid: float, product: str = "BTC-USD") -> bytes:
    levels = (("bid", str(bid), "1"), ("offer", str(bid + 1), "3"))
    return message("l2_data", number, book("snapshot", *levels, product=product))


def trades(number: int, *ids: int, product: str = "BTC-USD", **values: str) -> bytes:
    rows = [trade(one) | {"product_id": product} | values for one in reversed(ids)]
    return message("market_trades", number, {"type": "update", "trades": rows})


# -- 0.10: its info_json was always "{}"

_BINANCE = {
    "e": "trade",
    "E": 5,
    "s": "BTCUSDT",
    "t": 7,
    "p": "100.10",
    "q": "0.50",
    "T": 5,
    "m": True,
    "M": True,
}


def said_by(recordings: Path, exchange: str, name: str) -> tuple[bytes, list[dict[str, Any]]]:
    """Return a recorded message and the objects of its trades or tickers."""
    if exchange == "binance":
        return json.dumps({"stream": "btcusdt@trade", "data": _BINANCE}).encode(), [_BINANCE]
    for line in (recordings / "samples" / "api_frames.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if (entry["exchange"], entry["name"]) == (exchange, name):
            frame = entry["frame"]
            (event,) = frame.get("events", [{}])
            rows = event.get("trades") or event.get("tickers") or frame.get("data")
            return json.dumps(frame).encode(), rows
    raise AssertionError(f"no recorded {exchange} {name}")


_SAID = [
    pytest.param("binance", "BTC/USDT", "trades", "", id="binance-trades"),
    pytest.param("coinbase", "BTC/USD", "trades", "ws_market_trades", id="coinbase-trades"),
    pytest.param("coinbase", "BTC/USD", "ticker", "ws_ticker", id="coinbase-ticker"),
    pytest.param("kraken", "BTC/USD", "trades", "ws_trade_update", id="kraken-trades"),
    pytest.param("kraken", "BTC/USD", "ticker", "ws_ticker_snapshot", id="kraken-ticker"),
    pytest.param("okx", "BTC/USDT", "ticker", "ws_tickers", id="okx-ticker"),
]


@pytest.mark.parametrize(("exchange", "symbol", "channel", "name"), _SAID)
def test_0_10_the_exchanges_own_object_is_stored_whole_where_it_is_wanted(
    make_bench: Any, tmp_path: Path, recordings: Path, exchange: str, symbol: str, channel: str, name: str
) -> None:
    raw, rows = said_by(recordings, exchange, name)
    bench, adapter = collector(make_bench, exchange, [symbol], channels=[channel], raw_capture="info")
    hear(bench, adapter, raw)
    ((_, found),) = stored(tmp_path, bench, channel).items()
    assert [json.loads(row["info_json"]) for row in found] == rows


@pytest.mark.parametrize("capture", ["off", "frames"])
def test_0_10_an_object_that_is_not_wanted_is_null_and_no_empty_one(
    make_bench: Any, tmp_path: Path, capture: str
) -> None:
    bench, adapter = collector(
        make_bench, "coinbase", ["BTC/USD"], channels=["trades", "ticker"], raw_capture=capture
    )
    hear(bench, adapter, trades(0, 5), ticker(1))
    for channel in ("trades", "ticker"):
        ((_, found),) = stored(tmp_path, bench, channel).items()
        assert [row["info_json"] for row in found] == [None]


# -- 0.23: native Coinbase


def test_0_23_native_coinbase_lands_in_parquet_under_its_own_name(make_bench: Any, tmp_path: Path) -> None:
    """Its records had neither type nor exchange nor symbol: they were JSON below unknown/unknown."""
    bench, adapter = collector(make_bench, "coinbase", ["BTC/USD"], channels=(*CHANNELS, "depth"))
    hear(bench, adapter, snapshot(0, 100.0), trades(1, 5), ticker(2))
    for channel in (*CHANNELS, "depth"):
        ((place, rows),) = stored(tmp_path, bench, channel).items()
        assert place == "exchange=coinbase/symbol=BTC-USD"
        assert [(row["exchange"], row["symbol"], row["symbol_raw"]) for row in rows] == [
            ("coinbase", "BTC-USD", "BTC/USD")
        ]
    ready = tmp_path / "raw" / "ready"
    assert {path.suffix for path in ready.rglob("*") if path.is_file()} == {".parquet"}
    assert not [path for path in ready.rglob("*") if "unknown" in path.name]


@pytest.mark.parametrize("place", range(4))
def test_0_23_a_snapshot_among_the_acknowledgements_is_not_swallowed(place: int) -> None:
    """It read the acknowledgements one after the other, and took what came among them for one."""
    acknowledged = [{"heartbeats": ["heartbeats"]}, {"level2": ["BTC-USD"]}, {"market_trades": ["BTC-USD"]}]
    told = [("subscriptions", {"subscriptions": one}) for one in acknowledged]
    levels = (("bid", "100", "1"), ("offer", "101", "3"))
    told.insert(place, ("l2_data", book("snapshot", *levels)))
    script = [message(channel, number, event).decode() for number, (channel, event) in enumerate(told)]

    async def work(rig: Rig) -> None:
        await until(lambda: rig.adapters and rig.adapters[-1].ready())
        assert [(unpack_side(one.bids), one.flags & Flag.SNAPSHOT) for one in rig.sink.books] == [
            ([(100.0, 1.0)], Flag.SNAPSHOT)
        ]
        assert rig.sink.faults == []

    play(
        Exchange(script),
        work,
        channels={"orderbook": ["BTC/USD"], "trades": ["BTC/USD"]},
        make=CoinbaseAdapter,
    )


def test_0_23_a_hole_that_only_a_heartbeat_shows_is_a_gap_in_every_stream(make_bench: Any) -> None:
    """It used neither sequence_num nor heartbeats: what was lost in a quiet market was never known."""
    bench, adapter = collector(make_bench, "coinbase", ["BTC/USD"])
    assert b'{"type":"subscribe","channel":"heartbeats"}' in [item.data for item in adapter.subscribe()]
    hear(bench, adapter, snapshot(0, 100.0), trades(1, 5), ticker(2), message("heartbeats", 3))
    hear(bench, adapter, message("heartbeats", 5), trades(6, 6), ticker(7))  # 4 was lost
    before = {channel: len(bench.rows(channel)) for channel in CHANNELS}
    assert before == dict.fromkeys(CHANNELS, 1)
    adapter.subscribe()
    subscribed = {"level2": ["BTC-USD"], "market_trades": ["BTC-USD"], "ticker": ["BTC-USD"]}
    hear(bench, adapter, message("subscriptions", 0, {"subscriptions": subscribed}))
    hear(bench, adapter, snapshot(1, 200.0), trades(2, 9), ticker(3))
    for channel in CHANNELS:
        (gap,) = bench.gaps(channel)
        assert (gap.reason, gap.detail, gap.first_seq) == ("sequence", "sequence_num 5, expected 4", 1)
        _, after = bench.rows(channel)
        assert after.flags & Flag.AFTER_GAP


# -- 0.24: Coinbase prints the maker's side


def flow(records: Sequence[Any]) -> float:
    """Return the trade flow imbalance over a second, as the features have it after these records."""
    engine = FeatureEngine({"emit_interval_s": 0, "horizons_s": [1]}, trades=True)
    rows = [row for row in map(engine.update, records) if row is not None]
    return rows[-1][engine.schema.names.index("tfi_1s")]


@pytest.mark.parametrize(("maker", "taker", "sign"), [("SELL", "buy", 1.0), ("BUY", "sell", -1.0)])
def test_0_24_the_takers_side_is_stored_and_signs_the_flow(
    make_bench: Any, tmp_path: Path, maker: str, taker: str, sign: float
) -> None:
    """A maker who sold is a taker who bought: on its first exchange every flow had the wrong sign."""
    bench, adapter = collector(make_bench, "coinbase", ["BTC/USD"])
    hear(bench, adapter, snapshot(0, 100.0), trades(1, 5, 6, side=maker))
    hear(bench, adapter, message("l2_data", 2, book("update", ("bid", "100", "2"))))
    ((_, rows),) = stored(tmp_path, bench, "trades").items()
    assert [(row["side"], row["side_raw"]) for row in rows] == [(taker, maker)] * 2
    records = sorted(bench.rows("orderbook") + bench.rows("trades"), key=lambda row: row.ts_recv)
    assert flow(records) == sign


@pytest.mark.parametrize(("side", "agreement"), [("auto", 1.0), ("taker", 0.0)])
def test_0_24_a_wrong_table_of_sides_is_found_out_by_the_quotes(
    make_bench: Any, side: str, agreement: float
) -> None:
    """Takers buy at the ask and sell at the bid; whoever took the printed side for theirs would be told."""
    bench, adapter = collector(make_bench, "coinbase", ["BTC/USD"], side=side)
    hear(bench, adapter, snapshot(0, 100.0))
    for n in range(120):
        maker, price = ("SELL", "101") if n % 2 else ("BUY", "100")
        hear(bench, adapter, trades(n + 1, n + 1, side=maker, price=price), after_s=0.2)
    assert bench.intake.sides.lowest() == agreement
    assert bench.intake.sides.suspects() == ([] if side == "auto" else [("BTC/USD", 0.0)])


# -- 0.25: quotes were folded into one stream


def test_0_25_books_of_several_quotes_of_one_exchange_are_never_one_stream(
    make_bench: Any, tmp_path: Path
) -> None:
    """It made one stream of BTC-USD, BTC-USDC and BTC-USDT: books of two markets by turns."""
    symbols = ["BTC/USD", "BTC/USDC", "BTC/USDT"]
    bench, adapter = collector(make_bench, "coinbase", symbols, channels=("orderbook", "trades"))
    hear(bench, adapter, snapshot(0, 100.0), snapshot(1, 90.0, "BTC-USDT"))
    for n in range(10):
        number, product, price = 2 + 2 * n, ("BTC-USD", "BTC-USDT")[n % 2], (100.0, 90.0)[n % 2]
        change = book("update", ("bid", str(price), str(n + 2)), product=product)
        hear(bench, adapter, message("l2_data", number, change))
        hear(bench, adapter, trades(number + 1, n // 2 + 1, product=product, price=str(price)))
    names = {f"exchange=coinbase/symbol={s.replace('/', '-')}": s for s in symbols}
    own = {"BTC/USD": 100.0, "BTC/USDC": 100.0, "BTC/USDT": 90.0}  # of USD and USDC the exchange has one book
    for channel, count in (("orderbook", 6), ("trades", 5)):
        found = stored(tmp_path, bench, channel)
        assert found.keys() == names.keys()
        for place, rows in found.items():
            symbol = names[place]
            assert {(row["symbol_raw"], row["symbol"]) for row in rows} == {
                (symbol, symbol.replace("/", "-"))
            }
            assert [row["seq"] for row in rows] == list(range(1, count + 1))
            prices = {row["bids"][0]["price"] if channel == "orderbook" else row["price"] for row in rows}
            assert prices == {own[symbol]}
