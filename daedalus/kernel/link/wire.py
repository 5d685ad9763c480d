"""The messages of the link: MessagePack arrays, tagged. DATA is followed by its blob in the same part.

    DATA on the wire = u8 0xC1 (never the first byte of MessagePack), u32 bytes of the head, head, blob

One part and not two: each costs both sides as much as the copying of 20 KiB (measured).
"""

import struct
from collections.abc import Sequence

import msgspec

from daedalus.kernel.journal import Mark

__all__ = [
    "Ack",
    "Data",
    "Hello",
    "Nack",
    "Welcome",
    "decode_reply",
    "decode_request",
    "encode",
    "opening",
    "pack",
]

_DATA = struct.Struct("<BI")
_MARK = 0xC1


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Who the sender is and what its spool still has."""

    sender: str
    source: str
    epoch: int
    acked: int  # highest acknowledged sequence
    oldest: int  # lowest sequence that can be sent again


class Data(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The head of a frame; the blob follows as the second part."""

    epoch: int
    first_seq: int
    count: int
    marks: dict[str, Mark]


class Welcome(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """The answer to HELLO."""

    epoch: int
    stored: int  # acknowledged up to here
    received: int  # go on behind this
    marks: dict[str, Mark]  # the last stored record of each stream, of earlier epochs as well


class Ack(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Everything up to `stored` is on disk."""

    epoch: int
    stored: int


class Nack(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """A hole: go on behind `received`. Epoch 0: the sender is not known here, it has to say HELLO."""

    epoch: int
    received: int


encode = msgspec.msgpack.Encoder().encode
_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_data = msgspec.msgpack.Decoder(Data).decode
decode_reply = msgspec.msgpack.Decoder(Welcome | Ack | Nack).decode


def decode_request(message: memoryview) -> tuple[Hello | Data, memoryview]:
    """Return what a sender says, and the blob of DATA.

    Raises:
        msgspec.DecodeError: it is nothing of ours.
    """
    if len(message) < _DATA.size or message[0] != _MARK:
        return _decode_hello(message), message[:0]
    start = _DATA.size + _DATA.unpack_from(message)[1]
    return _decode_data(message[_DATA.size : start]), message[start:]


def pack(data: Data, records: Sequence[bytes]) -> bytes:
    r"""Return DATA with the records that it announces: the blob is one MessagePack array of them.

    >>> bytes(decode_request(memoryview(pack(Data(7, 1, 2, {}), [b"\x01", b"\x02"])))[1])
    b'\x92\x01\x02'
    """
    return b"".join((opening(data), *records))


def opening(data: Data) -> bytes:
    """Return what a DATA message begins with; its records follow, one behind the other."""
    head = encode(data)
    return b"".join((_DATA.pack(_MARK, len(head)), head, _array(data.count)))


def _array(count: int) -> bytes:
    """The head of a MessagePack array."""
    if count < 16:  # fixarray
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
