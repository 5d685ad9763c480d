"""The websocket shell against a server in the same loop."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from picows import WSListener, WSMsgType, WSTransport, ws_create_server

from daedalus.exchanges.adapter import BookFact, Control
from daedalus.exchanges.coinbase import CoinbaseAdapter
from daedalus.exchanges.native import NativeExchange, NativeOptions
from daedalus.exchanges.socket import NativeConnection, SocketOptions
from daedalus.kernel.errors import FatalError
from tests.exchanges.fakes import ListSink
from tests.exchanges.test_coinbase import SNAPSHOT, book, message

CHANNELS = {"orderbook": ["BTC/USD"]}


class Server:
    """Says what the script says, to each connection its own part of it."""

    def __init__(self, *scripts: list[bytes]) -> None:
        self.scripts = list(scripts)
        self.heard: list[Any] = []
        self.transports: list[WSTransport] = []

    def listener(self, _request: Any) -> WSListener:
        server = self

        class Peer(WSListener):
            def on_ws_connected(self, transport: WSTransport) -> None:
                server.transports.append(transport)
                for raw in server.scripts.pop(0) if server.scripts else []:
                    transport.send(WSMsgType.TEXT, raw)

            def on_ws_frame(self, _transport: WSTransport, frame: Any) -> None:
                if frame.msg_type is WSMsgType.TEXT:
                    server.heard.append(json.loads(frame.get_payload_as_bytes()))

        return Peer()


def play(
    server: Server, work: Callable[[NativeConnection, ListSink], Awaitable[None]], **options: float
) -> None:
    async def main() -> None:
        listening = await ws_create_server(server.listener, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        sink = ListSink()
        set_up = {"reconnect_base_s": 0.001, "reconnect_cap_s": 0.002} | options
        connection = NativeConnection(
            CoinbaseAdapter(CHANNELS), sink, SocketOptions(url=f"ws://127.0.0.1:{port}", **set_up)
        )
        try:
            async with asyncio.timeout(10):
                await work(connection, sink)
        finally:
            await connection.close()
            for transport in server.transports:
                transport.disconnect(graceful=False)
            listening.close()
            await listening.wait_closed()

    asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - the conditions are of many kinds
        await asyncio.sleep(0.001)


def test_it_subscribes_and_hands_on_what_it_hears() -> None:
    server = Server([message("l2_data", 0, SNAPSHOT), message("heartbeats", 1)])

    async def work(connection: NativeConnection, sink: ListSink) -> None:
        task = asyncio.ensure_future(connection.run())
        await until(lambda: len(sink.taken) == 2 and len(server.heard) == 2)
        assert [request["channel"] for request in server.heard] == ["heartbeats", "level2"]
        assert sink.of(Control) == [Control("heartbeat")]
        await connection.close()
        await task
        assert sink.faults == []  # who closes knows

    play(server, work)


def test_a_message_in_several_frames_is_one_message() -> None:
    async def work(connection: NativeConnection, sink: ListSink) -> None:
        raw = message("l2_data", 0, SNAPSHOT)
        connection._adapter.subscribe()
        connection.received(raw[:10], final=False)
        connection.received(raw[10:50], final=False)
        assert sink.taken == []
        connection.received(raw[50:], final=True)
        assert len(sink.books) == 1

    play(Server(), work)


def test_after_a_broken_sequence_it_connects_again_and_begins_with_a_snapshot() -> None:
    update = book("update", ("bid", "100", "7"))
    server = Server(
        [message("l2_data", 0, SNAPSHOT), message("l2_data", 2, update), message("l2_data", 3, update)],
        [message("l2_data", 0, SNAPSHOT), message("l2_data", 1, update)],
    )

    async def work(connection: NativeConnection, sink: ListSink) -> None:
        task = asyncio.ensure_future(connection.run())
        await until(lambda: len(sink.books) == 3)
        ((fault, since),) = sink.faults
        assert fault.reason == "sequence"
        assert since == sink.taken[0][0].ts_recv
        assert [fact.exch_seq for fact in sink.of(BookFact)] == [0, 0, 1]
        assert connection.connects == 2
        task.cancel()

    play(server, work)


def test_silence_is_noticed() -> None:
    async def work(connection: NativeConnection, sink: ListSink) -> None:
        task = asyncio.ensure_future(connection.run())
        await until(lambda: connection.open)
        step = 200_000_000_000 // 1000
        sink.captures += step  # 200 s pass without a message
        await until(lambda: sink.faults)
        assert sink.faults[0][0].reason == "stale"
        task.cancel()

    play(Server(), work)


def test_a_refused_product_is_fatal() -> None:
    server = Server([b'{"type":"error","message":"BTC-USX is not a valid product"}'])

    async def work(connection: NativeConnection, _sink: ListSink) -> None:
        with pytest.raises(FatalError, match="BTC-USX is not a valid product"):
            await connection.run()

    play(server, work)


def test_an_error_of_our_own_ends_the_run() -> None:
    async def work(connection: NativeConnection, sink: ListSink) -> None:
        def broken(*_: Any) -> None:
            raise RuntimeError("our own")

        sink.take = broken  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="our own"):
            await connection.run()

    play(Server([message("heartbeats", 0)]), work)


def test_symbols_are_spread_over_connections() -> None:
    options = NativeOptions(
        id="coinbase",
        channels={"orderbook": ["A/B", "C/D", "E/F"], "trades": ["E/F", "G/H"]},
        symbols_per_connection=2,
    )
    exchange = NativeExchange(options, ListSink())
    assert [sorted(connection._adapter.streams) for connection in exchange.connections] == [
        [("A/B", "orderbook"), ("C/D", "orderbook")],
        [("E/F", "orderbook"), ("E/F", "trades"), ("G/H", "trades")],
    ]


def test_an_unknown_native_adapter_is_fatal() -> None:
    with pytest.raises(FatalError, match="'coinbse' natively: adapters are coinbase"):
        NativeExchange(NativeOptions(id="coinbse", channels={}), ListSink())
