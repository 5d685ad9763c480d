"""Where each row of the running session lies in its spool, and the answers of the replay endpoint.

A subscriber that sees a hole in the numbers asks for the missing rows; they are still in the spool. The
index is exact (number, capture time and place of every row, 24 bytes), so an answer reads only what it
returns, at most 1 MiB, and never holds up the loop for long.

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


class Ring(Protocol):
    """What is needed of a spool."""

    epoch: int

    def read(self, seq: int, limit: int, max_bytes: int = 1 << 20) -> list[bytes]: ...
    def oldest(self) -> int: ...


class _Place(NamedTuple):
    ts_recv: int
    channel: str
    spool_seq: int


class _Rows:
    """One stream's rows, ascending."""

    __slots__ = ("places", "seqs", "times")

    def __init__(self) -> None:
        self.seqs = array("q")
        self.times = array("q")
        self.places = array("q")

    def trim(self, oldest: int) -> None:
        gone = bisect_left(self.places, oldest)
        if gone:
            del self.seqs[:gone], self.times[:gone], self.places[:gone]


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

    def add(self, symbol: str, channel: str, place: tuple[int, int, int], session_id: str) -> None:
        """Note a row that was just appended.

        Args:
            symbol: sanitised.
            channel: ours.
            place: its seq, its ts_recv, its sequence in the spool.
            session_id: a new one forgets all rows before.
        """
        spool = self._spools[channel]
        if session_id != self._session:
            self._session = session_id
            self._rows.clear()
        if spool.epoch != self._epochs[channel]:  # the ring was renumbered
            self._epochs[channel] = spool.epoch
            for key in [key for key in self._rows if key[1] == channel]:
                del self._rows[key]
        rows = self._rows.get((symbol, channel))
        if rows is None:
            rows = self._rows[symbol, channel] = _Rows()
        rows.seqs.append(place[0])
        rows.times.append(place[1])
        rows.places.append(place[2])
        self._added += 1
        if self._added % _TRIM_EVERY == 0:
            for (_, name), one in self._rows.items():
                one.trim(self._spools[name].oldest())

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
            rows = self._rows.get((symbol, channel))
            if rows is None:
                complete = complete and channel in self._spools and last >= _OPEN
                continue
            rows.trim(self._spools[channel].oldest())
            begin, end = bisect_left(rows.seqs, first), bisect_right(rows.seqs, last)
            newest = rows.seqs[-1] if rows.seqs else first - 1
            wanted = min(last, newest) - first + 1 if last >= _OPEN else last - first + 1
            complete = complete and end - begin == max(wanted, 0)
            end = min(end, begin + _ROWS_MAX)
            runs.append([_Place(rows.times[i], channel, rows.places[i]) for i in range(begin, end)])
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
