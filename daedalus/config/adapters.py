"""Checks of native exchanges by their own adapters: what would end a collector at its start is told here.

An adapter is pure, so it can be built here as the collector builds it; what it refuses is its ValueError. The
first of a refusal is all that it tells, so the question is asked again without what was refused, until all is
said. Only the process that checks a file imports adapters: see `__main__`.
"""

from typing import Any

from daedalus.config import catalogue
from daedalus.config.models import Exchange
from daedalus.config.problems import Problems

__all__ = ["check_adapter"]

_Channels = dict[str, list[str]]


def check_adapter(name: str, table: Exchange, problems: Problems) -> None:
    """Note everything that the native adapter of [exchanges.NAME] refuses, at the key it is about."""
    path = ("exchanges", name)
    wanted = table.id or name
    if table.adapter != "native" or wanted not in catalogue.NATIVE:
        return
    from daedalus.exchanges.native import divided, native

    cls = native(wanted)
    levels = table.max_orderbook_depth
    refusal = _refusal(cls, {}, levels, table)
    if refusal is not None:
        problems.error((*path, "max_orderbook_depth"), refusal)
        levels = 1  # what is wrong besides
    channels: _Channels = {}
    for channel, symbols in table.channels.in_use().items():
        if channel not in cls.channels:
            continue  # which is told already
        for symbol in dict.fromkeys(symbols):
            refusal = _refusal(cls, {channel: [symbol]}, levels, table)
            if refusal is None:
                channels.setdefault(channel, []).append(symbol)
            else:
                problems.error((*path, "channels", channel), refusal)
    for part in divided(cls, channels, table.symbols_per_connection):
        _check_together(
            cls, {channel: list(names) for channel, names in part.items()}, levels, table, problems, path
        )


def _check_together(
    cls: Any, channels: _Channels, levels: int, table: Exchange, problems: Problems, path: tuple[str, ...]
) -> None:
    """Note what is refused of the symbols of one connection though each is good alone."""
    if _refusal(cls, channels, levels, table) is None:
        return
    symbols = list(dict.fromkeys(symbol for names in channels.values() for symbol in names))
    good: set[str] = set()
    for symbol in symbols:
        refusal = _refusal(cls, _only(channels, good | {symbol}), levels, table)
        if refusal is None:
            good.add(symbol)
        elif symbol in refusal:
            channel = next(channel for channel, names in channels.items() if symbol in names)
            problems.error((*path, "channels", channel), refusal)
        else:  # it is about how many they are
            whole = _refusal(cls, _only(channels, set(symbols)), levels, table) or refusal
            problems.error((*path, "symbols_per_connection"), whole)
            return


def _refusal(cls: Any, channels: _Channels, levels: int, table: Exchange) -> str | None:
    """Return why the adapter cannot be built like this; None: it can."""
    try:
        cls(channels, levels=levels, side=table.side)
    except ValueError as error:
        return str(error)
    return None


def _only(channels: _Channels, some: set[str]) -> _Channels:
    part = {channel: [symbol for symbol in names if symbol in some] for channel, names in channels.items()}
    return {channel: names for channel, names in part.items() if names}
