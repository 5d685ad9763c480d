"""A writer whose disk refuses, fills up, or lies about the hour: it holds, says so, and goes on."""

import asyncio
import errno
import os
import time
from pathlib import Path

import msgspec
import pytest

from daedalus.actors import condition as condition_module
from daedalus.actors import store as store_module
from daedalus.actors import writer as module
from daedalus.actors.condition import Condition
from daedalus.actors.sealing import Sealing
from daedalus.kernel.journal import Journal
from tests.actors.test_writer import HOUR_S, Rig, Sealer, settings, written
from tests.loops import drive, until

REFUSALS = ("ENOSPC", "EROFS", "EIO")


class Stage:
    """One thing that a writer does on its disk, which can be made to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, cause: str) -> None:
        self.tries = 0
        self.broken = False
        self._error = getattr(errno, cause)
        owner, attribute = {
            "append": (os, "fdatasync"),
            "state": (store_module, "save_state"),
            "create": (store_module, "Journal"),
            "close": (Journal, "close"),
        }[name]
        self._real = getattr(owner, attribute)
        monkeypatch.setattr(owner, attribute, self)

    def __get__(self, instance, owner):
        return self if instance is None else lambda: self(instance)

    def __call__(self, *arguments):
        if self.broken:
            self.tries += 1
            raise OSError(self._error, os.strerror(self._error))
        return self._real(*arguments)


@pytest.mark.parametrize("cause", REFUSALS)
@pytest.mark.parametrize("stage", ["append", "state", "create", "close"])
def test_d26_whatever_the_disk_refuses_is_told_once_and_goes_on_when_it_takes_data_again(
    short_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    cause: str,
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.005)
    disk = Stage(monkeypatch, stage, cause)
    told: list[str] = []

    async def work() -> None:
        rig = Rig(short_tmp, max_segment_age_s=0.05)
        rig.writer._condition._say = told.append
        sealer = Sealer().install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(10)
        await rig.link.drain()
        disk.broken = True
        for _ in range(20):  # appends go through, or not, while something else is refused
            rig.offer(5)
            await asyncio.sleep(0.002)
        await until(lambda: disk.tries > 4)
        stats = rig.writer.stats()
        assert (stats["stalled"], stats["stalled_s"] >= 0) == (cause, True)
        assert cause in told[-1]
        if stage == "append":
            assert rig.link.unacknowledged >= 100
            assert "nothing is acknowledged" in told[-1]
        disk.broken = False
        assert await rig.link.drain() == 0
        await until(lambda: not rig.writer.stats()["stalled"])
        assert told[-1] == ""
        await rig.writer.drain()
        await rig.stop()
        stored = [number for journal in sealer.sealed for entry in journal for number in _numbers(entry)]
        assert stored == list(range(1, 111))

    drive(work)
    out = capsys.readouterr().out
    assert (out.count("journal_stalled"), out.count("journal_resumed")) == (1, 1)


def _numbers(entry) -> range:
    return range(entry.first_seq + entry.skip, entry.first_seq + entry.count)


def test_a_disk_that_is_read_only_at_the_start_is_no_reason_to_end(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directories cannot even be made: no crash loop, no refusal; the socket is bound when they can."""
    monkeypatch.setattr(module, "_RETRY_S", 0.005)
    real = store_module.make_directory

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(store_module, "make_directory", refuse)

    async def work() -> None:
        rig = Rig(short_tmp)
        Sealer().install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(3)
        await asyncio.sleep(0.03)
        assert rig.writer.stats()["stalled"] == "EROFS"
        monkeypatch.setattr(store_module, "make_directory", real)
        assert await rig.link.drain() == 0
        assert rig.writer.stats()["stalled"] == ""
        await rig.writer.drain()
        await rig.stop()

    drive(work)


def test_refusals_are_one_story_from_the_first_to_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    now = [100.0]
    monkeypatch.setattr(condition_module.time, "monotonic", lambda: now[0])
    found = Condition("trades", told.append)
    full = OSError(errno.ENOSPC, "No space left on device")
    found.refused("rotate", full)
    now[0] = 103.0
    found.refused("append", full)
    assert told[-1] == "cannot rotate: ENOSPC; cannot append: ENOSPC; nothing is acknowledged, spools fill"
    assert not found.done("append")
    assert (found.cause, found.stalled_s, told[-1]) == ("ENOSPC", 3.0, "cannot rotate: ENOSPC")
    assert found.done("rotate")
    assert (found.cause, found.stalled_s, told[-1]) == ("", 0.0, "")
    assert not found.done("rotate")
    out = capsys.readouterr().out
    assert (out.count("journal_stalled"), out.count("journal_resumed")) == (1, 1)


def test_each_level_of_the_disk_is_told_once_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    found = Condition("trades", told.append)
    for level, free in (("ok", 50.0), ("warn", 9.0), ("warn", 8.0), ("stop", 1.0), ("ok", 40.0)):
        found.space(level, free)
    assert told == ["disk warn: 9.0 % free", "disk warn: 8.0 % free", "disk stop: 1.0 % free", ""]
    assert capsys.readouterr().out.count("disk_level_changed") == 3


