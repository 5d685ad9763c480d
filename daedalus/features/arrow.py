"""Tables in bronze columns, as the flat buffers the engine reads. Nothing of pyarrow is imported.

The objects come from the caller and bring their methods along: casts and dictionary encoding run in Arrow's
own code, and the buffers are read in place. Offsets of slices are resolved here: kernels index from 0.
"""

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = [
    "BookColumns",
    "Columns",
    "TickerColumns",
    "TradeColumns",
    "book_batches",
    "depth_batches",
    "ranks",
    "ticker_batches",
    "trade_batches",
]

_SIDES = {"buy": 1, "sell": -1}


class BookColumns(NamedTuple):
    """A batch of books, or of changes of one. Level j of row i is at offsets[i] + j."""

    ts_us: memoryview  # int64
    flags: memoryview  # int64
    session: memoryview  # int64, key of `sessions`
    sessions: dict[int, str | None]
    bid_offsets: memoryview  # int64, rows + 1
    bid_prices: memoryview  # float64
    bid_sizes: memoryview
    ask_offsets: memoryview
    ask_prices: memoryview
    ask_sizes: memoryview
    whole: memoryview | None  # int64, of changes: 1 the whole book, 0 the changed levels; None: books


class TradeColumns(NamedTuple):
    """A batch of trades."""

    ts_us: memoryview  # int64
    flags: memoryview  # int64
    session: memoryview  # int64, key of `sessions`
    sessions: dict[int, str | None]
    price: memoryview  # float64
    amount: memoryview  # float64
    side: memoryview  # int64: 1 buy, -1 sell, 0 unknown


class TickerColumns(NamedTuple):
    """A batch of tickers."""

    ts_us: memoryview  # int64
    flags: memoryview  # int64
    session: memoryview  # int64, key of `sessions`
    sessions: dict[int, str | None]
    base_volume: memoryview  # float64, NaN = null


Columns = BookColumns | TradeColumns | TickerColumns


def book_batches(table: Any) -> list[BookColumns]:
    """Return the batches of an order book table. Raises ValueError when it is not one."""
    return [_books(batch, "orderbook", None) for batch in _batches(table)]


def depth_batches(table: Any) -> list[BookColumns]:
    """Return the batches of a depth table. Raises ValueError when it is not one."""
    out = []
    for batch in _batches(table):
        codes, kinds = _codes(batch, "kind", "depth")
        strange = set(kinds.values()) - {"snapshot", "update", None}
        if strange or -1 in codes.tolist():
            raise ValueError(f"cannot read depth: kind {strange or None}: allowed are snapshot and update")
        whole = array("q", [kinds[code] == "snapshot" for code in codes])
        out.append(_books(batch, "depth", memoryview(whole)))
    return out


def _books(batch: Any, what: str, whole: memoryview | None) -> BookColumns:
    codes, sessions = _codes(batch, "session_id", what)
    return BookColumns(
        _times(batch, what),
        _flags(batch),
        codes,
        sessions,
        *_levels(batch, "bids", what),
        *_levels(batch, "asks", what),
        whole,
    )


def ticker_batches(table: Any) -> list[TickerColumns]:
    """Return the batches of a ticker table. Raises ValueError when it is not one."""
    out = []
    for batch in _batches(table):
        codes, sessions = _codes(batch, "session_id", "ticker")
        volume = _column(batch, "base_volume", "ticker").cast("float64").fill_null(float("nan"))
        out.append(TickerColumns(_times(batch, "ticker"), _flags(batch), codes, sessions, _view(volume, "d")))
    return out


def trade_batches(table: Any) -> list[TradeColumns]:
    """Return the batches of a trades table. Raises ValueError when it is not one."""
    out = []
    for batch in _batches(table):
        codes, sessions = _codes(batch, "session_id", "trades")
        side_codes, sides = _codes(batch, "side", "trades")
        side_of = {code: _SIDES.get(word or "", 0) for code, word in sides.items()}
        out.append(
            TradeColumns(
                _times(batch, "trades"),
                _flags(batch),
                codes,
                sessions,
                _numbers(batch, "price", "trades"),
                _numbers(batch, "amount", "trades"),
                memoryview(array("q", [side_of[code] for code in side_codes])),
            )
        )
    return out


