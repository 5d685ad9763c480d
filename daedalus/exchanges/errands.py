"""What a connection asks for beside its streams: trades that were missed, and what the markets are.

Both are worth having and neither is worth a connection: a failure is a warning, and for the markets another
try later.
"""

import random
from typing import Any, Protocol

import msgspec

from daedalus.exchanges.adapter import Adapter, Ask, Sink
from daedalus.exchanges.backoff import full_jitter
from daedalus.kernel.telemetry import get_logger

__all__ = ["Errands"]

_PAGES_MAX = 50  # requests for the missing trades of one symbol, the adapter's own next pages included
_RETRY_S, _RETRY_S_MAX = 60.0, 3600.0


class _Asker(Protocol):
    def __call__(self, ask: Ask, errand: Any, pages: int = 0) -> None: ...


class Errands:
    """The errands of one line."""

    def __init__(self, adapter: Adapter, sink: Sink, ask: _Asker) -> None:
        """Begin with nothing owed."""
        self._adapter = adapter
        self._sink = sink
        self._ask = ask
        self.backfills: dict[str, str] = {}  # symbol -> id of the last trade stored before the gap
        self.instruments_owed = False
        self._failures = 0

    def owe_backfill(self, besides: frozenset[str] = frozenset()) -> None:
        """Note the last trade of every trades stream but those `besides`: what came after it is missing."""
        for symbol, channel in self._adapter.streams:
            if channel == "trades" and symbol not in besides:
                last_id = self._sink.last_trade(symbol)
                if last_id is not None:
                    self.backfills[symbol] = last_id

    def begin_backfill(self, symbol: str) -> None:
        """Ask for what a trades stream missed, now that it is heard: no trade can fall in between."""
        last_id = self.backfills.pop(symbol, None)
        if last_id is not None:
            for ask in self._adapter.backfill(symbol, last_id):
                self._ask(ask, "backfill", _PAGES_MAX)

    def ask_instruments(self, after_s: float) -> None:
        """Ask what the markets are, in `after_s` seconds."""
        self.instruments_owed = True
        for ask in self._adapter.instruments():
            self._ask(msgspec.structs.replace(ask, delay_s=max(ask.delay_s, after_s)), "instruments")

    def failed(self, errand: str, detail: str, url: str) -> None:
        """Say that an answer was of no use; ask for the markets again."""
        if errand != "instruments":
            get_logger().warning("answer_refused", url=url, errand=errand, detail=detail)
            return
        retry_s = full_jitter(self._failures, _RETRY_S, _RETRY_S_MAX, random.uniform) + _RETRY_S
        self._failures += 1
        get_logger().warning("instruments_unavailable", url=url, detail=detail, retry_in_s=round(retry_s, 1))
        self.ask_instruments(retry_s)
