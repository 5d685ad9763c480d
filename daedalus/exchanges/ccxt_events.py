"""Results of ccxt's that have no schema of ours -> events: the unified structure as JSON, at once. Pure.

A result is one structure, a list of them, a dict by symbol, or one of ccxt's caches, of which only what is
new counts. Candles come as a cache by time; a candle that has changed is told again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from daedalus.exchanges.adapter import EventFact, Stream
from daedalus.records import Flag

__all__ = ["Events"]

_MS = 1_000_000  # ns
_KNOWN_MAX = 1000  # structures of a stream that are remembered: as many as ccxt's caches hold
_CANDLES_MAX = 1500  # of a cache that are looked at


def _encode(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def _ns(value: object) -> int | None:
    return value * _MS if isinstance(value, int) and not isinstance(value, bool) else None


class Events:
    """The channels without a schema of one exchange."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self._candles: dict[Stream, dict[int, str]] = {}
        self._known: dict[Stream, dict[object, str]] = {}

    def of(self, stream: Stream, method: str, result: Any) -> list[EventFact]:
        """Return the events in a single structure or a list of them; nothing for what is no structure."""
        structures = result if isinstance(result, list) else [result]
        return [
            self._event(stream, method, _encode(structure), structure.get("timestamp"))
            for structure in structures
            if isinstance(structure, Mapping)
        ]

    def fresh(self, stream: Stream, method: str, cache: Iterable[Any]) -> list[EventFact]:
        """Return the events of a cache that were not told, or not like this, oldest first."""
        known = self._known.setdefault(stream, {})
        out = []
        for structure in reversed(list(cache)):
            if not isinstance(structure, Mapping):
                continue
            data = _encode(structure)
            key = structure.get("id") or (structure.get("symbol"), structure.get("side"), _when(structure))
            if known.get(key) == data:
                break  # ccxt moves what has changed to the end
            known.pop(key, None)
            known[key] = data
            out.append(self._event(stream, method, data, structure.get("timestamp")))
        while len(known) > _KNOWN_MAX:
            del known[next(iter(known))]
        return out[::-1]

    def candles(self, stream: Stream, method: str, cache: Sequence[Sequence[Any]]) -> list[EventFact]:
        """Return the candles that are new or have changed, oldest first; at the start only the newest.

        A candle that ended while nobody listened did not come live: it is flagged BACKFILLED.
        """
        told = self._candles.setdefault(stream, {})
        newest = max(told, default=None)
        changed: list[tuple[int, str]] = []
        for at in range(len(cache) - 1, max(len(cache) - 1 - _CANDLES_MAX, -1), -1):
            candle = cache[at]
            if not isinstance(candle, list | tuple) or not candle or not isinstance(candle[0], int):
                break
            data = _encode(candle)
            if told.get(candle[0]) != data:
                changed.append((candle[0], data))
            if newest is None or candle[0] < newest:
                break
        if newest is not None:
            changed = [(start, data) for start, data in changed if start >= min(told)]
        before = set(told)
        told.update(changed)
        live = before | {max(told, default=0)}  # the running one, or one more word on one that was running
        for start in sorted(told)[:-2]:
            del told[start]
        return [
            self._event(stream, method, data, start, 0 if start in live else Flag.BACKFILLED)
            for start, data in sorted(changed)
        ]

    def _event(self, stream: Stream, method: str, data: str, at: object, flags: int = 0) -> EventFact:
        return EventFact(
            symbol=stream.symbol,
            channel=stream.channel,
            method=method,
            ts_event=_ns(at),
            data_json=data,
            flags=int(flags),
        )


def _when(structure: Mapping[str, Any]) -> object:
    """Return what tells two structures without an id apart; a position is the same at any time."""
    return None if "entryPrice" in structure else (structure.get("timestamp"), structure.get("price"))
