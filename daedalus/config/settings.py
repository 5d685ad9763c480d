"""What each built-in actor is told: the values of its Settings, by name. Pure.

The Settings Structs live beside their actors, which this room does not import (they bring zmq and more);
tests/test_config.py holds that every key arrives in a field of the same name.
"""

from typing import Any

from daedalus.config.budgets import shares
from daedalus.config.models import Channels, Exchange, File
from daedalus.records import FRAMES, sanitise

__all__ = [
    "channels_in_use",
    "collector",
    "feature",
    "feature_params",
    "gateway",
    "stored_name",
    "syncer",
    "writer",
]

_FEATURE_CHANNELS = ("orderbook", "trades", "ticker")  # what the kernels read


def stored_name(table: Exchange, symbol: str) -> str:
    """Return what a symbol of an exchange is called on disk, in topics and in names of actors.

    Raises:
        ValueError: it cannot be a name.
    """
    return table.aliases.get(symbol) or sanitise(symbol)


def collector(file: File, name: str, *, data: str, runtime: str) -> dict[str, Any]:
    """Return the settings of the collector of [exchanges.NAME]."""
    table: dict[str, Any] = file.exchanges[name].model_dump()
    table["channels"] = file.exchanges[name].channels.in_use()
    table["id"] = table["id"] or name
    shared = {**file.link.model_dump(), **file.disk.model_dump(), "data": data, "runtime": runtime}
    return {"exchange": name, **table, **shared, "share": shares(file)[name]}


def writer(file: File, channel: str, *, data: str, runtime: str) -> dict[str, Any]:
    """Return the settings of the writer of one channel."""
    shared = {**file.disk.model_dump(), "data": data, "runtime": runtime}
    return {"channel": channel, **file.writer.model_dump(), **shared}


def feature_params(file: File, exchange: str, symbol: str) -> dict[str, Any]:
    """Return the kernels' parameters for one symbol: [features], then its own table over it."""
    shared: dict[str, Any] = {
        key: value for key, value in file.features.items() if not isinstance(value, dict)
    }
    own: dict[str, Any] = file.features.get(f"{exchange}:{symbol}", {})
    return shared | own


def feature(file: File, exchange: str, symbol: str, *, data: str, runtime: str) -> dict[str, Any]:
    """Return the settings of the feature actor of one (exchange, symbol)."""
    return {
        "exchange": exchange,
        "symbol": stored_name(file.exchanges[exchange], symbol),
        "symbol_raw": symbol,
        "channels": _channels_of(file.exchanges[exchange], symbol),
        "params": feature_params(file, exchange, symbol),
        "data": data,
        "runtime": runtime,
    }


def gateway(file: File, *, runtime: str) -> dict[str, Any]:
    """Return the settings of the gateway."""
    return {**file.gateway.model_dump(), "exchanges": list(file.exchanges), "runtime": runtime}


def syncer(file: File, *, data: str) -> dict[str, Any]:
    """Return the settings of the syncer."""
    table = file.sync.model_dump()
    del table["enabled"]
    return {**table, "data": data}


def _channels_of(table: Exchange, symbol: str) -> list[str]:
    return [channel for channel in _FEATURE_CHANNELS if symbol in getattr(table.channels, channel)]


def channels_in_use(file: File) -> list[str]:
    """Return the channels that at least one exchange collects, in their fixed order; raw frames last."""
    used = {channel for table in file.exchanges.values() for channel in table.channels.in_use()}
    if any(table.raw_capture == "frames" for table in file.exchanges.values()):
        used.add(FRAMES)
    return [channel for channel in (*Channels.model_fields, FRAMES) if channel in used]
