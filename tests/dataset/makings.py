"""Records, journals and sealed data sets for the tests of this room."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from daedalus.dataset.layout import HOUR_NS, Layout
from daedalus.dataset.seal import seal_channel
from daedalus.dataset.segment import Options
from daedalus.kernel.journal import Cursor, Entry, Journal, Mark
from daedalus.records import BookSnapshot, Depth, Event, Frame, Gap, Instrument, Ticker, Trade, pack_side

T0 = 491_630 * HOUR_NS  # 2026-01-31 14:00 UTC
_MS = 1_000_000


def trade(
    seq: int, *, ts: int | None = None, symbol: str = "BTC-USDT", session: str = "s1", **more: Any
) -> Trade:
    at = T0 + seq * _MS if ts is None else ts
    values = {
        "exchange": "binance",
        "symbol": symbol,
        "collected_at": at // _MS,
        "ts_recv": at,
        "trade_id": str(1000 + seq),
        "ts_event": at - 3 * _MS,
        "side": "buy" if seq % 2 else "sell",
        "price": 60_000.0 + seq,
        "amount": 0.5,
        "cost": None,
        "info_json": None,
        "symbol_raw": symbol.replace("-", "/"),
        "seq": seq,
        "session_id": session,
        "capture_mono_ns": seq * _MS,
        "clock_ok": True,
        "exch_seq": None,
        "flags": 0,
        "side_raw": "m=true",
    }
    return Trade(**(values | more))


def book(
    seq: int,
    *,
    bids: Sequence[tuple[float, float]] = ((99.0, 1.0),),
    asks: Sequence[tuple[float, float]] = ((101.0, 2.0),),
    **more: Any,
) -> BookSnapshot:
    at = more.pop("ts", T0 + seq * _MS)
    values = {
        "exchange": "binance",
        "symbol": "BTC-USDT",
        "collected_at": at // _MS,
        "ts_recv": at,
        "ts_event": None if seq % 3 == 0 else at - 2 * _MS,
        "nonce": seq * 10,
        "bids": pack_side(bids),
        "asks": pack_side(asks),
        "symbol_raw": "BTC/USDT",
        "seq": seq,
        "session_id": "s1",
        "capture_mono_ns": seq * _MS,
        "clock_ok": True,
        "exch_seq": None,
        "flags": 1 if seq == 1 else 64,
    }
    return BookSnapshot(**(values | more))


def ticker(seq: int, **more: Any) -> Ticker:
    at = T0 + seq * _MS
    numbers = dict.fromkeys(Ticker.__struct_fields__[4:18], 1.5) | {"vwap": None}
    values = {
        "exchange": "binance",
        "symbol": "BTC-USDT",
        "collected_at": at // _MS,
        "ts_recv": at,
        **numbers,
        "ts_event": at,
        "info_json": '{"a":1}',
        "symbol_raw": "BTC/USDT",
        "seq": seq,
        "session_id": "s1",
        "capture_mono_ns": seq,
        "clock_ok": False,
        "exch_seq": seq,
        "flags": 0,
    }
    return Ticker(**(values | more))


def depth(
    seq: int,
    kind: str = "update",
    *,
    bids: Sequence[tuple[float, float]] = (),
    asks: Sequence[tuple[float, float]] = (),
    **more: Any,
) -> Depth:
    at = more.pop("ts", T0 + seq * _MS)
    values = {
        "exchange": "binance",
        "symbol": "BTC-USDT",
        "collected_at": at // _MS,
        "ts_recv": at,
        "ts_event": at - 2 * _MS,
        "nonce": seq * 10,
        "kind": kind,
        "first_exch_seq": seq * 10 - 9,
        "bids": pack_side(bids),
        "asks": pack_side(asks),
        "symbol_raw": "BTC/USDT",
        "seq": seq,
        "session_id": "s1",
        "capture_mono_ns": seq * _MS,
        "clock_ok": True,
        "exch_seq": None,
        "flags": 1 if kind == "snapshot" else 0,
    }
    return Depth(**(values | more))


def event(seq: int, channel: str = "bidask", **more: Any) -> Event:
    at = T0 + seq * _MS
    values = {
        "exchange": "binance",
        "symbol": "BTC-USDT",
        "collected_at": at // _MS,
        "ts_recv": at,
        "channel": channel,
        "ts_event": None if seq % 2 else at,
        "method": "watchBidsAsks",
        "data_json": f'{{"bid":{seq}}}',
        "symbol_raw": "BTC/USDT",
        "seq": seq,
        "session_id": "s1",
        "capture_mono_ns": seq,
        "clock_ok": True,
        "exch_seq": None,
        "flags": 0,
    }
    return Event(**(values | more))


def instrument(day: int = 0, **more: Any) -> Instrument:
    at = T0 + day * 24 * HOUR_NS
    values = {
        "exchange": "binance",
        "symbol": "BTC-USDT",
        "collected_at": at // _MS,
        "ts_recv": at,
        "exchange_symbol": "BTCUSDT",
        "kind": "spot",
        "base": "BTC",
        "quote": "USDT",
        "settle": None,
        "tick_size": 0.01,
        "lot_size": 0.00001,
        "min_amount": None,
        "min_cost": 5.0,
        "contract_size": None,
        "active": True,
        "info_json": "{}",
        "symbol_raw": "BTC/USDT",
        "session_id": "s1",
    }
    return Instrument(**(values | more))


def frame(seq: int, **more: Any) -> Frame:
    at = T0 + seq * _MS
    values = {
        "exchange": "binance",
        "symbol": "all",
        "collected_at": at // _MS,
        "ts_recv": at,
        "connection": 1,
        "text": None if seq % 3 == 0 else '{"e":"trade"}',
        "binary": b"\x00\xff" if seq % 3 == 0 else None,
        "seq": seq,
        "session_id": "s1",
        "capture_mono_ns": seq,
        "clock_ok": True,
    }
    return Frame(**(values | more))


def gap(started: int = T0, ended: int = T0 + HOUR_NS, **more: Any) -> Gap:
    values = {
        "exchange": "binance",
        "symbol": "BTC-USDT",
        "collected_at": ended // _MS,
        "ts_recv": ended,
        "channel": "trades",
        "started_at": started,
        "ended_at": ended,
        "session_id": "s2",
        "first_seq": None,
        "last_seq": 7,
        "reason": "restart",
        "lost_estimate": None,
        "detail": None,
    }
    return Gap(**(values | more))


def entry(
    records: Sequence[Any],
    first_seq: int,
    *,
    sender: str = "binance",
    source: str = "ccxt",
    epoch: int = 7,
    skip: int = 0,
) -> Entry:
    marks = {
        record.symbol: Mark(record.ts_recv, record.seq, record.session_id)
        for record in records
        if not isinstance(record, Gap | Instrument)
    }
    return Entry(
        sender, source, epoch, first_seq, len(records), skip, marks, msgspec.msgpack.encode(list(records))
    )


def write_journal(
    data: Path,
    channel: str,
    groups: Iterable[Sequence[Entry]],
    number: int = 1,
    cursors: dict[str, Cursor] | None = None,
) -> Path:
    """Write a closed journal, one commit group per element."""
    active = Layout(data=str(data)).active(channel)
    active.mkdir(parents=True, exist_ok=True)
    journal = Journal(active, number, dict(cursors or {}))
    for group in groups:
        journal.append(list(group))
    return journal.close()


def frames_of(records: Sequence[Any], size: int = 10, **more: Any) -> list[list[Entry]]:
    """Cut records into frames of `size`, one commit group each."""
    return [
        [entry(records[start : start + size], start + 1, **more)] for start in range(0, len(records), size)
    ]


def sealed(
    data: Path, channel: str, records: Sequence[Any], options: Options | None = None, **more: Any
) -> list[Path]:
    """Write a journal of `records`, seal it, and return the segments."""
    write_journal(data, channel, frames_of(records, **more))
    (summary,) = seal_all(data, channel, options)
    return [data / item["path"] for item in summary["segments"]]


def seal_all(data: Path, channel: str, options: Options | None = None) -> list[dict[str, Any]]:
    """Seal all closed journals of a channel; an error fails the test."""
    found = list(seal_channel(Layout(data=str(data)), channel, options or Options()))
    assert not [summary["error"] for summary in found if "error" in summary]
    return found


def segments(data: Path) -> list[Path]:
    """Every published Parquet segment, relative to the data directory."""
    return sorted(path.relative_to(data) for path in Layout(data=str(data)).ready().rglob("*.parquet"))
