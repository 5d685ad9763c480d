"""What a collector is told, what of it is refused at once, and the adapter it makes of it."""

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.actors.diskmarks import DiskMarks
from daedalus.dataset.layout import Layout
from daedalus.dataset.symbols import Registry
from daedalus.exchanges.adapter import DepthFact, Sink, Stream
from daedalus.exchanges.native import NativeExchange, NativeOptions
from daedalus.kernel.errors import FatalError
from daedalus.kernel.telemetry import get_logger
from daedalus.records import CHANNELS, FRAMES, sanitise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daedalus.exchanges.ccxt_pro import CcxtExchange

__all__ = [
    "CollectorSettings",
    "check",
    "claim_names",
    "last_heard",
    "make_adapter",
    "names_of",
    "sanitised",
    "whole_books",
]

_WATCHED = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = (FRAMES, "gaps", "instruments")  # directories of ours that are no channels


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
    recycle_after_h: float = 0  # 0: never
    recycle_mb_per_h: float = 32  # 0: never
    backfill: bool = True
    bulk: bool = False
    raw_capture: str = "off"  # off | info | frames
    aliases: dict[str, str] = {}  # symbol as configured -> its name on disk
    batch_records: int = 64
    batch_ms: float = 5
    spool_mb: float = 64
    warn_pct: float = 10  # of the data's file system, free
    evict_pct: float = 5
    stop_pct: float = 2
    share: int = 1  # so many collectors divide what the exchange allows our address
    memory_soft: int = 0  # bytes, the supervisor's limit; 0: memory growth is judged by its slope alone


def make_adapter(settings: CollectorSettings, sink: Sink) -> "CcxtExchange | NativeExchange":
    """Return the shell of the exchange. ccxt's is only loaded where it is wanted.

    Raises:
        FatalError: it knows no such exchange or channel.
    """
    common: dict[str, Any] = {
        "id": settings.id or settings.exchange,
        "channels": settings.channels,
        "levels": settings.max_orderbook_depth,
        "side": settings.side,
        "raw_info": settings.raw_capture == "info",
        "api_key_file": settings.api_key_file,
        "api_secret_file": settings.api_secret_file,
        "backfill": settings.backfill,
        "share": settings.share,
        "stagger_ms": settings.subscription_stagger_ms,
        "keepalive_s": settings.keepalive_s,
        "stale_min_s": settings.stale_min_s,
        "stale_max_s": settings.stale_max_s,
        "reconnect_base_s": settings.reconnect_base_s,
        "reconnect_cap_s": settings.reconnect_cap_s,
    }
    if settings.adapter == "native":
        native = NativeOptions(
            exchange=settings.exchange,
            ws_url=settings.ws_url,
            rest_url=settings.rest_url,
            raw_capture=settings.raw_capture,
            symbols_per_connection=settings.symbols_per_connection,
            rotate_after_h=settings.rotate_after_h,
            **common,
        )
        return NativeExchange(native, sink)
    from daedalus.exchanges.ccxt_pro import CcxtExchange, CcxtOptions

    if not settings.bulk:
        common["bulk"] = {}
    # few streams have a socket each, so that each fails alone; many share, as the exchange wants it
    streams, most = sum(map(len, settings.channels.values())), settings.symbols_per_connection
    ccxt = CcxtOptions(
        streams_per_connection=most if streams > most else 0,
        name=settings.exchange,
        overrides=settings.ccxt,
        raw_frames=settings.raw_capture == "frames",
        max_concurrent=settings.max_concurrent_subscriptions,
        **common,
    )
    return CcxtExchange(ccxt, sink)


def whole_books(shell: "CcxtExchange | NativeExchange") -> list[DepthFact]:
    """Return the whole book of every depth stream whose book is valid now."""
    if not isinstance(shell, NativeExchange):
        return []  # ccxt has no depth
    return [fact for one in shell.connections if one.open for fact in one.adapter.snapshots()]


def last_heard(shell: "CcxtExchange | NativeExchange") -> dict[Stream, int]:
    """Return the capture time, ns, of the last good message of each stream's connection, where known."""
    heard: list[tuple[Iterable[Stream], int | None]]
    if isinstance(shell, NativeExchange):
        heard = [(one.adapter.streams, getattr(one, "since", None)) for one in shell.connections]
    elif shell.hooks is None:
        return {}
    else:
        heard = [(one.streams, one.since) for one in shell.hooks.connections.values()]
    return {stream: at for streams, at in heard if at is not None for stream in streams}


def names_of(settings: CollectorSettings) -> dict[str, str]:
    """Return symbol as configured -> its name on disk and in topics."""
    symbols = dict.fromkeys(symbol for names in settings.channels.values() for symbol in names)
    return {symbol: settings.aliases.get(symbol) or sanitised(symbol) for symbol in symbols}


def claim_names(settings: CollectorSettings) -> None:
    """Claim the symbols' names in the registry of the data set, for good.

    A disk that takes nothing is told and ends nothing: the names are claimed at the next start.

    Raises:
        FatalError: another symbol of the exchange has one of the names, now or from earlier.
    """
    if not settings.data:
        return
    try:
        registry = Registry.load(Layout(data=settings.data))
        for symbol in names_of(settings):
            registry.claim(settings.exchange, symbol, settings.aliases.get(symbol))
        registry.save()
    except OSError as error:
        get_logger().warning("symbols_unwritten", exchange=settings.exchange, error=str(error))


def sanitised(name: str) -> str:
    """Return `name` as `records.sanitise` has it; FatalError when it cannot be a name."""
    try:
        return sanitise(name)
    except ValueError as error:
        raise FatalError(str(error)) from None


def check(settings: CollectorSettings) -> None:
    """Refuse what cannot be served, and two symbols that would fall into one partition.

    Raises:
        FatalError: with the first mistake.
    """
    if settings.adapter not in ("native", "ccxt"):
        raise FatalError(f"cannot use the adapter {settings.adapter!r}: native or ccxt")
    for channel in settings.channels:
        _check_channel(channel, settings.adapter)
    taken: dict[str, str] = {}
    for symbol, name in names_of(settings).items():
        if sanitised(name) != name:
            raise FatalError(
                f"cannot use the alias {name!r}: a directory would be called {sanitised(name)!r}"
            )
        other = taken.setdefault(name.casefold(), symbol)
        if other != symbol:
            raise FatalError(
                f"cannot collect {symbol!r}: it has the same file name as {other!r}; another name: "
                f'[exchanges.{settings.exchange}.aliases] "{symbol}" = "{name}-2"'
            )
    if settings.raw_capture not in ("off", "info", "frames"):
        raise FatalError(f"cannot capture raw {settings.raw_capture!r}: off, info or frames")
    if not any(settings.channels.values()):
        raise FatalError(f"cannot collect from {settings.exchange}: no channel has a symbol")
    try:
        DiskMarks(settings.warn_pct, settings.evict_pct, settings.stop_pct)
    except ValueError as error:
        raise FatalError(str(error)) from None


def _check_channel(channel: str, adapter: str) -> None:
    """A channel has a name of ours, or through ccxt that of one of its watch methods."""
    named = channel in CHANNELS
    foreign = adapter == "ccxt" and _WATCHED.fullmatch(channel) and channel not in _RESERVED
    near = get_close_matches(channel, CHANNELS, 1)
    if not named and (near or not foreign):
        hint = f"; did you mean {near[0]}?" if near else ""
        raise FatalError(f"cannot collect the channel {channel!r}: {', '.join(CHANNELS)}{hint}")
