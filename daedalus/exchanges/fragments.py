"""A message that arrives in several frames, put together again: bounded in bytes and in frames.

Both bounds count: frames without a byte in them never reach the first.
"""

from daedalus.exchanges.transport import FRAME_BYTES_MAX

__all__ = ["PARTS_MAX", "Fragments", "TooLargeError"]

PARTS_MAX = 10_000


class TooLargeError(Exception):
    """The message is above a bound, which this names."""


class Fragments:
    """The frames of one message so far."""

    __slots__ = ("_bytes", "_parts", "text")

    def __init__(self) -> None:
        """Begin between two messages."""
        self._parts: list[bytes] = []
        self._bytes = 0
        self.text = True  # the first frame says whether it is text

    def __bool__(self) -> bool:
        """Return whether a message has begun."""
        return bool(self._parts)

    def add(self, payload: bytes | memoryview, *, final: bool, text: bool) -> bytes | None:
        """Return the whole message with its last frame, None before it.

        Raises:
            TooLargeError: there is no whole to be had.
        """
        parts = self._parts
        if not parts:
            self.text = text
        parts.append(bytes(payload))
        self._bytes += len(payload)
        if self._bytes > FRAME_BYTES_MAX:
            raise TooLargeError(f"message above {FRAME_BYTES_MAX} bytes")
        if len(parts) > PARTS_MAX:
            raise TooLargeError(f"message above {PARTS_MAX} frames")
        if not final:
            return None
        whole = b"".join(parts)
        parts.clear()
        self._bytes = 0
        return whole
