"""The receiving end, talking to a sender that speaks by hand."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from daedalus.kernel.journal import Cursor
from daedalus.kernel.link.wire import (
    Ack,
    Data,
    Hello,
    Nack,
    Welcome,
    encode,
    pack,
)
from daedalus.kernel.spool import Spool
from tests.link_peers import Collector, Disk, receiving
from tests.loops import drive


@pytest.fixture
def address(short_tmp: Path) -> str:
    return f"ipc://{short_tmp}/l.sock"


@pytest.fixture
def spool(short_tmp: Path) -> Iterator[Spool]:
    opened = Spool.open(short_tmp / "s.spool", 1 << 16)
    yield opened
    opened.close()


def test_a_hole_is_refused_once_and_says_where_to_go_on(address: str) -> None:
    async def work() -> None:
        disk = Disk()
        receiver = receiving(address, disk)
        await receiver.start()
        peer = Collector(address)
        assert await peer.ask(Hello("a", "native", 7, 0, 1)) == Welcome(7, 0, 0, {})
        peer.tell(*peer.data(7, 1, 10))
        peer.tell(*peer.data(7, 21, 10))
        peer.tell(*peer.data(7, 31, 10))
        answers = [
            await peer.hear(),
            await peer.hear(),
        ]  # the first group may be on disk before the hole comes
        assert Nack(7, 10) in answers
        assert Ack(7, 10) in answers
        peer.tell(*peer.data(7, 11, 10))
        assert await peer.hear() == Ack(7, 20)
        assert disk.numbers == list(range(1, 21))
        assert receiver.stats()["nacks"] == 1
        peer.close()
        await receiver.close()

    drive(work)


def test_duplicates_are_skipped_by_count(address: str) -> None:
    async def work() -> None:
        disk = Disk()
        receiver = receiving(address, disk)
        await receiver.start()
        peer = Collector(address)
        await peer.ask(Hello("a", "native", 7, 0, 1))
        peer.tell(*peer.data(7, 1, 10))
        peer.tell(*peer.data(7, 3, 5))
        peer.tell(*peer.data(7, 6, 10))
        assert await peer.hear() == Ack(7, 15)
        assert disk.numbers == list(range(1, 16))
        assert [entry.skip for entry in disk.groups[0]] == [0, 5]
        assert receiver.stats()["duplicates"] == 10
        peer.close()
        await receiver.close()

    drive(work)


def test_who_was_not_greeted_is_asked_to(address: str) -> None:
    async def work() -> None:
        receiver = receiving(address, Disk())
        await receiver.start()
        peer = Collector(address)
        assert await peer.ask(*peer.data(7, 1, 10)) == Nack(0, 0)
        await peer.ask(Hello("a", "native", 7, 0, 1))
        assert await peer.ask(*peer.data(8, 1, 10)) == Nack(0, 0)  # another epoch than it greeted with
        peer.close()
        await receiver.close()

    drive(work)


def test_a_new_epoch_begins_at_one(address: str) -> None:
    async def work() -> None:
        disk = Disk()
        receiver = receiving(address, disk, {"a": Cursor(7, 500, "native", {})})
        await receiver.start()
        peer = Collector(address)
        assert await peer.ask(Hello("a", "native", 8, 0, 1)) == Welcome(8, 0, 0, {})
        assert await peer.ask(*peer.data(8, 400, 10)) == Nack(8, 0)
        assert await peer.ask(*peer.data(8, 1, 10)) == Ack(8, 10)
        peer.close()
        await receiver.close()

    drive(work)


def test_an_epoch_this_data_directory_never_saw_goes_on_behind_its_acknowledgement(address: str) -> None:
    async def work() -> None:
        receiver = receiving(address, Disk())
        await receiver.start()
        peer = Collector(address)
        assert await peer.ask(Hello("a", "native", 8, 700, 20)) == Welcome(8, 0, 700, {})
        assert await peer.ask(*peer.data(8, 701, 10)) == Ack(8, 710)
        peer.close()
        await receiver.close()

    drive(work)


def test_what_a_damaged_journal_lost_is_asked_for_again(address: str) -> None:
    async def work() -> None:
        receiver = receiving(address, Disk(), {"a": Cursor(7, 500, "native", {})})
        await receiver.start()
        peer = Collector(address)
        assert await peer.ask(Hello("a", "native", 7, 700, 20)) == Welcome(7, 500, 500, {})
        # and if the spool has only the later part, the hole is counted and the road goes on
        assert await peer.ask(Hello("a", "native", 7, 700, 601)) == Welcome(7, 500, 600, {})
        assert receiver.stats()["holes"] == 1
        peer.close()
        await receiver.close()

    drive(work)


def test_of_two_connections_of_one_name_the_newest_hello_wins(address: str) -> None:
    async def work() -> None:
        disk = Disk()
        receiver = receiving(address, disk)
        await receiver.start()
        old, new = Collector(address), Collector(address)
        await old.ask(Hello("a", "native", 7, 0, 1))
        await old.ask(*old.data(7, 1, 5))
        await new.ask(Hello("a", "native", 8, 0, 1))
        old.tell(*old.data(7, 6, 5))
        old.tell(Hello("a", "native", 7, 5, 1))
        assert await new.ask(*new.data(8, 1, 3)) == Ack(8, 3)
        await asyncio.sleep(0.02)
        assert not old.socket.poll(0)
        assert disk.numbers == [1, 2, 3, 4, 5, 1, 2, 3]
        assert receiver.cursors["a"].epoch == 8
        old.close()
        new.close()
        await receiver.close()

    drive(work)


def test_a_message_of_another_version_is_refused_and_the_link_goes_on(address: str) -> None:
    async def work() -> None:
        receiver = receiving(address, Disk())
        await receiver.start()
        peer = Collector(address)
        latin = encode(Hello("a", "native", 7, 0, 1)).replace(b"native", b"nativ\xe9")  # not UTF-8
        torn = pack(Data(7, 1, 1, {}), [b"\x01"])[:8]
        for message in (b"\xc1", encode([9, 9]), encode(Data(7, 1, 1, {})), latin, torn):
            peer.socket.send(message)
        assert await peer.ask(Hello("a", "native", 7, 0, 1)) == Welcome(7, 0, 0, {})
        assert receiver.stats()["foreign"] == 5
        peer.close()
        await receiver.close()

    drive(work)
