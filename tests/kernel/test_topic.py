"""Publish and subscribe on real sockets in one process: nothing waits for time, only for messages."""

import stat
from pathlib import Path

import pytest
import zmq

from daedalus.kernel.errors import FatalError
from daedalus.kernel.topic import Answers, Broadcast, Publisher, Questions, Subscriber, bind, is_loopback
from tests.loops import drive, until


class Listener:
    """A strategy with a plain SUB socket."""

    def __init__(self, address: str, *prefixes: bytes, hwm: int = 1000) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, hwm)
        for prefix in prefixes:
            self.socket.setsockopt(zmq.SUBSCRIBE, prefix)
        self.socket.connect(address)
        self.got: list[list[bytes]] = []

    def poll(self) -> list[list[bytes]]:
        while True:
            try:
                self.got.append(self.socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return self.got

    def close(self) -> None:
        self.socket.close()


def test_a_bound_unix_socket_is_private(short_tmp: Path) -> None:
    async def work() -> None:
        publisher = Publisher(bind_to=f"ipc://{short_tmp}/p.sock")
        mode = stat.S_IMODE((short_tmp / "p.sock").stat().st_mode)
        publisher.close()
        assert mode & 0o077 == 0

    drive(work)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("ipc:///run/x", True),
        ("tcp://127.0.0.1:5555", True),
        ("tcp://127.8.8.8:1", True),
        ("tcp://localhost:5555", True),
        ("tcp://[::1]:5555", True),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://*:5555", False),
        ("tcp://192.168.1.2:5555", False),
        ("tcp://128.0.0.1:5555", False),
        ("tcp://localhost.example.com:5555", False),
        ("tcp://127.example.com:5555", False),
        ("tcp://eth0:5555", False),
    ],
)
def test_loopback_is_what_no_other_machine_can_reach(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_an_address_in_use_is_fatal_and_named(short_tmp: Path) -> None:
    async def work() -> None:
        first: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        port = first.bind_to_random_port("tcp://127.0.0.1")
        try:
            with pytest.raises(
                FatalError, match=rf"cannot listen on tcp://127.0.0.1:{port}: Address already in use"
            ):
                Publisher(bind_to=f"tcp://127.0.0.1:{port}")
            with pytest.raises(FatalError, match="cannot listen on ipc://"):
                Publisher(bind_to=f"ipc://{short_tmp}/missing/p.sock")
        finally:
            first.close(0)

    drive(work)


def test_messages_arrive_in_order_and_only_those_asked_for(short_tmp: Path) -> None:
    async def work() -> None:
        address = f"ipc://{short_tmp}/p.sock"
        got: list[list[bytes]] = []
        heard: list[bytes] = []
        publisher = Publisher(bind_to=address, on_subscribe=heard.append)
        subscriber = Subscriber(got.append, topics=[b"a/"], connect_to=[address])
        await until(lambda: heard)
        for n in range(1000):
            publisher.publish([b"a/", b"%d" % n])
            publisher.publish([b"b/", b"%d" % n])
        await until(lambda: len(got) == 1000)
        assert [int(parts[1]) for parts in got] == list(range(1000))
        assert subscriber.received == 1000
        assert publisher.sent == 2000
        subscriber.close()
        publisher.close()

    drive(work)


def test_a_publisher_hears_of_each_return_of_the_other_side(short_tmp: Path) -> None:
    async def work() -> None:
        address = f"ipc://{short_tmp}/in.sock"
        heard: list[bytes] = []
        publisher = Publisher(connect_to=address, on_subscribe=heard.append)
        for returns in (1, 2, 3):
            got: list[list[bytes]] = []
            subscriber = Subscriber(got.append, topics=[b""], bind_to=address)
            await until(lambda expected=returns: len(heard) == expected)
            publisher.publish([b"t", b"x"])
            await until(lambda have=got: have)
            subscriber.close()
        publisher.close()

    drive(work)


def test_publishing_to_nobody_neither_blocks_nor_raises(short_tmp: Path) -> None:
    async def work() -> None:
        publisher = Publisher(connect_to=f"ipc://{short_tmp}/nobody.sock", hwm=10)
        for _ in range(1000):
            publisher.publish([b"t", b"x"])
        publisher.close()

    drive(work)


def _lvc(address: str, last: dict[bytes, bytes]) -> Broadcast:
    broadcast: list[Broadcast] = []

    def welcome(prefix: bytes) -> None:
        for topic, value in last.items():
            if topic.startswith(prefix):
                broadcast[0].welcome([topic, value])

    broadcast.append(Broadcast([address], on_subscribe=welcome))
    return broadcast[0]


def test_only_the_newcomer_gets_the_last_value(short_tmp: Path) -> None:
    async def work() -> None:
        address = f"ipc://{short_tmp}/x.sock"
        last = {b"f/a/": b"1"}
        broadcast = _lvc(address, last)
        old, new = Listener(address, b"f/a/"), None
        await until(old.poll)
        new = Listener(address, b"f/a/")
        await until(new.poll)
        broadcast.send([b"f/a/", b"2"])
        await until(lambda: len(old.poll()) == 2 and len(new.poll()) == 2)
        assert old.got == new.got == [[b"f/a/", b"1"], [b"f/a/", b"2"]]
        for socket in (old, new, broadcast):
            socket.close()

    drive(work)


@pytest.mark.parametrize("newcomer", [b"g/", b"f/zzz/", b"f/a/"])
def test_a_live_message_after_a_subscription_reaches_everybody(short_tmp: Path, newcomer: bytes) -> None:
    """The trap of XPUB_MANUAL_LAST_VALUE: the next message, live or not, goes to the newcomer alone."""

    async def work() -> None:
        address = f"ipc://{short_tmp}/x.sock"
        broadcast = _lvc(address, {b"f/w/": b"0"})
        old = Listener(address, b"f/")
        await until(lambda: broadcast.subscriptions == 1)
        new = Listener(address, newcomer)
        await until(lambda: broadcast.subscriptions == 2)
        broadcast.send([b"f/a/", b"1"])
        broadcast.send([b"f/a/", b"2"])
        await until(lambda: len(old.poll()) == 3)
        assert [parts[1] for parts in old.got] == [b"0", b"1", b"2"]
        new.close()
        await until(lambda: broadcast.subscriptions == 1)
        broadcast.send([b"f/a/", b"3"])
        await until(lambda: len(old.poll()) == 4)
        old.close()
        broadcast.close()

    drive(work)


def test_who_left_is_no_longer_wanted(short_tmp: Path) -> None:
    async def work() -> None:
        address = f"ipc://{short_tmp}/x.sock"
        broadcast = _lvc(address, {})
        assert broadcast.listeners(b"f/a/") == 0
        one, two = Listener(address, b"f/"), Listener(address, b"f/a/", b"g/")
        await until(lambda: broadcast.subscriptions == 3)
        assert broadcast.listeners(b"f/a/") == 2
        assert broadcast.listeners(b"f/b/") == 1
        assert broadcast.listeners(b"g/") == 1
        two.socket.setsockopt(zmq.UNSUBSCRIBE, b"f/a/")
        await until(lambda: broadcast.subscriptions == 2)
        one.close()
        await until(lambda: broadcast.subscriptions == 1)
        assert broadcast.prefixes == {b"g/": 1}
        assert broadcast.listeners(b"f/a/") == 0
        two.close()
        await until(lambda: broadcast.subscriptions == 0)
        broadcast.close()

    drive(work)


def test_subscriptions_beyond_the_bound_are_refused_and_counted(short_tmp: Path) -> None:
    async def work() -> None:
        address = f"ipc://{short_tmp}/x.sock"
        broadcast = Broadcast([address], on_subscribe=lambda _: None, subscriptions_max=2)
        greedy = Listener(address, b"a/", b"b/", b"c/", b"d/")
        await until(lambda: broadcast.refused == 2)
        assert broadcast.subscriptions == 2
        greedy.close()
        await until(lambda: broadcast.subscriptions == 0)
        broadcast.close()

    drive(work)


def test_a_refused_listener_that_leaves_silences_nobody(short_tmp: Path) -> None:
    async def work() -> None:
        address = f"ipc://{short_tmp}/x.sock"
        broadcast = Broadcast([address], on_subscribe=lambda _: None, subscriptions_max=1)
        heard = Listener(address, b"t/")
        await until(lambda: broadcast.subscriptions == 1)
        refused = Listener(address, b"t/")
        await until(lambda: broadcast.refused == 1)
        refused.close()
        await until(lambda: not broadcast._owed)
        assert broadcast.listeners(b"t/x/") == 1
        broadcast.send([b"t/x/", b"still here"])
        await until(lambda: heard.poll() == [[b"t/x/", b"still here"]])
        heard.close()
        await until(lambda: broadcast.listeners(b"t/x/") == 0)
        broadcast.close()

    drive(work)


def test_a_slow_listener_loses_and_the_others_do_not(short_tmp: Path) -> None:
    async def work() -> None:
        address = f"ipc://{short_tmp}/x.sock"
        broadcast = Broadcast([address], on_subscribe=lambda _: None, send_hwm=200)
        slow, quick = Listener(address, b"t/", hwm=200), Listener(address, b"t/")
        await until(lambda: broadcast.subscriptions == 2)
        filler = b"x" * 8192  # more than the kernel's socket buffers hold
        for n in range(2000):
            broadcast.send([b"t/", b"%d" % n, filler])
            if n % 20 == 0:
                await until(lambda n=n: len(quick.poll()) >= n)
        await until(lambda: len(quick.poll()) == 2000)
        got = [int(parts[1]) for parts in slow.poll()]
        assert 0 < len(got) < 2000
        assert got == sorted(got)
        for socket in (slow, quick, broadcast):
            socket.close()

    drive(work)


def test_each_answer_goes_back_to_who_asked(short_tmp: Path) -> None:
    async def work() -> None:
        address = f"ipc://{short_tmp}/r.sock"
        answers = Answers([address], lambda request: None if request == b"" else request.upper())
        one: list[bytes] = []
        two: list[bytes] = []
        asks, also = Questions(address, one.append), Questions(address, two.append)
        await until(lambda: asks.ask(b"one"))
        await until(lambda: also.ask(b""))
        assert also.ask(b"two")
        await until(lambda: one and two)
        assert (one, two) == ([b"ONE"], [b"TWO"])
        plain: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
        plain.connect(address)
        plain.send(b"req")
        await until(lambda: plain.poll(0))
        assert plain.recv() == b"REQ"
        plain.close(0)
        for socket in (asks, also, answers):
            socket.close()

    drive(work)


def test_a_question_to_nobody_is_refused_at_once(short_tmp: Path) -> None:
    async def work() -> None:
        asks = Questions(f"ipc://{short_tmp}/nobody.sock", lambda _: None)
        assert not asks.ask(b"anyone?")
        asks.close()

    drive(work)


def test_bind_restores_the_umask_when_it_fails() -> None:
    import os

    before = os.umask(0o022)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    try:
        with pytest.raises(FatalError):
            bind(socket, "ipc:///nowhere/at/all.sock")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
        socket.close(0)
