"""Ends of a link for tests: a journal in memory, and peers that speak by hand."""

import asyncio

import msgspec
import zmq

from daedalus.kernel.journal import Cursor, Entry, Mark
from daedalus.kernel.link import LinkReceiver, LinkSender
from daedalus.kernel.link.wire import (
    Ack,
    Data,
    Hello,
    Nack,
    Welcome,
    decode_reply,
    decode_request,
    encode,
    pack,
)
from daedalus.kernel.spool import Spool
from tests.loops import until


def record(number: int) -> bytes:
    return msgspec.msgpack.encode(number)


def describe(data: bytes) -> tuple[str, Mark] | None:
    number = msgspec.msgpack.decode(data)
    if isinstance(number, str):
        return None  # padding
    return f"S{number % 2}", Mark(number * 1000, number, "s1")


def offer(link: LinkSender, number: int) -> bool:
    data = record(number)
    stream, mark = describe(data) or ("", Mark(0, 0, ""))
    return link.append(data, stream, mark)


class Disk:
    """A journal in memory: what was committed, group by group."""

    def __init__(self) -> None:
        self.groups: list[list[Entry]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, group: list[Entry]) -> None:
        await self.gate.wait()
        self.groups.append(group)

    @property
    def numbers(self) -> list[int]:
        return [
            number
            for group in self.groups
            for entry in group
            for number in msgspec.msgpack.decode(entry.blob)[entry.skip :]
        ]


def sending(address: str, spool: Spool, **options) -> LinkSender:
    return LinkSender(address, sender="binance", source="ccxt", spool=spool, describe=describe, **options)


def receiving(address: str, disk: Disk, cursors: dict[str, Cursor] | None = None, **options) -> LinkReceiver:
    options = {"commit_ms": 5, **options}
    return LinkReceiver(address, cursors={} if cursors is None else cursors, commit=disk.commit, **options)


class Collector:
    """A sending end by hand: a plain DEALER."""

    def __init__(self, address: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)

    async def ask(self, message: Hello | Data, records: list[bytes] | None = None) -> Welcome | Ack | Nack:
        self.tell(message, records)
        return await self.hear()

    def tell(self, message: Hello | Data, records: list[bytes] | None = None) -> None:
        self.socket.send(encode(message) if isinstance(message, Hello) else pack(message, records or []))

    async def hear(self) -> Welcome | Ack | Nack:
        await until(lambda: self.socket.poll(0))
        return decode_reply(self.socket.recv())

    def data(self, epoch: int, first: int, count: int) -> tuple[Data, list[bytes]]:
        numbers = range(first, first + count)
        return Data(epoch, first, count, {}), [record(number) for number in numbers]

    def close(self) -> None:
        self.socket.close()


class Writer:
    """A receiving end by hand: a plain ROUTER."""

    def __init__(self, address: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.rcvhwm = 4
        self.socket.bind(address)
        self.identity = b""

    async def hear(self) -> Hello | Data:
        await until(lambda: self.socket.poll(0))
        self.identity, message = self.socket.recv_multipart()
        request, blob = decode_request(memoryview(message))
        self.blob = msgspec.msgpack.decode(blob) if blob else None
        return request

    def say(self, message: Welcome | Ack | Nack) -> None:
        self.socket.send_multipart((self.identity, encode(message)))

    def close(self) -> None:
        self.socket.close()
