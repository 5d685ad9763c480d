"""A native exchange: as many connections as its symbols need, opened one after the other."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

import msgspec

from daedalus.exchanges.adapter import Adapter, Sink
from daedalus.exchanges.shared import Shared, SocketOptions
from daedalus.exchanges.socket import NativeConnection, missing_of
from daedalus.kernel.errors import FatalError

__all__ = ["NativeExchange", "NativeOptions", "divided", "native", "natives"]

Channels = Mapping[str, Sequence[str]]
"""Our channel -> symbols as configured."""

_HOUR_MS = 3_600_000
_DAY_HOURS = 24
_AFTER_MIDNIGHT_S = (60.0, 1800.0)  # every collector of the world asks at 00:00


class NativeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of the exchange. Durations in seconds unless the name says otherwise."""

    id: str
    channels: dict[str, list[str]]
    exchange: str = ""  # the [exchanges.X] table, whose environment variables hold keys; empty: the id
    ws_url: str = ""  # empty: the adapter's own
    rest_url: str = ""  # the same
    levels: int = 50
    side: str = "auto"
    raw_info: bool = False
    raw_capture: str = "off"  # off | info | frames
    backfill: bool = True
    api_key_file: str = ""
    api_secret_file: str = ""
    symbols_per_connection: int = 50
    stagger_ms: float = 100.0
    keepalive_s: float = 12.0
    stale_min_s: float = 10.0
    stale_max_s: float = 120.0
    reconnect_base_s: float = 0.5
    reconnect_cap_s: float = 300.0
    rotate_after_h: float = 23.0
    share: int = 1  # of the exchange's limits for one address: 1/share is ours


def natives() -> dict[str, str]:
    """Return where the native adapters are, by id: "module:Class"."""
    return {
        "binance": "daedalus.exchanges.binance:BinanceAdapter",
        "binanceusdm": "daedalus.exchanges.binance_usdm:BinanceUsdmAdapter",
        "coinbase": "daedalus.exchanges.coinbase:CoinbaseAdapter",
        "kraken": "daedalus.exchanges.kraken:KrakenAdapter",
        "okx": "daedalus.exchanges.okx:OkxAdapter",
    }


def native(name: str) -> Any:
    """Return the class of a native adapter. Only this one is imported.

    Raises:
        FatalError: there is no such adapter.
    """
    known = natives()
    if name not in known:
        near = get_close_matches(name, known, 3) or sorted(known)
        raise FatalError(
            f"cannot collect from {name!r} natively: adapters are {', '.join(near)}; "
            'adapter = "ccxt" reaches every exchange of ccxt.pro'
        )
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)


