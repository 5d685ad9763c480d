"""A spool belongs to one data set: what another left in the runtime directory is never delivered here."""

from pathlib import Path

import pytest

from daedalus.actors import endpoints
from daedalus.actors.spools import identity, others
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
    assert [item.name for item in (tmp_path / "a" / "state").iterdir()] == ["id"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 9, b"nonsense", b"12345678 9\n"])
def test_a_damaged_id_is_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "state" / "id"
    path.parent.mkdir()
    path.write_bytes(damage)
    made = identity(str(tmp_path))
    assert len(made) == 8
    assert path.read_text() == f"{made}\n"


def test_where_the_disk_takes_no_id_the_spool_has_no_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert identity(str(tmp_path / "file")) == ""
    assert identity("") == ""


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
