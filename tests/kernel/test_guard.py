"""CURVE sockets with a guard: who gets in, what he may use up, and how he is shown the door."""

import contextlib
import os
import socket as sockets
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from daedalus.kernel import zap
from daedalus.kernel.clock import ManualClock
from daedalus.kernel.errors import FatalError
from daedalus.kernel.guard import Guard, Limits
from daedalus.kernel.topic import Answers, Broadcast
from tests.loops import drive, until
from tests.ports import free_pair

SERVER = zap.new_keys()
ALICE, BOB, MALLORY = (zap.new_keys() for _ in range(3))


class Strangers:
    """A context of their own, as other machines have: nothing is shared with the gateway's."""

    def __init__(self, port: int) -> None:
        self.port, self.context = port, zmq.Context()

    def socket(self, kind: int, keys: tuple[str, str] | None, port: int | None = None) -> Any:
        made = self.context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.SNDHWM, 0)
        if keys is not None:
            made.curve_serverkey = SERVER[0].encode()
            made.curve_publickey, made.curve_secretkey = (key.encode() for key in keys)
        made.connect(f"tcp://127.0.0.1:{port or self.port}")
        return made

    def subscriber(self, keys: tuple[str, str] | None, *prefixes: bytes) -> Any:
        made = self.socket(zmq.SUB, keys)
        for prefix in prefixes:
            made.setsockopt(zmq.SUBSCRIBE, prefix)
        return made

    def raw(self) -> sockets.socket:
        return sockets.create_connection(("127.0.0.1", self.port))


class House:
    """A guarded publisher and its requests, and what it has heard."""

    def __init__(self, **limits: Any) -> None:
        self.known = {ALICE[0].encode(), BOB[0].encode()}
        self.clock = ManualClock()
        self.guard = Guard(SERVER[1], self.known.__contains__, Limits(**limits), self.clock)
        self.heard: list[bytes] = []
        self.port = free_pair()
        self.requests = self.port + 1
        self.broadcast = Broadcast(
            [f"tcp://127.0.0.1:{self.port}"], on_subscribe=self.heard.append, guard=self.guard
        )
        self.answers = Answers([f"tcp://127.0.0.1:{self.requests}"], lambda asked: asked, guard=self.guard)
        self.strangers = Strangers(self.port)

    @property
    def stats(self) -> dict[str, Any]:
        return self.guard.stats()

    def close(self) -> None:
        self.strangers.context.destroy(0)
        self.guard.close()
        self.broadcast.close()
        self.answers.close()


@contextlib.contextmanager
def house(**limits: Any) -> Iterator[House]:
    made = House(**limits)
    try:
        yield made
    finally:
        made.close()


def got(subscriber: Any) -> list[bytes]:
    found = []
    with contextlib.suppress(zmq.Again):
        while True:
            found.append(subscriber.recv(zmq.NOBLOCK))
    return found


async def receives(at: House, subscriber: Any, message: bytes) -> None:
    """Wait until what is sent now arrives."""
    at.broadcast.send([message])
    seen: list[bytes] = []

    def arrived() -> bool:
        seen.extend(got(subscriber))
        return message in seen

    await until(arrived)


def test_a_known_key_gets_what_is_sent_and_its_requests_answered() -> None:
    async def work() -> None:
        with house() as at:
            alice = at.strangers.subscriber(ALICE, b"a/")
            await until(lambda: at.heard == [b"a/"])
            await receives(at, alice, b"a/1")
            asking = at.strangers.socket(zmq.DEALER, ALICE, at.requests)
            asking.send(b"what?")
            await until(lambda: asking.poll(0))
            assert asking.recv() == b"what?"
            assert at.stats["tcp_strangers"] == 0

    drive(work)


