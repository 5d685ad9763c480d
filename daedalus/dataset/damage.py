"""What a damaged stretch of a journal cost: a gap row for every stream that lost records there.

Theory of operation. Each sender numbers its records; the journal holds them in order. A hole in a sender's
numbers, or a table of cursors that is ahead of what was read, proves a loss; damage alone does not (a torn
last frame was never acknowledged and is sent again), unless the sender began a new epoch behind it: then
nothing else would tell. From then on every stream of that sender is in doubt, until its next record shows by
its own sequence whether anything is missing, or the journal ends.

The account is closed at the end. Records that the sender numbered but no stream misses were gap rows, or of
streams that never came back: then every stream that was in doubt has a row, whole as it may look.

Pure: entries and cursors in, `Gap` records out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from daedalus.kernel.journal import Cursor, Entry, Mark
from daedalus.records import Gap

__all__ = ["Continuity"]


class _Loss(msgspec.Struct):
    """A stream that was in doubt: its last record before, and what is known of the first one after."""

    stream: str
    before: Mark | None  # None: no record of it is known from before
    started_at: int  # ns UTC
    ended_at: int  # ns UTC
    session_id: str
    last_seq: int | None
    missing: int | None  # by its own numbers; None: they do not tell


class _Sender(msgspec.Struct):
    """How far one sender was followed."""

    source: str
    epoch: int
    seq: int
    marks: dict[str, Mark]
    doubtful: dict[str, Mark] = {}  # streams that may have lost records, with their last before
    since: int | None = None  # ns UTC, before its oldest hole; streams not known then are in doubt as well
    headless: bool = False  # the table at the beginning could not be read: what came before is not known
    hurt: bool = False  # damage since its last entry
    lost: int | None = 0  # records its numbers miss, all in all; None: they do not tell
    losses: list[_Loss] = []
    exchanges: dict[str, str] = {}  # stream -> exchange

    def doubt(self, lost: int | None) -> None:
        if self.since is None:
            self.since = max((mark.ts_recv for mark in self.marks.values()), default=None)
        self.doubtful = {**self.marks, **self.doubtful}
        self.lost = None if self.lost is None or lost is None else self.lost + lost


class Continuity:
    """Follows the senders of one journal."""

    def __init__(self, channel: str, detail: str) -> None:
        self._channel = channel
        self._detail = detail
        self._senders: dict[str, _Sender] = {}
        self._damaged: int | None = 0  # records that damaged frames held by their headers; None: unknown
        self._tables = False

    def damage(self, records: int | None) -> None:
        """Take note of damage; `records` as the frame's header had it, None where that is damaged too."""
        if records == 0:
            return  # a table of cursors: another follows
        self._damaged = None if self._damaged is None or records is None else self._damaged + records
        for known in self._senders.values():
            known.hurt = True

    def entry(self, entry: Entry, records: Iterable[Any]) -> None:
        """Take a readable entry and its records (duplicates removed)."""
        known = self._follow(entry)
        marks = entry.marks
        if known.doubtful or known.headless or known.since is not None:
            self._resolve(known, records)
            # Of a new stream with nothing but a gap row here the next record is to be looked at as well.
            marks = {stream: mark for stream, mark in marks.items() if stream in known.marks}
        known.marks.update(marks)

    def lost(self, entry: Entry) -> None:
        """Take an entry whose records cannot be read."""
        self._follow(entry).doubt(entry.count - entry.skip)

    def cursors(self, table: Mapping[str, Cursor]) -> None:
        """Take a table of cursors: what it holds and was not read is lost."""
        for sender, cursor in table.items():
            known = self._senders.get(sender)
            if known is None:
                known = _Sender(cursor.source, cursor.epoch, cursor.seq, dict(cursor.marks))
                self._senders[sender] = known
                if self._damaged != 0 or self._tables:  # not one entry of it was readable
                    known.lost = None
                    known.losses = [_unknown(stream, mark) for stream, mark in cursor.marks.items()]
            elif cursor.epoch != known.epoch:
                known.doubt(None)
            elif cursor.seq > known.seq:
                known.doubt(cursor.seq - known.seq)
            known.epoch, known.seq = cursor.epoch, cursor.seq
        self._tables = True

    def end(self, following: Mapping[str, Cursor]) -> list[tuple[str, Gap]]:
        """Return (source, gap) of every loss.

        Args:
            following: the cursors when the journal was closed; empty where nobody knows.
        """
        gaps = []
        if following:
            self.cursors(following)
        for sender, known in self._senders.items():
            after = following[sender].marks if sender in following else {}
            for stream, before in known.doubtful.items():
                mark = after.get(stream)
                if mark != before:
                    known.losses.append(_at_the_end(stream, before, mark))
            told = known.marks.keys() | {loss.stream for loss in known.losses}
            if known.lost != 0:
                known.losses += [
                    _unknown(stream, mark, known.since)
                    for stream, mark in after.items()
                    if stream not in told
                ]
            gaps += [(known.source, self._gap(sender, known, loss)) for loss in self._proved(known)]
        self._senders.clear()
        return gaps

    def _follow(self, entry: Entry) -> _Sender:
        first = entry.first_seq + entry.skip
        known = self._senders.get(entry.sender)
        if known is None:
            known = self._senders[entry.sender] = _Sender(entry.source, entry.epoch, first - 1, {})
            if self._damaged != 0:  # it may have had earlier records
                known.headless = True
                known.lost = None
        if entry.epoch == known.epoch:
            if first > known.seq + 1:
                known.doubt(first - known.seq - 1)
        elif first != 1 or known.hurt:
            known.doubt(None)
        known.hurt = False
        known.epoch, known.seq = entry.epoch, entry.first_seq + entry.count - 1
        return known

    def _resolve(self, known: _Sender, records: Iterable[Any]) -> None:
        for record in records:
            seq = getattr(record, "seq", None)
            if seq is None:
                continue  # a gap row or an instrument: of no stream
            stream = record.symbol
            before = known.doubtful.pop(stream, None)
            if before is None and stream in known.marks:
                continue
            same = before is not None and before.session_id == record.session_id
            missing = seq - before.seq - 1 if before is not None and same else None
            if before is None and not known.headless:
                missing = seq - 1
            started_at = before.ts_recv if before is not None else known.since
            known.marks[stream] = Mark(record.ts_recv, seq, record.session_id)
            known.exchanges[stream] = record.exchange
            known.losses.append(
                _Loss(
                    stream,
                    before,
                    record.ts_recv if started_at is None else min(started_at, record.ts_recv),
                    record.ts_recv,
                    record.session_id if before is None else before.session_id,
                    seq,
                    missing,
                )
            )

    def _proved(self, known: _Sender) -> list[_Loss]:
        """Return the losses that deserve a row, with the number of records where it can be told."""
        total = known.lost if known.lost is not None else self._damaged
        losses = [loss for loss in known.losses if loss.missing != 0]
        if total is None:
            return losses
        rest = total - sum(loss.missing or 0 for loss in losses)
        if rest > 0:
            if len(known.losses) == 1:
                known.losses[0].missing = total
            return known.losses
        return losses if known.lost is None else [loss for loss in losses if loss.missing is not None]

    def _gap(self, sender: str, known: _Sender, loss: _Loss) -> Gap:
        return Gap(
            exchange=known.exchanges.get(loss.stream, sender),
            symbol=loss.stream,
            collected_at=loss.ended_at // 1_000_000,
            ts_recv=loss.ended_at,
            channel=self._channel,
            started_at=loss.started_at,
            ended_at=loss.ended_at,
            session_id=loss.session_id,
            first_seq=None if loss.before is None else loss.before.seq,
            last_seq=loss.last_seq,
            reason="error",
            lost_estimate=loss.missing or None,
            detail=self._detail,
        )


def _at_the_end(stream: str, before: Mark, mark: Mark | None) -> _Loss:
    """A stream that did not come back within the journal: what its cursor says of it."""
    if mark is None:
        return _Loss(stream, before, before.ts_recv, before.ts_recv, before.session_id, None, None)
    missing = mark.seq - before.seq if mark.session_id == before.session_id else None
    ended_at = max(before.ts_recv, mark.ts_recv)
    return _Loss(stream, before, before.ts_recv, ended_at, before.session_id, None, missing)


def _unknown(stream: str, mark: Mark, since: int | None = None) -> _Loss:
    """A stream of which nothing was read: all that is known is the last of it."""
    started_at = mark.ts_recv if since is None else min(since, mark.ts_recv)
    return _Loss(stream, None, started_at, mark.ts_recv, mark.session_id, None, None)
