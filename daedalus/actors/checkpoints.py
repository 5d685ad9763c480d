"""Checkpoints of a feature actor: its engine and what it has been fed, in a file that is whole or refused.

    {data}/state/features/{exchange}/{SYMBOL}/{n:08d}.ckpt      the newest two are kept
    "DFC1" | u32 bytes of the head | head | engine | u32 CRC-32 of all before it
    head: MessagePack [1, version of the program, exchange, symbol, actor's session, number of the last row,
          first capture time that is published (ns), {channel: [session, number]},
          [channels that owe a gap flag], session of the last record, its capture time (ns)]
    engine: FeatureEngine.snapshot(); empty before the first record

A file is written under another name, made durable, and renamed, so a crash at any instant leaves the two
before it. A damaged one is put aside as `.bad` and the one before it is used.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from daedalus import __version__
from daedalus.dataset.durable import make_directory, sync_directory

__all__ = ["Checkpoint", "Checkpoints"]

FORMAT = 1
KEPT = 2
_MAGIC = b"DFC1"
_U32 = struct.Struct("<I")
_MOST = 2**62  # of a number or a time: beyond it none can be counted on
_SUFFIX = ".ckpt"
_BAD = ".bad"
_DRAFT = ".tmp"


class Checkpoint(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """The head of a file."""

    format: int = FORMAT
    version: str = __version__
    exchange: str
    symbol: str
    session_id: str  # the actor's, which a restart continues
    seq: int  # of the last row
    since_ns: int  # rows of records captured before were never published
    positions: dict[str, tuple[str, int]]
    owed: tuple[str, ...]
    last_session: str
    last_ts: int  # ns UTC


_decoder = msgspec.msgpack.Decoder(Checkpoint)


def pack(head: Checkpoint, engine: bytes) -> bytes:
    """Return the bytes of a file."""
    told = msgspec.msgpack.encode(head)
    blob = b"".join((_MAGIC, _U32.pack(len(told)), told, engine))
    return blob + _U32.pack(zlib.crc32(blob))


def unpack(blob: bytes, exchange: str, symbol: str) -> tuple[Checkpoint, bytes]:
    """Return head and engine.

    Raises:
        ValueError: damaged, of another format, or of another symbol.
    """
    if len(blob) < len(_MAGIC) + 2 * _U32.size or blob[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"it is no checkpoint: {len(blob)} bytes, begins with {blob[:4]!r}")
    if zlib.crc32(blob[: -_U32.size]) != _U32.unpack(blob[-_U32.size :])[0]:
        raise ValueError(f"it is damaged: its checksum differs ({len(blob)} bytes)")
    begin = len(_MAGIC) + _U32.size
    end = begin + _U32.unpack_from(blob, len(_MAGIC))[0]
    found = msgspec.msgpack.decode(blob[begin:end])
    if not isinstance(found, list) or not found or found[0] != FORMAT:
        raise ValueError(
            f"it is of format {found[0] if isinstance(found, list) and found else found!r}, not 1"
        )
    head = _decoder.decode(blob[begin:end])
    if (head.exchange, head.symbol) != (exchange, symbol):
        raise ValueError(f"it is of {head.exchange}:{head.symbol}")
    if not 0 <= head.seq <= _MOST or not 0 <= head.last_ts <= _MOST or abs(head.since_ns) > _MOST:
        raise ValueError(f"it is of row {head.seq}, captured at {head.last_ts} ns, since {head.since_ns} ns")
    return head, blob[end : -_U32.size]


class Checkpoints:
    """The files of one symbol. Blocking calls: the owner keeps `save` off its event loop."""

    def __init__(self, directory: Path, exchange: str, symbol: str) -> None:
        """Store where they are. Names are sanitised."""
        self.directory = directory
        self._exchange, self._symbol = exchange, symbol
        self._next = 1

    def load(
        self, restore: Callable[[bytes], None], refused: Callable[[Path, str], None]
    ) -> Checkpoint | None:
        """Return the newest checkpoint that can be used, its engine restored; None if there is none.

        Args:
            restore: takes the engine's part, unless it is empty; ValueError refuses it.
            refused: is told the path and the cause of each that is put aside.
        """
        with contextlib.suppress(OSError):  # a disk that takes nothing keeps them
            for leftover in self.directory.glob(f"*{_DRAFT}"):
                leftover.unlink()
        numbered = self._numbered()
        self._next = numbered[-1][0] + 1 if numbered else 1
        for _, path in reversed(numbered):
            try:
                head, engine = unpack(path.read_bytes(), self._exchange, self._symbol)
                if engine:
                    restore(engine)
            except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
                refused(path, str(error))
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(_BAD))
            else:
                return head
        return None

    def save(self, head: Checkpoint, engine: bytes) -> Path:
        """Write one more, durably, and remove all but the newest two.

        Raises:
            OSError: it could not be written; those before are as they were.
        """
        make_directory(self.directory)
        path = self.directory / f"{self._next:08d}{_SUFFIX}"
        draft = path.with_suffix(_DRAFT)
        with draft.open("wb") as file:
            file.write(pack(head, engine))
            file.flush()
            os.fdatasync(file.fileno())
        draft.rename(path)
        sync_directory(self.directory)
        self._next += 1
        for suffix in (_SUFFIX, _BAD):
            for _, old in self._numbered(suffix)[:-KEPT]:
                with contextlib.suppress(OSError):
                    old.unlink()
        return path

    def _numbered(self, suffix: str = _SUFFIX) -> list[tuple[int, Path]]:
        found = self.directory.glob(f"*{suffix}")
        return sorted((int(path.stem), path) for path in found if path.stem.isdecimal())
