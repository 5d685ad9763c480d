"""The columns of bronze, channel by channel, in the order in which they stand in every file.

Pure: names and type words only; `dataset.bronze` makes Arrow schemas of them and `dataset.scan` polars
schemas. New columns are appended, and are nullable; nothing is ever reordered, so `VERSION` says which
columns a file may be expected to have.
"""

__all__ = ["COLUMNS", "GENERIC", "PARTITION_COLUMNS", "TIME_COLUMN", "VERSION", "columns_of"]

VERSION = 1

PARTITION_COLUMNS = ("exchange", "symbol", "year", "month", "day", "hour")

_HOUR = (("year", "i32"), ("month", "i32"), ("day", "i32"), ("hour", "i32"))
_HEAD = (
    ("collected_at", "i64"),  # ms, local wall clock
    ("capture_ts", "time"),
    ("exchange", "str"),
    ("symbol", "str"),
    *_HOUR,
)
_TAIL = (
    ("symbol_raw", "str"),
    ("seq", "i64"),
    ("session_id", "str"),
    ("capture_mono_ns", "i64"),
    ("clock_ok", "bool"),
    ("exch_seq", "i64"),
    ("flags", "i32"),
)

COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "orderbook": (
        *_HEAD,
        ("timestamp", "i64"),  # ms, the exchange's
        ("nonce", "i64"),
        ("bids", "side"),
        ("asks", "side"),
        *_TAIL,
    ),
    "trades": (
        *_HEAD,
        ("trade_id", "str"),
        ("timestamp", "i64"),
        ("side", "str"),
        ("price", "f64"),
        ("amount", "f64"),
        ("cost", "f64"),
        ("info_json", "str"),
        *_TAIL,
        ("side_raw", "str"),
    ),
    "ticker": (
        *_HEAD,
        *(
            (name, "f64")
            for name in (
                *("bid", "ask", "bid_volume", "ask_volume", "last", "open", "high", "low", "close", "vwap"),
                *("base_volume", "quote_volume", "change", "percentage"),
            )
        ),
        ("timestamp", "i64"),
        ("info_json", "str"),
        *_TAIL,
    ),
    "depth": (
        *_HEAD,
        ("timestamp", "i64"),
        ("nonce", "i64"),
        ("kind", "str"),
        ("first_exch_seq", "i64"),
        ("bids", "side"),
        ("asks", "side"),
        *_TAIL,
    ),
    "instruments": (
        *_HEAD,
        *((name, "str") for name in ("exchange_symbol", "kind", "base", "quote", "settle")),
        *((name, "f64") for name in ("tick_size", "lot_size", "min_amount", "min_cost", "contract_size")),
        ("active", "bool"),
        ("info_json", "str"),
        ("symbol_raw", "str"),
        ("session_id", "str"),
    ),
    "frames": (
        *_HEAD,
        ("connection", "i64"),
        ("text", "str"),
        ("binary", "bytes"),
        ("seq", "i64"),
        ("session_id", "str"),
        ("capture_mono_ns", "i64"),
        ("clock_ok", "bool"),
    ),
    "gaps": (
        ("exchange", "str"),
        ("symbol", "str"),
        ("channel", "str"),
        *_HOUR,
        ("started_at", "time"),
        ("ended_at", "time"),
        ("session_id", "str"),
        ("first_seq", "i64"),
        ("last_seq", "i64"),
        ("reason", "str"),
        ("lost_estimate", "i64"),
        ("detail", "str"),
    ),
}
"""channel -> (column, type word): i32 i64 f64 bool str bytes, time = timestamp[us, UTC], side = levels."""

GENERIC = (
    *_HEAD,
    ("timestamp", "i64"),
    ("method", "str"),
    ("data_json", "str"),
    *_TAIL,
)
"""The columns of every channel that is not in `COLUMNS`: bidask, ohlcv, any other watch method."""


def columns_of(channel: str) -> tuple[tuple[str, str], ...]:
    """Return the columns of a channel."""
    return COLUMNS.get(channel, GENERIC)


TIME_COLUMN = {"gaps": "started_at"}
"""channel -> the column that partitions and sorts it, where it is not `capture_ts`."""