@pytest.mark.parametrize(
    ("who", "counted"),
    [
        ("unknown key", "tcp_denied_key"),
        ("no key", "tcp_strangers"),
        ("garbage", "tcp_strangers"),
        ("silence", "tcp_strangers"),
    ],
)
def test_a_stranger_is_counted_and_hears_nothing(
    who: str, counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zap, "HANDSHAKE_MS", 200 if who == "silence" else 5000)

    async def work() -> None:
        with house() as at:
            if who in ("garbage", "silence"):
                raw = at.strangers.raw()
                with raw:
                    if who == "garbage":
                        raw.sendall(os.urandom(4096))
                    await until(lambda: at.stats["tcp_strangers"])
                    if who == "silence":
                        raw.settimeout(20)
                        while raw.recv(64):  # the beginning of the greeting, and then the end
                            pass
                    return
            stranger = at.strangers.subscriber(MALLORY if who == "unknown key" else None, b"")
            await until(lambda: at.stats[counted])
            at.broadcast.send([b"a/1"])
            assert at.heard == []
            assert got(stranger) == []
            assert at.stats["tcp_strangers"] >= 1

    drive(work)


def test_a_withdrawn_key_is_hung_up_on_and_nobody_else_notices() -> None:
    async def work() -> None:
        with house() as at:
            alice, bob = (at.strangers.subscriber(keys, b"a/") for keys in (ALICE, BOB))
            await until(lambda: at.heard == [b"a/", b"a/"])
            await receives(at, bob, b"a/1")
            await receives(at, alice, b"a/2")
            assert got(bob) in ([], [b"a/2"])
            accepted = at.guard.accepted
            at.known.discard(BOB[0].encode())
            assert at.guard.cut(BOB[0].encode()) == 1
            await until(lambda: at.broadcast.prefixes[b"a/"] == 1 and at.stats["tcp_denied_key"])
            got(bob)
            await receives(at, alice, b"a/3")
            assert got(bob) == []
            assert at.guard.accepted == accepted + 1  # Bob, who tried again; Alice's is the connection it was

    drive(work)


def test_a_connection_that_was_silent_when_its_key_was_withdrawn_is_refused_later() -> None:
    async def work() -> None:
        with house() as at:
            bob = at.strangers.subscriber(BOB)
            asking = at.strangers.socket(zmq.DEALER, BOB, at.requests)
            await until(lambda: at.guard.succeeded == 2)
            at.known.discard(BOB[0].encode())
            assert at.guard.cut(BOB[0].encode()) == 0  # nothing was heard from it yet
            bob.setsockopt(zmq.SUBSCRIBE, b"a/")
            asking.send(b"what?")
            await until(lambda: at.stats["tcp_refused"] and at.stats["tcp_unanswered"])
            await until(lambda: at.stats["tcp_cut_off"] == 2)
            at.broadcast.send([b"a/1"])
            assert at.heard == []
            assert (got(bob), got(asking)) == ([], [])

    drive(work)


def test_a_key_holds_a_bounded_number_of_subscriptions_and_another_still_gets_its_own() -> None:
    async def work() -> None:
        with house(subscriptions=10) as at:
            greedy = at.strangers.subscriber(BOB, *(b"b/%d" % n for n in range(8)))
            second = at.strangers.subscriber(BOB, *(b"c/%d" % n for n in range(8)))
            await until(lambda: len(at.heard) == 10 and at.stats["tcp_refused"] == 6)
            alice = at.strangers.subscriber(ALICE, b"a/")
            await until(lambda: b"a/" in at.heard)
            await receives(at, alice, b"a/1")
            greedy.close(0)
            second.close(0)
            await until(lambda: list(at.broadcast.prefixes) == [b"a/"])
            for _, _, mailbox in at.guard._news:
                mailbox.pause()  # what it held is free again even if nobody has told us yet that it is gone
            again = at.strangers.subscriber(BOB, *(b"d/%d" % n for n in range(10)))
            await until(lambda: len(at.heard) == 21)
            again.close(0)

    drive(work)


def test_an_ended_subscription_makes_room_for_another() -> None:
    async def work() -> None:
        with house(subscriptions=1) as at:
            bob = at.strangers.subscriber(BOB, b"a/")
            for n in range(3):
                await until(lambda wanted=n: len(at.heard) == wanted + 1)
                bob.setsockopt(zmq.UNSUBSCRIBE, at.heard[-1])
                bob.setsockopt(zmq.SUBSCRIBE, b"b/%d" % n)
            await until(lambda: len(at.heard) == 4)
            assert at.stats["tcp_refused"] == 0

    drive(work)


