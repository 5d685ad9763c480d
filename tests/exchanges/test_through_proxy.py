"""Native connections through a road that is cut in the middle of frames, stalls, crawls and lies.

The simulator is at the other end, so what is true is known. Whatever the road does: every record is true, no
trade comes twice, and what is missing was reported lost.
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from daedalus.exchanges.adapter import Limits, Now
from daedalus.exchanges.native import native
from daedalus.exchanges.shared import Shared, SocketOptions
from daedalus.exchanges.socket import NativeConnection
from daedalus.records import Flag, unpack_side
from daedalus.simulator.server import Server
from daedalus.simulator.sources import Settings
from tests.exchanges.fakes import BASE, ListSink
from tests.loops import until
from tests.proxy import Proxy, pump
from tests.system.sent import Truth, read_truth, top_of

BOUND_S = 30
FREE = Limits(connects=(1e6, 1.0), sends=(1e6, 1.0), rest=(1e6, 1.0))  # the limits are not what is tested
SYMBOL = "BTC/USDT"
CHANNELS = {"orderbook": [SYMBOL], "trades": [SYMBOL]}
QUICK = {"reconnect_base_s": 0.01, "reconnect_cap_s": 0.05, "backfill": False}


class ClockedSink(ListSink):
    """Captures by the real clock: silence is measured with it."""

    def capture(self) -> Now:
        mono = time.monotonic_ns()
        return Now(BASE + mono // 1000 * 1000, mono, (BASE + mono) // 1_000_000)


class Road:
    """Simulator, proxy, one native connection, and what it said."""

    def __init__(self, server: Server, proxy: Proxy, sink: ListSink, connection: NativeConnection) -> None:
        self.server, self.proxy, self.sink, self.connection = server, proxy, sink, connection

    async def hear(self, count: int) -> None:
        """Wait for so many more books."""
        wanted = len(self.sink.books) + count
        await until(lambda: len(self.sink.books) >= wanted)

    def reasons(self) -> list[str]:
        return [fault.reason for fault, _ in self.sink.faults]


Work = Callable[[Road], Awaitable[None]]


def travel(exchange: str, folder: Path, work: Work, *, tls: Path | None = None, **options: Any) -> ListSink:
    """Do `work` on a new road; return what was heard, after it was held against the truth."""
    log = folder / "truth"
    sink = ClockedSink()

    async def go() -> None:
        server = Server(Settings(symbols=(f"{exchange}:{SYMBOL}",), rate=200.0, truth=str(log)))
        await server.start()
        playing = asyncio.get_running_loop().create_task(server.run())
        try:
            async with _entrance(server.port, tls) as port, Proxy(port) as proxy:
                make, shared = _shared(exchange, proxy.port, server.port, tls=tls, **options)
                connection = NativeConnection(make, sink, shared)
                running = asyncio.get_running_loop().create_task(connection.run())
                try:
                    await work(Road(server, proxy, sink, connection))
                finally:
                    proxy.down.go_on()
                    await connection.close()
                    await running
                    await shared.rest.close()
        finally:
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing
            await server.stop()

    async def bounded() -> None:
        async with asyncio.timeout(BOUND_S):
            await go()

    asyncio.run(bounded())
    check(exchange, sink, read_truth(log))
    return sink


def _shared(
    exchange: str, port: int, rest: int, *, tls: Path | None, **options: Any
) -> tuple[Callable[[], Any], Shared]:
    adapter = native(exchange)
    path = "/coinbase" if exchange == "coinbase" else ""
    url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}{path}"
    settings = SocketOptions(url=url, rest_url=f"http://127.0.0.1:{rest}", **{**QUICK, **options})
    return lambda: adapter(CHANNELS, levels=20), Shared(settings, FREE)


@contextlib.asynccontextmanager
async def _entrance(port: int, certificate: Path | None) -> AsyncIterator[int]:
    """Yield the port, or that of an end of TLS before it."""
    if certificate is None:
        yield port
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        calm = Proxy(port)
        await asyncio.wait(
            [
                asyncio.ensure_future(pump(reader, back, calm.up)),
                asyncio.ensure_future(pump(there, writer, calm.down)),
            ],
            return_when=asyncio.FIRST_COMPLETED,
        )
        back.transport.abort()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def check(exchange: str, sink: ListSink, truth: Truth) -> None:
    """Every book is true, every trade was made and came once, nothing crossed goes unsaid."""
    market = truth.markets[exchange, SYMBOL]
    for book in sink.books:
        bids, asks = unpack_side(book.bids), unpack_side(book.asks)
        places = [place for _, place in market.numbered.get(book.exch_seq or 0, ())]
        if exchange == "binance":
            places = [market.index[book.nonce]]
        assert top_of(bids, asks) in {market.tops[place] for place in places}, book.exch_seq
    for trade in sink.trades:
        if trade.trade_id not in market.history:
            told = market.trades[trade.trade_id]
            assert (trade.price, trade.amount, trade.side) == told[:3]
    live = Counter(trade.trade_id for trade in sink.trades if not trade.flags & Flag.BACKFILLED)
    assert not [number for number, count in live.items() if count > 1]


@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("exchange", ["binance", "coinbase"])
def test_a_frame_cut_in_the_middle_is_a_gap_and_never_a_record(
    exchange: str, how: Any, tmp_path: Path
) -> None:
    async def work(road: Road) -> None:
        for number in range(6):
            await road.hear(3)
            # an odd number of bytes, longer than one message: the cut falls inside a frame
            road.proxy.down.cut_after(701 + 97 * number, how)
            await until(lambda number=number: len(road.sink.faults) > number)
        await road.hear(3)
        assert road.proxy.accepted == 7

    sink = travel(exchange, tmp_path, work)
    assert [fault.reason for fault, _ in sink.faults] == ["disconnect"] * 6
    assert all(since is not None for _, since in sink.faults)


@pytest.mark.parametrize("exchange", ["binance", "coinbase"])
def test_a_stalled_road_is_noticed_and_what_was_stuck_in_it_is_never_a_record(
    exchange: str, tmp_path: Path
) -> None:
    async def work(road: Road) -> None:
        await road.hear(5)
        road.proxy.down.stall()
        heard = len(road.sink.books)
        await until(lambda: road.sink.faults)
        assert len(road.sink.books) <= heard + 200  # what was in the receive buffer, at most
        road.proxy.down.go_on()
        await road.hear(5)

    sink = travel(
        exchange, tmp_path, work, keepalive_s=0.4, stale_min_s=0.4, stale_max_s=1.0, handshake_s=1.0
    )
    assert {fault.reason for fault, _ in sink.faults} <= {"stale", "disconnect"}


@pytest.mark.parametrize("exchange", ["binance", "coinbase"])
def test_a_road_of_a_few_bytes_at_a_time_loses_nothing(exchange: str, tmp_path: Path) -> None:
    async def work(road: Road) -> None:
        road.proxy.down.bytes_per_s = 400_000.0
        road.proxy.down.delay_s = 0.001
        await road.hear(40)

    sink = travel(exchange, tmp_path, work, stale_min_s=20.0)
    assert sink.faults == []
    live = [int(trade.trade_id) for trade in sink.trades if not trade.flags & Flag.BACKFILLED]
    assert live == list(range(live[0], live[0] + len(live)))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for loopback that signs itself, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize("exchange", ["binance", "coinbase"])
def test_bytes_that_change_on_the_way_end_the_connection_and_are_never_a_record(
    exchange: str, tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exchanges are reached through TLS, which knows a changed byte: without, a digit could change unseen."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def work(road: Road) -> None:
        for _ in range(5):
            await road.hear(10)
            before = len(road.sink.faults)
            road.proxy.down.flip(3000)
            await until(lambda before=before: len(road.sink.faults) > before)
            road.proxy.down.flip(None)
        await road.hear(10)
        assert road.proxy.down.flipped >= 5

    sink = travel(exchange, tmp_path, work, tls=certificate)
    assert set(Counter(fault.reason for fault, _ in sink.faults)) <= {"disconnect", "error"}
