"""A native exchange: as many connections as its symbols need, opened one after the other."""

import asyncio
from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING

import msgspec

from daedalus.exchanges.adapter import Sink
from daedalus.exchanges.socket import NativeConnection, SocketOptions
from daedalus.kernel.errors import FatalError

if TYPE_CHECKING:
    from daedalus.exchanges.coinbase import CoinbaseAdapter

__all__ = ["NativeExchange", "NativeOptions", "natives"]


class NativeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of the exchange. Durations in seconds unless the name says otherwise."""

    id: str
    channels: dict[str, list[str]]
    ws_url: str = ""  # empty: the adapter's own
    levels: int = 50
    side: str = "auto"
    raw_info: bool = False
    symbols_per_connection: int = 50
    stagger_ms: float = 100.0
    keepalive_s: float = 12.0
    stale_min_s: float = 10.0
    stale_max_s: float = 120.0
    reconnect_base_s: float = 0.5
    reconnect_cap_s: float = 300.0


def natives() -> "dict[str, type[CoinbaseAdapter]]":
    """Return the native adapters by id."""
    from daedalus.exchanges.coinbase import CoinbaseAdapter

    return {"coinbase": CoinbaseAdapter}


class NativeExchange:
    """One exchange through a native adapter: the shell."""

    source = "native"

    def __init__(self, options: NativeOptions, sink: Sink) -> None:
        """Prepare the connections.

        Raises:
            FatalError: there is no such adapter, or it does not have a channel.
        """
        known = natives()
        if options.id not in known:
            near = get_close_matches(options.id, known, 3) or sorted(known)
            raise FatalError(
                f"cannot collect from {options.id!r} natively: adapters are {', '.join(near)}; "
                'adapter = "ccxt" reaches every exchange of ccxt.pro'
            )
        make = known[options.id]
        self._stagger_s = options.stagger_ms / 1000
        socket = SocketOptions(
            url=options.ws_url or make.default_ws_url,
            keepalive_s=options.keepalive_s,
            stale_min_s=options.stale_min_s,
            stale_max_s=options.stale_max_s,
            reconnect_base_s=options.reconnect_base_s,
            reconnect_cap_s=options.reconnect_cap_s,
        )
        try:
            adapters = [
                make(part, levels=options.levels, side=options.side, raw_info=options.raw_info)
                for part in _parts(options)
            ]
        except ValueError as error:
            raise FatalError(str(error)) from None
        self.connections = [NativeConnection(adapter, sink, socket) for adapter in adapters]

    async def run(self) -> None:
        """Collect until closed.

        Raises:
            FatalError: the exchange refuses what the configuration asks for.
            Exception: whatever the sink raised.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for connection in self.connections:
                    group.create_task(connection.run())
                    await asyncio.sleep(self._stagger_s)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def close(self) -> None:
        """Close every connection."""
        for connection in self.connections:
            await connection.close()

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters since start."""
        return {
            "connections": sum(connection.open for connection in self.connections),
            "connects": sum(connection.connects for connection in self.connections),
            "messages": sum(connection.messages for connection in self.connections),
            "faults": sum(connection.errors for connection in self.connections),
        }


def _parts(options: NativeOptions) -> Iterator[dict[str, list[str]]]:
    """Yield the channels of each connection: at most `symbols_per_connection` symbols."""
    symbols = list(dict.fromkeys(symbol for names in options.channels.values() for symbol in names))
    size = options.symbols_per_connection
    for first in range(0, len(symbols), size):
        some = set(symbols[first : first + size])
        part = {
            channel: [symbol for symbol in names if symbol in some]
            for channel, names in options.channels.items()
        }
        yield {channel: names for channel, names in part.items() if names}