def test_a_flood_of_subscriptions_is_cut_off_and_its_key_let_in_again_after_the_penalty() -> None:
    async def work() -> None:
        with house(subscriptions=10, flood=20) as at:
            flood = at.strangers.subscriber(BOB, *(b"b/%d" % n for n in range(20_000)))
            alice = at.strangers.subscriber(ALICE, b"a/")
            await until(lambda: b"a/" in at.heard)
            await receives(at, alice, b"a/1")
            await until(lambda: at.stats["tcp_cut_off"] >= 1 and at.stats["tcp_denied_flood"])
            assert at.stats["tcp_cut_off"] <= at.guard.accepted
            flood.close(0)
            await until(lambda: at.broadcast.subscriptions == 1)
            before = len(at.heard)
            at.clock.advance(11.0)
            bob = at.strangers.subscriber(BOB, b"c/")
            await until(lambda: at.heard[before:] == [b"c/"])
            await receives(at, bob, b"c/1")

    drive(work)


def test_a_subscription_longer_than_any_topic_ends_the_connection() -> None:
    async def work() -> None:
        with house() as at:
            alice = at.strangers.subscriber(ALICE, b"a" * 128)
            long = at.strangers.subscriber(BOB, b"b" * 129)
            await until(lambda: at.stats["tcp_cut_off"] == 1 and at.stats["tcp_denied_flood"])
            await until(lambda: at.broadcast.prefixes)
            assert at.heard == [b"a" * 128]
            long.close(0)
            alice.close(0)

    drive(work)


def test_requests_of_a_key_are_rationed() -> None:
    async def work() -> None:
        with house(burst=5, per_s=1.0) as at:
            asking = at.strangers.socket(zmq.DEALER, BOB, at.requests)
            for n in range(8):
                asking.send(b"%d" % n)
            await until(lambda: at.stats["tcp_unanswered"] == 3)
            await until(lambda: at.answers.answered == 5)
            at.clock.advance(1.0)
            asking.send(b"9")
            await until(lambda: at.answers.answered == 6)

    drive(work)


def test_more_connections_than_the_bound_are_turned_away_and_those_there_are_stay() -> None:
    async def work() -> None:
        with house(connections=3) as at, contextlib.ExitStack() as stack:
            alice = at.strangers.subscriber(ALICE, b"a/")
            await until(lambda: at.heard)
            for _ in range(10):
                stack.enter_context(at.strangers.raw())
            await until(lambda: at.stats["tcp_turned_away"] >= 8)
            await receives(at, alice, b"a/1")

    drive(work)


def test_without_a_guard_that_answers_nobody_gets_in() -> None:
    async def work() -> None:
        with house() as at:
            at.guard._zap.close()
            at.guard._zap = zap.Zap(lambda _: "closed")
            alice = at.strangers.subscriber(ALICE, b"a/")
            await until(lambda: at.guard._zap.denied == {"closed": 1})
            at.broadcast.send([b"a/1"])
            assert (at.heard, got(alice)) == ([], [])

    drive(work)


def test_a_process_has_one_guard_and_can_make_another_when_it_is_closed() -> None:
    async def work() -> None:
        with house(), pytest.raises(FatalError, match=r"cannot listen on inproc://zeromq\.zap\.01: Address"):
            House()
        with house():
            pass

    drive(work)


def test_hanging_up_spares_a_number_that_is_another_s_by_now() -> None:
    async def work() -> None:
        with house() as at:
            bob = at.strangers.subscriber(BOB, b"a/")
            await until(lambda: at.heard)
            (descriptor, connection), *_ = at.guard._connections.items()
            connection.peer = ("127.0.0.1", 1)
            assert at.guard.cut(BOB[0].encode()) == 0
            assert os.fstat(descriptor)
            await receives(at, bob, b"a/1")

    drive(work)
