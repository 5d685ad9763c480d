"""An OKX book as the exchange would send it: made from a seed, with its checksum computed by the letter."""

import json
import random
import zlib
from decimal import Decimal
from typing import Any

Side = dict[Decimal, str]


class OkxFeed:
    """Changes one book at random and says so in OKX's words."""

    def __init__(self, seed: int, name: str = "BTC-USDT", *, checksums: bool = True) -> None:
        self.random = random.Random(seed)
        self.name = name
        self.checksums = checksums
        self.seq = 1000
        self.ts = 1_700_000_000_000
        self.bids: Side = {Decimal(n) / 10: self.size() for n in range(9700, 10000)}
        self.asks: Side = {Decimal(n) / 10: self.size() for n in range(10001, 10301)}

    def size(self) -> str:
        return f"{self.random.randint(1, 9999) / 1000}"

    def levels(self, side: str, count: int | None = None) -> list[list[str]]:
        book = self.bids if side == "bids" else self.asks
        return [[str(p), book[p], "0", "1"] for p in sorted(book, reverse=side == "bids")[:count]]

    def checksum(self) -> int:
        """The CRC-32 of bid:size:ask:size:… of the best 25, as a signed 32-bit number."""
        bids, asks = self.levels("bids", 25), self.levels("asks", 25)
        words = []
        for n in range(25):
            words += [text for level in (*bids[n : n + 1], *asks[n : n + 1]) for text in level[:2]]
        return int.from_bytes(zlib.crc32(":".join(words).encode()).to_bytes(4, "big"), "big", signed=True)

    def frame(self, action: str, bids: Any, asks: Any, previous: int) -> bytes:
        row = {"bids": bids, "asks": asks, "ts": str(self.ts), "seqId": self.seq, "prevSeqId": previous}
        if self.checksums:
            row["checksum"] = self.checksum()
        arg = {"channel": "books", "instId": self.name}
        return json.dumps({"arg": arg, "action": action, "data": [row]}).encode()

    def snapshot(self) -> bytes:
        return self.frame("snapshot", self.levels("bids"), self.levels("asks"), -1)

    def update(self) -> bytes:
        """Change some levels, mostly near the top; sequence numbers jump, as they do."""
        previous, self.seq, self.ts = self.seq, self.seq + self.random.randint(1, 90), self.ts + 100
        changes: dict[str, list[list[str]]] = {"bids": [], "asks": []}
        for _ in range(self.random.randint(1, 6)):
            side = self.random.choice(("bids", "asks"))
            book = self.bids if side == "bids" else self.asks
            price = self.random.choice(sorted(book, reverse=side == "bids")[:40])
            if self.random.random() < 0.3 and len(book) > 60:
                del book[price]
                changes[side].append([str(price), "0", "0", "0"])
            else:
                price -= (Decimal(1) if side == "bids" else Decimal(-1)) * self.random.randint(0, 3) / 100
                book[price] = self.size()
                changes[side].append([str(price), book[price], "0", "1"])
        return self.frame("update", changes["bids"], changes["asks"], previous)

    def reset(self) -> bytes:
        """Start the numbers anew, as after maintenance."""
        previous, self.seq = self.seq, 7
        return self.frame("update", [], [], previous)

    def silence(self) -> bytes:
        """Say that nothing changed."""
        return self.frame("update", [], [], self.seq)

    def top(self, side: str, count: int) -> list[tuple[float, float]]:
        return [(float(price), float(size)) for price, size, *_ in self.levels(side, count)]
