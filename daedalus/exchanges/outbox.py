"""Messages on their way to the exchange, at the pace it allows on one connection."""

import asyncio
from collections import deque

from daedalus.exchanges.bucket import Bucket
from daedalus.exchanges.transport import Transport

__all__ = ["Outbox"]

_WAITING_MAX = 1000  # more than that is no subscription any more, but a loop


class Outbox:
    """The messages of one connection, first in first out."""

    def __init__(self, bucket: Bucket) -> None:
        """Begin empty.

        Args:
            bucket: of messages on this connection.
        """
        self._bucket = bucket
        self._queue: deque[bytes] = deque()
        self._transport: Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waited = 0

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._queue)

    def begin(self, transport: Transport) -> None:
        """Send over `transport` from now on."""
        self._transport = transport

    def send(self, data: bytes) -> bool:
        """Send now if the exchange allows it, otherwise as soon as it does; False: too many wait already."""
        if len(self._queue) >= _WAITING_MAX:
            return False
        self._queue.append(data)
        if self._timer is None:
            self._pump()
        self._waited += bool(self._queue)
        return True

    def _pump(self) -> None:
        self._timer = None
        while self._queue and self._transport is not None:
            now = self._bucket.now()
            wait_s = self._bucket.ready_in(now)
            if wait_s > 0:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._pump)
                return
            self._bucket.spend(now)
            self._transport.send(self._queue.popleft())

    def stop(self) -> int:
        """Send nothing more; return how many messages had to wait, once."""
        self._transport = None
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waited, self._waited = self._waited, 0
        return waited
