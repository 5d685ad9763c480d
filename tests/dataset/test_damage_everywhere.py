"""A journal hurt at every byte that matters: whole frames are lost, nothing else, and each loss is told.

What is held against one another: what was committed, what the sealer reads, and the gap rows it adds.
"""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from daedalus.dataset.cursors import State, save_state, state_path
from daedalus.dataset.layout import Layout
from daedalus.dataset.reading import Reading
from daedalus.kernel.journal import CLOSED, Cursor, Damage, Entry, Journal, Mark, frames
from daedalus.records import Gap
from tests.dataset.makings import T0, entry, gap, trade

MS = 1_000_000
Ends = list[tuple[int, int]]


class Case(NamedTuple):
    """A closed journal, and what is in it."""

    data: bytes
    frames: list[list[Entry]]  # of each frame; a table of cursors has none
    ends: Ends  # of each frame
    cursors: dict[str, Cursor]  # when it was closed


def _entry(records: list[Any], first: int, sender: str, epoch: int = 7) -> Entry:
    """An entry whose gap rows move the marks as a collector's do."""
    made = entry(records, first, sender=sender, epoch=epoch)
    for record in records:
        if isinstance(record, Gap):
            before = made.marks.get(record.symbol, Mark(0, record.first_seq or 0, record.session_id))
            made.marks[record.symbol] = Mark(record.ended_at, before.seq, record.session_id)
    return made


def _groups() -> list[list[Entry]]:
    """Two exchanges, three streams, a gap row between contiguous trades, one alone, sessions, epochs."""
    groups: list[list[Entry]] = []
    number = {"binance": 0, "kraken": 0}

    def add(*parts: tuple[str, list[Any]], epoch: int = 7) -> None:
        group = []
        for sender, records in parts:
            group.append(_entry(records, number[sender] + 1, sender, epoch))
            number[sender] += len(records)
        groups.append(group)

    def trades(first: int, count: int, symbol: str = "BTC-USDT", **more: Any) -> list[Any]:
        return [trade(n, symbol=symbol, **more) for n in range(first, first + count)]

    def hole(seq: int) -> Gap:
        at = T0 + seq * MS
        return gap(
            at + 1000, at + 9000, session_id="s1", reason="disconnect", first_seq=seq, last_seq=seq + 1
        )

    add(("binance", [*trades(1, 4), *trades(1, 3, "ETH-USDT")]), ("kraken", trades(1, 3, exchange="kraken")))
    add(("binance", trades(5, 6)))
    add(("kraken", trades(4, 2, exchange="kraken")), ("binance", [hole(10)]))
    add(("binance", [*trades(11, 3), hole(13), *trades(14, 2)]))
    add(("binance", [hole(15)]))
    add(("binance", [*trades(16, 4), *trades(1, 2, "SOL-USDT", ts=T0 + 18 * MS)]))
    add(("binance", trades(1, 5, session="s2", ts=None)[:0] + _later("s2", 30)))
    add(("kraken", trades(6, 3, exchange="kraken")), ("binance", trades(4, 2, "ETH-USDT")))
    number["binance"] = 0
    add(("binance", _later("s3", 60)), epoch=8)
    add(("binance", _later("s3", 64, first=5)), ("kraken", trades(9, 1, exchange="kraken")), epoch=8)
    return groups