def ranks(streams: Sequence[Sequence[Columns]]) -> dict[str | None, int]:
    """Return the place of each session in the order in which they ran.

    Every stream has its sessions in that order, but few have all of them; where no stream tells which of two
    came first, it is the one with the earlier first row. Times alone would not do: a new session begins
    because the clock was set, and may have been set back.
    """
    waiting = [_appearances(stream) for stream in streams]
    order: dict[str | None, int] = {}
    while any(waiting):
        heads = [line[0] for line in waiting if line]
        later = {session for line in waiting for _, session in line[1:]}
        # Streams that contradict one another leave no head that is nowhere later: then all are.
        free = [head for head in heads if head[1] not in later] or heads
        session = min(free, key=lambda head: head[0])[1]
        order[session] = len(order)
        waiting = [[item for item in line if item[1] != session] for line in waiting]
    return order


def _appearances(stream: Sequence[Columns]) -> list[tuple[int, str | None]]:
    """Return the sessions of a stream with the time of their first rows, in order of appearance."""
    seen: dict[str | None, int] = {}
    for columns in stream:
        codes = columns.session.tolist()
        for code in dict.fromkeys(codes):
            seen.setdefault(columns.sessions[code], columns.ts_us[codes.index(code)])
    return [(ts, session) for session, ts in seen.items()]


def _batches(table: Any) -> list[Any]:
    if table is None:
        return []
    batches = table.to_batches() if hasattr(table, "to_batches") else [table]
    return [batch for batch in batches if batch.num_rows]


def _column(batch: Any, name: str, what: str) -> Any:
    at = batch.schema.get_field_index(name)
    if at < 0:
        raise ValueError(f"cannot read {what}: there is no column {name!r}")
    return batch.column(at)


def _view(column: Any, kind: str) -> memoryview:
    """Return the values of a fixed-width column of 8-byte items, its slice applied."""
    data = column.buffers()[1]
    if data is None or not len(column):
        return memoryview(array(kind))
    return memoryview(data).cast("B")[8 * column.offset : 8 * (column.offset + len(column))].cast(kind)  # type: ignore[call-overload,no-any-return]


def _numbers(batch: Any, name: str, what: str) -> memoryview:
    column = _column(batch, name, what)
    if column.null_count:
        raise ValueError(f"cannot read {what}: {column.null_count} of {len(column)} {name}s are null")
    return _view(column.cast("float64"), "d")


def _times(batch: Any, what: str) -> memoryview:
    column = _column(batch, "capture_ts", what)
    if not str(column.type).startswith("timestamp[us"):
        raise ValueError(f"cannot read {what}: capture_ts is {column.type}, timestamp[us] is needed")
    if column.null_count:
        raise ValueError(f"cannot read {what}: {column.null_count} of {len(column)} capture times are null")
    return _view(column.cast("int64"), "q")


def _flags(batch: Any) -> memoryview:
    at = batch.schema.get_field_index("flags")
    if at < 0:
        return memoryview(array("q", bytes(8 * batch.num_rows)))
    return _view(batch.column(at).cast("int64").fill_null(0), "q")


def _codes(batch: Any, name: str, what: str) -> tuple[memoryview, dict[int, str | None]]:
    """Return a text column as numbers, and the text of each; -1 is null."""
    if name == "session_id" and batch.schema.get_field_index(name) < 0:
        return memoryview(array("q", bytes(8 * batch.num_rows))), {0: None}
    column = _column(batch, name, what)
    if str(column.type).startswith("dictionary"):
        column = column.dictionary_decode()
    coded = column.cast("large_string").dictionary_encode()
    words: dict[int, str | None] = dict(enumerate(coded.dictionary.to_pylist()))
    words[-1] = None
    return _view(coded.indices.cast("int64").fill_null(-1), "q"), words


def _levels(batch: Any, name: str, what: str) -> tuple[memoryview, memoryview, memoryview]:
    """Return offsets, prices and sizes of a column of levels."""
    column = _column(batch, name, what)
    if column.null_count:
        raise ValueError(f"cannot read {what}: {column.null_count} of {len(column)} {name} are null")
    kind = str(column.type)
    if "list<" not in kind or "price" not in kind or "size" not in kind:
        raise ValueError(f"cannot read {what}: {name} is {kind}, list<struct<price, size>> is needed")
    # `offsets` are of the slice, and count in `values` whole; `field` applies the struct's own offset.
    offsets = _view(column.offsets.cast("int64"), "q")
    levels = column.values
    if levels.null_count:  # a null level: its fields may hold anything, `flatten` makes them null too
        names = [levels.type.field(i).name for i in range(levels.type.num_fields)]
        parts = dict(zip(names, levels.flatten(), strict=True))
        price, size = (parts[part].cast("float64") for part in ("price", "size"))
    else:
        price, size = (levels.field(part).cast("float64") for part in ("price", "size"))
    if price.null_count or size.null_count:
        nan = float("nan")
        price, size = price.fill_null(nan), size.fill_null(nan)
    return offsets, _view(price, "d"), _view(size, "d")
