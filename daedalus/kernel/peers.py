"""What each peer of a publisher has subscribed to, by the connection its messages came through.

XPUB hands up whatever a peer says: a subscription it has already, the end of one it never had. When a
connection ends XPUB says once of each of its prefixes that it ended, and not whose it was.
"""

import os

import zmq

__all__ = ["Peers"]


class Peers:
    """Prefixes by connection; a connection is a descriptor and the socket it stood for."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[int, set[bytes]]] = {}  # descriptor -> inode of its socket, prefixes

    def prefixes(self, frame: "zmq.Frame") -> set[bytes] | None:
        """Return what the sender of this has told of; None: XPUB itself speaks, of one that is gone."""
        try:
            descriptor = int(frame.get("__fd"))
        except zmq.ZMQError:
            return None
        known = self._held.get(descriptor)
        try:
            inode = os.fstat(descriptor).st_ino
        except OSError:  # closed since it said so
            return known[1] if known is not None else set()
        if known is None or known[0] != inode:  # the number is another connection's by now
            known = self._held[descriptor] = inode, set()
        return known[1]
