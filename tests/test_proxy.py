"""The cruel proxy itself: it passes everything when it is calm, and does what it is told."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.loops import drive, until
from tests.proxy import Proxy, in_thread

WORDS = bytes(range(256)) * 40
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def _echo() -> AsyncIterator[int]:
    """A server that says everything back; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def _staged(work: Callable[[Proxy, Streams], Awaitable[None]], seed: int = 1) -> None:
    """Run `work` with a proxy before an echo, and a client connected through it."""

    async def play() -> None:
        async with _echo() as port, Proxy(port, seed) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            try:
                await work(proxy, (reader, writer))
            finally:
                writer.close()

    drive(play)


def test_a_calm_proxy_passes_every_byte_both_ways() -> None:
    async def work(proxy: Proxy, streams: Streams) -> None:
        reader, writer = streams
        writer.write(WORDS)
        assert await reader.readexactly(len(WORDS)) == WORDS
        assert (proxy.up.passed, proxy.down.passed, proxy.connections) == (len(WORDS), len(WORDS), 1)

    _staged(work)


def test_the_end_of_one_side_is_the_end_of_the_other() -> None:
    async def work(proxy: Proxy, streams: Streams) -> None:
        reader, writer = streams
        writer.write_eof()
        assert await reader.read() == b""
        await until(lambda: proxy.connections == 0)

    _staged(work)


# a reset may overtake what the kernel has not delivered yet: so only a few bytes before it
@pytest.mark.parametrize(
    ("count", "how"), [(1, "fin"), (777, "fin"), (10_239, "fin"), (1, "rst"), (777, "rst")]
)
def test_it_cuts_after_exactly_so_many_bytes(count: int, how: Any) -> None:
    async def work(proxy: Proxy, streams: Streams) -> None:
        reader, writer = streams
        proxy.down.cut_after(count, how)
        writer.write(WORDS)
        assert await reader.readexactly(count) == WORDS[:count]
        if how == "fin":
            assert await reader.read() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert proxy.down.passed == count

    _staged(work)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_it_cuts_at_once(how: Any) -> None:
    async def work(proxy: Proxy, streams: Streams) -> None:
        reader, writer = streams
        writer.write(b"hello")
        await reader.readexactly(5)
        assert proxy.cut(how) == 1
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            assert how == "rst"
        await until(lambda: proxy.connections == 0)

    _staged(work)


def test_it_stalls_one_direction_and_the_other_goes_on() -> None:
    async def work(proxy: Proxy, streams: Streams) -> None:
        reader, writer = streams
        proxy.down.stall()
        writer.write(WORDS)
        await until(lambda: proxy.up.passed == len(WORDS))
        waiting = asyncio.get_running_loop().create_task(reader.readexactly(len(WORDS)))
        for _ in range(50):
            await asyncio.sleep(0)
        assert (waiting.done(), proxy.down.passed) == (False, 0)
        proxy.down.go_on()
        assert await waiting == WORDS

    _staged(work)


def test_it_throttles_and_delays() -> None:
    async def work(proxy: Proxy, streams: Streams) -> None:
        reader, writer = streams
        clock = asyncio.get_running_loop().time
        proxy.down.bytes_per_s = 20 * len(WORDS)
        began = clock()
        writer.write(WORDS)
        assert await reader.readexactly(len(WORDS)) == WORDS
        assert clock() - began > 0.04
        proxy.down.bytes_per_s, proxy.up.delay_s = None, 0.05
        began = clock()
        writer.write(b"x")
        await reader.readexactly(1)
        assert clock() - began > 0.049

    _staged(work)


def test_it_flips_bits_at_about_the_rate_it_was_told_and_by_its_seed() -> None:
    heard: list[bytes] = []

    async def work(proxy: Proxy, streams: Streams) -> None:
        reader, writer = streams
        proxy.down.flip(500)
        writer.write(WORDS)
        heard.append(await reader.readexactly(len(WORDS)))
        wrong = [(a, b) for a, b in zip(WORDS, heard[-1], strict=True) if a != b]
        assert len(wrong) == proxy.down.flipped
        assert 8 < len(wrong) < 40
        assert {(a ^ b).bit_count() for a, b in wrong} == {1}

    for seed in (1, 1, 2):
        _staged(work, seed)
    assert heard[0] == heard[1] != heard[2]


def test_it_refuses_and_a_server_that_is_not_there_is_refused_for() -> None:
    async def play() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            nobody = free.getsockname()[1]
        async with _echo() as port, Proxy(port) as refusing, Proxy(nobody) as empty:
            refusing.refusing = True
            for proxy in (refusing, empty):
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                with pytest.raises(ConnectionError):
                    assert await reader.read() == b"?"
                writer.close()
                assert proxy.accepted == 1

    drive(play)


def test_it_serves_a_test_without_a_loop() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(10)
        with (
            in_thread(server.getsockname()[1]) as (proxy, there),
            socket.create_connection(("127.0.0.1", proxy.port), 10) as client,
            server.accept()[0] as accepted,
        ):
            client.sendall(b"ping")
            assert accepted.recv(4) == b"ping"
            there(lambda: proxy.down.cut_after(2, "fin"))
            accepted.sendall(b"pong")
            assert client.makefile("rb").read() == b"po"
