"""What a collector is told, what of it is refused at once, and the adapter it makes of it."""

from difflib import get_close_matches
from typing import Any

import msgspec

from daedalus.exchanges.adapter import Sink
from daedalus.exchanges.ccxt_pro import CcxtExchange, CcxtOptions
from daedalus.exchanges.native import NativeExchange, NativeOptions
from daedalus.kernel.errors import FatalError
from daedalus.records import CHANNELS, sanitise

__all__ = ["CollectorSettings", "check", "make_adapter", "sanitised"]


class CollectorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One [exchanges.X] table and [link]."""

    exchange: str  # the table's name
    adapter: str  # native | ccxt
    id: str = ""  # native adapter or ccxt class; empty: the table's name
    channels: dict[str, list[str]]  # our channel -> symbols as configured
    runtime: str
    data: str = ""
    max_orderbook_depth: int = 50
    ccxt: dict[str, Any] = {}
    ws_url: str = ""
    rest_url: str = ""
    api_key_file: str = ""
    api_secret_file: str = ""
    side: str = "auto"
    subscription_stagger_ms: float = 100
    max_concurrent_subscriptions: int = 5
    symbols_per_connection: int = 50
    keepalive_s: float = 12
    stale_min_s: float = 10
    stale_max_s: float = 120
    reconnect_base_s: float = 0.5
    reconnect_cap_s: float = 300
    rotate_after_h: float = 23
    backfill: bool = True
    raw_capture: str = "off"  # off | info | frames
    batch_records: int = 64
    batch_ms: float = 5
    spool_mb: float = 64


def make_adapter(settings: CollectorSettings, sink: Sink) -> CcxtExchange | NativeExchange:
    """Return the shell of the exchange.

    Raises:
        FatalError: it knows no such exchange or channel.
    """
    common: dict[str, Any] = {
        "id": settings.id or settings.exchange,
        "channels": settings.channels,
        "levels": settings.max_orderbook_depth,
        "side": settings.side,
        "raw_info": settings.raw_capture == "info",
        "stagger_ms": settings.subscription_stagger_ms,
        "keepalive_s": settings.keepalive_s,
        "stale_min_s": settings.stale_min_s,
        "stale_max_s": settings.stale_max_s,
        "reconnect_base_s": settings.reconnect_base_s,
        "reconnect_cap_s": settings.reconnect_cap_s,
    }
    if settings.adapter == "native":
        return NativeExchange(
            NativeOptions(
                ws_url=settings.ws_url, symbols_per_connection=settings.symbols_per_connection, **common
            ),
            sink,
        )
    return CcxtExchange(
        CcxtOptions(
            overrides=settings.ccxt,
            api_key_file=settings.api_key_file,
            api_secret_file=settings.api_secret_file,
            max_concurrent=settings.max_concurrent_subscriptions,
            **common,
        ),
        sink,
    )


def sanitised(name: str) -> str:
    """Return `name` as `records.sanitise` has it; FatalError when it cannot be a name."""
    try:
        return sanitise(name)
    except ValueError as error:
        raise FatalError(str(error)) from None


def check(settings: CollectorSettings) -> None:
    """Refuse what cannot be served, and two symbols that would fall into one partition."""
    if settings.adapter not in ("native", "ccxt"):
        raise FatalError(f"cannot use the adapter {settings.adapter!r}: native or ccxt")
    for channel, symbols in settings.channels.items():
        if channel not in CHANNELS:
            near = get_close_matches(channel, CHANNELS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise FatalError(f"cannot collect the channel {channel!r}: {', '.join(CHANNELS)}{hint}")
        taken: dict[str, str] = {}
        for symbol in symbols:
            other = taken.setdefault(sanitised(symbol).casefold(), symbol)
            if other != symbol:
                raise FatalError(f"cannot collect {symbol!r}: it has the same file name as {other!r}")
    if settings.raw_capture not in ("off", "info"):
        raise FatalError(f"cannot capture raw {settings.raw_capture!r}: off or info")
    if not any(settings.channels.values()):
        raise FatalError(f"cannot collect from {settings.exchange}: no channel has a symbol")
