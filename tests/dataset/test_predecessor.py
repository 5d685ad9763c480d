"""What the predecessor got wrong on its way to disk (traps 0.3, 0.9, C12, C13, D-25): each is shown here."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daedalus.actors.rotation import WriterSettings, Written, rotation
from daedalus.actors.store import Store
from daedalus.dataset import durable
from daedalus.dataset import spread as spread_module
from daedalus.dataset.columns import VERSION
from daedalus.dataset.layout import Layout
from daedalus.dataset.seal import seal
from daedalus.dataset.segment import Options
from tests.dataset.makings import book, entry, frames_of, seal_all, sealed, segments, trade, write_journal


def test_0_3_a_restart_within_the_hour_overwrites_nothing(tmp_path: Path) -> None:
    """Its counters began at 00001 again, and the file of the first run was replaced."""
    for run in (1, 2, 3):
        store = Store(Layout(data=str(tmp_path)), "trades")
        assert store.lock()
        store.open()
        store.append([entry([trade(run)], run)])
        store.finish()
        seal_all(tmp_path, "trades")
        store.release()
    assert [path.name[-13:] for path in segments(tmp_path)] == [f"0000{n}.parquet" for n in (1, 2, 3)]
    ids = [
        pq.read_table(tmp_path / path, partitioning=None)["trade_id"][0].as_py()
        for path in segments(tmp_path)
    ]
    assert ids == ["1001", "1002", "1003"]


@pytest.mark.parametrize("step_s", [-7200.0, -1.0, 1800.0])
def test_0_5_idle_and_age_go_by_the_monotonic_clock_alone(step_s: float) -> None:
    """It compared two clocks of different beginnings, and its clean-up never ran."""
    settings = WriterSettings(channel="trades", data="/d", runtime="/r")
    hour_s = 1_700_000_000 // 3600 * 3600.0
    wall_s = hour_s + 60 + step_s
    idle = rotation(settings, Written(1, hour_s + 60, 100.0, 100.0), wall_s, 160.0)
    assert idle == ("idle", 0.0)
    aged = rotation(settings, Written(1, hour_s + 60, 100.0, 990.0), wall_s, 1000.0, hourly=False)
    assert aged == ("age", 0.0)


def test_0_9_a_file_without_its_footer_is_never_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the rows and the footer: what is in ready is whole, now and after the next start."""
    path = write_journal(tmp_path, "trades", frames_of([trade(n) for n in range(1, 31)]))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(spread_module, "row_count", die)
        with pytest.raises(KeyboardInterrupt):
            seal(Layout(data=str(tmp_path)), "trades", path, Options())
    (torn,) = path.parent.glob("*.tmp")
    torn.write_bytes(torn.read_bytes()[:-9])
    assert segments(tmp_path) == []
    seal_all(tmp_path, "trades")
    (published,) = segments(tmp_path)
    assert pq.read_metadata(tmp_path / published).num_rows == 30
    assert not path.parent.exists() or not list(path.parent.iterdir())


def test_0_9_d25_a_segment_is_synced_then_named_then_its_directories_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_journal(tmp_path, "trades", frames_of([trade(1)]))
    done: list[str] = []
    fsync, rename, unlink = os.fsync, durable._rename_noreplace, Path.unlink

    def synced(fd: int) -> None:
        done.append(f"fsync {Path(f'/proc/self/fd/{fd}').readlink().name}")
        fsync(fd)

    def renamed(source: Path, target: Path) -> bool:
        done.append(f"rename {source.name}")
        return rename(source, target)

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        done.append(f"unlink {self.name}")
        unlink(self, missing_ok)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(durable, "_rename_noreplace", renamed)
    monkeypatch.setattr(Path, "unlink", unlinked)
    seal(Layout(data=str(tmp_path)), "trades", path, Options())
    temporary = "journal_00000001~00000-0.tmp"
    moments = [
        done.index(step)
        for step in (f"fsync {temporary}", f"rename {temporary}", "fsync hour=14", f"unlink {path.name}")
    ]
    assert moments == sorted(moments)
    between = done[done.index(f"rename {temporary}") : done.index(f"unlink {path.name}")]
    assert {"fsync hour=14", "fsync trades"} <= set(between)


@pytest.mark.parametrize(("channel", "record"), [("trades", trade(1)), ("orderbook", book(1))])
def test_c13_each_file_says_which_schema_it_has(tmp_path: Path, channel: str, record: object) -> None:
    (path,) = sealed(tmp_path, channel, [record])
    found = pq.read_metadata(path).metadata
    assert found[b"daedalus.schema"] == f"bronze.{channel}/{VERSION}".encode()


def test_c12_sealing_twice_publishes_once(tmp_path: Path) -> None:
    """A peer's second consolidation deleted everything."""
    write_journal(tmp_path, "trades", frames_of([trade(1)]))
    seal_all(tmp_path, "trades")
    before = {name: (tmp_path / name).read_bytes() for name in segments(tmp_path)}
    assert seal_all(tmp_path, "trades") == []
    assert {name: (tmp_path / name).read_bytes() for name in segments(tmp_path)} == before
