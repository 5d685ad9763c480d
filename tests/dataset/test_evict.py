"""Making room: what the store has goes, oldest first, and nothing else ever does."""

import fcntl
import os
from pathlib import Path

import msgspec

from daedalus.dataset.evict import Evicted, choose, evict, verified
from daedalus.dataset.layout import Layout
from daedalus.dataset.sync import Local

NEVER_ENOUGH = lambda: False  # noqa: E731


def segment(data: Path, day: int, hour: int, size: int = 10, channel: str = "trades") -> str:
    path = data / f"raw/ready/ccxt/{channel}/exchange=binance/symbol=BTC-USDT/year=2026/month=1/day={day}"
    path = path / f"hour={hour}" / f"segment_202601{day:02d}T{hour:02d}_00001.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))
    return path.relative_to(data).as_posix()


def manifest(data: Path, *lines: tuple[str, int], torn: bytes = b"") -> Path:
    path = data / "state" / "sync" / "manifest.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [msgspec.json.encode({"target": "s3/b", "path": name, "size": size}) for name, size in lines]
    path.write_bytes(b"".join(line + b"\n" for line in made) + torn)
    return path


def left(data: Path) -> set[str]:
    return {path.relative_to(data).as_posix() for path in data.rglob("segment_*")}


def test_only_what_was_verified_with_the_size_it_has_is_removed(tmp_path: Path) -> None:
    synced, grown, other = segment(tmp_path, 1, 0), segment(tmp_path, 1, 1, 11), segment(tmp_path, 1, 2)
    manifest(tmp_path, (synced, 10), (grown, 10), torn=f'{{"path": "{other}", "si'.encode())
    assert evict(Layout(data=str(tmp_path)), NEVER_ENOUGH) == Evicted(1, 10)
    assert left(tmp_path) == {grown, other}


def test_the_oldest_hour_goes_first_whatever_the_files_say_of_their_age() -> None:
    names = ["b/segment_20260102T00_00001.parquet", "a/segment_20260101T23_00002.parquet"]
    found = [Local(name, 1, mtime) for mtime, name in enumerate(names)]
    assert [item.path for item in choose(found, dict.fromkeys(names, 1))] == names[::-1]


def test_it_stops_as_soon_as_there_is_room(tmp_path: Path) -> None:
    names = [segment(tmp_path, 1 + n // 24, n % 24) for n in range(130)]
    manifest(tmp_path, *((name, 10) for name in names))
    looks = iter([False, True])
    assert evict(Layout(data=str(tmp_path)), lambda: next(looks)).files == 64
    assert left(tmp_path) == set(names[64:])


def test_without_a_manifest_nothing_goes(tmp_path: Path) -> None:
    name = segment(tmp_path, 1, 0)
    assert evict(Layout(data=str(tmp_path)), NEVER_ENOUGH) == Evicted(0, 0)
    assert left(tmp_path) == {name}


def test_a_file_outside_bronze_is_not_touched_though_it_is_in_the_manifest(tmp_path: Path) -> None:
    silver = tmp_path / "processed" / "segment_20260101T00_00001.parquet"
    silver.parent.mkdir()
    silver.write_bytes(bytes(10))
    manifest(tmp_path, (silver.relative_to(tmp_path).as_posix(), 10), ("../../etc/passwd", 10))
    assert evict(Layout(data=str(tmp_path)), NEVER_ENOUGH).files == 0
    assert silver.exists()


def test_directories_that_became_empty_go_too_and_the_root_stays(tmp_path: Path) -> None:
    gone, kept = segment(tmp_path, 1, 0), segment(tmp_path, 2, 0)
    manifest(tmp_path, (gone, 10))
    layout = Layout(data=str(tmp_path))
    evict(layout, NEVER_ENOUGH)
    assert not (tmp_path / gone).parents[1].exists()
    manifest(tmp_path, (kept, 10))
    evict(layout, NEVER_ENOUGH)
    assert list(layout.ready().iterdir()) == []


def test_of_two_that_want_room_one_makes_it(tmp_path: Path) -> None:
    manifest(tmp_path, (segment(tmp_path, 1, 0), 10))
    lock = os.open(tmp_path / "state" / "evict.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    layout = Layout(data=str(tmp_path))
    assert evict(layout, NEVER_ENOUGH).files == 0
    os.close(lock)
    assert evict(layout, NEVER_ENOUGH).files == 1


def test_the_newest_line_of_a_file_counts(tmp_path: Path) -> None:
    assert verified(manifest(tmp_path, ("a", 1), ("a", 2))) == {"a": 2}
