"""The recorded Kraken v1 book, said in the words of v2: with the original digits, checksums included.

v1 sends texts, v2 numbers of the same digits. A snapshot of v1 has no checksum: it gets the one that its own
top ten has, computed here and not by the code under test.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}


def recording(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (pair of v2, message of v2) of every book message recorded."""
    with gzip.open(folder / "kraken_v1" / "book1000_20210417.gz", "rt") as lines:
        for line in lines:
            message = json.loads(line.partition(" ")[2])
            if isinstance(message, list):
                pair = pair_of(message[-1])
                yield pair, transcode(pair, message[1:-2])


def pair_of(name: str) -> str:
    return "/".join(OLD_NAMES.get(asset, asset) for asset in name.split("/"))


def transcode(pair: str, parts: list[dict[str, Any]]) -> bytes:
    whole = {key: value for part in parts for key, value in part.items()}
    if "as" in whole:
        checksum = top_ten(whole["bs"], whole["as"])
        return frame("snapshot", pair, whole["bs"], whole["as"], checksum)
    return frame("update", pair, whole.get("b", []), whole.get("a", []), int(whole["c"]))


def frame(kind: str, pair: str, bids: list[list[str]], asks: list[list[str]], checksum: int) -> bytes:
    """Return a message of v2, written by hand: a JSON library would drop trailing zeros."""
    sides = [
        f'"{name}":[' + ",".join(f'{{"price":{level[0]},"qty":{level[1]}}}' for level in levels) + "]"
        for name, levels in (("bids", bids), ("asks", asks))
    ]
    times = [float(level[2]) for level in [*bids, *asks] if len(level) > 2]
    stamp = f'"2021-04-17T16:48:53.{int(max(times, default=0) * 1e6) % 1_000_000:06d}Z"'
    row = f'{{"symbol":"{pair}",{sides[0]},{sides[1]},"checksum":{checksum},"timestamp":{stamp}}}'
    return f'{{"channel":"book","type":"{kind}","data":[{row}]}}'.encode()


def top_ten(bids: list[list[str]], asks: list[list[str]]) -> int:
    """Return the CRC-32 of levels that are in order, best first."""
    text = "".join(
        part.replace(".", "").lstrip("0")
        for levels in (asks[:10], bids[:10])
        for level in levels
        for part in level[:2]
    )
    return zlib.crc32(text.encode())


class PlainBook:
    """A book as a beginner would write it, with texts: what the adapter's is compared with."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[float, tuple[str, str]]] = {"bids": {}, "asks": {}}

    def take(self, raw: bytes) -> None:
        message = json.loads(raw, parse_float=str, parse_int=str)
        (row,) = message["data"]
        for name, side in self.sides.items():
            if message["type"] == "snapshot":
                side.clear()
            for level in row[name]:
                side[float(level["price"])] = level["price"], level["qty"]
            for price in [price for price, (_, qty) in side.items() if not float(qty)]:
                del side[price]
            for price in self.order(name)[self.depth :]:
                del side[price]

    def order(self, name: str) -> list[float]:
        return sorted(self.sides[name], reverse=name == "bids")

    def top(self, name: str, levels: int) -> list[tuple[float, float]]:
        return [(price, float(self.sides[name][price][1])) for price in self.order(name)[:levels]]

    def checksum(self) -> int:
        texts = {name: [list(self.sides[name][p]) for p in self.order(name)[:10]] for name in self.sides}
        return top_ten(texts["bids"], texts["asks"])
