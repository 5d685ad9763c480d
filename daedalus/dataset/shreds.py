"""From a journal's bytes to Arrow without an object per record: what the compiled shredder is told of ours.

The shredder knows kinds of fields; this says which field of which record is which column of bronze and what
a partition is, and makes record batches of the buffers that come back. A frame is taken whole or not at all.
What is not taken goes the way of `bronze.batch`, with the same columns, and with the words for what is wrong.
"""

from collections.abc import Callable, Iterator
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, cast, get_args

from msgspec.structs import fields

from daedalus.compiled.shred import Group, Shredder, Stream
from daedalus.compiled.walk import BYTES, FLAG, INTEGER, NUMBER, PAIRS, SHORT, TEXT, Form
from daedalus.dataset.bronze import constants_of, schema
from daedalus.dataset.columns import COLUMNS, columns_of
from daedalus.dataset.layout import HOUR_NS, Partition
from daedalus.records import FRAMES, BookSnapshot, Depth, Event, Frame, Gap, Instrument, Ticker, Trade

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Shreds"]

_KIND = {
    "i32": SHORT, "i64": INTEGER, "time": INTEGER, "f64": NUMBER, "bool": FLAG, "str": TEXT, "bytes": BYTES,
    "side": PAIRS,
}  # fmt: skip
_WORD = {int: "i64", str: "str"}  # of what is in no column
_COLUMN = {"ts_recv": "capture_ts", "ts_event": "timestamp"}  # field -> column, where the names differ
_DIVISOR = {"capture_ts": 1000, "started_at": 1000, "ended_at": 1000, "timestamp": 1_000_000}  # to us, to ms
_CHANNEL = {
    Trade: "trades", BookSnapshot: "orderbook", Ticker: "ticker", Depth: "depth", Frame: FRAMES, Gap: "gaps",
    Instrument: "instruments", Event: "",
}  # fmt: skip
"""record -> its channel; that of an event stands in it."""
_IN_THE_PATH = ("exchange", "symbol")


class Shreds:
    """The partitions of one pass over a journal, as far as they were shredded."""

    def __init__(self, keep: Callable[[Partition], bool], ripe_rows: int) -> None:
        """Begin with nothing.

        Args:
            keep: whether the rows of a partition are wanted in this pass; asked once.
            ripe_rows: a partition with so many rows is to be taken at once: see `ripe`.
        """
        import pyarrow as pa

        self._keep = keep
        self._groups: dict[Partition, Group] = {}
        self._streams: dict[str, Stream] = {}
        forms = {tag: form for tag, (form, _, _) in _forms().items()}
        self._shredder = Shredder(forms, self._open, HOUR_NS, ripe_rows, pa.allocate_buffer)
        self.take = self._shredder.take
        """(source, blob, skip) -> whether the records but for the first `skip` are taken."""

    @property
    def rows(self) -> int:
        """Rows held."""
        return self._shredder.rows

    @property
    def bytes(self) -> int:
        """Bytes held, about."""
        return self._shredder.held

    def stream(self, partition: Partition) -> Stream:
        """Return what tells whether an hour of this stream comes after a later one."""
        return self._streams.setdefault(partition.stream, Stream())

    def overtaken(self) -> Iterator[Partition]:
        """Yield the partitions that had rows after rows of a later hour of their stream."""
        return (partition for partition, group in self._groups.items() if group.overtaken)

    def drop(self, partition: Partition) -> None:
        """Pass over what else comes of a partition."""
        if partition in self._groups:
            self._groups[partition].kept = False

    def ripe(self) -> Iterator[tuple[Partition, "pa.RecordBatch", bool]]:
        """Take what has become as large as a row group: see `all`."""
        while self._shredder.ripe:
            yield self._taken(self._shredder.ripe.pop())

    def all(self) -> Iterator[tuple[Partition, "pa.RecordBatch", bool]]:
        """Take everything: (partition, its rows as they came, whether that is the order of time)."""
        self._shredder.ripe.clear()
        for group in self._groups.values():
            if group.rows:
                yield self._taken(group)

    def _open(self, source: str, tag: int, names: tuple[str, ...], hour: int) -> Group:
        form, columns, channel = _forms()[tag]
        if not channel:
            channel = names[2]
            if channel in COLUMNS:
                raise ValueError(f"cannot store an event as {channel!r}: that channel has records of its own")
        partition = Partition(source, channel, names[0], names[1], hour)
        group = self._groups.get(partition)
        if group is None:
            try:
                constants_of(partition)
            except OverflowError as error:
                raise ValueError(f"cannot store a record of the hour {hour}: {error}") from None
            group = Group(form, self.stream(partition), hour, (partition, columns))
            group.kept = self._keep(partition)
            self._groups[partition] = group
        return group

    def _taken(self, group: Group) -> tuple[Partition, "pa.RecordBatch", bool]:
        import pyarrow as pa

        partition, columns = cast("tuple[Partition, tuple[str, ...]]", group.owner)
        rows, in_order, shredded = self._shredder.release(group)
        form = schema(partition.channel)
        constants = constants_of(partition)
        stored = dict(zip(columns, shredded, strict=True))
        arrays = [
            pa.repeat(pa.scalar(constants[field.name], field.type), rows)
            if field.name in constants
            else _array(field.type, rows, *stored[field.name])
            for field in form
        ]
        return partition, pa.RecordBatch.from_arrays(arrays, schema=form), in_order


@cache
def _forms() -> dict[int, tuple[Form, tuple[str, ...], str]]:
    """Return per tag: the form, the columns stored of it, and the channel unless it stands in the record."""
    return {int(kind.__struct_config__.tag or 0): _form(kind) for kind in _CHANNEL}


def _form(kind: Any) -> tuple[Form, tuple[str, ...], str]:
    channel = _CHANNEL[kind]
    words = dict(columns_of(channel))
    shape: list[tuple[int, bool, bool, int]] = []
    stored: list[str] = []
    names = [field.name for field in fields(kind)]
    for field in fields(kind):
        column = _COLUMN.get(field.name, field.name)
        kept = column in words and column not in _IN_THE_PATH
        types = get_args(field.type) or (field.type,)
        word = words[column] if kept else _WORD[types[0]]
        shape.append((_KIND[word], NoneType in types, kept, _DIVISOR.get(column, 1)))
        if kept:
            stored.append(column)
    told_by = [*_IN_THE_PATH, *(["channel"] if kind is Event else [])]
    time = names.index("started_at" if kind is Gap else "ts_recv")
    return Form(shape, [names.index(name) for name in told_by], time), tuple(stored), channel


def _array(kind: "pa.DataType", rows: int, nulls: int, *buffers: Any) -> "pa.Array":
    """Return the column that lies in these buffers."""
    import pyarrow as pa

    known: list[Any] = [None if buffer is None else pa.py_buffer(buffer) for buffer in buffers]
    if not pa.types.is_list(kind):
        return pa.Array.from_buffers(kind, rows, known, nulls)
    valid, offsets, *pair = known
    numbers = [pa.Array.from_buffers(pa.float64(), part.size // 8, [None, part]) for part in pair]
    levels = pa.StructArray.from_arrays(numbers, names=["price", "size"])
    return pa.Array.from_buffers(kind, rows, [valid, offsets], nulls, children=[levels])
