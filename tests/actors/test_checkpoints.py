"""Checkpoints: what is whole is used, what is not is refused and named, and a crash costs only the newest."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.actors import checkpoints
from daedalus.actors.checkpoints import Checkpoint, Checkpoints, pack, unpack


def head(seq: int = 7, **other: Any) -> Checkpoint:
    told: dict[str, Any] = {
        "exchange": "binance", "symbol": "BTC-USDT", "session_id": "f1", "seq": seq, "since_ns": 5,
        "positions": {"orderbook": ("s1", 3), "trades": ("s1", 2)}, "owed": ("trades",), "last_session": "s1",
        "last_ts": 99,
    }  # fmt: skip
    return Checkpoint(**(told | other))


class Place:
    """The checkpoints of one symbol, and what is said when they are loaded."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "state" / "features" / "binance" / "BTC-USDT"
        self.restored: list[bytes] = []
        self.refused: list[tuple[str, str]] = []
        self.wrong = b"?"

    def open(self) -> Checkpoints:
        return Checkpoints(self.directory, "binance", "BTC-USDT")

    def load(self) -> Checkpoint | None:
        return self.open().load(self._restore, lambda path, cause: self.refused.append((path.name, cause)))

    def _restore(self, blob: bytes) -> None:
        if blob == self.wrong:
            raise ValueError("cannot restore the engine: checkpoint of schema x")
        self.restored.append(blob)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_was_saved_is_what_is_loaded(place: Place) -> None:
    assert place.load() is None
    files = place.open()
    files.save(head(1), b"one")
    files.save(head(2), b"two")
    assert place.load() == head(2)
    assert place.restored == [b"two"]


def test_the_newest_two_are_kept_and_a_restart_goes_on_counting(place: Place) -> None:
    for seq in range(1, 6):
        files = place.open()
        files.load(lambda _: None, lambda _path, _cause: None)
        files.save(head(seq), b"")
    assert place.names() == ["00000004.ckpt", "00000005.ckpt"]
    assert (place.load(), place.restored) == (head(5), []), "an engine that saw nothing is not restored"


@settings(max_examples=30)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_refused_by_name_and_the_one_before_is_used(
    tmp_path_factory: Any, at: int, bit: int, cut: bool
) -> None:
    place = Place(tmp_path_factory.mktemp("c"))
    files = place.open()
    files.save(head(1), b"one")
    path = files.save(head(2), b"two" * 100)
    blob = bytearray(path.read_bytes())
    at %= len(blob)
    blob[at] ^= 1 << bit
    path.write_bytes(blob[:at] if cut else blob)
    assert place.load() == head(1)
    assert place.restored == [b"one"]
    assert [name for name, _ in place.refused] == ["00000002.ckpt"]
    assert place.names() == ["00000001.ckpt", "00000002.bad"]
    assert place.load() == head(1), "nor is it tried again"


def test_when_all_are_refused_there_is_none(place: Place) -> None:
    files = place.open()
    for seq in (1, 2):
        files.save(head(seq), place.wrong)
    assert place.load() is None
    assert [cause for _, cause in place.refused] == ["cannot restore the engine: checkpoint of schema x"] * 2
    again = place.open()
    again.load(lambda _: None, lambda _path, _cause: None)
    for seq in (3, 4, 5):
        again.save(head(seq), b"")
    assert place.load() == head(5)


@pytest.mark.parametrize(
    ("changed", "cause"),
    [({"symbol": "ETH-USDT"}, "it is of binance:ETH-USDT"), ({"format": 2}, "it is of format 2, not 1")],
)
def test_what_is_of_another_is_refused(place: Place, changed: dict[str, Any], cause: str) -> None:
    place.open().save(head(1, **changed), b"")
    assert place.load() is None
    assert place.refused == [("00000001.ckpt", cause)]


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", msgspec.msgpack.encode([1]), msgspec.msgpack.encode({"a": 1})]
)
def test_a_sealed_head_that_is_none_is_refused(body: bytes) -> None:
    import zlib

    blob = b"DFC1" + len(body).to_bytes(4, "little") + body
    with pytest.raises((ValueError, msgspec.DecodeError)):
        unpack(blob + zlib.crc32(blob).to_bytes(4, "little"), "binance", "BTC-USDT")


@pytest.mark.parametrize("stage", ["fdatasync", "rename", "sync_directory", "unlink"])
def test_a_crash_at_any_stage_of_saving_leaves_a_checkpoint(
    place: Place, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = place.open()
    for seq in (1, 2):
        files.save(head(seq), b"x%d" % seq)

    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        where: Any = {"fdatasync": os, "sync_directory": checkpoints}.get(stage, Path)
        patch.setattr(where, stage, crash)
        with pytest.raises(Crash):
            files.save(head(3), b"x3")
    found = place.load()
    assert found == head(2 if stage in ("fdatasync", "rename") else 3)
    assert place.restored == [b"x%d" % found.seq]
    assert not place.refused
    after = place.open()
    after.load(lambda _: None, lambda _path, _cause: None)
    after.save(head(4), b"x4")
    assert place.load() == head(4)
    assert not [name for name in place.names() if name.endswith(".tmp")]


def test_head_and_engine_come_back_as_they_were() -> None:
    assert unpack(pack(head(), b"\0engine"), "binance", "BTC-USDT") == (head(), b"\0engine")
