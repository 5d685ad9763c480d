"""A native connection against an exchange in the same loop, on both websocket libraries."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from daedalus.exchanges.adapter import Ask, Control, Fault, Limits, Send
from daedalus.kernel.errors import FatalError
from tests.exchanges.shellkit import (
    BOOK,
    BTC,
    FREE,
    TRADES,
    Credulous,
    Exchange,
    Rig,
    play,
)
from tests.loops import until


@pytest.fixture(params=["picows", "aiohttp"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DAEDALUS_WEBSOCKET", request.param)
    return str(request.param)


@pytest.mark.usefixtures("library")
def test_it_subscribes_and_hands_on_what_it_hears() -> None:
    exchange = Exchange(
        [[["subscribed", [TRADES]], ["trade", BTC, "1"]], [["heartbeat"]], [["book", BTC, 1]]]
    )

    async def work(rig: Rig) -> None:
        await until(lambda: len(rig.sink.taken) == 4 and exchange.heard == ["hello"])
        assert [type(said).__name__ for said in rig.sink.log] == [
            "Control",
            "TradeFact",
            "Control",
            "BookFact",
        ]
        assert rig.connection.open
        assert rig.connection.messages == 3
        await rig.connection.close()
        assert rig.sink.faults == []  # who closes knows
        await until(lambda: exchange.goodbyes)

    play(exchange, work)


@pytest.mark.usefixtures("library")
def test_a_closed_or_aborted_socket_is_a_gap_and_is_opened_again() -> None:
    exchange = Exchange([[["trade", BTC, "1"]]], [[["trade", BTC, "2"]]], [[["trade", BTC, "3"]]])

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids == ["1"])
        await exchange.peers[0].close(code=4001, message=b"go away")
        await until(lambda: rig.sink.ids == ["1", "2"])
        exchange.cut(exchange.peers[1])
        await until(lambda: rig.sink.ids == ["1", "2", "3"])
        (closed, since), (aborted, _) = rig.sink.faults
        assert since == rig.sink.taken[0][0].ts_recv
        assert (closed.reason, closed.streams) == ("disconnect", (BOOK, TRADES))
        assert closed.detail == "closed by the exchange: 4001 go away"
        assert (aborted.reason, aborted.streams) == ("disconnect", (BOOK, TRADES))
        assert (rig.shared.connects_made, rig.shared.faults) == (3, 2)

    play(exchange, work)


@pytest.mark.usefixtures("library")
def test_a_fault_of_the_whole_connection_ends_it_and_nothing_after_it_is_heard() -> None:
    exchange = Exchange(
        [
            [["trade", BTC, "1"]],
            [["trade", BTC, "2"], ["fault"], ["trade", BTC, "x"]],
            [["trade", BTC, "x"]],
        ],
        [[["trade", BTC, "3"]]],
    )

    async def work(rig: Rig) -> None:
        await until(lambda: len(rig.sink.ids) == 3)
        assert rig.sink.ids == ["1", "2", "3"]
        ((fault, since),) = rig.sink.faults
        assert (fault.reason, fault.streams) == ("sequence", (BOOK, TRADES))
        assert since == rig.sink.taken[0][0].ts_recv

    play(exchange, work)


def test_a_local_fault_loses_its_streams_alone_and_the_connection_lives() -> None:
    exchange = Exchange([[["book", BTC, 1], ["fault", [BOOK]], ["send", "again"], ["trade", BTC, "1"]]])

    async def work(rig: Rig) -> None:
        await until(lambda: exchange.heard == ["hello", "again"])
        await exchange.say(0, ["book", BTC, 5])
        await until(lambda: len(rig.sink.books) == 2)
        ((fault, since),) = rig.sink.faults
        assert (fault.streams, fault.local, since) == ((BOOK,), True, None)
        assert [type(said) for said in rig.sink.log].index(
            Fault
        ) == 1  # after the book before it, before the trade
        assert (rig.shared.connects_made, rig.shared.resyncs, rig.shared.faults) == (1, 1, 0)

    play(exchange, work)


@pytest.mark.usefixtures("library")
def test_garbage_that_is_no_websocket_is_a_fault_and_not_our_end() -> None:
    exchange = Exchange([[["trade", BTC, "1"]]], [[["trade", BTC, "2"]]])

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids == ["1"])
        transport = exchange.requests[0].transport
        assert transport is not None
        transport.write(b"\xff\xff\xff\xff garbage")
        await until(lambda: rig.sink.ids == ["1", "2"])
        ((fault, _),) = rig.sink.faults
        assert fault.reason == "error"
        assert fault.detail.startswith("protocol: ")

    play(exchange, work)


@pytest.mark.usefixtures("library")
def test_a_message_above_the_bound_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from daedalus.exchanges import transport_aiohttp, transport_picows

    for module in (transport_aiohttp, transport_picows):
        monkeypatch.setattr(module, "FRAME_BYTES_MAX", 1000)
    exchange = Exchange(["[" + " " * 2000 + "]"], [[["trade", BTC, "2"]]])

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids == ["2"])
        assert rig.sink.faults[0][0].reason == "error"

    play(exchange, work)


@pytest.mark.usefixtures("library")
def test_an_error_of_our_own_ends_the_run() -> None:
    async def work(rig: Rig) -> None:
        def broken(*_: Any) -> None:
            raise RuntimeError("our own")

        rig.connection._line._take = broken  # type: ignore[assignment]
        with pytest.raises(RuntimeError, match="our own"):
            await rig.start()

    play(Exchange([[["trade", BTC, "1"]]]), work, start=False)


@pytest.mark.usefixtures("library")
def test_a_refused_subscription_is_fatal() -> None:
    async def work(rig: Rig) -> None:
        with pytest.raises(FatalError, match=r"cannot subscribe at ws://127.*: told to"):
            await rig.start()

    play(Exchange([[["fatal"]]]), work, start=False)


def test_a_failed_subscription_drops_the_connection_and_backs_off() -> None:
    """exchanges.md 1: ccxt hangs for ever after it."""
    exchange = Exchange(*[[[["heartbeat"]], [["fault"]]]] * 4, [[["trade", BTC, "1"]]])
    waits = []

    async def work(rig: Rig) -> None:
        rig.connection._uniform = lambda low, high: waits.append(high) or low  # type: ignore[func-returns-value]
        rig.start()
        await until(lambda: rig.sink.ids == ["1"])
        exchange.cut(exchange.peers[-1])
        await until(lambda: len(exchange.peers) == 6)

    play(exchange, work, start=False, reconnect_base_s=0.5, reconnect_cap_s=3.0, rotate_after_h=1e6)
    backoffs = [high for high in waits if high <= 3.0]
    assert backoffs == [1.0, 2.0, 3.0, 3.0, 0.5]  # a heartbeat is no data; a trade is


def test_a_message_in_several_frames_is_one_message() -> None:
    async def work(rig: Rig) -> None:
        line = rig.connection._line
        raw = json.dumps([["trade", BTC, "1"]]).encode()
        line.received(raw[:3], final=False, text=True)
        line.received(memoryview(raw[3:9]), final=False, text=False)
        assert rig.sink.log == []
        line.received(raw[9:], final=True, text=False)
        assert rig.sink.ids == ["1"]
        assert rig.sink.frames == [(1, raw, True)]  # the first frame says whether it is text

    play(Exchange(), work, start=False, raw_capture="frames")


def test_fragments_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daedalus.exchanges.fragments.FRAME_BYTES_MAX", 100)

    async def work(rig: Rig) -> None:
        for _ in range(3):
            rig.connection._line.received(b" " * 40, final=False, text=True)
        assert rig.connection._line.fault is not None
        assert rig.connection._line.fault.detail == "message above 100 bytes"

    play(Exchange(), work, start=False)


def test_the_bytes_of_one_message_do_not_count_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daedalus.exchanges.fragments.FRAME_BYTES_MAX", 100)

    async def work(rig: Rig) -> None:
        for number in range(5):
            raw = json.dumps([["trade", BTC, str(number)]]).encode().ljust(60)
            rig.connection._line.received(raw[:50], final=False, text=True)
            rig.connection._line.received(raw[50:], final=True, text=False)
        assert rig.sink.ids == ["0", "1", "2", "3", "4"]

    play(Exchange(), work, start=False)


def test_fragments_without_a_byte_are_bounded_too() -> None:
    async def work(rig: Rig) -> None:
        line = rig.connection._line
        heard = 0
        while line.fault is None and heard < 20_000:
            heard += 1
            line.received(b"", final=False, text=True)
        assert heard == 10_001
        assert line.fault is not None
        assert (line.fault.reason, line.fault.detail) == ("error", "message above 10000 frames")

    play(Exchange(), work, start=False)


@pytest.mark.usefixtures("library")
def test_raw_frames_are_handed_over_before_they_are_understood() -> None:
    exchange = Exchange([[["heartbeat"]], b'[["trade", "BTC/USD", "1"]]'])

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids == ["1"])
        assert rig.sink.frames == [
            (1, b'[["heartbeat"]]', True),
            (1, b'[["trade", "BTC/USD", "1"]]', False),
        ]

    play(exchange, work, raw_capture="frames")


def test_without_raw_capture_no_frame_is_kept() -> None:
    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids)
        assert rig.sink.frames == []

    play(Exchange([[["trade", BTC, "1"]]]), work, raw_capture="info")


# -- handshakes


@pytest.mark.usefixtures("library")
def test_a_slow_handshake_is_given_up() -> None:
    exchange = Exchange([[["trade", BTC, "1"]]])
    release = asyncio.Event()

    async def slow() -> web.Response:
        await release.wait()
        return web.Response(status=503)

    exchange.handshakes = [slow]

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids == ["1"])
        release.set()
        ((fault, since),) = rig.sink.faults
        assert (fault.reason, since) == ("disconnect", None)
        assert fault.detail == "cannot open the websocket: no websocket within 0.2 s"

    play(exchange, work, handshake_s=0.2)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("status", "header", "least_s"), [(429, "0.25", 0.25), (418, "0.3", 0.3), (403, "0.2", 0.2)]
)
def test_who_is_sent_away_at_the_handshake_stays_away_for_as_long_as_asked(
    status: int, header: str, least_s: float
) -> None:
    exchange = Exchange([[["trade", BTC, "1"]]])
    exchange.handshakes = [web.Response(status=status, headers={"Retry-After": header})]

    async def work(rig: Rig) -> None:
        began = asyncio.get_running_loop().time()
        await until(lambda: rig.sink.faults)
        assert rig.shared.connects.ready_in(rig.shared.connects.now()) > 0.1  # for every connection
        await until(lambda: rig.sink.ids == ["1"])
        assert asyncio.get_running_loop().time() - began >= least_s
        assert rig.sink.faults[0][0].detail == f"cannot open the websocket: HTTP {status}"

    play(exchange, work)


@pytest.mark.usefixtures("library")
def test_a_redirect_is_not_followed() -> None:
    exchange = Exchange([[["trade", BTC, "1"]]])
    exchange.handshakes = [web.Response(status=302, headers={"Location": "/elsewhere"})]

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids == ["1"])
        assert "HTTP 302" in rig.sink.faults[0][0].detail
        assert exchange.asked == []

    play(exchange, work)


@pytest.mark.usefixtures("library")
def test_nobody_at_the_other_end_is_a_gap_that_goes_on() -> None:
    async def work(rig: Rig) -> None:
        rig.shared.options = rig.connection._line.options = type(rig.shared.options)(
            url="ws://127.0.0.1:1/", rest_url="", reconnect_base_s=0.001, reconnect_cap_s=0.002
        )
        rig.start()
        await until(lambda: len(rig.sink.faults) >= 3)
        assert {fault.reason for fault, _ in rig.sink.faults} == {"disconnect"}

    play(Exchange(), work, start=False)


# -- what is sent


@pytest.mark.usefixtures("library")
def test_messages_keep_to_the_exchanges_pace_and_their_order() -> None:
    exchange = Exchange()

    class Talkative(Credulous):
        def subscribe(self) -> list[Send | Ask]:
            return [Send(str(n).encode()) for n in range(12)]

    async def work(_rig: Rig) -> None:
        await until(lambda: len(exchange.heard) >= 5)
        assert len(exchange.heard) < 12  # a burst of five, then a hundred a second
        await until(lambda: len(exchange.heard) == 12)
        assert exchange.heard == [str(n) for n in range(12)]

    limits = Limits(connects=FREE.connects, sends=(10, 0.05), rest=FREE.rest)
    rig = play(exchange, work, make=Talkative, limits=limits)
    assert rig.shared.sends_waited == 7


def test_a_loop_of_messages_ends_the_connection() -> None:
    class Endless(Credulous):
        def subscribe(self) -> list[Send | Ask]:
            return [Send(b"x")] * (2000 if self.subscribed == 0 else 1)

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.faults)
        assert "cannot send: 1000 messages wait" in rig.sink.faults[0][0].detail

    limits = Limits(connects=FREE.connects, sends=(1, 100.0), rest=FREE.rest)
    play(Exchange(), work, make=Endless, limits=limits)


def test_d28_reconnects_keep_to_the_limit_of_new_connections() -> None:
    exchange = Exchange(*[[[["trade", BTC, str(n)], ["fault"]]] for n in range(100)])

    async def work(_rig: Rig) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(lambda: len(exchange.peers) >= 12)
        took_s = loop.time() - began
        # a sixth of 12 at the start, then half of them in each 0.4 s
        assert took_s >= (12 - 2 - 1) / 15

    play(exchange, work, limits=Limits(connects=(12, 0.4), sends=FREE.sends, rest=FREE.rest))


def test_control_of_a_subscription_ends_a_gap_at_the_collector() -> None:
    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.taken)
        assert rig.sink.of(Control) == [Control("subscribed", (TRADES,))]

    play(Exchange([[["subscribed", [TRADES]]]]), work)
