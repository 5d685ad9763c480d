"""The truth inside a recording, rebuilt without the product's code: trades, and the book at every update."""

import gzip
import json
from bisect import bisect_left, insort
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class PlainBook:
    """Sorted price lists and a dict, the slow and obvious way."""

    def __init__(self) -> None:
        self.sizes: dict[str, dict[float, float]] = {"b": {}, "a": {}}
        self.prices: dict[str, list[float]] = {"b": [], "a": []}

    def set(self, side: str, price: float, size: float) -> None:
        prices, sizes = self.prices[side], self.sizes[side]
        if size == 0:
            if sizes.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]
        else:
            if price not in sizes:
                insort(prices, price)
            sizes[price] = size

    def top(self, levels: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        bids = [(p, self.sizes["b"][p]) for p in reversed(self.prices["b"][-levels:])]
        asks = [(p, self.sizes["a"][p]) for p in self.prices["a"][:levels]]
        return bids, asks


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (receive time ns, message) of a recording; a bare REST snapshot comes with the time before it."""
    last = 0
    with gzip.open(path, "rt") as file:
        for line in file:
            stamp, brace, rest = line.partition("{")
            last = int(stamp) if stamp.strip() else last
            yield last, json.loads(brace + rest)


def binance_trades(path: Path) -> dict[str, tuple[float, float, str]]:
    """Return trade id -> (price, amount, taker side) of a Binance recording."""
    trades = {}
    for _, message in lines(path):
        data = message.get("data", message)
        if data.get("e") == "trade":
            trades[str(data["t"])] = (float(data["p"]), float(data["q"]), "sell" if data["m"] else "buy")
    return trades


def binance_books(path: Path, levels: int = 20) -> dict[int, tuple[list[Any], list[Any]]]:
    """Return update id -> true top of the book after it, from the recorded snapshot on.

    Deltas recorded before the snapshot line and newer than it are applied on top of it, as they happened.
    """
    book = PlainBook()
    known = False
    early: list[dict[str, Any]] = []
    books: dict[int, tuple[list[Any], list[Any]]] = {}

    def apply(data: dict[str, Any]) -> None:
        for side in "ba":
            for price, size in data[side]:
                book.set(side, float(price), float(size))
        books[data["u"]] = book.top(levels)

    for _, message in lines(path):
        if "lastUpdateId" in message:
            known = True
            for side, key in (("b", "bids"), ("a", "asks")):
                for price, size in message[key]:
                    book.set(side, float(price), float(size))
            for data in early:
                if data["u"] > message["lastUpdateId"]:
                    apply(data)
        elif message.get("data", {}).get("e") == "depthUpdate":
            if known:
                apply(message["data"])
            else:
                early.append(message["data"])
    return books


def coinbase_books(path: Path, levels: int = 20) -> dict[str, list[tuple[list[Any], list[Any]]]]:
    """Return product -> true top of the book after the snapshot and after each update, in order."""
    books: dict[str, PlainBook] = {}
    tops: dict[str, list[tuple[list[Any], list[Any]]]] = {}
    for _, message in lines(path):
        product = message.get("product_id", "")
        if message["type"] == "snapshot":
            book = books[product] = PlainBook()
            for side, key in (("b", "bids"), ("a", "asks")):
                for price, size in message[key]:
                    book.set(side, float(price), float(size))
        elif message["type"] == "l2update" and product in books:
            book = books[product]
            for word, price, size in message["changes"]:
                book.set("b" if word == "buy" else "a", float(price), float(size))
        else:
            continue
        tops.setdefault(product, []).append(book.top(levels))
    return tops


def coinbase_trades(path: Path) -> dict[str, dict[str, tuple[float, float, str]]]:
    """Return product -> trade id -> (price, amount, taker side); the recorded side is the maker's."""
    trades: dict[str, dict[str, tuple[float, float, str]]] = {}
    for _, message in lines(path):
        if message["type"] == "match":
            taker = "sell" if message["side"] == "buy" else "buy"
            trades.setdefault(message["product_id"], {})[str(message["trade_id"])] = (
                float(message["price"]),
                float(message["size"]),
                taker,
            )
    return trades
