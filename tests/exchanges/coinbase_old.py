"""The recorded feed of the older Coinbase Exchange, said in the words of Advanced Trade.

Every message is numbered as on one connection; the side of a `match` is the maker's in both; the last match
before the recording becomes the snapshot of recent trades.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIDES = {"buy": "bid", "sell": "offer"}


def recording(folder: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield (what was recorded, message of Advanced Trade) of every book and trade message."""
    number = 0
    with gzip.open(folder / "coinbase_exchange" / "level2_matches_ticker_20210417.gz", "rt") as lines:
        for line in lines:
            old = json.loads(line.partition(" ")[2])
            told = transcode(old)
            if told is not None:
                yield old, message(told[0], number, told[1])
                number += 1


def products(folder: Path) -> list[str]:
    return list(dict.fromkeys(old["product_id"] for old, _ in recording(folder)))


def message(channel: str, number: int, event: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "channel": channel,
            "client_id": "",
            "timestamp": "2021-04-17T16:43:37.100001Z",
            "sequence_num": number,
            "events": [event],
        }
    ).encode()


def transcode(old: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    product, kind = old.get("product_id"), old["type"]
    if kind == "snapshot":
        levels = [("buy", *level) for level in old["bids"]] + [("sell", *level) for level in old["asks"]]
        return "l2_data", {"type": "snapshot", "product_id": product, "updates": updates(levels)}
    if kind == "l2update":
        return "l2_data", {"type": "update", "product_id": product, "updates": updates(old["changes"])}
    if kind in ("match", "last_match"):
        trade = {
            "trade_id": str(old["trade_id"]),
            "product_id": product,
            "price": old["price"],
            "size": old["size"],
            "side": old["side"].upper(),
            "time": old["time"],
        }
        return "market_trades", {"type": "update" if kind == "match" else "snapshot", "trades": [trade]}
    return None


def updates(levels: Any) -> list[dict[str, str]]:
    time = "2021-04-17T16:43:37.100001Z"
    return [
        {"side": SIDES[side], "event_time": time, "price_level": price, "new_quantity": size}
        for side, price, size in levels
    ]


class Truth:
    """The book by the recording itself: two dicts."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def take(self, old: dict[str, Any]) -> None:
        if old["type"] == "snapshot":
            self.bids = {float(price): float(size) for price, size in old["bids"]}
            self.asks = {float(price): float(size) for price, size in old["asks"]}
        for side, price, size in old.get("changes", ()):
            put(self.bids if side == "buy" else self.asks, float(price), float(size))


def put(side: dict[float, float], price: float, size: float) -> None:
    """Set a level; size 0 removes it."""
    if size:
        side[price] = size
    else:
        side.pop(price, None)
