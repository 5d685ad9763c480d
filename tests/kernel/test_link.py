"""The link, both ends in one loop over a real socket."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from daedalus.kernel.journal import Cursor, Entry, Mark
from daedalus.kernel.link import LinkReceiver
from daedalus.kernel.link import receiver as receiver_module
from daedalus.kernel.link.wire import Data, decode_request, pack
from daedalus.kernel.spool import Spool
from tests.link_peers import Disk, offer, receiving, record, sending
from tests.loops import drive, until


@pytest.fixture
def address(short_tmp: Path) -> str:
    return f"ipc://{short_tmp}/l.sock"


@pytest.fixture
def spool(short_tmp: Path) -> Iterator[Spool]:
    opened = Spool.open(short_tmp / "s.spool", 1 << 16)
    yield opened
    opened.close()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 64, 65535, 65536])
def test_a_blob_is_one_array_of_the_records(count: int) -> None:
    made = Data(7, 1, count, {})
    found, blob = decode_request(memoryview(pack(made, [b"\x01"] * count)))
    assert (found, msgspec.msgpack.decode(blob)) == (made, [1] * count)


def test_everything_appended_is_committed_once_in_order_and_then_acknowledged(
    address: str, spool: Spool
) -> None:
    async def work() -> None:
        disk = Disk()
        receiver, sender = receiving(address, disk), sending(address, spool)
        await receiver.start()
        await sender.start()
        for number in range(1, 1001):
            assert offer(sender, number)
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert await sender.drain() == 0
        assert disk.numbers == list(range(1, 1001))
        assert (spool.acked, receiver.cursors["binance"].seq) == (1000, 1000)
        assert receiver.cursors["binance"].marks == {
            "S0": Mark(1_000_000, 1000, "s1"),
            "S1": Mark(999_000, 999, "s1"),
        }
        assert receiver.pending == 0
        sender.close()
        await receiver.close()

    drive(work)


def test_nothing_is_acknowledged_before_the_commit_returns(address: str, spool: Spool) -> None:
    async def work() -> None:
        disk = Disk()
        disk.gate.clear()
        receiver, sender = receiving(address, disk), sending(address, spool)
        await receiver.start()
        await sender.start()
        for number in range(1, 101):
            offer(sender, number)
        await until(lambda: receiver.pending == 100)
        await asyncio.sleep(0.02)
        assert spool.acked == 0
        disk.gate.set()
        assert await sender.drain() == 0
        sender.close()
        await receiver.close()

    drive(work)


def test_one_commit_at_a_time_the_next_group_gathers_meanwhile(address: str, spool: Spool) -> None:
    async def work() -> None:
        disk = Disk()
        disk.gate.clear()
        receiver, sender = receiving(address, disk, commit_records=64), sending(address, spool)
        await receiver.start()
        await sender.start()
        for number in range(1, 65):
            offer(sender, number)
        await until(lambda: receiver.pending == 64)
        await asyncio.sleep(0.01)  # the first commit hangs at the gate
        for number in range(65, 641):
            offer(sender, number)
        await until(lambda: receiver.pending == 640)
        disk.gate.set()
        await sender.drain()
        assert [sum(entry.count for entry in group) for group in disk.groups] == [64, 576]
        sender.close()
        await receiver.close()

    drive(work)


def test_a_frame_is_closed_by_count_or_by_time_and_grows_under_load(address: str, spool: Spool) -> None:
    """Ten, then those that came soon after it: no frame per ten records in a burst."""

    async def work() -> None:
        disk = Disk()
        receiver, sender = receiving(address, disk), sending(address, spool, batch_records=10, batch_ms=500)
        await receiver.start()
        await sender.start()
        await until(lambda: sender._streaming)
        for number in range(1, 26):
            offer(sender, number)
        await sender.drain()
        counts = [entry.count for group in disk.groups for entry in group]
        assert counts == [10, 15]
        sender.close()
        await receiver.close()

    drive(work)


def test_a_full_spool_refuses_and_nothing_that_was_refused_arrives(address: str, spool: Spool) -> None:
    async def work() -> None:
        sender = sending(address, spool)
        await sender.start()
        taken = 0
        while offer(sender, taken + 1):
            taken += 1
        assert not offer(sender, 0)
        assert sender.stats()["refused"] == 2
        disk = Disk()
        receiver = receiving(address, disk)
        await receiver.start()
        assert await sender.drain() == 0
        assert disk.numbers == list(range(1, taken + 1))
        sender.close()
        await receiver.close()

    drive(work)


def test_a_drain_that_is_cancelled_says_what_is_left(address: str, spool: Spool) -> None:
    async def work() -> None:
        sender = sending(address, spool)
        await sender.start()
        offer(sender, 1)
        offer(sender, 2)
        async with asyncio.timeout(0.01):
            left = await sender.drain()
        assert left == 2
        sender.close()

    drive(work)


def test_a_restarted_receiver_is_sent_what_it_had_not_stored(address: str, spool: Spool) -> None:
    async def work() -> None:
        disk = Disk()
        first, sender = receiving(address, disk), sending(address, spool)
        await first.start()
        await sender.start()
        for number in range(1, 301):
            offer(sender, number)
        await sender.drain()
        disk.gate.clear()
        for number in range(301, 601):
            offer(sender, number)
        await until(lambda: first.pending == 300)
        await first.close()  # as good as killed: 300 were received, none stored
        disk.gate.set()
        second = receiving(address, disk, dict(first.cursors))
        await second.start()
        for number in range(601, 701):
            offer(sender, number)
        assert await sender.drain() == 0
        assert disk.numbers == list(range(1, 701))
        assert second.cursors["binance"].marks["S0"].seq == 700
        sender.close()
        await second.close()

    drive(work)


def test_a_restarted_sender_replays_its_spool_first(address: str, short_tmp: Path) -> None:
    async def work() -> None:
        disk = Disk()
        receiver = receiving(address, disk)
        spool = Spool.open(short_tmp / "s.spool", 1 << 16)
        dead = sending(address, spool)
        await dead.start()
        for number in range(1, 151):
            offer(dead, number)
        dead.close()
        spool.close()
        await receiver.start()
        spool = Spool.open(short_tmp / "s.spool", 1 << 16)
        told: list[dict[str, Mark]] = []
        sender = sending(address, spool, on_welcome=told.append)
        await sender.start()
        offer(sender, 151)
        assert await sender.drain() == 0
        assert disk.numbers == list(range(1, 152))
        # what came before this process: the last of each stream that is stored or on its way
        assert told == [{"S0": Mark(150_000, 150, "s1"), "S1": Mark(149_000, 149, "s1")}]
        sender.close()
        spool.close()
        await receiver.close()

    drive(work)


def test_marks_of_an_earlier_epoch_are_told_to_a_fresh_spool(address: str, spool: Spool) -> None:
    async def work() -> None:
        marks = {"S0": Mark(5, 6, "s0")}
        receiver = receiving(address, Disk(), {"binance": Cursor(99, 1000, "ccxt", marks)})
        told: list[dict[str, Mark]] = []
        sender = sending(address, spool, on_welcome=told.append)
        await receiver.start()
        await sender.start()
        await until(lambda: told)
        assert told == [marks]
        offer(sender, 1)
        await sender.drain()
        assert receiver.cursors["binance"] == Cursor(
            spool.epoch, 1, "ccxt", {"S0": Mark(5, 6, "s0"), "S1": Mark(1000, 1, "s1")}
        )
        sender.close()
        await receiver.close()

    drive(work)


def test_a_spool_set_back_is_renewed_before_its_numbers_are_used_again(address: str, spool: Spool) -> None:
    async def work() -> None:
        disk = Disk()
        receiver = receiving(address, disk, {"binance": Cursor(spool.epoch, 500, "ccxt", {})})
        epoch = spool.epoch
        sender = sending(address, spool)
        offered = spool.append(record(1))
        assert offered == 1
        await receiver.start()
        await sender.start()
        assert await sender.drain() == 0
        assert spool.epoch != epoch
        assert disk.numbers == [1]
        sender.close()
        await receiver.close()

    drive(work)


def test_pending_memory_is_bounded_and_the_spool_takes_the_rest(
    address: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "_PENDING_BYTES", 20_000)

    async def work() -> None:
        disk = Disk()
        disk.gate.clear()
        spool = Spool.open(short_tmp / "big.spool", 1 << 22)
        receiver, sender = receiving(address, disk), sending(address, spool)
        await receiver.start()
        await sender.start()
        blob = msgspec.msgpack.encode("x" * 1000)
        for _ in range(3000):
            assert sender.append(blob, "S", Mark(1, 1, "s"))
            await asyncio.sleep(0)
        assert receiver.stats()["pending_bytes"] < 20_000 + 128 * 1024
        disk.gate.set()
        assert await sender.drain() == 0
        assert sum(entry.count - entry.skip for group in disk.groups for entry in group) == 3000
        sender.close()
        spool.close()
        await receiver.close()

    drive(work)


def test_the_first_group_is_committed_at_once_and_later_ones_gather(address: str, spool: Spool) -> None:
    async def work() -> None:
        disk = Disk()
        receiver = receiving(address, disk, commit_ms=60_000, commit_records=10_000)
        sender = sending(address, spool)
        await receiver.start()
        await sender.start()
        offer(sender, 1)
        await until(lambda: not sender.unacknowledged)  # whoever waited for this writer waits no longer
        offer(sender, 2)
        await until(lambda: receiver.pending == 1)
        assert disk.numbers == [1]
        sender.close()
        await receiver.close()

    drive(work)


def test_draining_commits_what_has_arrived_at_once(address: str, spool: Spool) -> None:
    async def work() -> None:
        disk = Disk()
        receiver = receiving(address, disk, commit_ms=60_000, commit_records=10_000)
        sender = sending(address, spool)
        await receiver.start()
        await sender.start()
        offer(sender, 0)
        await until(lambda: not sender.unacknowledged)
        for number in range(1, 101):
            offer(sender, number)
        await until(lambda: receiver.pending == 100)
        assert await receiver.drain() == 100
        assert await sender.drain() == 0
        sender.close()
        await receiver.close()

    drive(work)


def test_a_commit_that_fails_is_told_to_the_actor(address: str, spool: Spool) -> None:
    async def work() -> None:
        async def broken(_: list[Entry]) -> None:
            raise RuntimeError("no journal")

        receiver = LinkReceiver(address, cursors={}, commit=broken, commit_ms=1)
        sender = sending(address, spool)
        await receiver.start()
        await sender.start()
        offer(sender, 1)
        with pytest.raises(RuntimeError, match="no journal"):
            await receiver.failed()
        assert spool.acked == 0
        sender.close()
        await receiver.close()

    drive(work)
