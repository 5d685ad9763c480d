"""The messages of the link: MessagePack arrays, tagged; DATA has the blob as a second part."""

from collections.abc import Sequence

import msgspec

from daedalus.kernel.journal import Mark

__all__ = ["Ack", "Data", "Hello", "Nack", "Welcome", "decode_reply", "decode_request", "encode", "join"]


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
decode_request = msgspec.msgpack.Decoder(Hello | Data).decode
decode_reply = msgspec.msgpack.Decoder(Welcome | Ack | Nack).decode


def join(records: Sequence[bytes]) -> bytes:
    r"""Return the blob of encoded records: one MessagePack array of them.

    >>> join([b"\x01", b"\x02"])
    b'\x92\x01\x02'
    """
    count = len(records)
    if count < 16:  # fixarray
        head = bytes((0x90 | count,))
    elif count < 1 << 16:
        head = b"\xdc" + count.to_bytes(2, "big")
    else:
        head = b"\xdd" + count.to_bytes(4, "big")
    return head + b"".join(records)
