"""The edge-triggered descriptor: nothing may be left lying in a socket nobody looks at."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from daedalus.kernel.mailbox import Mailbox, ipc_address
from tests.loops import drive, until


@pytest.fixture
def pair(short_tmp: Path) -> Iterator[tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]]:
    context = zmq.Context.instance()
    left, right = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    for socket in (left, right):
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 4
    left.bind(f"ipc://{short_tmp}/a.sock")
    right.connect(f"ipc://{short_tmp}/a.sock")
    yield left, right
    left.close()
    right.close()


def test_a_path_too_long_for_a_socket_is_a_clear_error() -> None:
    assert ipc_address("/tmp/x") == "ipc:///tmp/x"
    with pytest.raises(ValueError, match="110 bytes, at most 107; choose a shorter runtime directory"):
        ipc_address("/" + "a" * 109)


def test_every_message_arrives_though_each_gulp_is_bounded(pair) -> None:
    left, right = pair

    async def work() -> None:
        got: list[bytes] = []
        gulps: list[int] = []
        mailbox = Mailbox(
            right, lambda parts: got.append(parts[0]), budget=3, after=lambda: gulps.append(len(got))
        )
        for number in range(50):
            while True:
                try:
                    left.send(b"%d" % number, zmq.NOBLOCK)
                    break
                except zmq.Again:
                    await asyncio.sleep(0.001)
        await until(lambda: len(got) == 50)
        mailbox.close()
        assert got == [b"%d" % number for number in range(50)]
        assert max(b - a for a, b in zip([0, *gulps], gulps, strict=False)) <= 3

    drive(work)


def test_a_reply_that_arrives_while_sending_is_not_slept_over(pair) -> None:
    """A send may swallow the edge of an incoming message: `touched` looks again."""
    left, right = pair

    async def work() -> None:
        got: list[bytes] = []
        mailbox = Mailbox(right, lambda parts: got.append(parts[0]))
        for number in range(200):
            left.send(b"%d" % number)
            right.send(b"x")
            mailbox.touched()
            left.recv()
        await until(lambda: len(got) == 200)
        mailbox.close()

    drive(work)


def test_paused_nothing_is_taken_and_resumed_everything_is(pair) -> None:
    left, right = pair

    async def work() -> None:
        got: list[bytes] = []
        mailbox = Mailbox(right, lambda parts: got.append(parts[0]))
        left.send(b"1")
        await until(lambda: got)
        mailbox.pause()
        mailbox.pause()
        left.send(b"2")
        mailbox.touched()
        mailbox.drain()
        assert got == [b"1"]
        mailbox.resume()
        await until(lambda: got == [b"1", b"2"])
        mailbox.pause()
        mailbox.close()
        mailbox.close()

    drive(work)


def test_a_handler_that_pauses_ends_the_gulp(pair) -> None:
    left, right = pair

    async def work() -> None:
        got: list[bytes] = []

        def handle(parts: list[bytes]) -> None:
            got.append(parts[0])
            mailbox.pause()

        for number in range(3):
            left.send(b"%d" % number)
        mailbox = Mailbox(right, handle)
        await until(lambda: got)
        mailbox.drain()
        assert got == [b"0"]
        mailbox.resume()
        await until(lambda: len(got) == 2)
        mailbox.close()

    drive(work)


def test_writable_is_told_once_the_peer_has_taken_something(pair) -> None:
    left, right = pair

    async def work() -> None:
        mailbox = Mailbox(right, lambda _: None)
        told: list[int] = []
        sent = 0
        try:
            while True:
                right.send(bytes(1 << 16), zmq.NOBLOCK)
                sent += 1
        except zmq.Again:
            mailbox.when_writable(lambda: told.append(sent))
        reader = Mailbox(left, lambda _: None)
        await until(lambda: told)
        assert told == [sent]
        mailbox.close()
        reader.close()

    drive(work)
