"""What the operator wants survives the supervisor, and the card is written to once a minute."""

import os
import threading
from pathlib import Path

import pytest

from daedalus.kernel.errors import ConfigError
from daedalus.kernel.home import LockedError
from daedalus.kernel.intent import INTERVAL_S, Intent, Keeper, intent_path, load, lock_data

DOWN = Intent(down=frozenset({"a/x", "b/y"}), restarts={"a/z": 3})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return intent_path(str(tmp_path))


def counted(number: int) -> Intent:
    return Intent(restarts={"a": number})


# --- the file ---------------------------------------------------------------------------------------------


def test_what_is_written_is_what_is_loaded(path: Path) -> None:
    keeper = Keeper(path, 0.0)
    keeper.note(DOWN)
    keeper.write(1.0)
    assert load(path) == (DOWN, "")
    assert [item.name for item in path.parent.iterdir()] == ["intent.json"]
    assert path.read_bytes() == b'{"v":1,"down":["a/x","b/y"],"restarts":{"a/z":3}}\n'


def test_a_missing_file_is_no_intent_and_no_fault(path: Path) -> None:
    assert load(path) == (Intent(), "")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0" * 64,
        b'{"v":1,"down":["a"',
        b'{"v":1,"down":"a","restarts":{}}',
        b'{"v":1,"down":[],"restarts":{"a":"3"}}',
        b'{"v":1,"down":[]}',
        b'{"v":1,"down":[],"restarts":{},"up":[]}',
        b'{"v":2,"down":[],"restarts":{}}',
        b'{"v":1,"down":["\xff"],"restarts":{}}',
        b"[]",
    ],
)
def test_a_damaged_file_is_moved_aside_and_told(path: Path, damage: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    intent, fault = load(path)
    aside = path.with_name("intent.json.damaged")
    assert intent == Intent()
    assert fault.startswith(f"cannot read {path}: ")
    assert str(aside) in fault
    assert (path.exists(), aside.read_bytes()) == (False, damage)
    assert load(path) == (Intent(), "")


def test_a_file_that_may_not_be_read_is_told_and_left(path: Path) -> None:
    path.mkdir(parents=True)  # a directory cannot be read as a file, even by root
    intent, fault = load(path)
    assert (intent, fault) == (Intent(), f"cannot read {path}: Is a directory")
    assert path.is_dir()


def test_the_old_file_stands_when_the_new_one_cannot_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(path, 0.0)
    keeper.note(counted(1))
    keeper.write(0.0)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    keeper.note(DOWN)
    with pytest.raises(OSError, match="No space left"):
        keeper.write(100.0)
    assert load(path) == (counted(1), "")
    assert [item.name for item in path.parent.iterdir()] == ["intent.json"]
    assert keeper.due_in_s(100.0) == INTERVAL_S  # not at once: a full disk stays full
    monkeypatch.undo()
    keeper.write(100.0 + INTERVAL_S)
    assert load(path) == (DOWN, "")
    assert keeper.due_in_s(200.0) is None


def test_file_and_directory_are_forced_to_the_disk_and_the_rename_lies_between(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = Path.replace

    def fsync(fd: int) -> None:
        done.append(f"fsync {Path(f'/proc/self/fd/{fd}').readlink().name}")

    def renamed(self: Path, target: Path) -> Path:
        done.append(f"rename {self.name} {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    keeper = Keeper(path, 0.0)
    keeper.note(DOWN)
    keeper.write(0.0)
    assert done == ["fsync intent.json.new", "rename intent.json.new intent.json", "fsync supervisor"]


# --- when -------------------------------------------------------------------------------------------------


def test_counters_wait_for_the_minute_and_are_written_once(path: Path) -> None:
    keeper = Keeper(path, 1000.0)
    assert (keeper.due(1000.0), keeper.due_in_s(1000.0)) == (False, None)
    for second in range(59):
        keeper.note(counted(second + 1))
        assert not keeper.due(1000.0 + second)
    assert keeper.due_in_s(1059.0) == 1.0
    assert keeper.due(1060.0)
    keeper.write(1060.0)
    assert load(path) == (counted(59), "")
    assert not keeper.due(5000.0)
    keeper.note(counted(60))
    assert not keeper.due(1119.9)
    assert keeper.due(1120.0)


def test_a_change_of_who_is_down_is_due_at_once_and_takes_the_counters_with_it(path: Path) -> None:
    keeper = Keeper(path, 0.0)
    keeper.note(Intent(restarts={"a": 1}))
    assert not keeper.due(1.0)
    keeper.note(Intent(down=frozenset({"b"}), restarts={"a": 1}))
    assert keeper.due(1.0)
    keeper.write(1.0)
    keeper.note(Intent(restarts={"a": 1}))
    assert keeper.due(1.0)  # up again is as urgent
    assert load(path)[0].restarts == {"a": 1}


def test_what_returns_to_what_the_disk_holds_is_not_written(path: Path) -> None:
    keeper = Keeper(path, 0.0, known=DOWN)
    keeper.note(Intent())
    keeper.note(DOWN)
    assert not keeper.due(1000.0)
    keeper.write(1000.0)
    assert not path.exists()


def test_writes_from_two_threads_leave_the_last_note(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow(fd: int) -> None:
        inside.set()
        assert go.wait(20.0)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    keeper = Keeper(path, 0.0)
    keeper.note(counted(1))
    first = threading.Thread(target=keeper.write, args=(0.0,))
    first.start()
    assert inside.wait(20.0)
    keeper.note(DOWN)
    assert keeper.due(0.0)
    second = threading.Thread(target=keeper.write, args=(0.0,))
    second.start()
    go.set()
    first.join()
    second.join()
    assert load(path) == (DOWN, "")
    assert keeper.due_in_s(0.0) is None


# --- the lock ---------------------------------------------------------------------------------------------


def test_two_supervisors_never_share_a_data_directory(tmp_path: Path) -> None:
    held = lock_data(str(tmp_path))
    try:
        with pytest.raises(LockedError, match=rf"cannot start with the data in .* pid {os.getpid()}$"):
            lock_data(str(tmp_path))
    finally:
        os.close(held)
    os.close(lock_data(str(tmp_path)))


def test_the_lock_is_not_handed_to_children_by_accident(tmp_path: Path) -> None:
    held = lock_data(str(tmp_path))
    assert not os.get_inheritable(held)
    os.close(held)


def test_a_data_directory_that_cannot_be_locked_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(
        ConfigError, match=r"cannot lock the data directory .*: (File exists|Not a directory)"
    ):
        lock_data(str(tmp_path))
