"""The bytes of a saved engine: whose they are comes first, a checksum last.

"DFE1" | u32 length of the body | body | u32 CRC-32 of all before it
body: MessagePack [schema id, parameters' hash, state]
"""

import struct
import zlib
from typing import Any

import msgspec

__all__ = ["block", "nothing", "open_sealed", "seal"]

_MAGIC = b"DFE1"
_HEAD = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_Body = tuple[str, str, list[object]]


def seal(schema_id: str, params_hash: str, state: list[object]) -> bytes:
    """Return `state` (nested lists of bytes, numbers, text, None) as a checkpoint."""
    body = msgspec.msgpack.encode([schema_id, params_hash, state])
    blob = _HEAD.pack(_MAGIC, len(body)) + body
    return blob + _CRC.pack(zlib.crc32(blob))


def open_sealed(blob: bytes, schema_id: str, params_hash: str) -> list[object]:
    """Return the state in a checkpoint.

    Raises:
        ValueError: not a checkpoint, damaged, or of another schema or other parameters.
    """
    blob = bytes(blob)
    if blob[:4] != _MAGIC:
        raise ValueError(f"cannot restore the engine: not a checkpoint (begins with {blob[:4]!r})")
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
    body: _Body = msgspec.msgpack.decode(blob[_HEAD.size : -_CRC.size], type=_Body)
    theirs, their_params, state = body
    if theirs != schema_id:
        raise ValueError(f"cannot restore the engine: checkpoint of schema {theirs}, ours is {schema_id}")
    if their_params != params_hash:
        raise ValueError(
            f"cannot restore the engine: checkpoint of parameters {their_params}, ours are {params_hash}"
        )
    return state


def block(part: object, kind: str, count: int) -> Any:
    """Return one block of a state, writable: `count` float64 ("d") or int64 ("q") values.

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
