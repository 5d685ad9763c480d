"""One channel's road out of the collector: its spool, its link, and what happens when they are full."""

from collections import deque
from collections.abc import Callable

from daedalus.actors import endpoints
from daedalus.kernel.journal import Mark
from daedalus.kernel.link import LinkSender
from daedalus.kernel.spool import Spool
from daedalus.kernel.telemetry import get_logger
from daedalus.records import Gap, Instrument, decode, encode

__all__ = ["SHARES", "Outlet", "Seam", "describe"]

Seam = tuple[str, Mark, Mark]
"""Where the session of a stream changes among spooled rows: symbol, last mark before, first mark after."""

SHARES = {"orderbook": 6, "depth": 6, "trades": 3, "ticker": 1, "frames": 6}
"""How the collector's spool is divided among the channels it collects; any other channel has a share of 1."""

# A channel begins to shed at the first fill and stops below the second: raw messages first, which only repeat
# what the others say, then books, which leave room for what is rarer; all others take the last byte.
_SHED_AT = {"frames": 0.5, "orderbook": 0.9, "depth": 0.9}
_ROOM_AT = {"frames": 0.25, "orderbook": 0.75, "depth": 0.75}
_ROOM_DEFAULT = 0.9
_LOOK_EVERY = 64  # rows between two looks at the fill, which costs 1 µs
_OWED_MAX = 10_000  # gap rows that wait for room; beyond it the oldest is dropped, counted and told


def describe(record: bytes) -> tuple[str, Mark] | None:
    """Return stream and mark of an encoded row; None for what is no data: a gap, an instrument."""
    row = decode(record)
    if isinstance(row, Gap | Instrument):
        return None
    return (row.symbol, Mark(row.ts_recv, row.seq, row.session_id))


def _tells(gap: Gap, seam: Seam) -> bool:
    """Return whether a gap row is that of a seam: by the session itself, or by a later one in its place."""
    symbol, before, first = seam
    own = gap.session_id == first.session_id and gap.started_at <= before.ts_recv
    return gap.symbol == symbol and (own or gap.ended_at == first.ts_recv)


class Outlet:
    """Spool and link of one channel."""

    def __init__(
        self,
        channel: str,
        *,
        exchange: str,
        source: str,
        runtime: str,
        spool_bytes: int,
        batch: tuple[int, float],
        on_welcome: Callable[[dict[str, Mark], list[Seam]], None],
        data_id: str = "",
    ) -> None:
        """Open the spool; the link connects at `start`.

        Args:
            channel: ours.
            exchange: sanitised.
            source: "ccxt" or "native".
            runtime: the runtime directory.
            spool_bytes: size of the ring.
            batch: records and ms at which a frame is closed.
            on_welcome: called once with the last rows that earlier processes stored, and with the seams
                between their sessions that no gap row of the spool tells.
            data_id: of the data set that the spool belongs to (`spools.identity`).

        Raises:
            OSError: the spool cannot be made, or another process owns it.
        """
        self.channel = channel
        self.spool = Spool.open(endpoints.spool(runtime, exchange, channel, data_id), spool_bytes)
        self.link = LinkSender(
            endpoints.link(runtime, channel),
            sender=exchange,
            source=source,
            spool=self.spool,
            batch_records=batch[0],
            batch_ms=batch[1],
            on_welcome=self._welcomed,
            on_seam=lambda symbol, before, first: self._seams.append((symbol, before, first)),
            describe=describe,
        )
        self._first_own = self.spool.next_seq
        self._seams: list[Seam] = []
        self._on_welcome = on_welcome
        self.shedding = False
        self.held = False  # nothing is taken: the disk is full
        self.owed: deque[tuple[Gap, Mark]] = deque()
        self.owed_dropped = 0  # gap rows
        self._looks = 0
        self._shed_at = _SHED_AT.get(channel, 1.1)
        self._room_at = _ROOM_AT.get(channel, _ROOM_DEFAULT)

    def _welcomed(self, marks: dict[str, Mark]) -> None:
        seams, self._seams = self._seams, []
        if seams:
            told = self._gaps_before()
            seams = [seam for seam in seams if not any(_tells(gap, seam) for gap in told)]
        self._on_welcome(marks, seams)

    def _gaps_before(self) -> list[Gap]:
        gaps: list[Gap] = []
        at = self.spool.oldest()
        while at < self._first_own and (records := self.spool.read(at, min(1024, self._first_own - at))):
            gaps.extend(row for record in records if isinstance(row := decode(record), Gap))
            at += len(records)
        return gaps

    def has_room(self) -> bool:
        """Return whether the next row may be stored: the policy, with some inertia.

        Never before a gap row that is owed: `settle` first.
        """
        if self.held or self.owed:
            return False
        if self.shedding:
            self.shedding = self.spool.fill > self._room_at
        else:
            self._looks += 1
            if self._looks % _LOOK_EVERY == 0:
                self.shedding = self.spool.fill > self._shed_at
        return not self.shedding

    def store(self, data: bytes, symbol: str, mark: Mark) -> bool:
        """Spool and send one encoded row. False: no room; from now on the channel sheds."""
        if not self.owed and self.link.append(data, symbol, mark):
            return True
        self.shedding = True
        return False

    def store_gap(self, gap: Gap, mark: Mark) -> bytes | None:
        """Spool a gap row; without room it is owed. Returns its bytes if it was stored.

        While one is owed nothing is stored before it: a row behind it would say to the next process that the
        stretch is told, and a gap row that exists only here dies with this one.
        """
        data = encode(gap)
        if not self.owed and self.link.append(data, gap.symbol, mark):
            return data
        self.shedding = True
        if len(self.owed) >= _OWED_MAX:
            self.owed.popleft()
            self.owed_dropped += 1
            if self.owed_dropped == 1:  # the counter says how it goes on
                get_logger().error("gap_row_dropped", channel=self.channel, symbol=gap.symbol, owed=_OWED_MAX)
        self.owed.append((gap, mark))
        return None

    def settle(self) -> list[tuple[Gap, bytes]]:
        """Store gap rows that are owed, as far as there is room; return those that were."""
        settled = []
        while self.owed and self.spool.fill < self._room_at:
            gap, mark = self.owed[0]
            data = encode(gap)
            if not self.link.append(data, gap.symbol, mark):
                break
            self.owed.popleft()
            settled.append((gap, data))
        return settled

    def close(self) -> None:
        """Close link and spool; what is not acknowledged stays in the file."""
        self.link.close()
        self.spool.close()
