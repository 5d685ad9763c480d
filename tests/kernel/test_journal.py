"""The journal: what was committed comes back whole, and nothing else does."""

import errno
import os
import random
from pathlib import Path

import msgspec
import pytest

from daedalus.kernel import journal as module
from daedalus.kernel.journal import (
    CLOSED,
    OPEN,
    Cursor,
    Damage,
    Entry,
    Journal,
    Mark,
    advance,
    frames,
    journals,
    read,
)
from daedalus.kernel.recovery import close_leftover, read_tail


def entry(first: int, count: int = 3, *, sender: str = "binance", size: int = 40) -> Entry:
    rng = random.Random(first)
    blob = msgspec.msgpack.encode([rng.randbytes(size) for _ in range(count)])
    return Entry(sender, "ccxt", 7, first, count, 0, {"BTC-USDT": Mark(first, first, "s1")}, blob)


def written(directory: Path, groups: int = 10) -> tuple[Path, list[Entry]]:
    """A closed journal of groups of two entries, and what is in it."""
    journal = Journal(directory, 1, {})
    entries = [entry(1 + 3 * number) for number in range(2 * groups)]
    for number in range(groups):
        journal.append(entries[2 * number : 2 * number + 2])
    return journal.close(), entries


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    path, entries = written(tmp_path)
    assert list(read(path)) == entries


def test_an_open_journal_ends_at_its_zero_tail(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, {})
    journal.append([entry(1)])
    assert journal.path.stat().st_size > journal.bytes
    assert list(read(journal.path)) == [entry(1)]
    journal.abandon()


def test_closing_cuts_the_tail_and_changes_the_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 3, {})
    journal.append([entry(1)])
    size = journal.bytes
    path = journal.close()
    assert (path.name, path.stat().st_size) == (f"journal_00000003{CLOSED}", size)
    assert journals(tmp_path) == [(3, path)]


def test_journals_are_listed_by_number_and_nothing_else_is(tmp_path: Path) -> None:
    for name in (
        "journal_00000010.open",
        "journal_00000009.closed",
        "journal_00000009.plan",
        "journal_x.open",
    ):
        (tmp_path / name).touch()
    assert [number for number, _ in journals(tmp_path)] == [9, 10]


def test_a_number_is_not_used_twice(tmp_path: Path) -> None:
    Journal(tmp_path, 1, {}).abandon()
    with pytest.raises(FileExistsError):
        Journal(tmp_path, 1, {})


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal_00000001.open"
    path.touch()
    assert list(read(path)) == []
    assert read_tail(path, {"a": Cursor(1, 2, "ccxt", {})}).cursors == {"a": Cursor(1, 2, "ccxt", {})}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Entry], list[int]]:
    path, entries = written(tmp_path_factory.mktemp("journal"))
    data = path.read_bytes()
    return data, entries, [frame.end for frame in frames(data) if not isinstance(frame, Damage)]


def test_cut_at_every_byte_of_the_last_three_frames_the_whole_ones_come_back(
    tmp_path: Path, intact: tuple[bytes, list[Entry], list[int]]
) -> None:
    data, entries, ends = intact
    path = tmp_path / "journal_00000001.closed"
    for size in range(ends[-4], len(data)):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends) - 1  # the first is the table of cursors
        got = list(read(path))
        torn = size - max(end for end in ends if end <= size)
        assert got[: 2 * whole] == entries[: 2 * whole]
        assert sum(len(item.data) for item in got[2 * whole :] if isinstance(item, Damage)) <= torn
        assert len(got) == 2 * whole + (torn > 0)
        # and the same with the preallocated tail behind it
        path.write_bytes(data[:size] + bytes(500))
        assert [item for item in read(path) if isinstance(item, Entry)] == entries[: 2 * whole]
        assert read_tail(path, {}).end == max(end for end in ends if end <= size)


def test_of_300_flipped_bytes_none_gives_a_wrong_record(
    tmp_path: Path, intact: tuple[bytes, list[Entry], list[int]]
) -> None:
    data, entries, ends = intact
    rng = random.Random(1)
    path = tmp_path / "journal_00000001.closed"
    starts = [0, *ends[:-1]]
    for _ in range(300):
        at = rng.randrange(len(data))
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        hit = sum(start <= at for start in starts) - 1  # 0: the table of cursors
        expected = entries[: max(2 * hit - 2, 0)] + entries[2 * hit if hit else 0 :]
        got = list(read(path))
        assert [item for item in got if isinstance(item, Entry)] == expected
        damage = [item for item in got if isinstance(item, Damage)]
        assert [(item.offset, item.data) for item in damage] == [
            (starts[hit], bytes(flipped[starts[hit] : ends[hit]]))
        ]


def test_a_lost_sector_costs_only_the_frames_it_touches(
    tmp_path: Path, intact: tuple[bytes, list[Entry], list[int]]
) -> None:
    data, entries, ends = intact
    path = tmp_path / "journal_00000001.closed"
    path.write_bytes(data[: ends[3] + 5] + bytes(ends[5] - ends[3]) + data[ends[5] + 5 :])
    kept = [item for item in read(path) if isinstance(item, Entry)]
    assert kept == entries[:6] + entries[12:]  # frames 4, 5 and 6 are touched


