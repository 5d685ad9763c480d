"""A spool belongs to one data set: what another left in the runtime directory is never delivered here."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daedalus.actors import endpoints
from daedalus.actors.spools import adopt, identity, others
from daedalus.kernel.spool import Spool


def ring(runtime: Path, data_id: str, records: int, acknowledged: int = 0, channel: str = "trades") -> Path:
    path = Path(endpoints.spool(str(runtime), "binance", channel, data_id))
    spool = Spool.open(path, 1 << 16)
    for _ in range(records):
        spool.append(b"x")
    spool.acknowledge(acknowledged)
    spool.close()
    return path


def test_a_data_set_keeps_its_id_and_another_has_another(tmp_path: Path) -> None:
    first = identity(str(tmp_path / "a"))
    assert len(first) == 8
    assert identity(str(tmp_path / "a")) == first
    assert identity(str(tmp_path / "b")) not in ("", first)
    (tmp_path / "a").rename(tmp_path / "moved")
    assert identity(str(tmp_path / "moved")) == first


@pytest.mark.parametrize("damage", [b"", b"\0" * 9, b"nonsense", b"12345678\n", b"12345678 9\n"])
def test_a_damaged_id_is_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "state" / "id"
    path.parent.mkdir()
    path.write_bytes(damage)
    made = identity(str(tmp_path))
    assert len(made) == 8
    assert identity(str(tmp_path)) == made


def test_a_copy_of_a_data_set_is_another_data_set(tmp_path: Path) -> None:
    first = identity(str(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert identity(str(tmp_path / "b")) not in ("", first)
    assert identity(str(tmp_path / "a")) == first


def test_collectors_that_start_together_agree_on_the_id(tmp_path: Path) -> None:
    for number in range(20):
        data = str(tmp_path / str(number))
        line = threading.Barrier(4)

        def ask(data: str = data, line: threading.Barrier = line) -> str:
            line.wait()
            return identity(data)

        with ThreadPoolExecutor(4) as pool:
            found = {future.result() for future in [pool.submit(ask) for _ in range(4)]}
        assert found == {identity(data)}


def test_a_ring_begun_while_the_disk_took_no_id_gets_its_name_afterwards(tmp_path: Path) -> None:
    data, runtime = tmp_path / "d", tmp_path / "r"
    data.mkdir()
    (data / "state").write_text("in the way")
    before = identity(str(data))
    assert len(before) == 8
    ring(runtime, before, 3)
    (data / "state").unlink()
    own = identity(str(data))
    assert own != before
    adopt(str(runtime), "binance", "trades", str(data), own)
    mine = Path(endpoints.spool(str(runtime), "binance", "trades", own))
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]
    again = Spool.open(mine, 1 << 16)
    assert again.next_seq == 4
    again.close()
    assert identity("") == ""
    assert identity(str(tmp_path / "file" / "none")) != ""


def test_spools_of_other_data_sets_stay_while_they_hold_something(tmp_path: Path) -> None:
    own = ring(tmp_path, "00000001", 3)
    full = ring(tmp_path, "00000002", 3, acknowledged=1)
    empty = ring(tmp_path, "00000003", 3, acknowledged=3)
    unnamed = ring(tmp_path, "", 2)
    other = ring(tmp_path, "00000003", 3, acknowledged=3, channel="trades-of-tomorrow")
    assert others(str(tmp_path), "binance", "trades", "00000001") == [(full, 2), (unnamed, 2)]
    assert [path.exists() for path in (own, full, empty, unnamed, other)] == [True, True, False, True, True]


def test_a_spool_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    path = Path(endpoints.spool(str(tmp_path), "binance", "trades", "00000002"))
    spool = Spool.open(path, 1 << 16)
    assert others(str(tmp_path), "binance", "trades", "00000001") == []
    assert path.exists()
    spool.close()
