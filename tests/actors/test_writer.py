"""The writer: when it rotates, what it does while the disk refuses, and its whole life with a real sealer."""

import asyncio
import errno
import os
from pathlib import Path

import msgspec
import pytest

from daedalus.actors import endpoints
from daedalus.actors import sealing as sealing_module
from daedalus.actors import writer as module
from daedalus.actors.sealing import Sealing
from daedalus.actors.writer import Writer, WriterSettings, Written, rotation
from daedalus.dataset.durable import written_bytes
from daedalus.kernel.actor import Context
from daedalus.kernel.errors import FatalError
from daedalus.kernel.journal import Mark, read
from daedalus.kernel.link import LinkSender
from daedalus.kernel.spool import Spool
from daedalus.records import encode
from tests.loops import drive, until
from tests.market import Tape

HOUR_S = 1_700_000_000 // 3600 * 3600
MIB = 1 << 20


def settings(data: Path = Path("/nowhere"), runtime: Path = Path("/nowhere"), **keys) -> WriterSettings:
    return WriterSettings(channel="trades", data=str(data), runtime=str(runtime), **keys)


def written(*, bytes: int = 1000, hour_offset_s: float = 600.0, idle_s: float = 0.0, age_s: float = 10.0):  # noqa: A002
    return Written(bytes, HOUR_S + hour_offset_s, 0.0, age_s - idle_s)


@pytest.mark.parametrize(
    ("now", "keys", "reason", "left_s"),
    [
        # (journal, wall seconds into the hour, monotonic s), settings, what comes first and when
        ((written(), 610, 10), {}, "idle", 60),
        ((written(idle_s=60), 610, 10), {}, "idle", 0),
        ((written(age_s=900), 1500, 900), {}, "age", 0),
        ((written(age_s=880), 1480, 880), {}, "age", 20),
        ((written(hour_offset_s=3590), 3600, 10), {}, "hour", 2),
        ((written(hour_offset_s=3590), 3602, 10), {}, "hour", 0),
        ((written(hour_offset_s=3590), 3602, 10), {"rollover_grace_s": 5}, "hour", 3),
        ((written(hour_offset_s=0), 0, 10), {"idle_seal_s": 9999, "max_segment_age_s": 9999}, "hour", 3602),
        ((written(bytes=50 * MIB), 610, 10), {}, "size", 0),
        ((written(bytes=50 * MIB - 1), 610, 10), {}, "idle", 60),
        ((written(bytes=2 * MIB), 610, 10), {"segment_max_mb": 1.5}, "size", 0),
    ],
)
def test_a_journal_is_closed_by_what_comes_first(now, keys, reason: str, left_s: float) -> None:
    journal, into_hour_s, mono_s = now
    assert rotation(settings(**keys), journal, HOUR_S + into_hour_s, mono_s) == (reason, left_s)


