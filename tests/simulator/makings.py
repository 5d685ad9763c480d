"""Small recordings and a client that believes what it is told, for the tests of the simulator."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from daedalus.simulator.hub import Connection

T0 = 1_723_161_253_000_000_000  # receive time of the first line, ns
E0 = 1_723_161_254_000  # exchange time of the first line, ms
BINANCE_ID = "BTCUSDT"


def depth(first: int, last: int, bids: list[list[str]], asks: list[list[str]], at: int) -> str:
    data = {"e": "depthUpdate", "E": E0 + at, "s": BINANCE_ID, "U": first, "u": last, "b": bids, "a": asks}
    return _line(at, {"stream": "btcusdt@depth@100ms", "data": data})


def trade(number: int, price: str, at: int, *, buyer_is_maker: bool = True) -> str:
    data = {
        "e": "trade",
        "E": E0 + at,
        "s": BINANCE_ID,
        "t": number,
        "p": price,
        "q": "0.5",
        "T": E0 + at - 1,
    }
    data |= {"m": buyer_is_maker, "M": True}
    return _line(at, {"stream": "btcusdt@trade", "data": data})


def quote(update: int, bid: str, ask: str, at: int) -> str:
    data = {"u": update, "s": BINANCE_ID, "b": bid, "B": "1.0", "a": ask, "A": "2.0"}
    return _line(at, {"stream": "btcusdt@bookTicker", "data": data})


def snapshot(last: int, at: int) -> str:
    bids, asks = [["100.10", "1.0"], ["100.00", "2.0"]], [["100.20", "1.5"], ["100.30", "2.5"]]
    return _line(at, {"lastUpdateId": last, "bids": bids, "asks": asks})


def binance_lines() -> list[str]:
    """A recording in small: deltas before, across and after the snapshot, trades, quotes."""
    return [
        depth(8, 9, [["100.10", "9.0"]], [], 0),
        trade(500, "100.10", 50),
        depth(10, 12, [["100.10", "1.0"]], [["100.30", "3.5"]], 100),
        snapshot(11, 150),
        quote(13, "100.10", "100.20", 160),
        depth(13, 13, [], [["100.20", "0.00000000"]], 200),
        trade(501, "100.30", 1050, buyer_is_maker=False),
        depth(14, 17, [["100.15", "4.0"]], [], 1200),
        quote(17, "100.15", "100.30", 1210),
    ]


COINBASE_LINES = [
    '{"type":"snapshot","product_id":"SKL-USD","asks":[["0.7912","5.0"]],"bids":[["0.7910","450.0"]]}',
    (
        '{"type":"last_match","trade_id":70,"side":"sell","size":"70","price":"0.791","product_id":"SKL-USD",'
        '"time":"2021-04-17T16:43:30.244075Z"}'
    ),
    (
        '{"type":"l2update","product_id":"SKL-USD","changes":[["sell","0.7912","0.0"]],'
        '"time":"2021-04-17T16:43:37.078627Z"}'
    ),
    '{"type":"l2update","product_id":"NU-GBP","changes":[["sell","1","1"]],"time":"2021-04-17T16:43:37.1Z"}',
    (
        '{"type":"match","trade_id":71,"side":"sell","size":"450","price":"0.791","product_id":"SKL-USD",'
        '"time":"2021-04-17T16:43:37.121358Z"}'
    ),
    (
        '{"type":"l2update","product_id":"SKL-USD","changes":[["sell","0.7913","7.5"],["buy","0.7909","1"]],'
        '"time":"2021-04-17T16:43:38.078627Z"}'
    ),
]


def coinbase_lines() -> list[str]:
    return [f"{T0 + index * 100_000_000} {line}" for index, line in enumerate(COINBASE_LINES)]


def write(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _line(at_ms: int, message: dict[str, Any]) -> str:
    return f"{T0 + at_ms * 1_000_000} {json.dumps(message, separators=(',', ':'))}"


def received(connection: Connection) -> list[bytes]:
    """Take everything out of a connection's queue."""
    messages = []
    while (message := connection.pop()) is not None:
        messages.append(message)
    return messages


class Follower:
    """Keeps books as a client does that joins a REST snapshot and Binance's stream of deltas."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[float, float]] = {"b": {}, "a": {}}
        self.last = 0

    def join(self, answer: bytes) -> None:
        body = json.loads(answer)
        self.last = body["lastUpdateId"]
        for side, key in (("b", "bids"), ("a", "asks")):
            self.sides[side] = {float(price): float(size) for price, size in body[key]}

    def take(self, data: dict[str, Any]) -> None:
        if data["u"] <= self.last:
            return
        assert data["U"] <= self.last + 1, f"a hole before {data['U']}: the book is at {self.last}"
        self.last = data["u"]
        for side in "ba":
            for price, size in data[side]:
                self.set(side, float(price), float(size))

    def set(self, side: str, price: float, size: float) -> None:
        if size == 0:
            self.sides[side].pop(price, None)
        else:
            self.sides[side][price] = size

    def top(self, levels: int = 20) -> tuple[list[list[float]], list[list[float]]]:
        bids = sorted(self.sides["b"].items(), reverse=True)[:levels]
        return [list(level) for level in bids], [
            list(level) for level in sorted(self.sides["a"].items())[:levels]
        ]


def truth_lines(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of a truth log by kind."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        found[entry["kind"]].append(entry)
    return found
