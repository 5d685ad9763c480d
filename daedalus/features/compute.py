"""Features of whole tables, for notebooks and the batch: tables in, one table out."""

from typing import TYPE_CHECKING, Any

from daedalus.features.engine import FeatureEngine

if TYPE_CHECKING:
    import polars as pl

__all__ = ["compute"]

_KEYS = ("capture_ts", "timestamp", "seq", "session_id", "flags")


def compute(
    orderbook: Any = None,
    trades: Any = None,
    ticker: Any = None,
    params: dict[str, object] | None = None,
    depth: Any = None,
) -> "pl.DataFrame":
    """Return the features of one (exchange, symbol), one row per emitted update.

    Args:
        orderbook: polars DataFrame or pyarrow Table in bronze columns. A table in order of capture is taken
            as it is, any other is sorted by capture_ts.
        trades: the same of trades. None = no trades channel: the columns of trades are null.
        ticker: the same of tickers.
        params: `[features]` by key.
        depth: the same of depth, instead of `orderbook`.

    Returns:
        capture_ts, timestamp, seq, session_id, flags (those there are), then one float64 column per feature;
        null = no value.

    Raises:
        ValueError: a parameter or a table is not usable (see `FeatureEngine`), or there are no books.
    """
    import polars as pl

    if (orderbook is None) == (depth is None):
        raise ValueError("cannot compute features: one of orderbook and depth is needed")
    books = _sorted(orderbook if depth is None else depth)
    engine = FeatureEngine(params, trades=trades is not None)
    rows = engine.update_batch(
        books.to_arrow() if depth is None else None,
        None if trades is None else _sorted(trades).to_arrow(),
        None if ticker is None else _sorted(ticker).to_arrow(),
        None if depth is None else books.to_arrow(),
    )
    count = len(rows.ts_us)
    keys = books.select(name for name in _KEYS if name in books.columns)
    keys = keys[pl.Series(rows.index.tolist(), dtype=pl.Int64)] if count else keys.clear()
    names = engine.schema.names
    if not count:
        return keys.with_columns(pl.Series(name, [], dtype=pl.Float64) for name in names)
    flat = pl.Series(rows.values.cast("B").cast("d"), dtype=pl.Float64)
    table = flat.reshape((count, len(names))).arr.to_struct(fields=names).struct.unnest()
    return pl.concat([keys, table.fill_nan(None)], how="horizontal")


def _sorted(table: Any) -> "pl.DataFrame":
    """Return a table in order of capture: its own, if times run backwards only into another session."""
    import polars as pl

    frame = table if isinstance(table, pl.DataFrame) else pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    if "session_id" in frame.columns and "capture_ts" in frame.columns:
        runs = frame.select(
            number=pl.col("session_id").cast(pl.String).rle_id(),
            session=pl.col("session_id").cast(pl.String),
            back=pl.col("capture_ts").diff() < pl.duration(microseconds=0),
        )
        each = runs.group_by("number").agg(
            pl.col("session").first(), pl.col("back").slice(1).any().alias("back")
        )
        if not each["back"].any() and each["session"].n_unique() == len(each):
            return frame
    return frame.sort("capture_ts", maintain_order=True)
