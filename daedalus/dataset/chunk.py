"""Records as Python objects, gathered and grouped by partition: the slow way, for what is not shredded."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from daedalus.dataset.layout import HOUR_NS, Partition
from daedalus.records import Event, Gap, channel_of

__all__ = ["CHUNK_BYTES", "Chunk"]

_Groups = defaultdict[tuple[Any, ...], list[Any]]  # (source, type or channel, exchange, symbol, hour)

_ts_recv, _started_at = attrgetter("ts_recv"), attrgetter("started_at")
_market = attrgetter("exchange", "symbol")
_SEPARATE = (Gap, Event)  # grouped by more than type, symbol and capture time
_SHARED_MIN = 4  # records of a frame
_GROUP_ROWS = 2048  # of a group: what a cache can hold is turned into columns at two thirds of the cost
CHUNK_BYTES = 8 << 20  # of encoded records; as Python objects they are two to three times that


class Chunk:
    """Some thousand records, grouped by partition."""

    def __init__(self, rows_max: int) -> None:
        """Begin with nothing; `rows_max` are held at most, about."""
        self._groups: _Groups = defaultdict(list)
        self._rows_max = rows_max
        self._rows = self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, source: str, records: Sequence[Any], nbytes: int) -> None:
        """Take the records of a frame."""
        shared = _shared(records)
        if shared is not None:
            self._groups[source, *shared].extend(records)
        else:
            _share_out(source, records, self._groups)
        self._rows += len(records)
        self._bytes += nbytes

    def full(self) -> bool:
        """Whether it is time to make columns of them."""
        bound = min(self._rows_max, _GROUP_ROWS * len(self._groups))
        return self._rows >= bound or self._bytes >= CHUNK_BYTES

    def take(self) -> list[tuple[Partition, list[Any]]]:
        """Return the records by partition, sorted by time, and be empty again."""
        groups = _sorted(self._groups)
        self._groups = defaultdict(list)
        self._rows = self._bytes = 0
        return groups


def _shared(records: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return the type, exchange, symbol and hour that all these records have in common.

    None where they differ, or where nothing is gained by asking: a frame of one stream is sorted in at a
    fifth of the cost of its records one by one.
    """
    if len(records) < _SHARED_MIN:
        return None
    first, last = records[0], records[-1]
    kind = type(first)
    if kind in _SEPARATE or type(last) is not kind or first.symbol != last.symbol:
        return None
    if len(set(map(type, records))) > 1 or len(set(map(_market, records))) > 1:
        return None
    times = list(map(_ts_recv, records))
    hour = min(times) // HOUR_NS
    return (kind, first.exchange, first.symbol, hour) if max(times) // HOUR_NS == hour else None


def _share_out(source: str, records: Sequence[Any], groups: _Groups) -> None:
    """Add each record to its group."""
    # Most records are of the stream and the hour of the one before: then no key is made (0.2 us).
    kind: Any = None
    exchange = symbol = ""
    begin = end = 0
    append: Callable[[Any], None] = [].append
    for record in records:
        if (
            type(record) is kind
            and begin <= record.ts_recv < end
            and record.symbol == symbol
            and record.exchange == exchange
        ):
            append(record)
            continue
        kind, exchange, symbol = type(record), record.exchange, record.symbol
        at = record.started_at if kind is Gap else record.ts_recv
        hour = at // HOUR_NS
        begin, end = hour * HOUR_NS, (hour + 1) * HOUR_NS
        group = groups[source, record.channel if kind is Event else kind, exchange, symbol, hour]
        append = group.append
        append(record)
        if kind in _SEPARATE:
            kind = None


def _sorted(groups: dict[tuple[Any, ...], list[Any]]) -> list[tuple[Partition, list[Any]]]:
    for key, records in groups.items():
        records.sort(key=_started_at if key[1] is Gap else _ts_recv)
    return [
        (Partition(source, channel_of(records[0]), exchange, symbol, hour), records)
        for (source, _, exchange, symbol, hour), records in groups.items()
    ]
