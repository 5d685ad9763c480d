"""Whether the wall clock may be believed. A board without a battery boots in the past until it hears NTP."""

from pathlib import Path

__all__ = ["SYNCHRONIZED", "is_synchronized"]

SYNCHRONIZED = "run/systemd/timesync/synchronized"  # made by systemd-timesyncd at the first answer
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


def is_synchronized(root: Path = Path("/")) -> bool:
    """Return whether the clock has been set from the network: timesyncd says so, or the kernel does.

    The kernel is told by every time daemon (chrony, ntpd, timesyncd) and takes it back when it has heard
    nothing for too long. Where it may not be asked, nothing is known and the answer is no.
    """
    return (root / SYNCHRONIZED).exists() or _kernel_says_so()


def _kernel_says_so() -> bool:
    import ctypes

    class Timex(ctypes.Structure):
        """As much of struct timex as is looked at; modes = 0 asks and sets nothing."""

        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 256),
        )

    timex = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    return 0 <= state < _TIME_ERROR and not timex.status & _STA_UNSYNC
