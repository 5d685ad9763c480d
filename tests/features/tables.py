"""Records as tables in bronze columns."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from daedalus.records import BookSnapshot, Trade, unpack_side

_LEVELS = pa.list_(pa.struct([("price", pa.float64()), ("size", pa.float64())]))
_KEYS = {"capture_ts": pa.timestamp("us", "UTC"), "session_id": pa.string(), "flags": pa.int32()}
_BOOKS = _KEYS | {"bids": _LEVELS, "asks": _LEVELS}
_TRADES = _KEYS | {"side": pa.string(), "amount": pa.float64(), "price": pa.float64()}


def _value(record: Any, name: str) -> Any:
    if name == "capture_ts":
        return record.ts_recv // 1000
    value = getattr(record, name)
    if name in ("bids", "asks"):
        return [{"price": price, "size": size} for price, size in unpack_side(value)]
    return value


def _table(records: Sequence[Any], columns: dict[str, pa.DataType]) -> pa.Table:
    return pa.table({n: pa.array([_value(r, n) for r in records], kind) for n, kind in columns.items()})


def books_and_trades(stream: Sequence[Any]) -> tuple[pa.Table, pa.Table]:
    """Return the order book table and the trades table of a stream."""
    books = [r for r in stream if isinstance(r, BookSnapshot)]
    return _table(books, _BOOKS), _table([r for r in stream if isinstance(r, Trade)], _TRADES)
