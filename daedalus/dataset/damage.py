"""What a damaged stretch of a journal cost: a gap row for every stream that lost records there.

Theory of operation. Each sender numbers its records; the journal holds them in order. A hole in a sender's
numbers, or a table of cursors that is ahead of what was read, proves a loss; damage alone does not (a torn
last frame was never acknowledged and is sent again). From then on every stream of that sender is in doubt,
until its next record shows by its own sequence whether anything is missing, or the journal ends.

Pure: entries and cursors in, `Gap` records out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from daedalus.kernel.journal import Cursor, Entry, Mark
from daedalus.records import Gap

__all__ = ["Continuity"]


class _Sender(msgspec.Struct):
    """How far one sender was followed."""

    source: str
    epoch: int
    seq: int
    marks: dict[str, Mark]
    doubtful: dict[str, Mark]  # streams that may have lost records, with their last record before
    channels: dict[str, tuple[str, str]]  # stream -> exchange, channel


class Continuity:
    """Follows the senders of one journal."""

    def __init__(self, channel: str, detail: str) -> None:
        self._channel = channel
        self._detail = detail
        self._senders: dict[str, _Sender] = {}

    def entry(self, entry: Entry, records: Iterable[Any]) -> list[Gap]:
        """Take a readable entry and its records (duplicates removed); return the gaps that end in it."""
        first = entry.first_seq + entry.skip
        known = self._senders.get(entry.sender)
        if known is None:
            known = self._senders[entry.sender] = _Sender(entry.source, entry.epoch, first - 1, {}, {}, {})
        if (entry.epoch, first) != (known.epoch, known.seq + 1) and not _continues(known, entry, first):
            known.doubtful = {**known.marks, **known.doubtful}
        known.epoch, known.seq = entry.epoch, entry.first_seq + entry.count - 1
        gaps = self._resolve(entry.sender, known, records) if known.doubtful else []
        known.marks.update(entry.marks)
        return gaps

    def lost(self, entry: Entry) -> None:
        """Take an entry whose records cannot be read: the next one shows the hole."""
        known = self._senders.get(entry.sender)
        if known is not None:
            known.doubtful = {**known.marks, **known.doubtful}

    def cursors(self, table: Mapping[str, Cursor]) -> None:
        """Take a table of cursors: what it holds and was not read is lost."""
        for sender, cursor in table.items():
            known = self._senders.get(sender)
            if known is None:
                self._senders[sender] = _Sender(
                    cursor.source, cursor.epoch, cursor.seq, dict(cursor.marks), {}, {}
                )
            elif (cursor.epoch, cursor.seq) != (known.epoch, known.seq):
                known.doubtful = {**known.marks, **known.doubtful}
                known.epoch, known.seq = cursor.epoch, cursor.seq

    def end(self, following: Mapping[str, Cursor]) -> list[tuple[str, Gap]]:
        """Return (source, gap) of the streams still in doubt when the journal ends.

        Args:
            following: the first table of cursors of the journal after it; empty when there is none.
        """
        gaps = []
        for sender, known in self._senders.items():
            after = following.get(sender)
            if after is not None and after.epoch == known.epoch and after.seq > known.seq:
                known.doubtful = {**known.marks, **known.doubtful}
            for stream, before in known.doubtful.items():
                mark = None if after is None else after.marks.get(stream)
                if mark is not None and (mark.session_id, mark.seq) == (before.session_id, before.seq):
                    continue
                ended_at = max(before.ts_recv, mark.ts_recv if mark is not None else before.ts_recv)
                gap = self._gap(sender, known, stream, before, ended_at, None, None)
                gaps.append((known.source, gap))
            known.doubtful = {}
        return gaps

    def _resolve(self, sender: str, known: _Sender, records: Iterable[Any]) -> list[Gap]:
        gaps = []
        for record in records:
            if isinstance(record, Gap) or record.symbol not in known.doubtful:
                continue
            before = known.doubtful.pop(record.symbol)
            same = before.session_id == record.session_id
            if same and record.seq == before.seq + 1:
                continue
            known.channels[record.symbol] = (record.exchange, self._channel)
            missing = record.seq - before.seq - 1 if same else None
            gaps.append(self._gap(sender, known, record.symbol, before, record.ts_recv, record.seq, missing))
        return gaps

    def _gap(
        self,
        sender: str,
        known: _Sender,
        stream: str,
        before: Mark,
        ended_at: int,
        last_seq: int | None,
        missing: int | None,
    ) -> Gap:
        exchange, channel = known.channels.get(stream, (sender, self._channel))
        return Gap(
            exchange=exchange,
            symbol=stream,
            collected_at=ended_at // 1_000_000,
            ts_recv=ended_at,
            channel=channel,
            started_at=before.ts_recv,
            ended_at=ended_at,
            session_id=before.session_id,
            first_seq=before.seq,
            last_seq=last_seq,
            reason="error",
            lost_estimate=missing,
            detail=self._detail,
        )


def _continues(known: _Sender, entry: Entry, first: int) -> bool:
    """A new epoch that begins at its beginning, or a repetition, is no hole."""
    if entry.epoch == known.epoch:
        return first <= known.seq + 1
    return first == 1
