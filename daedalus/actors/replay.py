"""Where each row of the running session lies in its spool, and the answers of the replay endpoint.

A subscriber that sees a hole in the numbers asks for the missing rows; they are still in the spool. The
index is exact (number, order of capture and place of every row), so an answer reads only what it returns, at
most 1 MiB, and never holds up the loop for long.

It grows until the rings have gone round once, which takes a ring of trades an hour. So it is made of chunks
that are packed when they are full, mostly to 6 bytes a row: arrays that grow would be 24, and leave holes in
the heap wherever they had been.

Request `[id, symbol, {channel: [from, to]}, session_id]`, both ends included; reply `[id, ok, [record …]]`
merged by capture time. `ok` false: not all of it is there any more. A reply at its limit is cut: ask again.
"""

from array import array
from bisect import bisect_left, bisect_right
from heapq import merge
from typing import NamedTuple, Protocol

import msgspec

__all__ = ["ReplayIndex"]

REPLY_BYTES_MAX = 1 << 20
_TRIM_EVERY = 4096
_CHUNK = 128  # rows: little for a stream of a few rows, and few objects for one of many
_BLANK = bytes(3 * 4 * _CHUNK)
_U16 = 0xFFFF


class Ring(Protocol):
    """What is needed of a spool."""

    epoch: int

    def read(self, seq: int, limit: int, max_bytes: int = 1 << 20) -> list[bytes]: ...
    def oldest(self) -> int: ...


class _Place(NamedTuple):
    order: int  # of all rows that were added: ascending as their capture times are
    channel: str
    spool_seq: int


class _Chunk:
    """Consecutive rows of one stream, as distances from the first: orders, then places, then numbers.

    While it is filled its cells have 32 bits. Packed, they have 16 if that is enough, and numbers that count
    up by one are left out.
    """

    __slots__ = ("cells", "count", "order", "place", "seq", "stride")

    def __init__(self, cells: "array[int]", seq: int, order: int, place: int) -> None:
        self.cells = cells
        self.count = 0
        self.stride = _CHUNK
        self.seq, self.order, self.place = seq, order, place

    def put(self, seq: int, order: int, place: int) -> None:
        """Note a row.

        Raises:
            OverflowError: it is too far from the first: ever so many were shed in between.
        """
        cells, at = self.cells, self.count
        cells[at] = order - self.order
        cells[_CHUNK + at] = place - self.place
        cells[2 * _CHUNK + at] = seq - self.seq
        self.count = at + 1

    def pack(self) -> "array[int]":
        """Make it as small as it can be; return the cells, for another."""
        cells, count = self.cells, self.count
        orders, places, seqs = (cells[at : at + count] for at in (0, _CHUNK, 2 * _CHUNK))
        kept = orders + places if seqs[-1] == count - 1 else orders + places + seqs
        if max(orders[-1], places[-1], seqs[-1]) <= _U16:
            # From a list: exactly as large as it is. Up to 512 bytes live among Python's small objects; what
            # stays for an hour in the C heap pins the large buffers beside it, and that heap only grows.
            kept = array("H", kept.tolist())
        self.cells = kept
        self.stride = count
        return cells

    def last_place(self) -> int:
        return self.place + self.cells[self.stride + self.count - 1]

    def span(self, first: int, last: int, oldest: int) -> range:
        """Return which rows are numbered `first` to `last` and not below place `oldest`."""
        cells, count, places = self.cells, self.count, self.stride
        there = bisect_left(cells, oldest - self.place, places, places + count) - places
        seqs = 2 * places
        if len(cells) == seqs:  # they count up by one
            return range(max(first - self.seq, there, 0), min(last - self.seq + 1, count))
        begin = bisect_left(cells, first - self.seq, seqs, seqs + count) - seqs
        return range(max(begin, there), bisect_right(cells, last - self.seq, seqs, seqs + count) - seqs)


