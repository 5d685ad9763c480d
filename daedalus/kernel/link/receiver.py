"""The receiving end: gathers frames into commit groups, and acknowledges what the disk has.

Frames are not looked into: the blob goes from the socket to the journal as it came. Per sender and epoch the
sequences are contiguous; what was received before is skipped by count, a hole is refused.

Per sender there are two positions: `received` (in memory, where DATA goes on) and `stored` (its cursor, on
disk, what is acknowledged).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec
import zmq

from daedalus.kernel.journal import Cursor, Entry, advance
from daedalus.kernel.link.wire import Ack, Data, Hello, Nack, Welcome, decode_request, encode
from daedalus.kernel.mailbox import Mailbox
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.topic import bind

__all__ = ["LinkReceiver"]

_HWM_FRAMES = 32
_GROUP_BYTES = 4 << 20  # a commit group ends here at the latest
_PENDING_BYTES = 12 << 20  # with so much in memory the socket is left alone
_PACE_S = 0.02  # between two looks at a busy socket: a turn of the loop costs as much as thirty records
_RETIRED = 64  # connections remembered as replaced
_STRANGER = encode(Nack(0, 0))


class _Peer:
    """One sender as this receiver sees it."""

    __slots__ = ("epoch", "identity", "nacked", "received", "sender", "source")

    def __init__(self, identity: bytes, hello: Hello, received: int) -> None:
        self.identity = identity
        self.sender = hello.sender
        self.source = hello.source
        self.epoch = hello.epoch
        self.received = received
        self.nacked = False


class LinkReceiver:
    """Binds the ROUTER end of a link and feeds commit groups to `commit`, one at a time."""

    def __init__(
        self,
        address: str,
        *,
        cursors: dict[str, Cursor],
        commit: Callable[[list[Entry]], Awaitable[None]],
        commit_ms: float = 100.0,
        commit_records: int = 1000,
    ) -> None:
        """Store what the link is. No socket yet.

        Args:
            address: to bind, a ZeroMQ address.
            cursors: how far each sender is stored; advanced in place after each commit.
            commit: makes a group durable; acknowledged when it returns. It may take its time (a full disk):
                at most 12 MiB gather meanwhile, then the senders are held up and their spools fill.
            commit_ms: a group is committed so long after its first record was taken (from a busy socket
                every 20 ms) …
            commit_records: … or with so many records.
        """
        self.cursors = cursors
        self._address = address
        self._commit = commit
        self._commit_s = commit_ms / 1000
        self._commit_records = commit_records
        self._peers: dict[bytes, _Peer] = {}  # by connection; one per sender
        self._senders: dict[str, _Peer] = {}
        self._retired: deque[bytes] = deque(maxlen=_RETIRED)
        self._pending: deque[Entry] = deque()
        self._pending_records = 0
        self._pending_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._committer: asyncio.Task[None] | None = None
        self._forced = False
        self._open = False
        self._received = self._stored = self._duplicates = self._nacks = self._strangers = self._commits = 0
        self._holes = self._foreign = 0
        self._log = get_logger()

    async def start(self) -> None:
        """Bind. Senders are answered from the next turn of the loop on."""
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        socket.linger = 200  # ms: the last acknowledgements of a drain
        socket.sndhwm = 1000
        socket.rcvhwm = _HWM_FRAMES
        bind(socket, self._address)
        self._socket = socket
        self._mailbox = Mailbox(
            socket, self._message, budget=64, after=self._gathered, pace_s=_PACE_S, copy=False
        )
        self._open = True

    async def failed(self) -> None:
        """Wait for `commit` to fail, and raise what it raised. For the actor to spawn."""
        await self._failed

    async def drain(self) -> int:
        """Take what has arrived, commit and acknowledge all of it; returns the records brought home."""
        before = self._stored
        self._mailbox.drain()
        self._mailbox.pause()
        self._forced = True
        self._gathered()
        while self._committer is not None:
            # Shielded: a group that is being committed is finished whoever stops waiting for it.
            await asyncio.shield(self._committer)
        return self._stored - before

    async def close(self) -> None:
        """Close the socket. A commit in progress is cancelled: its records are not acknowledged."""
        if self._timer is not None:
            self._timer.cancel()
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        if self._open:
            self._open = False
            self._mailbox.close()
            self._socket.close()

    @property
    def pending(self) -> int:
        """Return how many records are received but not stored."""
        return self._pending_records

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters since start."""
        return {
            "received": self._received,
            "stored": self._stored,
            "duplicates": self._duplicates,
            "nacks": self._nacks,
            "strangers": self._strangers,
            "holes": self._holes,
            "foreign": self._foreign,
            "commits": self._commits,
            "pending": self._pending_records,
            "pending_bytes": self._pending_bytes,
        }

    # Messages

    def _message(self, parts: list[zmq.Frame]) -> None:
        try:
            identity = parts[0].bytes
            request, blob = decode_request(parts[1].buffer)
            if isinstance(request, Data):
                self._data(identity, request, cast("bytes", blob))
            else:
                self._hello(identity, request)
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError) as error:
            # The socket is private to us: this is a sender of another version. It gets no acknowledgement.
            self._foreign += 1
            if self._foreign == 1:
                self._log.error("link_message_refused", error=str(error), parts=len(parts))

    def _data(self, identity: bytes, data: Data, blob: bytes) -> None:
        peer = self._peers.get(identity)
        if peer is None or data.epoch != peer.epoch:
            self._strangers += 1
            if identity not in self._retired:
                self._reply(identity, _STRANGER)
            return
        expected = peer.received + 1
        last = data.first_seq + data.count - 1
        if data.first_seq > expected:
            if not peer.nacked:
                peer.nacked = True
                self._nacks += 1
                self._reply(identity, encode(Nack(peer.epoch, peer.received)))
            return
        peer.nacked = False
        if last < expected:
            self._duplicates += data.count
            return
        skip = expected - data.first_seq
        entry = Entry(
            peer.sender, peer.source, data.epoch, data.first_seq, data.count, skip, data.marks, blob
        )
        fresh = data.count - skip
        self._duplicates += skip
        self._received += fresh
        peer.received = last
        self._pending.append(entry)
        self._pending_records += fresh
        self._pending_bytes += len(blob)
        if self._pending_bytes > _PENDING_BYTES:
            self._mailbox.pause()

    def _hello(self, identity: bytes, hello: Hello) -> None:
        if identity in self._retired:
            return  # the newest connection of a name is the one that counts
        cursor = self.cursors.get(hello.sender)
        known = self._senders.get(hello.sender)
        if known is not None and known.epoch == hello.epoch:
            received = known.received
        elif cursor is not None and cursor.epoch == hello.epoch:
            received = cursor.seq
        else:
            # A new epoch begins at 1. One that this receiver never saw but that was acknowledged (the data
            # directory is another) goes on behind its acknowledgement: that was a promise.
            received = hello.acked
        if received + 1 < hello.oldest:
            # Acknowledged once, not here any more, and no longer in the spool either: damage to the journal.
            lost = hello.oldest - 1 - received
            self._holes += 1
            self._log.error("link_hole_found", sender=hello.sender, after_seq=received, records=lost)
            received = hello.oldest - 1
        if known is not None and known.identity != identity:
            del self._peers[known.identity]
            self._retired.append(known.identity)
        peer = _Peer(identity, hello, received)
        self._peers[identity] = self._senders[hello.sender] = peer
        stored = self._stored_of(peer)
        self._mailbox.hurry()  # its records have waited for this writer to come back
        self._reply(
            identity, encode(Welcome(hello.epoch, stored, received, {} if cursor is None else cursor.marks))
        )

    def _stored_of(self, peer: _Peer) -> int:
        cursor = self.cursors.get(peer.sender)
        return cursor.seq if cursor is not None and cursor.epoch == peer.epoch else 0

    def _reply(self, identity: bytes, message: bytes) -> None:
        # A ROUTER drops what a vanished or full peer does not take; a sender that misses it greets again.
        self._socket.send_multipart((identity, message), zmq.NOBLOCK)
        self._mailbox.touched()

    # Commit groups

    def _gathered(self) -> None:
        """After each gulp: begin to commit if a group is due, else see to it that it will be."""
        if self._committer is not None or not self._pending:
            return
        if (
            self._forced
            or not self._commits  # the senders have waited for this writer to come back
            or self._pending_records >= self._commit_records
            or self._pending_bytes >= _GROUP_BYTES
        ):
            self._begin()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._commit_s, self._begin)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._committer is None and self._pending:
            self._committer = self._loop.create_task(self._commit_group())
            self._committer.add_done_callback(self._committed)

    async def _commit_group(self) -> None:
        group: list[Entry] = []
        room = _GROUP_BYTES
        for entry in self._pending:
            room -= len(entry.blob)
            if room < 0 and group:
                break
            group.append(entry)
        await self._commit(group)
        advance(self.cursors, group)
        self._commits += 1
        for entry in group:
            self._pending.popleft()
            fresh = entry.count - entry.skip
            self._stored += fresh
            self._pending_records -= fresh
            self._pending_bytes -= len(entry.blob)
        for sender in {entry.sender for entry in group}:
            peer = self._senders[sender]
            self._reply(peer.identity, encode(Ack(peer.epoch, self._stored_of(peer))))

    def _committed(self, task: asyncio.Task[None]) -> None:
        self._committer = None
        if task.cancelled() or not self._open:
            return
        error = task.exception()
        if error is not None:
            # What `commit` cannot hold and try again ends the actor, which waits in `failed`.
            self._failed.set_exception(error)
            return
        if self._pending_bytes <= _PENDING_BYTES // 2 and not self._forced:
            self._mailbox.resume()
        self._gathered()
