"""Faults on demand: the seam through which everything that leaves the exchange passes.

`outgoing` sees each message of each connection, `rest` each REST request, `handshake` each new websocket.
The base lets everything through; a fault is a subclass that does not. `close` and `abort` need no seam: they
end connections and are done by the server.
"""

from collections.abc import Iterable

from daedalus.simulator.hub import Connection

__all__ = ["Faults"]


class Faults:
    """No fault at all."""

    def outgoing(self, connection: Connection, message: bytes) -> Iterable[bytes]:
        """Return the messages that really leave in place of `message`."""
        del connection
        return (message,)

    def rest(self, path: str) -> tuple[int, bytes] | None:
        """Return status and body that replace the real answer, or None."""
        del path
        return None

    async def handshake(self, exchange: str) -> None:
        """Be awaited before a websocket is accepted."""
        del exchange
