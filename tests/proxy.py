"""A TCP proxy that can be cruel: between a client and a server of the same machine, obeying the test.

    client ──up──▶ Proxy ──up──▶ server
           ◀─down─       ◀─down─

Each direction has its own `Weather`, of all connections, present and future. What goes wrong here goes wrong
below the websocket: half a frame, a byte that is not the one that was sent, a road that is closed one way.
`Proxy` lives on the loop of the test; `in_thread` puts one beside a test that has no loop.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, Self

__all__ = ["Proxy", "Weather", "in_thread", "pump"]

CHUNK_BYTES = 1 << 16
STEP_S = 0.01  # of a throttled direction
Cut = Literal["fin", "rst"]


class Weather:
    """What befalls the bytes of one direction. Set from the loop the proxy lives on."""

    def __init__(self, seed: int = 1) -> None:
        self.delay_s = 0.0  # before each chunk
        self.bytes_per_s: float | None = None
        self.passed = 0  # bytes
        self.flipped = 0  # bits
        self._dice = random.Random(seed)
        self._flip_every: int | None = None
        self._until_flip = 0
        self._cut: tuple[int, Cut] | None = None  # after so many more bytes, how
        self._open = asyncio.Event()
        self._open.set()

    def stall(self) -> None:
        """Let nothing pass until `go_on`."""
        self._open.clear()

    def go_on(self) -> None:
        """Let what waited pass."""
        self._open.set()

    def cut_after(self, count: int, how: Cut = "rst") -> None:
        """End the connection that carries the next bytes, after `count` of them."""
        self._cut = (count, how)

    def flip(self, every_bytes: int | None) -> None:
        """Turn round one bit of a byte in about so many; None: no more."""
        self._flip_every = every_bytes
        if every_bytes is not None:
            self._until_flip = self._dice.randrange(2 * every_bytes)

    async def carry(self, data: bytes, write: Callable[[bytes], Any]) -> Cut | None:
        """Hand `data` on as the weather has it; return how the connection ends, if it does."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self._open.wait()
        how = None
        if self._cut is not None:
            left, word = self._cut
            self._cut = (left - len(data), word) if left > len(data) else None
            if self._cut is None:
                data, how = data[:left], word
        data = self._with_flips(data)
        for part in self._parts(data):
            await write(part)
            self.passed += len(part)
            if self.bytes_per_s:
                await asyncio.sleep(len(part) / self.bytes_per_s)
                await self._open.wait()
        return how

    def _parts(self, data: bytes) -> Iterator[bytes]:
        size = max(1, int(self.bytes_per_s * STEP_S)) if self.bytes_per_s else max(1, len(data))
        for first in range(0, len(data), size):
            yield data[first : first + size]

    def _with_flips(self, data: bytes) -> bytes:
        every = self._flip_every
        if every is None:
            return data
        spoilt = bytearray(data)
        while self._until_flip < len(spoilt):
            spoilt[self._until_flip] ^= 1 << self._dice.randrange(8)
            self.flipped += 1
            self._until_flip += 1 + self._dice.randrange(2 * every)
        self._until_flip -= len(spoilt)
        return bytes(spoilt)


class Proxy:
    """Listens on a free port of loopback and hands on to `port` of loopback."""

    def __init__(self, port: int, seed: int = 1) -> None:
        self._target = port
        self.up, self.down = Weather(seed), Weather(seed + 1)
        self.port = 0
        self.accepted = 0
        self.refusing = False  # new connections are reset
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._writers) // 2

    def cut(self, how: Cut = "rst") -> int:
        """End every connection now; return how many there were."""
        found = self.connections
        for writer in list(self._writers):
            _end(writer, how)
        return found

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.refusing:
            _end(writer, "rst")
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _end(writer, "rst")
            return
        self._writers |= {writer, back}
        ways = [(reader, back, self.up), (there, writer, self.down)]
        tasks = [asyncio.ensure_future(pump(*way)) for way in ways]
        how: Cut = "fin"
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            how = next(iter(done)).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in (writer, back):
                _end(one, how)
                self._writers.discard(one)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, weather: Weather) -> Cut:
    """Carry one direction to its end; return how it ended."""

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    try:
        while data := await reader.read(CHUNK_BYTES):
            how = await weather.carry(data, write)
            if how is not None:
                return how
    except ConnectionError:
        return "rst"
    return "fin"


def _end(writer: asyncio.StreamWriter, how: Cut) -> None:
    """Close with a FIN after what is written, or reset at once."""
    if how == "fin":
        with contextlib.suppress(OSError):
            writer.close()
        return
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def in_thread(port: int, seed: int = 1) -> Iterator[tuple[Proxy, Callable[[Callable[[], Any]], Any]]]:
    """Yield a proxy on a loop of its own, and what calls a function there and returns its answer."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    async def call(function: Callable[[], Any]) -> Any:
        return function()

    proxy = run(call(lambda: Proxy(port, seed)))
    run(proxy.__aenter__())
    try:
        yield proxy, lambda function: run(call(function))
    finally:
        run(proxy.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
