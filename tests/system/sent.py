"""What the simulator really sent, as its truth log tells it. Pure, and read once.

A book is kept as one number that stands for its top: ten minutes of a storm have hundreds of thousands.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack
from typing import Any, NamedTuple

__all__ = ["TOP", "Levels", "Market", "Place", "Truth", "read_truth", "top_of"]

TOP = 20  # levels that are compared

Place = tuple[str, str]  # exchange, symbol
Levels = Sequence[Sequence[float]]


def top_of(bids: Levels, asks: Levels) -> int:
    """Return what stands for the top of a book: equal for equal books."""
    flat = [value for side in (bids[:TOP], (), asks[:TOP]) for level in side for value in level[:2]]
    return hash((len(bids[:TOP]), pack(f"<{len(flat)}d", *flat)))


class _Trade(NamedTuple):
    price: float
    amount: float
    side: str
    at_ns: int
    sockets: int
    fates: str


@dataclass
class Market:
    """The truth of one symbol of one simulated exchange."""

    trades: dict[str, _Trade] = field(default_factory=dict)  # in the order they were played
    history: set[str] = field(default_factory=set)  # ids from before the playback
    tops: list[int] = field(default_factory=list)  # after each update
    index: dict[int, int] = field(default_factory=dict)  # u -> place in tops
    # Coinbase's sequence -> (when, place): each connection counts from 0
    numbered: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))


class Truth:
    """The simulator's truth log, read once."""

    def __init__(self, lines: Iterable[str | bytes]) -> None:
        self.markets: dict[Place, Market] = defaultdict(Market)
        self.faults: Counter[str] = Counter()
        self.fates: Counter[str] = Counter()
        for line in lines:
            entry = json.loads(line)
            read = getattr(self, f"_{entry['kind']}", None)
            if read is not None:
                read(entry, self.markets[entry["exchange"], entry["symbol"]] if "symbol" in entry else None)

    def _fault(self, entry: dict[str, Any], _: None) -> None:
        self.faults[entry["order"]["fault"]] += 1

    def _opening(self, entry: dict[str, Any], market: Market) -> None:
        market.history |= set(entry["ids"])
        self._update(entry, market)

    def _snapshot(self, entry: dict[str, Any], market: Market) -> None:
        if entry["channel"] == "level2":
            place = market.index[entry["u"]]
            for _, number in entry["sent"]:
                market.numbered[number].append((entry["at_ns"], place))

    def _book(self, entry: dict[str, Any], market: Market) -> None:
        self._update(entry, market)
        self.fates.update(entry.get("fates", {}).values())
        for _, number in entry["sent"]:
            market.numbered[number].append((entry["at_ns"], market.index[entry["u"]]))

    def _update(self, entry: dict[str, Any], market: Market) -> None:
        market.index[entry["u"]] = len(market.tops)
        market.tops.append(top_of(entry["bids"], entry["asks"]))

    def _released(self, entry: dict[str, Any], market: Market) -> None:
        if entry["channel"] == "orderbook" and entry["sequence"] is not None:
            market.numbered[entry["sequence"]].append((entry["at_ns"], market.index[entry["u"]]))

    def _trade(self, entry: dict[str, Any], market: Market) -> None:
        fates = entry.get("fates", {})
        self.fates.update(fates.values())
        market.trades[entry["id"]] = _Trade(
            *(entry[key] for key in ("price", "amount", "side", "at_ns", "sockets")), ",".join(fates.values())
        )


def read_truth(path: Path) -> Truth:
    """Return the truth in a file; its last line may be half written when the simulator was killed."""
    with path.open("rb") as file:
        return Truth(line for line in file if line.endswith(b"\n"))
