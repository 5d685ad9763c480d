"""Whether the wall clock can be believed. A machine without a battery clock boots in the past."""

import ctypes
from pathlib import Path

__all__ = ["synchronised"]

_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
_TIMEX_BYTES = 512  # struct timex is 208 on 64 bit; its first field, modes = 0, makes the call read-only
_TIME_ERROR = 5  # the clock is not synchronised


def synchronised() -> bool:
    """Return whether the kernel or systemd-timesyncd says that the clock is synchronised."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = ctypes.CDLL(None).adjtimex(buffer)
    return state not in (-1, _TIME_ERROR) or _TIMESYNCD.exists()
