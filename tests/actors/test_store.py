"""A writer's directory: cursors outlive every journal, whatever dies when."""

import errno
import shutil
from pathlib import Path

import pytest

from daedalus.actors.store import Store
from daedalus.dataset.layout import Layout
from daedalus.kernel.journal import Cursor, Entry, Mark, read


def entry(first: int, count: int = 10, epoch: int = 7) -> Entry:
    return Entry("binance", "ccxt", epoch, first, count, 0, {"BTC-USDT": Mark(first, first, "s1")}, b"\x90")


def opened(data: Path) -> Store:
    store = Store(Layout(data=str(data)), "trades")
    assert store.lock()
    store.open()
    return store


def sealed(store: Store) -> None:
    for path in store.closed():
        path.unlink()


def test_a_second_writer_on_one_directory_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    second = Store(Layout(data=str(tmp_path)), "trades")
    assert not second.lock()
    other = Store(Layout(data=str(tmp_path)), "ticker")
    assert other.lock()
    store.release()
    assert second.lock()
    second.release()
    other.release()


def test_a_killed_writer_leaves_its_cursors_and_its_journal(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([entry(1), entry(11)])
    store.release()  # as a kill leaves it: the journal open, the lock gone
    store = opened(tmp_path)
    assert store.cursors["binance"] == Cursor(7, 20, "ccxt", {"BTC-USDT": Mark(11, 11, "s1")})
    assert store.recovered == 1
    assert [len(list(read(path))) for path in store.closed()] == [2]
    store.release()


def test_an_empty_journal_is_not_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.release()
    store = opened(tmp_path)
    assert (store.closed(), store.recovered) == ([], 0)
    store.finish()
    store.release()
    assert not store.directory.exists()


def test_after_rotation_and_sealing_the_cursors_are_in_the_next_journal(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([entry(1)])
    store.rotate()
    sealed(store)
    store.release()
    store = opened(tmp_path)
    assert store.cursors["binance"].seq == 10
    store.release()


def test_after_a_clean_stop_and_sealing_the_cursors_are_in_the_state_file(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([entry(1)])
    number = store.journal.number
    store.finish()
    sealed(store)
    store.release()
    assert not store.directory.exists()
    store = opened(tmp_path)
    assert store.cursors["binance"].seq == 10
    assert store.journal.number == number + 1  # a number is not used twice
    store.release()


@pytest.mark.parametrize("end", ["rotate", "finish"])
def test_a_journal_that_the_disk_refuses_to_close_is_closed_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    store = opened(tmp_path)
    store.append([entry(1)])
    first = store.journal.path
    with monkeypatch.context() as broken:

        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "the disk says no")

        broken.setattr("daedalus.kernel.journal.os.ftruncate", refuse)
        with pytest.raises(OSError, match="says no"):
            getattr(store, end)()
    store.append([entry(11)])  # meanwhile it goes on
    getattr(store, end)()
    if end == "rotate":
        assert store.closed() == [first.with_suffix(".closed")]
        store.finish()
    assert [item.first_seq for path in store.closed() for item in read(path)] == [1, 11]
    store.release()


def test_an_old_journal_that_waits_to_be_sealed_does_not_set_the_cursors_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([entry(1)])
    store.rotate()  # its seal keeps failing
    store.append([entry(11)])
    store.finish()
    store.closed()[1].unlink()  # the later one was sealed
    store.release()
    store = opened(tmp_path)
    assert store.cursors["binance"].seq == 20
    store.release()


class Died(Exception):  # noqa: N818 - a power cut, not an error
    """The writer ends here."""


# Every durable step of a rotation and of a clean stop, by what it is called in the store.
STEPS = [
    ("rotate", "save_state"),
    ("rotate", "Journal"),
    ("rotate", "Journal.close"),
    ("finish", "save_state"),
    ("finish", "Journal.close"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_a_death_at_any_step_loses_no_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, step: str, *, after: bool
) -> None:
    import daedalus.actors.store as module

    store = opened(tmp_path)
    store.append([entry(1)])
    owner, name = (module.Journal, "close") if "." in step else (module, step)
    original = getattr(owner, name)

    def dying(*args):
        if after:
            original(*args)
        raise Died

    monkeypatch.setattr(owner, name, dying)
    with pytest.raises(Died):
        getattr(store, verb)()
    monkeypatch.undo()
    image = tmp_path.with_name(f"{tmp_path.name}-image")
    shutil.copytree(tmp_path, image)
    store.release()
    for journals_sealed in (False, True):
        again = opened(image)
        assert again.cursors["binance"].seq == 10
        kept = [item for path in again.closed() for item in read(path)]
        assert kept == ([] if journals_sealed else [entry(1)])
        sealed(again)
        again.finish()
        again.release()


def test_a_rotation_without_room_goes_on_in_the_old_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import daedalus.actors.store as module

    store = opened(tmp_path)
    store.append([entry(1)])

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "Journal", full)
    with pytest.raises(OSError, match="No space"):
        store.rotate()
    monkeypatch.undo()
    store.append([entry(11)])
    store.release()
    store = opened(tmp_path)
    assert store.cursors["binance"].seq == 20
    store.release()


def test_a_damaged_state_file_is_put_aside(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([entry(1)])
    store.finish()
    sealed(store)
    store.release()
    path = tmp_path / "state" / "cursors-trades.json"
    path.write_bytes(path.read_bytes()[:-3])
    store = opened(tmp_path)
    assert (store.state_damaged, store.cursors) == (True, {})
    assert path.with_suffix(".damaged").exists()
    store.release()


def test_without_its_state_file_the_cursors_are_in_the_newest_journal(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([entry(1)])
    store.rotate()
    sealed(store)
    store.release()
    (tmp_path / "state" / "cursors-trades.json").unlink()
    store = opened(tmp_path)
    assert store.cursors["binance"].seq == 10
    store.release()


def test_a_torn_tail_is_cut_and_its_records_are_not_stored(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([entry(1)])
    store.append([entry(11)])
    journal = store.journal
    with journal.path.open("r+b") as file:
        file.seek(journal.bytes - 5)
        file.write(bytes(5))
    store.release()
    store = opened(tmp_path)
    assert store.cursors["binance"].seq == 10
    assert [list(read(path)) for path in store.closed()] == [[entry(1)]]
    store.release()
