"""Records to Arrow: column by column, from buffers. The one place that knows both forms.

`from_pylist` is twenty times slower than this (measured); the sides of a book are never unpacked into
Python numbers: the packed bytes of many rows are joined, and prices and sizes are strided copies of them.
"""

from array import array
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from math import isfinite
from typing import TYPE_CHECKING, Any

from msgspec.structs import astuple

from daedalus.dataset.columns import TIME_COLUMN, VERSION, columns_of
from daedalus.dataset.layout import HOUR_NS, Partition
from daedalus.records import Gap, channel_of, sanitise

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["batch", "constants_of", "file_metadata", "partition_of", "record_time", "schema", "sort_column"]

_LEVEL_BYTES = 16  # price and size, float64
_INT_WIDTH = {"i": "int32", "q": "int64"}


def record_time(record: Any) -> int:
    """Return the time, ns UTC, that a record is partitioned and sorted by."""
    return int(record.started_at if type(record) is Gap else record.ts_recv)


def partition_of(source: str, record: Any) -> Partition:
    """Return the partition that a record belongs to."""
    hour = record_time(record) // HOUR_NS
    return Partition(source, channel_of(record), record.exchange, record.symbol, hour)


@cache
def schema(channel: str) -> "pa.Schema":
    """Return the Arrow schema of a bronze channel."""
    import pyarrow as pa

    types = {
        "i32": pa.int32(),
        "i64": pa.int64(),
        "f64": pa.float64(),
        "bool": pa.bool_(),
        "str": pa.string(),
        "bytes": pa.binary(),
        "time": pa.timestamp("us", tz="UTC"),
        "side": pa.list_(pa.struct([("price", pa.float64()), ("size", pa.float64())])),
    }
    return pa.schema([(name, types[word]) for name, word in columns_of(channel)])


def file_metadata(channel: str, journal: str) -> dict[str, str]:
    """Return what the footer of a segment says about itself."""
    from daedalus import __version__

    return {
        "daedalus.schema": f"bronze.{channel}/{VERSION}",
        "daedalus.version": __version__,
        "daedalus.journal": journal,
    }


def constants_of(partition: Partition) -> dict[str, Any]:
    """Return the columns that are the same in every row of a partition.

    Raises:
        ValueError, OverflowError: a name is no directory name, the hour is not in the calendar.
    """
    for name in (partition.source, partition.exchange, partition.symbol):
        if sanitise(name) != name:
            raise ValueError(f"cannot use {name!r} as a directory: it is not sanitised")
    start = partition.start
    return {
        "exchange": partition.exchange,
        "symbol": partition.symbol,
        "year": start.year,
        "month": start.month,
        "day": start.day,
        "hour": start.hour,
    }


def batch(partition: Partition, records: Sequence[Any]) -> "pa.RecordBatch":
    """Return the records of one partition as one Arrow record batch in bronze columns.

    Args:
        partition: gives the partition columns; the channel decides the schema.
        records: at least one, all of the channel's type.

    Raises:
        ValueError, OverflowError, TypeError: a value does not fit its column, a name is no directory name.
    """
    import pyarrow as pa

    constants = constants_of(partition)
    form = schema(partition.channel)
    rows = len(records)
    values: dict[str, Any] = dict(
        zip(records[0].__struct_fields__, zip(*map(astuple, records), strict=True), strict=True)
    )
    arrays = []
    for field, (name, word) in zip(form, columns_of(partition.channel), strict=True):
        if name in constants:
            column = pa.repeat(pa.scalar(constants[name], field.type), rows)
        elif name == "capture_ts":
            column = _times(values["ts_recv"])
        elif name == "timestamp":
            column = _milliseconds(values["ts_event"])
        else:
            column = _BUILDERS[word](values[name])
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=form)


def sort_column(channel: str) -> str:
    """Return the column a channel's segments are sorted by."""
    return TIME_COLUMN.get(channel, "capture_ts")


def _numbers(code: str, values: Sequence[Any]) -> "pa.Array":
    """Integers or floats, without nulls straight from a buffer."""
    import pyarrow as pa

    kind = pa.float64() if code == "d" else getattr(pa, _INT_WIDTH[code])()
    try:
        numbers = array(code, values)
    except TypeError:  # a None among them
        return pa.array([_finite(value) for value in values] if code == "d" else values, kind)
    if code == "d" and not all(map(isfinite, numbers)):
        return pa.array([_finite(value) for value in numbers], kind)
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


def _finite(value: float | None) -> float | None:
    """No value is null, in every table: neither NaN nor infinity is a number of a market."""
    return value if value is not None and isfinite(value) else None


def _times(values: Sequence[int]) -> "pa.Array":
    import pyarrow as pa

    micros = array("q", [value // 1000 for value in values])
    return pa.Array.from_buffers(pa.timestamp("us", tz="UTC"), len(micros), [None, pa.py_buffer(micros)])


def _milliseconds(values: Sequence[int | None]) -> "pa.Array":
    return _numbers("q", [None if value is None else value // 1_000_000 for value in values])


def _text(values: Sequence[str | None]) -> "pa.Array":
    import pyarrow as pa

    first = values[0]
    if values.count(first) == len(values):
        return pa.repeat(pa.scalar(first, pa.string()), len(values))
    return pa.array(values, pa.string())


def _flags(values: Sequence[bool | None]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(values, pa.bool_())


def _bytes(values: Sequence[bytes | None]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(values, pa.binary())


def _side(values: Sequence[bytes]) -> "pa.Array":
    """The packed sides of many rows as list<struct<price, size>>."""
    import pyarrow as pa

    sizes = list(map(len, values))
    widths = set(sizes)
    if any(size % _LEVEL_BYTES for size in widths):
        raise ValueError(f"cannot read a packed side: its bytes are no multiple of {_LEVEL_BYTES}")
    flat = array("d", b"".join(values))
    levels = len(flat) // 2
    in_levels = {size: size // _LEVEL_BYTES for size in widths}
    offsets = array("i", accumulate(map(in_levels.__getitem__, sizes), initial=0))
    children = [
        pa.Array.from_buffers(pa.float64(), levels, [None, pa.py_buffer(part)])
        for part in (flat[0::2], flat[1::2])
    ]
    level = pa.StructArray.from_arrays(children, names=["price", "size"])
    kind = pa.list_(level.type)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets)], children=[level])


_BUILDERS: dict[str, Callable[[Sequence[Any]], "pa.Array"]] = {
    "i32": lambda values: _numbers("i", values),
    "i64": lambda values: _numbers("q", values),
    "f64": lambda values: _numbers("d", values),
    "bool": _flags,
    "str": _text,
    "bytes": _bytes,
    "time": _times,
    "side": _side,
}
