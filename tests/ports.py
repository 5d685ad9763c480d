"""Two neighbouring TCP ports for a gateway in a test, outside the range from which others get theirs."""

import itertools
import os
import socket

__all__ = ["free_pair"]

_FIRST, _PAIRS = 20_000, 6_000  # below the 32768 at which Linux begins to hand out ports
_tried = itertools.count()


def free_pair() -> int:
    """Return a port that is free on loopback, as is the one above it; not the same twice in a process."""
    for at in _tried:
        port = _FIRST + 2 * ((os.getpid() * 31 + at) % _PAIRS)
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
                return port
        except OSError:
            continue
    raise AssertionError
