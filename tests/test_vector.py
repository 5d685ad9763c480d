"""The message in docs/formats.md, byte for byte, read by the client and by bare struct."""

import math
import re
import struct
from typing import Any

import zmq

from daedalus import wire
from daedalus.client import Schema, subscribe
from tests.conftest import ROOT

TOPIC = b"feature/binance/BTC-USDT/"
HEADER = [
    *(1, "feature", 7, "3f9a52c1d0e84b76", 1_700_000_000_123_000_000),
    *(1_700_000_000_124_000_000, 1_700_000_000_124_350_000, "9b1c0de5a7f24683"),
]


def vector() -> list[bytes]:
    """Return the three parts as they stand on the page."""
    page = (ROOT / "docs/formats.md").read_text()
    block = re.search(r"### Test vector.*?```\n(.*?)```", page, re.DOTALL)
    assert block is not None
    parts: dict[str, str] = {}
    name = ""
    for line in block[1].splitlines():
        word, _, rest = line.strip().rpartition(" ")
        name = word.strip() or name
        parts[name] = parts.get(name, "") + rest
    return [bytes.fromhex(parts[part]) for part in ("topic", "header", "payload")]


def unpacked(data: bytes) -> list[Any]:
    """Read the few MessagePack types of a header, by the byte."""
    assert data[0] == 0x90 + 8
    found: list[Any] = []
    at = 1
    while at < len(data):
        kind = data[at]
        if kind < 0x80:
            value, size = kind, 1
        elif kind & 0xE0 == 0xA0:
            size = 1 + (kind & 0x1F)
            value = data[at + 1 : at + size].decode()
        elif kind == 0xC0:
            value, size = None, 1
        else:
            assert kind == 0xCF
            value, size = struct.unpack_from(">Q", data, at + 1)[0], 9
        found.append(value)
        at += size
    return found


def test_the_vector_reads_with_nothing_but_struct() -> None:
    topic, header, payload = vector()
    assert topic == TOPIC
    assert unpacked(header) == HEADER
    first, second, third = struct.unpack("<3d", payload)
    assert (first, third) == (42000.5, -1.25)
    assert math.isnan(second)


def test_the_vector_is_what_we_send() -> None:
    topic, header, payload = vector()
    assert wire.topic("feature", "binance", "BTC/USDT") == topic
    assert wire.encode_header(wire.Header(*HEADER)) == header
    assert struct.pack("<3d", 42000.5, math.nan, -1.25) == payload


def test_the_client_reads_the_vector(short_tmp: Any) -> None:
    source: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
    source.bind(f"ipc://{short_tmp}/x")
    feed = subscribe("binance", "BTC/USDT", endpoint=f"ipc://{short_tmp}/x", idle_timeout_s=20)
    feed._schemas[HEADER[-1]] = (Schema(HEADER[-1], ("a", "b", "c")), None)
    rows = iter(feed)
    try:
        assert source.poll(20_000)
        source.send_multipart(vector())
        row = next(rows)
    finally:
        feed.close()
        source.close(0)
    assert (row.kind, row.exchange, row.symbol, row.seq) == ("feature", "binance", "BTC-USDT", 7)
    assert [row.session_id, row.ts_event_ns, row.ts_recv_ns, row.ts_pub_ns] == HEADER[3:7]
    assert (row["a"], row["c"], math.isnan(row["b"])) == (42000.5, -1.25, True)
    assert row.numpy()[:1].tolist() == [42000.5]
