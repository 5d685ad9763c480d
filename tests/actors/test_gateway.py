"""The gateway between fake publishers and plain SUB sockets: what strategies can rely on."""

import contextlib
import time
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import example, given
from hypothesis import strategies as st

from daedalus import wire
from daedalus.actors import endpoints
from daedalus.actors.gateway import Gateway, Settings, public_addresses
from daedalus.kernel.actor import Context
from daedalus.kernel.errors import FatalError
from daedalus.kernel.topic import Publisher, Questions
from daedalus.records import columns, encode
from tests.loops import drive, until
from tests.market import Collector, Tape

TOPIC = b"feature/binance/BTC-USDT/"


class Strategy:
    """A plain SUB socket on the public endpoint."""

    def __init__(self, address: str, *prefixes: bytes) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        for prefix in prefixes:
            self.socket.setsockopt(zmq.SUBSCRIBE, prefix)
        self.socket.connect(address)
        self._got: list[tuple[str, wire.Header, bytes]] = []

    @property
    def got(self) -> list[tuple[str, wire.Header, bytes]]:
        with contextlib.suppress(zmq.Again):
            while True:
                topic, header, payload = self.socket.recv_multipart(zmq.NOBLOCK)
                self._got.append((topic.decode(), wire.decode_header(header), payload))
        return self._got

    @property
    def seqs(self) -> list[tuple[str, int]]:
        return [(topic, header.seq) for topic, header, _ in self.got]

    def close(self) -> None:
        self.socket.close(0)


def row(seq: int, topic: bytes = TOPIC, session_id: str = "f1") -> list[bytes]:
    header = wire.Header(1, "feature", seq, session_id, None, 10, 20, "schema-1")
    return [topic, wire.encode_header(header), array("d", [float(seq)]).tobytes()]


def schema(schema_id: str = "schema-1", topic: bytes = b"schema/binance/BTC-USDT/") -> list[bytes]:
    header = wire.Header(1, "schema", 0, "f1", None, 10, 20, schema_id)
    return [topic, wire.encode_header(header), msgspec.json.encode({"id": schema_id, "names": ["a"]})]


@contextlib.asynccontextmanager
async def running(runtime: Path, **settings: Any) -> AsyncIterator[tuple[Gateway, Publisher, Collector]]:
    collector = Collector(str(runtime))
    actor = Gateway(
        Settings(exchanges=("binance",), **settings), Context(name="live/gateway", runtime=str(runtime))
    )
    heard: list[bytes] = []
    await actor.start()
    publisher = Publisher(connect_to=endpoints.gateway_in(str(runtime)), on_subscribe=heard.append)
    try:
        await until(lambda: heard and len(collector.heard) == len(wire.RECORD_KINDS))
        yield actor, publisher, collector
    finally:
        publisher.close()
        collector.close()
        await actor.stop()


def ask(actor: Gateway, command: Any, arg: Any = None) -> list[Any]:
    return msgspec.msgpack.decode(actor.answer(msgspec.msgpack.encode([7, command, arg])))


def test_rows_pass_unchanged_to_who_subscribed(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir) as (actor, publisher, _):
            strategy = Strategy(endpoints.gateway(str(runtime_dir)), TOPIC)
            await until(lambda: actor._doors[0].broadcast.subscriptions == 1)
            sent = [row(n) for n in range(1, 6)]
            for parts in [*sent, row(1, b"feature/binance/BTC-USDT-USDT/")]:
                publisher.publish(parts)
            await until(lambda: actor._rows_in == 6 and len(strategy.got) == 5)
            assert [(t.encode(), wire.encode_header(h), p) for t, h, p in strategy.got] == [
                tuple(parts) for parts in sent
            ]
            strategy.close()

    drive(work)


def test_who_joins_late_gets_the_last_row_with_its_number_and_nobody_else_does(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir) as (actor, publisher, _):
            address = endpoints.gateway(str(runtime_dir))
            early = Strategy(address, TOPIC)
            await until(lambda: actor._doors[0].broadcast.subscriptions == 1)
            for n in (1, 2, 3):
                publisher.publish(row(n))
            await until(lambda: len(early.got) == 3)
            late = Strategy(address, TOPIC)
            await until(lambda: late.got)
            assert [seq for _, seq in late.seqs] == [3]
            publisher.publish(row(4))
            await until(lambda: len(late.got) == 2 and len(early.got) == 4)
            assert [seq for _, seq in early.seqs] == [1, 2, 3, 4]
            early.close()
            late.close()

    drive(work)