class _Rows:
    """One stream's rows, ascending."""

    __slots__ = ("chunks", "newest")

    def __init__(self) -> None:
        self.chunks: list[_Chunk] = []
        self.newest = 0  # number of the last row, whether it is still there or not

    def begin(self, seq: int, order: int, place: int) -> _Chunk:
        """Return a new chunk for the row that comes next."""
        cells = self.chunks[-1].pack() if self.chunks else array("I", _BLANK)
        chunk = _Chunk(cells, seq, order, place)
        self.chunks.append(chunk)
        return chunk

    def trim(self, oldest: int) -> None:
        """Give up the chunks of which nothing is in the ring any more."""
        chunks = self.chunks
        gone = 0
        while gone < len(chunks) and chunks[gone].last_place() < oldest:
            gone += 1
        del chunks[:gone]

    def find(self, channel: str, first: int, last: int, oldest: int) -> tuple[int, list[_Place]]:
        """Return how many rows of `first` to `last` are there, and the places of as many as a reply holds."""
        count = 0
        found: list[_Place] = []
        for chunk in self.chunks[max(bisect_right(self.chunks, first, key=_number) - 1, 0) :]:
            if chunk.seq > last:
                break
            cells = chunk.cells
            span = chunk.span(first, last, oldest)
            count += len(span)
            for at in span[: _ROWS_MAX - len(found)]:
                order, place = chunk.order + cells[at], chunk.place + cells[chunk.stride + at]
                found.append(_Place(order, channel, place))
        return count, found


def _number(chunk: _Chunk) -> int:
    return chunk.seq


class ReplayIndex:
    """The rows of one collector's session. Pure but for reading the spools."""

    def __init__(self, spools: dict[str, Ring]) -> None:
        """Begin empty: rows of earlier processes are not served."""
        self._spools = spools
        self._epochs = {channel: spool.epoch for channel, spool in spools.items()}
        self._rows: dict[tuple[str, str], _Rows] = {}
        self._session = ""
        self._added = 0
        self.served = self.refused = 0

    def add(self, symbol: str, channel: str, place: tuple[int, int], session_id: str) -> None:
        """Note a row that was just appended. Those of one symbol come in the order of their capture.

        Args:
            symbol: sanitised.
            channel: ours.
            place: its seq, its sequence in the spool.
            session_id: a new one forgets all rows before.
        """
        spool = self._spools[channel]
        if session_id != self._session:
            self._session = session_id
            self._rows.clear()
        if spool.epoch != self._epochs[channel]:
            self._renumbered(channel)
        rows = self._rows.get((symbol, channel))
        if rows is None:
            rows = self._rows[symbol, channel] = _Rows()
        seq, spool_seq = place
        order = self._added = self._added + 1
        try:
            chunk = rows.chunks[-1]
            if chunk.count == _CHUNK:
                chunk = rows.begin(seq, order, spool_seq)
            chunk.put(seq, order, spool_seq)
        except (IndexError, OverflowError):
            rows.begin(seq, order, spool_seq).put(seq, order, spool_seq)
        rows.newest = seq
        if order % _TRIM_EVERY == 0:
            self._trim()

    def _renumbered(self, channel: str) -> None:
        """Forget the places of a ring that was begun afresh."""
        self._epochs[channel] = self._spools[channel].epoch
        for (_, name), rows in self._rows.items():
            if name == channel:
                rows.chunks.clear()

    def _trim(self) -> None:
        for (_, name), rows in self._rows.items():
            rows.trim(self._spools[name].oldest())

    def answer(self, request: bytes) -> bytes | None:
        """Return the reply to a request; None if it is none."""
        try:
            number, symbol, ranges, session = _decode(request)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        ok = False
        records: list[bytes] = []
        if session == self._session:
            ok, records = self._collect(symbol, ranges)
        self.served += ok
        self.refused += not ok
        return msgspec.msgpack.encode([number, ok, records])

    def _collect(self, symbol: str, ranges: dict[str, tuple[int, int]]) -> tuple[bool, list[bytes]]:
        complete = True
        runs: list[list[_Place]] = []
        for channel, (first, last) in ranges.items():
            if channel in self._spools and self._spools[channel].epoch != self._epochs[channel]:
                self._renumbered(channel)  # its places are of other records now
            rows = self._rows.get((symbol, channel))
            if rows is None:
                complete = complete and channel in self._spools and last >= _OPEN
                continue
            found, places = rows.find(channel, first, last, self._spools[channel].oldest())
            wanted = (rows.newest if last >= _OPEN else last) - first + 1
            complete = complete and found == max(wanted, 0)
            runs.append(places)
        records: list[bytes] = []
        room = REPLY_BYTES_MAX
        for place in merge(*runs):
            record = self._spools[place.channel].read(place.spool_seq, 1)
            if not record:
                return False, records
            room -= len(record[0])
            if room < 0 and records:
                break
            records.append(record[0])
        return complete, records


_OPEN = 1 << 62  # an upper end beyond it means "to the newest"
_ROWS_MAX = 20_000  # of one stream in a reply; 1 MiB holds fewer
_Request = tuple[int, str, dict[str, tuple[int, int]], str]
_decoder: msgspec.msgpack.Decoder[_Request] = msgspec.msgpack.Decoder(_Request)
_decode = _decoder.decode
