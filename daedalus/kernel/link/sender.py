"""The sending end: spool first, then the socket; the send cursor is a position in the spool.

    offline ──connected──▶ greeting ──WELCOME──▶ streaming ──disconnected──▶ offline
                              ▲                      │
                              └── no progress, NACK 0┘

While streaming, a frame goes out straight from memory if the cursor stands at its first record. Otherwise
(the socket was full, the receiver asked to go back) the frame is dropped from memory and `_pump` reads the
spool from the cursor on. The cursor moves only when ZeroMQ took the frame.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from daedalus.compiled.outbox import FRONT, Outbox
from daedalus.kernel.journal import Mark
from daedalus.kernel.link.wire import Ack, Data, Hello, Nack, Welcome, decode_reply, encode, opening, pack
from daedalus.kernel.mailbox import Mailbox
from daedalus.kernel.spool import Spool
from daedalus.kernel.telemetry import get_logger

__all__ = ["LinkSender"]

Describe = Callable[[bytes], tuple[str, Mark] | None]

_FRAME_BYTES = 128 << 10  # a frame is closed at this size as well: bounds what is in flight
_HWM_FRAMES = 32
_GROWN = 0.6  # of `batch_ms`: so long after the last frame a full one leaves with the record that finds it so
_HEAR_S = 0.02  # under load acknowledgements are looked for so often, and else when the last frame is out
_LOOK_RECORDS = 16  # between two such looks at the clock
_RECONNECT_MS = 5  # a restarted receiver is greeted within twice this; 0.5 % of a core while there is none
_PROGRESS_S = 0.25  # without an acknowledgement for so long the sender greets again
_PUMP_FRAMES = 16  # frames per turn of the loop when catching up
_MONITORED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class LinkSender(Outbox):
    """Sends the records of one spool, in order, until each is acknowledged."""

    def __init__(
        self,
        address: str,
        *,
        sender: str,
        source: str,
        spool: Spool,
        batch_records: int = 64,
        batch_ms: float = 5.0,
        on_welcome: Callable[[dict[str, Mark]], None] | None = None,
        on_seam: Callable[[str, Mark, Mark], None] | None = None,
        describe: Describe | None = None,
    ) -> None:
        """Store what the link is. No socket yet.

        Args:
            address: of the receiver, a ZeroMQ address.
            sender: its name, unique among the senders of a receiver.
            source: "ccxt" or "native", kept with the records.
            spool: open; the caller closes it, after `close`.
            batch_records: a frame is closed at so many records, unless the last one went out less than
                `batch_ms` ago: under load frames grow up to 128 KiB …
            batch_ms: … or so long after its first.
            on_welcome: called once, at the first WELCOME, with the last record of each stream that is stored
                or on its way: what came before this process.
            on_seam: called just before `on_welcome` for each place in the spool, among the records of earlier
                processes, where the session of a stream changes: stream, last mark before, first mark after.
                A process that never had a WELCOME could not tell what came before it.
            describe: gives stream and mark of an encoded record. Needed when records go out from the spool
                rather than from memory (after a restart, or when the receiver is behind); without it the
                marks of those records are missing.
        """
        super().__init__(spool)
        self.look_at = batch_records
        self.look_bytes = _FRAME_BYTES
        self._address = address
        self._name = sender
        self._source = source
        self._spool = spool
        self._batch_records = batch_records
        self._batch_s = batch_ms / 1000
        self._on_welcome = on_welcome
        self._on_seam = on_seam
        self._describe = describe
        self._opened_at = 0.0  # s, loop time of the open frame's first record
        self._hold = False  # a frame went out just now: the next one may grow …
        self._grown_at = 0.0  # s, loop time: … until then
        self._heard_at = 0.0  # s, loop time of the next look at what a frame's send may have swallowed
        self._cursor = spool.acked + 1  # next to be sent
        self._first_own = spool.next_seq  # of this process; what lies before was appended by an earlier one
        self._streaming = False
        self._blocked = False  # ZeroMQ is full: waiting for it to be writable
        self._greet_blocked = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._watched = 0  # acknowledged at the last look
        self._pumping: asyncio.Handle | None = None
        self._drained: asyncio.Event | None = None
        self._frames = self._again = self._hellos = self._nacks = 0
        self._log = get_logger()

    async def start(self) -> None:
        """Connect. Returns at once: the receiver may come later, the spool has room meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._drained = asyncio.Event()
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = _HWM_FRAMES
        socket.reconnect_ivl = _RECONNECT_MS
        socket.immediate = 1  # nothing is queued for a receiver that is not there: it is in the spool
        self._socket = socket
        self._monitor_socket = socket.get_monitor_socket(_MONITORED)
        self._mailbox = Mailbox(socket, self._received)
        self._monitor = Mailbox(self._monitor_socket, self._connection)
        socket.connect(self._address)
        self._mailbox.touched()
        self._arm_watch()

    def opened(self) -> None:
        """The open frame has its first record: see to it that it leaves in time."""
        self._opened_at = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._opened_at + self._batch_s, self._due)

    def filled(self, count: int) -> None:
        """The open frame is full: it leaves, unless the last one left just now and it may grow."""
        if self.frame_bytes >= _FRAME_BYTES or not self._hold or self._loop.time() >= self._grown_at:
            self._flush()
        else:
            self.look_at = count + _LOOK_RECORDS

    async def drain(self) -> int:
        """Wait until everything is acknowledged. Returns what is not, also when it is cancelled."""
        self._flush()
        assert self._drained is not None  # start was called
        self._mailbox.touched()
        try:
            while self.unacknowledged:
                self._drained.clear()
                await self._drained.wait()
        except asyncio.CancelledError:
            # The answer is the point: whoever cancels a drain wants to know what was left behind.
            return self.unacknowledged
        return 0

    def close(self) -> None:
        """Close the socket. What is not acknowledged stays in the spool."""
        for handle in (self._timer, self._watch, self._pumping):
            if handle is not None:
                handle.cancel()
        self._timer = self._watch = self._pumping = None
        if self._drained is None:
            return
        self._streaming = False
        self._monitor.close()
        self._mailbox.close()
        self._socket.disable_monitor()
        self._monitor_socket.close(0)
        self._socket.close()
        self._drained = None

    @property
    def unacknowledged(self) -> int:
        """Return how many records of the spool are not acknowledged."""
        count: int = self._spool.next_seq - 1 - self._spool.acked
        return count

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters since start."""
        return {
            "appended": self._spool.next_seq - 1,
            "unacknowledged": self.unacknowledged,
            "refused": self.refused,
            "frames": self._frames,
            "again": self._again,
            "hellos": self._hellos,
            "nacks": self._nacks,
            "spool_fill": round(self._spool.fill, 4),
        }

    # Frames

    def _due(self) -> None:
        self._timer = None
        self._hold = False
        self.look_at = self._batch_records
        if self.frame_first < self._spool.next_seq:
            left_s = self._opened_at + self._batch_s - self._loop.time()
            if left_s > 0.0002:  # the frame the timer was set for is gone, this one is younger
                self._timer = self._loop.call_later(left_s, self._due)
            else:
                self._flush()
        elif self._streaming:
            self._mailbox.touched()  # the last frames may have swallowed news

    def _flush(self) -> None:
        """Close the open frame and send it, if nothing before it has to be sent first."""
        first, count = self.frame_first, self._spool.next_seq - self.frame_first
        if not count:
            return
        size, marks = self.frame_bytes, self.frame_notes
        self.frame_first, self.frame_bytes, self.frame_notes = first + count, 0, {}
        self.look_at = self._batch_records
        self._hold = True
        now = self._loop.time()
        self._grown_at = now + self._batch_s * _GROWN
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(now + self._batch_s, self._due)
        if self._watch is None:
            self._arm_watch()
        if not self._streaming or self._blocked:
            return
        if self._cursor == first:
            head = opening(Data(self._spool.epoch, first, count, marks))
            if len(head) <= FRONT:
                self.frame[FRONT - len(head) : FRONT] = head
                with memoryview(self.frame)[FRONT - len(head) : FRONT + size] as whole:
                    self._send(whole, count)
            else:
                self._send(head + self.frame[FRONT : FRONT + size], count)
            if now >= self._heard_at:
                self._heard_at = now + _HEAR_S
                self._mailbox.touched()
        elif self._pumping is None:
            self._pump()

    def _send(self, message: bytes | bytearray | memoryview, count: int) -> bool:
        try:
            self._socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            self._blocked = True
            self._again += 1
            self._mailbox.when_writable(self._writable)
            return False
        self._cursor += count
        self._frames += 1
        return True

    def _pump(self) -> None:
        """Send from the spool what lies between the cursor and the open frame."""
        self._pumping = None
        for _ in range(_PUMP_FRAMES):
            end = self.frame_first
            if not self._streaming or self._blocked or self._cursor >= end:
                return
            records = self._spool.read(
                self._cursor, min(self._batch_records, end - self._cursor), _FRAME_BYTES
            )
            assert records, f"the spool lost {self._cursor}, acknowledged {self._spool.acked}"
            data = Data(self._spool.epoch, self._cursor, len(records), self._marks_of(records))
            if not self._send(pack(data, records), len(records)):
                return
            self._mailbox.touched()
        self._pumping = self._loop.call_soon(self._pump)

    def _marks_of(self, records: list[bytes]) -> dict[str, Mark]:
        if self._describe is None:
            return {}
        return dict(found for record in records if (found := self._describe(record)) is not None)

    def _writable(self) -> None:
        self._blocked = False
        if self._greet_blocked:
            self._greet()
        elif self._pumping is None:
            self._pump()

    # Conversation

    def _connection(self, parts: list[bytes]) -> None:
        event: dict[str, Any] = dict(parse_monitor_message(parts))
        self._streaming = False
        if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._greet()

    def _greet(self) -> None:
        spool = self._spool
        self._streaming = False
        self._greet_blocked = False
        hello = Hello(self._name, self._source, spool.epoch, spool.acked, spool.oldest())
        try:
            self._socket.send(encode(hello), zmq.NOBLOCK)
        except zmq.Again:
            self._blocked = self._greet_blocked = True
            self._mailbox.when_writable(self._writable)
            return
        self._hellos += 1
        self._mailbox.touched()

    def _arm_watch(self) -> None:
        self._watched = self._spool.acked
        self._watch = self._loop.call_later(_PROGRESS_S, self._look)

    def _look(self) -> None:
        """Greet again when nothing was acknowledged for a while: a message may have been lost."""
        self._watch = None
        if self._on_welcome is None and not self.unacknowledged:
            return  # armed again by the next frame
        if self._spool.acked == self._watched and not self._greet_blocked:
            self._greet()
        self._arm_watch()

    def _received(self, parts: list[bytes]) -> None:
        reply = decode_reply(parts[0])
        if isinstance(reply, Nack) and reply.epoch == 0:
            # Asked once; the frames behind it are refused as well and say nothing new.
            if self._streaming:
                self._greet()
            return
        if reply.epoch != self._spool.epoch:
            return  # of a ring that is gone
        if isinstance(reply, Ack):
            self._acknowledged(reply.stored)
        elif isinstance(reply, Nack):
            self._nacks += 1
            self._go_on(reply.received)
        else:
            self._welcomed(reply)

    def _welcomed(self, welcome: Welcome) -> None:
        if welcome.received >= self._spool.next_seq:
            # The receiver has what this spool never held: the file is a copy or was set back. Its next
            # sequences would be taken for duplicates.
            self._log.error(
                "spool_renewed", sender=self._name, next_seq=self._spool.next_seq, stored_seq=welcome.received
            )
            self._first_own = max(self._first_own - self._spool.acked, 1)
            self.frame_first = max(self.frame_first - self._spool.acked, 1)
            self._spool.renew()
            self._cursor = 1
            self._greet()
            return
        if self._on_welcome is not None:
            tell, self._on_welcome = self._on_welcome, None
            tell(self._marks_before(welcome))
        self._acknowledged(welcome.stored)
        self._streaming = True
        self._go_on(welcome.received)

    def _marks_before(self, welcome: Welcome) -> dict[str, Mark]:
        marks = dict(welcome.marks)
        describe = self._describe
        if describe is None:
            return marks
        at = welcome.stored + 1
        end = self._first_own
        while at < end and (records := self._spool.read(at, min(1024, end - at))):
            at += len(records)
            for record in records:
                if (found := describe(record)) is None:
                    continue
                stream, mark = found
                before = marks.get(stream)
                if self._on_seam is not None and before is not None and before.session_id != mark.session_id:
                    self._on_seam(stream, before, mark)
                marks[stream] = mark
        return marks

    def _go_on(self, received: int) -> None:
        # Possibly behind what was acknowledged: the end of a journal may have been damaged since.
        self._cursor = max(received + 1, self._spool.oldest())
        if self._pumping is None:
            self._pump()

    def _acknowledged(self, seq: int) -> None:
        self._spool.acknowledge(seq)
        if self._drained is not None and not self.unacknowledged:
            self._drained.set()