def test_d26_below_the_mark_synced_segments_go_and_the_level_is_told(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_SPACE_S", 0.005)
    free = [50.0]
    monkeypatch.setattr(module.os, "statvfs", lambda _: _Space(free[0]))

    async def work() -> None:
        rig = Rig(short_tmp)
        Sealer().install(monkeypatch, rig.active)
        await rig.start()
        synced, other = (_segment(rig.data, hour) for hour in (14, 15))
        manifest = rig.data / "state" / "sync" / "manifest.jsonl"
        manifest.parent.mkdir(parents=True)
        path = synced.relative_to(rig.data).as_posix()
        manifest.write_bytes(msgspec.json.encode({"target": "s3", "path": path, "size": 4}) + b"\n")
        await asyncio.sleep(0.05)
        assert synced.exists()
        free[0] = 4.0
        await until(lambda: not synced.exists())
        await until(lambda: rig.writer.stats()["evicted"])
        stats = rig.writer.stats()
        assert (stats["evicted"], stats["evicted_bytes"], stats["disk_free_pct"]) == (1, 4, 4.0)
        assert other.exists()
        rig.offer(5)
        assert await rig.link.drain() == 0  # at this level records are still taken
        await rig.stop()

    drive(work)
    out = capsys.readouterr().out
    assert out.count("bronze_evicted") == 1
    assert out.count("disk_level_changed") == 1


class _Space:
    def __init__(self, free_pct: float) -> None:
        self.f_bavail, self.f_blocks = int(free_pct * 10), 1000


def _segment(data: Path, hour: int) -> Path:
    path = data / "raw/ready/ccxt/trades/exchange=binance/symbol=BTC-USDT/year=2026/month=1/day=31"
    path = path / f"hour={hour}" / f"segment_20260131T{hour}_00001.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1")
    return path


# The clock


def test_d03_a_clock_that_is_set_back_closes_no_journal() -> None:
    from daedalus.actors.rotation import rotation

    keys = settings(idle_seal_s=9999)
    now_s = HOUR_S + 600.0
    for step_s in (-3600.0, -1.0, -86_400.0):
        reason, left_s = rotation(keys, written(), now_s + step_s, 10.0)
        assert (reason, left_s) == ("age", 890.0)
    assert rotation(keys, written(), now_s + 3600.0, 10.0)[1] <= 0  # one that is set forward does


def test_hours_of_a_clock_that_is_not_believed_close_no_journal() -> None:
    from daedalus.actors.rotation import rotation

    late = HOUR_S + 7200.0
    assert rotation(settings(), written(), late, 10.0) == ("hour", -3598.0)
    assert rotation(settings(), written(), late, 10.0, hourly=False) == ("idle", 60.0)


@pytest.mark.parametrize("outcome", ["synchronised", "waited long enough", "told to stop"])
def test_d03_after_a_boot_sealing_waits_for_the_clock_and_journaling_does_not(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcome: str
) -> None:
    synchronised, uptime_s = [False], [30.0]
    monkeypatch.setattr(module, "is_synchronized", lambda: synchronised[0])
    monkeypatch.setattr(module, "_uptime_s", lambda: uptime_s[0])
    monkeypatch.setattr(module, "_CLOCK_S", 0.005)

    async def work() -> None:
        rig = Rig(short_tmp, idle_seal_s=0.01, clock_wait_s=120)
        sealer = Sealer().install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(5)
        assert await rig.link.drain() == 0
        await until(lambda: list(rig.active.glob("*.closed")))
        await asyncio.sleep(0.05)
        assert sealer.runs == 0
        if outcome == "synchronised":
            synchronised[0] = True
        elif outcome == "waited long enough":
            uptime_s[0] = 121.0
        else:
            await rig.writer.drain()
        await until(lambda: sealer.sealed)
        await rig.stop()

    drive(work)
    assert "clock_wait_ended" in capsys.readouterr().out


def test_a_machine_that_has_been_up_for_long_waits_for_no_clock(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is started again does not wait again."""
    monkeypatch.setattr(module, "is_synchronized", lambda: False)
    monkeypatch.setattr(module, "_uptime_s", lambda: 121.0)

    async def work() -> None:
        rig = Rig(short_tmp, idle_seal_s=0.01)
        sealer = Sealer().install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(5)
        await until(lambda: sealer.sealed)
        await rig.stop()

    drive(work)


def test_0_4_d12_the_hour_is_closed_by_a_timer_though_no_record_follows(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The predecessor's old hour was only looked at when a record of it came, and none does."""
    wall_s = [HOUR_S + 3599.95]
    monkeypatch.setattr(module.time, "time", lambda: wall_s[0])

    async def work() -> None:
        rig = Rig(short_tmp, rollover_grace_s=0.05)
        sealer = Sealer().install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(5)
        await rig.link.drain()
        wall_s[0] = HOUR_S + 3600.04
        await asyncio.sleep(0.15)
        assert sealer.runs == 0  # the grace is not over
        wall_s[0] = HOUR_S + 3600.06
        await until(lambda: sealer.sealed)
        await rig.stop()

    drive(work)
    out = capsys.readouterr().out
    closed = next(line for line in out.splitlines() if "journal_closed" in line)
    assert "hour" in closed


def test_a_pause_between_failed_seals_ends_when_the_disk_takes_data_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work() -> None:
        runs: list[float] = []
        left = [1]

        async def once(_: Sealing) -> bool:
            runs.append(time.monotonic())
            if len(runs) == 2:
                left[0] = 0
            return len(runs) == 2

        monkeypatch.setattr(Sealing, "_once", once)
        sealing = Sealing([], lambda: left[0])
        task = asyncio.ensure_future(sealing.run())
        sealing.want()
        await until(lambda: runs)
        await asyncio.sleep(0.01)
        assert len(runs) == 1
        sealing.retry()
        await until(lambda: len(runs) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    drive(work)