class Sealer:
    """Stands for the sealing child: removes closed journals, or fails a number of times first."""

    def __init__(self, fail: int = 0) -> None:
        self.fail = fail
        self.sealed: list[list] = []
        self.runs = 0

    def install(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> "Sealer":
        async def once(_: Sealing) -> bool:
            self.runs += 1
            if self.fail:
                self.fail -= 1
                return False
            for path in sorted(directory.glob("*.closed")):  # noqa: ASYNC240 - no loop worth blocking
                self.sealed.append(list(read(path)))
                path.unlink()
            return True

        monkeypatch.setattr(Sealing, "_once", once)
        return self


class Rig:
    """A writer and a sender in one loop."""

    def __init__(self, root: Path, **keys) -> None:
        self.data, self.runtime = root / "data", root / "run"
        self.runtime.mkdir(exist_ok=True)
        self.active = self.data / "raw" / "active" / "trades"
        self.settings = settings(self.data, self.runtime, **{"commit_ms": 5, **keys})
        self.writer = Writer(self.settings, Context(name="store/writer-trades"))
        self.tape = Tape()

    async def start(self) -> None:
        await self.writer.start()
        self.spool = Spool.open(endpoints.spool(str(self.runtime), "binance", "trades"), 1 << 20)
        self.link = LinkSender(
            endpoints.link(str(self.runtime), "trades"), sender="binance", source="ccxt", spool=self.spool
        )
        await self.link.start()

    def offer(self, count: int) -> None:
        for _ in range(count):
            trade = self.tape.trade()
            assert self.link.append(encode(trade), "BTC-USDT", Mark(trade.ts_recv, trade.seq, "s1"))

    async def stop(self) -> None:
        self.link.close()
        self.spool.close()
        for task in list(self.writer._tasks):
            task.cancel()
        await asyncio.gather(*self.writer._tasks, return_exceptions=True)
        await self.writer.stop()


def test_what_was_sent_is_acknowledged_and_after_the_drain_sealed(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        rig = Rig(short_tmp)
        sealer = Sealer().install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(500)
        assert await rig.link.drain() == 0
        assert [path.suffix for path in rig.active.iterdir()] == [".open"]
        drained = await rig.writer.drain()
        assert drained.in_flight == 0
        stats = rig.writer.stats()
        await rig.stop()
        assert not rig.active.exists()  # no journal, no plan, no lock
        assert sum(entry.count for journal in sealer.sealed for entry in journal) == 500
        assert (stats["received"], stats["stored"], stats["duplicates"], stats["stalled"]) == (
            500,
            500,
            0,
            "",
        )
        assert isinstance(stats["commit_p99_ms"], float)

    drive(work)


def test_size_rotates_and_the_sealer_runs_meanwhile(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        rig = Rig(short_tmp, segment_max_mb=0.002)
        sealer = Sealer().install(monkeypatch, rig.active)
        await rig.start()
        for _ in range(10):
            rig.offer(300)
            await rig.link.drain()
        await until(lambda: len(sealer.sealed) >= 2)
        await rig.writer.drain()
        await rig.stop()
        assert sum(entry.count for journal in sealer.sealed for entry in journal) == 3000

    drive(work)


def test_an_idle_journal_is_sealed_and_an_empty_one_is_left_alone(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        rig = Rig(short_tmp, idle_seal_s=0.02)
        sealer = Sealer().install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(5)
        await until(lambda: sealer.sealed)
        number = rig.writer._store.journal.number
        await asyncio.sleep(0.05)
        assert rig.writer._store.journal.number == number
        await rig.stop()

    drive(work)


def test_while_the_disk_is_full_nothing_is_acknowledged_and_nothing_lost(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.005)
    real = os.fdatasync

    async def work() -> None:
        rig = Rig(short_tmp)
        sealer = Sealer().install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(10)
        await rig.link.drain()
        attempts = []

        def full(_: int) -> None:
            attempts.append(1)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fdatasync", full)
        rig.offer(20)
        await until(lambda: len(attempts) > 4)
        assert rig.link.unacknowledged == 20
        assert rig.writer.stats()["stalled"] == "ENOSPC"
        assert rig.writer.mailbox() == 20
        monkeypatch.setattr(os, "fdatasync", real)
        assert await rig.link.drain() == 0
        assert rig.writer.stats()["stalled"] == ""
        await rig.writer.drain()
        await rig.stop()
        assert sum(entry.count for journal in sealer.sealed for entry in journal) == 30

    drive(work)
    out = capsys.readouterr().out
    assert out.count("journal_stalled") == 1  # once per change, not once per attempt
    assert out.count("journal_resumed") == 1


def test_a_disk_that_is_full_at_the_start_is_waited_for(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.005)

    async def work() -> None:
        rig = Rig(short_tmp)
        Sealer().install(monkeypatch, rig.active)

        def full(*_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        await rig.writer.start()
        assert rig.writer.stats()["stalled"] == "ENOSPC"
        assert (await rig.writer.drain()).in_flight == 0
        monkeypatch.undo()
        Sealer().install(monkeypatch, rig.active)
        await until(lambda: rig.writer._receiver is not None)
        for task in list(rig.writer._tasks):
            task.cancel()
        await rig.writer.stop()

    drive(work)


def test_two_writers_on_one_directory_are_refused(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_WAIT_S", 0.05)

    async def work() -> None:
        rig = Rig(short_tmp)
        await rig.start()
        second = Writer(rig.settings, Context(name="store/writer-trades"))
        with pytest.raises(FatalError, match=r"cannot write .*trades: another writer has it"):
            await second.start()
        await second.stop()
        rig.offer(1)
        assert await rig.link.drain() == 0  # the first was not disturbed
        await rig.stop()

    drive(work)


def test_a_data_directory_that_cannot_be_written_is_fatal(short_tmp: Path) -> None:
    (short_tmp / "data").write_text("a file")

    async def work() -> None:
        rig = Rig(short_tmp)
        with pytest.raises(FatalError, match=r"cannot write the data directory .*data: "):
            await rig.writer.start()
        await rig.writer.stop()

    drive(work)


def test_a_failing_sealer_is_tried_again_while_journals_wait(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing_module, "_RETRY_BASE_S", 0.005)

    async def work() -> None:
        rig = Rig(short_tmp, idle_seal_s=0.01)
        sealer = Sealer(fail=3).install(monkeypatch, rig.active)
        await rig.start()
        rig.offer(5)
        await until(lambda: sealer.sealed)
        assert sealer.runs == 4
        assert rig.writer.stats()["seal_failures"] == 3
        rig.offer(5)
        await rig.link.drain()  # meanwhile and afterwards the road is open
        await rig.writer.drain()
        await rig.stop()

    drive(work)


def test_a_writer_that_was_killed_while_sealing_seals_at_the_next_start(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        first = Rig(short_tmp)
        await first.start()
        first.offer(7)
        await first.link.drain()
        await first.stop()  # no drain: as a kill leaves it
        second = Rig(short_tmp)
        sealer = Sealer().install(monkeypatch, second.active)
        await second.start()
        await until(lambda: sealer.sealed)
        assert [entry.count for entry in sealer.sealed[0]] == [7]
        await second.stop()

    drive(work)


def test_the_settings_travel_as_messagepack() -> None:
    made = settings(segment_max_mb=0.5)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Writer.Settings) == made


@pytest.mark.system
def test_the_real_sealer_publishes_and_a_failing_one_is_told(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sealing_module, "_RETRY_BASE_S", 0.2)

    async def work() -> None:
        rig = Rig(short_tmp)
        counters = rig.data / "state" / "counters.json"
        await rig.start()
        counters.write_text("not json")
        rig.offer(50)
        await rig.link.drain()
        draining = asyncio.ensure_future(rig.writer.drain())
        await until(lambda: rig.writer.stats()["seal_failures"])
        counters.unlink()
        await draining
        stats = rig.writer.stats()
        await rig.stop()
        assert (stats["sealed"], stats["sealed_rows"]) == (1, 50)
        (segment,) = rig.data.rglob("segment_*.parquet")
        assert stats["segment_bytes"] == segment.stat().st_size
        assert len(list(rig.data.rglob("segment_*.parquet"))) == 1
        assert list((rig.data / "raw" / "active").iterdir()) == []

    drive(work)
    out = capsys.readouterr().out
    assert "seal_failed" in out
    assert "journal_sealed" in out


@pytest.mark.system
def test_c18_the_bytes_that_the_disk_had_to_write_are_counted(short_tmp: Path) -> None:
    """Journal, state, segments and what they cost in whole pages, of the writer and of its sealer."""
    if written_bytes() is None:
        pytest.skip("the kernel counts no bytes")

    async def work() -> None:
        rig = Rig(short_tmp)
        before = written_bytes() or 0
        await rig.start()
        for _ in range(20):
            rig.offer(50)
            await rig.link.drain()
        await rig.writer.drain()
        stats = rig.writer.stats()
        await rig.stop()
        written = stats["bytes_written"] - before
        assert stats["journal_bytes"] > 0
        assert stats["segment_bytes"] > 0
        if written:  # nothing reaches a disk where the directory is in memory
            assert written >= stats["journal_bytes"] + stats["segment_bytes"]
        assert stats["write_amplification"] == round(stats["bytes_written"] / stats["segment_bytes"], 2)

    drive(work)
