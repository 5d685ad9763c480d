"""The bytes of a saved engine: whose they are comes first, a checksum last.

"DFE2" | u32 length of the body | body | u32 CRC-32 of all before it
body: MessagePack [schema id, parameters' hash, state]

A checksum says that the bytes are those that were written, not that an engine wrote them. So every part
proves what it loads (lengths, types, positions, counts) and raises ValueError; it is loaded into a new
machine, which takes the place of the old one only when all of it is whole.
"""

import struct
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["block", "nothing", "open_sealed", "part", "seal"]

_MAGIC = b"DFE2"
_HEAD = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_Body = tuple[str, str, list[object]]


def seal(schema_id: str, params_hash: str, state: list[object]) -> bytes:
    """Return `state` (nested lists of bytes, numbers, text, None) as a checkpoint."""
    body = msgspec.msgpack.encode([schema_id, params_hash, state])
    head = _HEAD.pack(_MAGIC, len(body))
    return b"".join((head, body, _CRC.pack(zlib.crc32(body, zlib.crc32(head)))))


def open_sealed(blob: "Buffer", schema_id: str, params_hash: str) -> list[object]:
    """Return the state in a checkpoint.

    Raises:
        ValueError: not a checkpoint, damaged, or of another schema or other parameters.
    """
    blob = memoryview(blob).cast("B")
    magic = bytes(blob[:4])
    if magic != _MAGIC:
        raise ValueError(f"cannot restore the engine: not a checkpoint (begins with {magic!r})")
    if len(blob) < _HEAD.size + _CRC.size:
        raise ValueError(f"cannot restore the engine: the checkpoint is damaged: {len(blob)} bytes")
    length = _HEAD.unpack_from(blob)[1]
    if len(blob) != _HEAD.size + length + _CRC.size:
        raise ValueError(
            f"cannot restore the engine: the checkpoint is damaged: {len(blob)} bytes,"
            f" {_HEAD.size + length + _CRC.size} expected"
        )
    (crc,) = _CRC.unpack_from(blob, len(blob) - _CRC.size)
    if zlib.crc32(blob[: -_CRC.size]) != crc:
        raise ValueError("cannot restore the engine: the checkpoint is damaged: its checksum differs")
    try:
        body: _Body = msgspec.msgpack.decode(blob[_HEAD.size : -_CRC.size], type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise ValueError(f"cannot restore the engine: the checkpoint is none of an engine: {fault}") from None
    theirs, their_params, state = body
    if theirs != schema_id:
        raise ValueError(f"cannot restore the engine: checkpoint of schema {theirs}, ours is {schema_id}")
    if their_params != params_hash:
        raise ValueError(
            f"cannot restore the engine: checkpoint of parameters {their_params}, ours are {params_hash}"
        )
    return state


def part(state: object, count: int) -> list[Any]:
    """Return one list of a state, of `count` elements.

    Raises:
        ValueError: it is none, or of another length.
    """
    if not isinstance(state, list) or len(state) != count:
        found = f"{len(state)}" if isinstance(state, list) else type(state).__name__
        raise ValueError(f"cannot restore the engine: a list of {count} elements is {found}")
    return state


def block(part: object, kind: str, count: int) -> Any:
    """Return one block of a state, writable and of its own: `count` float64 ("d") or int64 ("q") values.

    Raises:
        ValueError: it has another length.
    """
    if not isinstance(part, bytes) or len(part) != 8 * count:
        found = f"{len(part)} bytes" if isinstance(part, bytes) else type(part).__name__
        raise ValueError(f"cannot restore the engine: a block of {8 * count} bytes is {found}")
    return memoryview(bytearray(part)).cast(kind)  # type: ignore[call-overload]


def nothing(parts: object) -> None:
    """Take the state of a part that has none.

    Raises:
        ValueError: there is one.
    """
    if parts != []:
        raise ValueError("cannot restore the engine: there is state of a part that keeps none")