def test_a_wide_subscription_gets_the_last_value_of_each_topic(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir) as (actor, publisher, collector):
            topics = [f"feature/binance/{name}/".encode() for name in ("A", "B", "C")]
            for topic in topics:
                publisher.publish(row(5, topic))
            collector.publish(Tape().book())
            await until(lambda: actor._rows_in == 3 and actor._records_in == 1)
            wide = Strategy(endpoints.gateway(str(runtime_dir)), b"")
            await until(lambda: len(wide.got) == 4)
            assert sorted(wide.seqs) == [
                ("book/binance/BTC-USDT/", 1),
                *((topic.decode(), 5) for topic in topics),
            ]
            wide.close()

    drive(work)


def test_last_values_of_wide_subscriptions_are_rationed(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daedalus.actors.gateway.WIDE_PER_S", 2)

    async def work() -> None:
        async with running(runtime_dir) as (actor, publisher, _):
            for n in range(6):
                publisher.publish(row(1, f"feature/binance/S{n}/".encode()))
            await until(lambda: actor._rows_in == 6)
            wide = Strategy(endpoints.gateway(str(runtime_dir)), b"feature/")
            await until(lambda: actor.stats()["limited"] == 1 and len(wide.got) == 3)
            wide.close()

    drive(work)


def test_records_are_public_only_while_somebody_listens(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir) as (actor, _, collector):
            tape = Tape()
            collector.publish(tape.book(), tape.trade())
            await until(lambda: actor._records_in == 2)
            assert actor.stats()["transformed"] == 0
            strategy = Strategy(endpoints.gateway(str(runtime_dir)), b"book/binance/")
            await until(lambda: len(strategy.got) == 1)
            before = time.time_ns()
            book = tape.book(mid=101.0)
            collector.publish(book, tape.trade())
            await until(lambda: len(strategy.got) == 2)
            topic, header, payload = strategy.got[1]
            assert topic == "book/binance/BTC-USDT/"
            assert (header.kind, header.seq, header.session_id) == ("book", 2, "s1")
            assert (header.ts_event_ns, header.ts_recv_ns) == (book.ts_event, book.ts_recv)
            assert header.ts_pub_ns >= before
            assert header.schema_id is None
            value = msgspec.msgpack.decode(payload)
            assert value == columns(book)
            names = wire.record_columns("book")
            assert len(names) == len(value)
            assert value[names.index("bids")] == [[100.5, 1.0]]
            assert actor.stats()["transformed"] == 2
            strategy.close()

    drive(work)


def test_gaps_are_numbered_here_for_they_have_no_number(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir) as (actor, _, collector):
            strategy = Strategy(endpoints.gateway(str(runtime_dir)), b"gap/")
            await until(lambda: actor._doors[0].broadcast.subscriptions == 1)
            tape = Tape()
            collector.publish(tape.gap(), tape.gap(), tape.gap())
            await until(lambda: len(strategy.got) == 3)
            assert [seq for _, seq in strategy.seqs] == [1, 2, 3]
            assert {header.session_id for _, header, _ in strategy.got} == {actor._session_id}
            strategy.close()

    drive(work)


def test_a_row_sent_twice_is_passed_on_once(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir) as (actor, publisher, _):
            strategy = Strategy(endpoints.gateway(str(runtime_dir)), TOPIC)
            await until(lambda: actor._doors[0].broadcast.subscriptions == 1)
            for parts in (row(1), row(2), row(2), row(1), row(3), row(1, session_id="f2")):
                publisher.publish(parts)
            await until(lambda: actor._rows_in == 6 and len(strategy.got) == 4)
            assert [seq for _, seq in strategy.seqs] == [1, 2, 3, 1]
            strategy.close()

    drive(work)


def test_requests_are_answered_on_their_own_socket(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir) as (actor, publisher, collector):
            publisher.publish(schema())
            publisher.publish(row(1))
            collector.publish(Tape().trade())
            await until(lambda: actor._rows_in == 2 and actor._records_in == 1)
            replies: list[bytes] = []
            questions = Questions(endpoints.gateway_req(str(runtime_dir)), replies.append)
            await until(lambda: questions.ask(msgspec.msgpack.encode([1, "topics", None])))
            await until(lambda: replies)
            assert msgspec.msgpack.decode(replies[0]) == [
                1,
                True,
                ["feature/binance/BTC-USDT/", "trade/binance/BTC-USDT/"],
            ]
            questions.close()
            assert ask(actor, "topics", "trade/")[2] == ["trade/binance/BTC-USDT/"]
            assert ask(actor, "schema", "schema-1") == [7, True, {"id": "schema-1", "names": ["a"]}]
            assert ask(actor, "schema", TOPIC.decode())[2]["id"] == "schema-1"
            assert ask(actor, "last", TOPIC.decode())[2] == row(1)
            topic, header, payload = ask(actor, "last", "trade/binance/BTC-USDT/")[2]
            assert wire.decode_header(header).seq == 1
            assert msgspec.msgpack.decode(payload)[0] == collector.spool[0].trade_id
            assert topic == b"trade/binance/BTC-USDT/"

    drive(work)


@pytest.mark.parametrize(
    ("command", "arg", "message"),
    [
        ("shutdown", None, "the commands are schema, topics, last"),
        ("schema", "nope", "none of that id or topic was announced"),
        ("last", "nope", "nothing was published under that topic"),
        ("last", 3, "its argument is text, not int"),
        ("schema", None, "its argument is text, not NoneType"),
        (3, None, "cannot read the request"),
        ("last", "x" * 5000, "nothing was published"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(command: Any, arg: Any, message: str) -> None:
    actor = Gateway(Settings(), Context(name="live/gateway", runtime="/tmp/none"))
    _, ok, value = ask(actor, command, arg)
    assert ok is False
    assert message in value
    assert len(value) < 400


@given(st.binary(max_size=200))
@example(b"\x93\xa7\x00\x00\x00\x00\x00\x00\x80")
@example(b"\x93\x01\xa6top\xffcs\xc0")
def test_no_bytes_make_the_request_endpoint_raise(request: bytes) -> None:
    actor = Gateway(Settings(), Context(name="live/gateway", runtime="/tmp/none"))
    _, ok, value = msgspec.msgpack.decode(actor.answer(request))
    assert ok in (True, False)
    if not ok:
        assert isinstance(value, str)


@pytest.mark.parametrize("hostile", [b"\x91" * 60_000, b"\x93\x01\xa4last" + b"\x91" * 60_000, b"", b"\xc1"])
def test_nested_and_empty_requests_are_refused(hostile: bytes) -> None:
    actor = Gateway(Settings(), Context(name="live/gateway", runtime="/tmp/none"))
    assert msgspec.msgpack.decode(actor.answer(hostile))[1] is False


def test_damaged_messages_of_publishers_are_counted(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir) as (actor, publisher, collector):
            publisher.publish([b"feature/x/Y/", b"only two"])
            publisher.publish([b"feature/x/Y/", b"\xff", b""])
            broken = schema()
            publisher.publish([*broken[:2], b"{not json"])
            collector.noise(b"book/binance/X/")
            await until(lambda: actor.stats()["bad"] == 4)
            assert ask(actor, "topics")[2] == []
            not_text = encode(Tape().trade()).replace(b"BTC-USDT", b"BTC\xffUSDT")
            collector.noise(b"trade/binance/X/", not_text)
            await until(lambda: "trade/binance/X/" in ask(actor, "topics")[2])
            assert ask(actor, "last", "trade/binance/X/")[1] is False
            assert actor.stats()["bad"] == 5

    drive(work)


def test_topics_and_schemas_are_bounded(runtime_dir: Path) -> None:
    async def work() -> None:
        async with running(runtime_dir, topics_max=2, schemas_max=2) as (actor, publisher, _):
            for n in range(4):
                publisher.publish(row(1, f"feature/binance/S{n}/".encode()))
                publisher.publish(schema(f"id{n}", f"schema/binance/S{n}/".encode()))
            await until(lambda: actor._rows_in == 8)
            assert actor.stats()["topics"] == 2
            assert actor.stats()["schemas"] == 2
            assert actor.stats()["refused"] == 2

    drive(work)


@pytest.mark.parametrize(
    ("tcp", "message"),
    [
        ("tcp://0.0.0.0:5555", "needs CURVE keys"),
        ("tcp://*:5555", "needs CURVE keys"),
        ("tcp://192.168.1.9:5555", "needs CURVE keys"),
        ("tcp://127.0.0.1", "must be tcp://HOST:PORT"),
        ("tcp://127.0.0.1:65535", "port 1 to 65534"),
    ],
)
def test_tcp_addresses_that_cannot_be_are_fatal(tcp: str, message: str) -> None:
    with pytest.raises(FatalError, match=message):
        public_addresses(Settings(tcp=tcp), "/tmp/x")


def test_a_port_in_use_is_fatal(runtime_dir: Path) -> None:
    async def work() -> None:
        other: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        port = other.bind_to_random_port("tcp://127.0.0.1")
        actor = Gateway(
            Settings(tcp=f"tcp://127.0.0.1:{port}"), Context(name="live/gateway", runtime=str(runtime_dir))
        )
        try:
            with pytest.raises(FatalError, match=f"cannot listen on tcp://127.0.0.1:{port}: Address already"):
                await actor.start()
        finally:
            await actor.stop()
            other.close(0)

    drive(work)


def test_requests_lie_beside_the_stream() -> None:
    public, requests = public_addresses(Settings(tcp="tcp://127.0.0.1:7000"), "/run/d")
    assert public == ["ipc:///run/d/gateway.sock", "tcp://127.0.0.1:7000"]
    assert requests == ["ipc:///run/d/gateway.sock.req", "tcp://127.0.0.1:7001"]
