"""The sending end, talking to a receiver that speaks by hand."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from daedalus.kernel.journal import Mark
from daedalus.kernel.link import sender as sender_module
from daedalus.kernel.link.sender import LinkSender
from daedalus.kernel.link.wire import (
    Ack,
    Data,
    Hello,
    Nack,
    Welcome,
    decode_request,
)
from daedalus.kernel.spool import Spool
from tests.link_peers import Writer, offer, sending
from tests.loops import drive, until


@pytest.fixture
def address(short_tmp: Path) -> str:
    return f"ipc://{short_tmp}/l.sock"


@pytest.fixture
def spool(short_tmp: Path) -> Iterator[Spool]:
    opened = Spool.open(short_tmp / "s.spool", 1 << 16)
    yield opened
    opened.close()


def test_nothing_is_sent_before_the_welcome(address: str, spool: Spool) -> None:
    async def work() -> None:
        writer, sender = Writer(address), sending(address, spool)
        await sender.start()
        for number in range(1, 200):
            offer(sender, number)
        assert await writer.hear() == Hello("binance", "ccxt", spool.epoch, 0, 1)
        await asyncio.sleep(0.02)
        assert not writer.socket.poll(0)
        writer.say(Welcome(spool.epoch, 0, 0, {}))
        data = await writer.hear()
        assert isinstance(data, Data)
        assert (data.first_seq, data.count) == (1, 64)
        assert writer.blob == list(range(1, 65))
        sender.close()
        writer.close()

    drive(work)


def test_a_refused_frame_is_sent_again_from_the_spool_with_its_own_marks(address: str, spool: Spool) -> None:
    async def work() -> None:
        writer, sender = Writer(address), sending(address, spool, batch_records=4)
        await sender.start()
        await writer.hear()
        writer.say(Welcome(spool.epoch, 0, 0, {}))
        await until(lambda: sender._streaming)
        for number in range(1, 13):
            offer(sender, number)
            if number % 4 == 0:
                await until(lambda: not sender._hold)  # no burst: each frame has its four
        assert [(await writer.hear()).first_seq for _ in range(3)] == [1, 5, 9]
        writer.say(Nack(spool.epoch, 4))
        again = await writer.hear()
        assert (again.first_seq, writer.blob) == (5, [5, 6, 7, 8])
        # of these records, not the latest: a mark ahead of the data would hide a hole
        assert again.marks == {"S0": Mark(8000, 8, "s1"), "S1": Mark(7000, 7, "s1")}
        sender.close()
        writer.close()

    drive(work)


def test_while_the_socket_is_full_the_cursor_stays_put(
    address: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "_HWM_FRAMES", 2)
    monkeypatch.setattr(sender_module, "_PROGRESS_S", 60.0)

    async def work() -> None:
        spool = Spool.open(short_tmp / "big.spool", 1 << 24)
        writer, sender = Writer(address), sending(address, spool, batch_records=4)
        await sender.start()
        await writer.hear()
        writer.say(Welcome(spool.epoch, 0, 0, {}))
        await until(lambda: sender._streaming)
        padding = msgspec.msgpack.encode("x" * 8000)
        count = 0
        while not sender.stats()["again"]:
            count += 1
            assert sender.append(padding, "S", Mark(1, 1, "s"))
        for _ in range(20):
            count += 1
            assert sender.append(padding, "S", Mark(1, 1, "s"))
        expected = 1
        while expected <= count:
            data = await writer.hear()
            assert isinstance(data, Data)
            assert data.first_seq == expected
            expected += data.count
        assert sender.stats()["again"] >= 1
        sender.close()
        spool.close()
        writer.close()

    drive(work)


def test_without_progress_the_sender_greets_again(
    address: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "_PROGRESS_S", 0.01)

    async def work() -> None:
        writer, sender = Writer(address), sending(address, spool)
        await sender.start()
        await writer.hear()
        offer(sender, 1)
        assert isinstance(await writer.hear(), Hello)  # the first answer never came
        writer.say(Welcome(spool.epoch, 0, 0, {}))
        while not isinstance(await writer.hear(), Data):
            writer.say(Welcome(spool.epoch, 0, 0, {}))
        assert isinstance(await writer.hear(), Hello)  # nor did an acknowledgement
        sender.close()
        writer.close()

    drive(work)


def test_an_idle_sender_is_silent(address: str, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "_PROGRESS_S", 0.01)

    async def work() -> None:
        writer, sender = Writer(address), sending(address, spool)
        await sender.start()
        await writer.hear()
        writer.say(Welcome(spool.epoch, 0, 0, {}))
        await until(lambda: sender._streaming and sender._watch is None)
        offer(sender, 1)
        while not isinstance(await writer.hear(), Data):
            writer.say(Welcome(spool.epoch, 0, 0, {}))
        writer.say(Ack(spool.epoch, 1))
        await until(lambda: sender._watch is None)
        await asyncio.sleep(0.03)
        assert not any(isinstance(decode_request(memoryview(parts[1]))[0], Data) for parts in _rest(writer))
        assert sender.unacknowledged == 0
        sender.close()
        writer.close()

    drive(work)


def _rest(writer: Writer) -> list[list[bytes]]:
    found = []
    while writer.socket.poll(0):
        found.append(writer.socket.recv_multipart())
    return found


def test_seams_between_sessions_of_earlier_processes_are_told_before_the_marks(
    address: str, spool: Spool
) -> None:
    def mark(number: int) -> Mark:
        return Mark(number * 1000, number, f"s{number // 10}")

    def told_by(data: bytes) -> tuple[str, Mark] | None:
        number = msgspec.msgpack.decode(data)
        return None if number == 25 else (f"S{number % 2}", mark(number))

    for number in (20, 22, 25, 30):
        spool.append(msgspec.msgpack.encode(number))

    async def work() -> None:
        told: list[object] = []
        writer = Writer(address)
        sender = LinkSender(
            address,
            sender="binance",
            source="ccxt",
            spool=spool,
            describe=told_by,
            on_welcome=told.append,
            on_seam=lambda *seam: told.append(seam),
        )
        await sender.start()
        await writer.hear()
        sender.append(msgspec.msgpack.encode(40), "S0", mark(40))  # of this process: no seam
        writer.say(Welcome(spool.epoch, 0, 0, {"S0": mark(10), "S1": mark(11)}))
        await until(lambda: len(told) == 3)
        assert told == [
            ("S0", mark(10), mark(20)),
            ("S0", mark(22), mark(30)),
            {"S0": mark(30), "S1": mark(11)},
        ]
        sender.close()
        writer.close()

    drive(work)


def test_replies_of_another_epoch_are_ignored(address: str, spool: Spool) -> None:
    async def work() -> None:
        writer, sender = Writer(address), sending(address, spool)
        await sender.start()
        await writer.hear()
        offer(sender, 1)
        writer.say(Welcome(spool.epoch + 1, 0, 5, {}))
        writer.say(Ack(spool.epoch + 1, 1))
        writer.say(Nack(spool.epoch + 1, 1))
        writer.say(Welcome(spool.epoch, 0, 0, {}))
        await until(lambda: sender._streaming)
        assert sender.unacknowledged == 1
        sender.close()
        writer.close()

    drive(work)


def test_a_full_frame_leaves_with_the_record_that_finds_it_old_enough_and_needs_no_timer(
    address: str, spool: Spool
) -> None:
    async def work() -> None:
        writer, sender = Writer(address), sending(address, spool, batch_records=4, batch_ms=60_000)
        await sender.start()
        await writer.hear()
        writer.say(Welcome(spool.epoch, 0, 0, {}))
        await until(lambda: sender._streaming)
        for number in range(1, 5):
            offer(sender, number)
        assert (await writer.hear()).count == 4
        for number in range(5, 15):
            offer(sender, number)  # one went out just now: this one grows
        sender._grown_at = 0.0  # long ago by now
        for number in range(15, 30):
            offer(sender, number)
        assert (await writer.hear()).count == 4 + sender_module._LOOK_RECORDS
        sender.close()
        writer.close()

    drive(work)


def test_a_frame_with_marks_of_many_streams_arrives_whole(address: str, spool: Spool) -> None:
    """Its head does not fit in the room that is kept free before the records."""

    async def work() -> None:
        writer, sender = Writer(address), sending(address, spool)
        await sender.start()
        await writer.hear()
        writer.say(Welcome(spool.epoch, 0, 0, {}))
        await until(lambda: sender._streaming)
        marks = {f"EXCHANGE-SYMBOL-{number}": Mark(number, number, "session") for number in range(1, 65)}
        for stream, mark in marks.items():
            assert sender.append(msgspec.msgpack.encode(mark.seq), stream, mark)
        data = await writer.hear()
        assert isinstance(data, Data)
        assert (data.first_seq, data.count, data.marks) == (1, 64, marks)
        assert len(msgspec.msgpack.encode(marks)) > sender_module.FRONT
        assert writer.blob == list(range(1, 65))
        sender.close()
        writer.close()

    drive(work)