def test_a_magic_within_a_payload_is_no_frame(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, {})
    inner = journal._frame("entries", [entry(100)], 3)
    journal.append([Entry("x", "ccxt", 1, 1, 1, 0, {}, msgspec.msgpack.encode([inner]))])
    journal.append([entry(1)])
    path = journal.close()
    assert [item.first_seq for item in read(path) if isinstance(item, Entry)] == [1, 1]


def test_a_frame_of_another_version_is_an_error_and_not_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, {})
    journal._write(journal._frame("novelty", [], 1))
    with pytest.raises(ValueError, match="unknown kind 'novelty'"):
        list(read(journal.close()))


def test_a_full_disk_stores_nothing_of_the_group_and_it_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, 1, {})
    journal.append([entry(1)])
    size, allocated = journal.bytes, journal._allocated
    journal._allocated = size

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        journal.append([entry(4)])
    assert (journal.bytes, journal.cursors["binance"].seq, journal.records) == (size, 3, 3)
    monkeypatch.undo()
    journal._allocated = allocated
    journal.append([entry(4)])
    assert list(read(journal.close())) == [entry(1), entry(4)]


def test_a_failed_fdatasync_is_not_believed_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After EIO the kernel may call the pages clean: they are written again, at the same place."""
    journal = Journal(tmp_path, 1, {})
    writes: list[int] = []
    pwrite = os.pwrite

    def counting(fd: int, data: bytes, offset: int) -> int:
        writes.append(offset)
        return pwrite(fd, data, offset)

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", counting)
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(OSError, match="Input"):
        journal.append([entry(1)])
    monkeypatch.undo()
    monkeypatch.setattr(os, "pwrite", counting)
    journal.append([entry(1)])
    assert len(writes) == 2
    assert writes[0] == writes[1]
    monkeypatch.undo()
    assert list(read(journal.close())) == [entry(1)]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, 1, {})
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7], offset))
    journal.append([entry(1)])
    monkeypatch.undo()
    assert list(read(journal.close())) == [entry(1)]


def test_a_journal_that_cannot_be_begun_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Journal(tmp_path, 1, {})
    assert list(tmp_path.iterdir()) == []


def test_cursors_advance_to_the_last_record_and_keep_the_marks_of_other_streams() -> None:
    cursors = {
        "binance": Cursor(6, 900, "ccxt", {"ETH-USDT": Mark(1, 2, "s0"), "BTC-USDT": Mark(1, 1, "s0")})
    }
    advance(cursors, [entry(1), entry(4)])
    assert cursors == {
        "binance": Cursor(7, 6, "ccxt", {"ETH-USDT": Mark(1, 2, "s0"), "BTC-USDT": Mark(4, 4, "s1")})
    }


def test_the_tail_gives_the_cursors_behind_the_last_whole_frame(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, {"kraken": Cursor(1, 50, "native", {})})
    assert read_tail(journal.path, {}).empty
    journal.append([entry(1)])
    journal.append([entry(4)])
    tail = read_tail(journal.path, {})
    assert (tail.end, tail.empty, tail.cursors) == (journal.bytes, False, journal.cursors)
    assert tail.cursors["kraken"].seq == 50
    journal.abandon()


def test_recovery_unpacks_only_what_follows_the_newest_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHECKPOINT_BYTES", 3000)
    journal = Journal(tmp_path, 1, {})
    for number in range(40):
        journal.append([entry(1 + 3 * number, size=300)])
    seen: list[int] = []
    decompressed = module._content

    def counting(frame, zstd):
        seen.append(frame.records)
        return decompressed(frame, zstd)

    monkeypatch.setattr(module, "_content", counting)
    tail = read_tail(journal.path, {})
    assert tail.cursors == journal.cursors
    assert tail.cursors["binance"].seq == 120
    assert not tail.empty
    assert len(seen) <= 5
    journal.abandon()


@pytest.mark.parametrize("damaged_share", [0.01, 0.3, 0.6, 0.97])
def test_damage_before_the_end_does_not_stop_recovery(tmp_path: Path, damaged_share: float) -> None:
    path, entries = written(tmp_path)
    data = bytearray(path.read_bytes())
    at = int(len(data) * damaged_share)
    data[at] ^= 0xFF
    path.write_bytes(data)
    tail = read_tail(path, {"binance": Cursor(7, 0, "ccxt", {})})
    last = [item for item in read(path) if isinstance(item, Entry)][-1]
    assert tail.cursors["binance"].seq == last.first_seq + 2
    assert tail.cursors["binance"].seq == 60 or damaged_share > 0.9
    assert entries


def test_a_leftover_is_cut_behind_its_last_whole_frame_and_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, {})
    journal.append([entry(1)])
    end = journal.bytes
    with journal.path.open("r+b") as file:
        file.seek(end)
        file.write(b"DJF1 a frame that was being written")
    journal.abandon()
    closed = close_leftover(journal.path, read_tail(journal.path, {}).end)
    assert closed.suffix == CLOSED
    assert not journal.path.with_suffix(OPEN).exists()
    assert list(read(closed)) == [entry(1)]
    assert closed.stat().st_size == end