class NativeExchange:
    """One exchange through a native adapter: the shell."""

    source = "native"

    def __init__(
        self,
        options: NativeOptions,
        sink: Sink,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Prepare the connections.

        Args:
            options: what is wanted.
            sink: the collector.
            uniform: `random.uniform`, or a test's own.

        Raises:
            FatalError: there is no such adapter, it does not have a channel, or its key cannot be used.
        """
        self._sink = sink
        self._uniform = uniform
        self._stagger_s = options.stagger_ms / 1000
        cls = native(options.id)
        socket = SocketOptions(
            url=options.ws_url or cls.default_ws_url,
            rest_url=options.rest_url or cls.default_rest_url,
            keepalive_s=options.keepalive_s,
            stale_min_s=options.stale_min_s,
            stale_max_s=options.stale_max_s,
            reconnect_base_s=options.reconnect_base_s,
            reconnect_cap_s=options.reconnect_cap_s,
            rotate_after_h=options.rotate_after_h,
            backfill=options.backfill,
            raw_capture=options.raw_capture,
        )
        self.shared = Shared(socket, cls.limits, options.share)
        parts = divided(cls, options.channels, options.symbols_per_connection)
        try:
            make = partial(_make, cls, options, _keys(cls, options))
            self.connections = [
                NativeConnection(partial(make, part), sink, self.shared, number, uniform)
                for number, part in enumerate(parts, 1)
            ]
        except ValueError as error:
            raise FatalError(str(error)) from None

    async def run(self) -> None:
        """Collect until closed.

        Raises:
            FatalError: the exchange refuses what the configuration asks for.
            Exception: whatever the sink raised.
        """
        try:
            async with asyncio.TaskGroup() as group:
                clock = group.create_task(self._hours())
                running = []
                for connection in self.connections:
                    connection.ask_instruments()
                    running.append(group.create_task(connection.run()))
                    await asyncio.sleep(self._stagger_s)
                await asyncio.wait(running)
                clock.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await self.shared.rest.close()

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(connection.close() for connection in self.connections))
        await self.shared.rest.close()

    async def _hours(self) -> None:
        """At each UTC hour store every full book, and once a day what the markets are."""
        wall_ms = self._sink.capture().wall_ms
        while True:
            hour = wall_ms // _HOUR_MS
            await asyncio.sleep(max((_HOUR_MS - wall_ms % _HOUR_MS) / 1000, 0.001))
            wall_ms = self._sink.capture().wall_ms
            if wall_ms // _HOUR_MS == hour:
                continue  # the timer's clock and the wall's are not the same
            for connection in self.connections:
                connection.snapshot()
                await asyncio.sleep(0)  # a deep book takes a millisecond
            if wall_ms // _HOUR_MS // _DAY_HOURS != hour // _DAY_HOURS:
                after_s = self._uniform(*_AFTER_MIDNIGHT_S)
                for connection in self.connections:
                    connection.ask_instruments(after_s)

    def _missing(self) -> str | None:
        """Return which symbols the exchange knows no more; None: it has them all."""
        faults = [fault for one in self.connections for fault in missing_of(one.adapter)]
        return ", ".join(sorted({stream.symbol for fault in faults for stream in fault.streams})) or None

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters since start."""
        shared = self.shared
        return {
            "connections": sum(connection.open for connection in self.connections),
            "connects": shared.connects_made,
            "messages": sum(connection.messages for connection in self.connections),
            "faults": shared.faults,
            "resyncs": shared.resyncs,
            "rotations": shared.rotations,
            "backfilled": shared.backfilled,
            "rest_requests": shared.rest.requests,
            "rest_retries": shared.rest.retries,
            "sends_waited": shared.sends_waited,
            "symbols_missing": self._missing(),
        }


def _make(cls: Any, options: NativeOptions, keys: dict[str, Any], channels: dict[str, list[str]]) -> Adapter:
    adapter: Adapter = cls(
        channels, levels=options.levels, side=options.side, raw_info=options.raw_info, **keys
    )
    return adapter


def _keys(cls: Any, options: NativeOptions) -> dict[str, Any]:
    """Return the credentials for an adapter that has a use for them."""
    if "credentials" not in signature(cls).parameters:
        return {}
    from daedalus.exchanges.credentials import load_credentials

    name = options.exchange or options.id
    return {"credentials": load_credentials(name, options.api_key_file, options.api_secret_file)}


def divided(cls: Any, channels: Channels, size: int) -> Iterator[Channels]:
    """Yield the channels of each connection: at most `size` symbols, and what may share one.

    Args:
        cls: of the adapter, whose `split`, if it has one, says which channels cannot share a connection.
        channels: what is wanted.
        size: symbols_per_connection.
    """
    symbols = list(dict.fromkeys(symbol for names in channels.values() for symbol in names))
    split = getattr(cls, "split", None)
    for first in range(0, len(symbols), size):
        some = set(symbols[first : first + size])
        part = {
            channel: [symbol for symbol in names if symbol in some] for channel, names in channels.items()
        }
        part = {channel: names for channel, names in part.items() if names}
        yield from split(part) if split is not None else (part,)