def _later(session: str, at: int, first: int = 1) -> list[Any]:
    return [trade(n, session=session, ts=T0 + (at + n - first) * MS) for n in range(first, first + 4)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where fsync costs nothing: thousands of quarantines follow one another."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def case(folder: Path) -> Case:
    active = Layout(data=str(folder / "template")).active("trades")
    active.mkdir(parents=True)
    journal = Journal(active, 2, {})
    groups = _groups()
    for group in groups:
        journal.append(group)
    cursors = journal.cursors
    data = journal.close().read_bytes()
    ends = [(found.offset, found.end) for found in frames(data) if not isinstance(found, Damage)]
    return Case(data, [[], *groups], ends, cursors)


class Lab:
    """Reads hurt copies of the journal as the sealer does."""

    def __init__(self, folder: Path, case: Case, *, state: bool = True) -> None:
        self.layout = Layout(data=str(folder / "lab"))
        self.case = case
        self.path = self.layout.active("trades") / f"journal_00000002{CLOSED}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.layout.state().mkdir(parents=True, exist_ok=True)
        save_state(state_path(self.layout, "trades"), State(2 if state else 0, case.cursors if state else {}))

    def read(self, data: bytes) -> tuple[list[Any], list[Gap]]:
        """Return the records of before, and the gap rows that the reading added."""
        self.path.write_bytes(data)
        reading = Reading(self.layout, "trades", self.path, "mark")
        found = [(source, record) for source, records, _ in reading() for record in records]
        added = [record for _, record in found if _added(record)]
        assert len(added) == reading.gaps
        return [record for _, record in found if not _added(record)], added

    def kept(self) -> dict[int, bytes]:
        """Return what is in quarantine, by its place, and empty it; each has its reason."""
        folder = self.layout.quarantine("trades")
        found = {}
        for path in folder.glob("*.bin") if folder.exists() else ():
            reason = path.with_name(f"{path.name}.reason")
            assert f"at byte {path.stem.rpartition('byte')[2]}: " in reason.read_text()
            found[int(path.stem.rpartition("byte")[2])] = path.read_bytes()
            path.unlink()
            reason.unlink()
        return found

    def hurt(self, data: bytes, lost: set[int]) -> None:
        """Hold what is read of `data` against the frames that are not hurt."""
        case = self.case
        before = [
            (frame, record)
            for frame, group in enumerate(case.frames)
            for each in group
            for record in _of(each)
        ]
        records, gaps = self.read(data)
        assert records == [record for frame, record in before if frame not in lost], sorted(lost)
        unexplained = [
            record for frame, record in before if frame in lost and not any(_covers(g, record) for g in gaps)
        ]
        assert unexplained == [], (sorted(lost), gaps)


def _of(found: Entry) -> list[Any]:
    from daedalus.records import decode_many

    return decode_many(found.blob)


def _added(record: Any) -> bool:
    return isinstance(record, Gap) and (record.detail or "").startswith("damaged journal")


def _covers(found: Gap, record: Any) -> bool:
    if (found.symbol, found.exchange) != (record.symbol, record.exchange):
        return False
    if found.first_seq is None:  # since when is not known
        return record.ts_recv <= found.ended_at
    if isinstance(record, Gap):
        return found.started_at <= record.started_at and record.ended_at <= found.ended_at
    return found.started_at <= record.ts_recv <= found.ended_at


def test_an_unhurt_journal_has_no_gap_row_and_nothing_in_quarantine(folder: Path, case: Case) -> None:
    lab = Lab(folder, case)
    lab.hurt(case.data, set())
    assert lab.read(case.data)[1] == []
    assert lab.kept() == {}


def test_d24_cut_at_every_byte_of_the_last_three_frames(folder: Path, case: Case) -> None:
    lab = Lab(folder, case)
    for size in range(case.ends[-3][0], len(case.data)):
        lost = {number for number, (_, end) in enumerate(case.ends) if end > size}
        lab.hurt(case.data[:size], lost)
        torn = case.ends[min(lost)][0]
        rest = case.data[torn:size].rstrip(b"\0")
        assert lab.kept() == ({torn: rest} if rest else {})


def test_a_tail_of_zeros_from_every_byte_of_the_last_three_frames(folder: Path, case: Case) -> None:
    lab = Lab(folder, case)
    for size in range(case.ends[-3][0], len(case.data)):
        hurt = case.data[:size] + bytes(len(case.data) - size)
        lab.hurt(
            hurt, {n for n, (start, end) in enumerate(case.ends) if hurt[start:end] != case.data[start:end]}
        )
        lab.kept()


def test_of_1000_flipped_bytes_none_gives_a_wrong_record_and_each_loss_has_its_gap_row(
    folder: Path, case: Case
) -> None:
    lab = Lab(folder, case)
    dice = random.Random(4)
    for _ in range(1000):
        at = dice.randrange(len(case.data))
        data = bytearray(case.data)
        data[at] ^= dice.randrange(1, 256)
        (hit,) = (number for number, (start, end) in enumerate(case.ends) if start <= at < end)
        lab.hurt(bytes(data), {hit})
        start, end = case.ends[hit]
        assert lab.kept() == {start: bytes(data[start:end])}


def test_any_two_frames_may_be_lost_together(folder: Path, case: Case) -> None:
    lab = Lab(folder, case)
    for first in range(1, len(case.ends)):
        for second in range(first + 1, len(case.ends)):
            data = bytearray(case.data)
            data[case.ends[first][1] - 1] ^= 1
            data[case.ends[second][1] - 1] ^= 1
            lab.hurt(bytes(data), {first, second})
            lab.kept()


def test_a_journal_without_its_beginning_is_explained_by_the_state_file_of_the_one_before(
    folder: Path, case: Case
) -> None:
    """Its own table of cursors is gone, and records with it: the writer's state tells where it began."""
    lab = Lab(folder, case)
    began = {"binance": Cursor(7, 0, "ccxt", {"BTC-USDT": Mark(T0, 0, "s1")})}
    save_state(state_path(lab.layout, "trades"), State(1, began))
    data = bytes(case.ends[1][1]) + case.data[case.ends[1][1] :]
    records, gaps = lab.read(data)
    assert len(records) == sum(len(_of(each)) for group in case.frames[2:] for each in group)
    btc = next(g for g in gaps if g.symbol == "BTC-USDT" and g.exchange == "binance")
    assert (btc.started_at, btc.first_seq, btc.last_seq, btc.lost_estimate) == (T0, 0, 5, 4)


def test_a_journal_whose_beginning_nobody_knows_says_that_something_is_missing(
    folder: Path, case: Case
) -> None:
    lab = Lab(folder, case, state=False)
    noise = bytes(1 + n % 255 for n in range(case.ends[1][1]))
    _, gaps = lab.read(noise + case.data[case.ends[1][1] :])
    first = next(g for g in gaps if g.symbol == "BTC-USDT" and g.exchange == "binance")
    assert (first.symbol, first.first_seq, first.last_seq, first.lost_estimate) == ("BTC-USDT", None, 5, None)
    lab.kept()


def test_a_lost_estimate_is_the_frames_own_count_where_numbers_do_not_tell(folder: Path, case: Case) -> None:
    """The last frame of a journal that has no successor: its header survived, and one stream was in it."""
    lab = Lab(folder, case, state=False)
    groups = [[_entry([trade(n) for n in range(1, 4)], 1, "binance")]]
    groups.append([_entry([trade(n, session="s2", ts=T0 + n * MS + 50) for n in range(1, 6)], 4, "binance")])
    groups.append([_entry([trade(n, session="s3", ts=T0 + (n + 9) * MS) for n in (1, 2)], 1, "binance", 8)])
    active = Layout(data=str(folder / "estimate")).active("trades")
    active.mkdir(parents=True)
    journal = Journal(active, 2, {})
    for group in groups:
        journal.append(group)
    data = bytearray(journal.close().read_bytes())
    at = list(frames(bytes(data)))[2].end - 1
    data[at] ^= 1
    _, (found,) = lab.read(bytes(data))
    assert (found.first_seq, found.last_seq, found.lost_estimate) == (3, 1, 5)
    lab.kept()
