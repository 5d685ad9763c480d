"""One connection: requests and their answers, pings, and every kind of silence."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from daedalus.exchanges.adapter import Ask, Control, Item, Limits, Now, Send
from daedalus.exchanges.freshness import Silence
from tests.exchanges.fakes import BASE
from tests.exchanges.shellkit import (
    BOOK,
    BTC,
    CHANNELS,
    FREE,
    TICKER,
    TRADES,
    Credulous,
    Exchange,
    Rig,
    Sink,
    play,
)
from tests.loops import until

S = 1_000_000_000


class Hand(Sink):
    """A sink whose clock the test holds."""

    def __init__(self) -> None:
        super().__init__()
        self.mono = 0

    def capture(self) -> Now:
        self.captures += 1
        return Now(BASE + self.mono + self.captures * 1000, self.mono + self.captures, BASE // 1_000_000)


# -- requests


def test_an_answer_goes_to_the_adapter_and_what_it_says_to_the_sink() -> None:
    exchange = Exchange([[["ask", "one", "/book?limit=5", [BOOK]]]])
    exchange.rest = {
        "/book": [[["book", BTC, 7], ["send", "thanks"], ["ask", "two", "/more", [BOOK]]]],
        "/more": [[]],
    }

    async def work(rig: Rig) -> None:
        await until(lambda: len(rig.adapters[0].answers) == 2)
        assert [answer[:2] for answer in rig.adapters[0].answers] == [("one", 200), ("two", 200)]
        assert [fact.nonce for fact in rig.sink.books] == [7]
        await until(lambda: exchange.heard == ["hello", "thanks"])

    play(exchange, work)


def test_an_answer_to_an_earlier_connection_is_dropped() -> None:
    exchange = Exchange([[["trade", BTC, "1"], ["ask", "one", "/slow", [BOOK]]]], [[["trade", BTC, "2"]]])
    release = asyncio.Event()

    async def slow() -> web.Response:
        await release.wait()
        return web.json_response([["book", BTC, 1]])

    exchange.rest = {"/slow": [slow]}

    async def work(rig: Rig) -> None:
        first = rig.connection._line
        await until(lambda: exchange.asked)
        exchange.cut(exchange.peers[0])
        await until(lambda: rig.sink.ids == ["1", "2"])
        release.set()
        await exchange.say(1, ["trade", BTC, "3"])
        await until(lambda: len(rig.sink.ids) == 3)
        assert not first._tasks  # given up, not only ignored
        assert rig.adapters[0].answers == []
        assert rig.sink.books == []

    play(exchange, work)


def test_rest_500_and_429_are_asked_again_while_the_connection_lives() -> None:
    """exchanges.md 1: REST 500."""
    exchange = Exchange([[["ask", "one", "/book", [BOOK]]]])
    exchange.rest = {
        "/book": [500, web.Response(status=429, headers={"Retry-After": "0.01"}), [["book", BTC, 7]]]
    }

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.books)
        assert rig.sink.faults == []
        assert (rig.shared.rest.requests, rig.shared.rest.retries) == (3, 2)

    play(exchange, work)


def test_a_fault_in_an_answer_counts_like_one_in_a_message() -> None:
    exchange = Exchange(
        [[["ask", "one", "/local", [BOOK]]], [["ask", "two", "/whole", [BOOK]]]], [[["trade", BTC, "1"]]]
    )
    exchange.rest = {"/local": [[["fault", [BOOK]]]], "/whole": [[["fault"]]]}

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids == ["1"])
        local, whole = sorted((fault for fault, _ in rig.sink.faults), key=lambda fault: not fault.local)
        assert local.streams == (BOOK,)
        assert whole.streams == (BOOK, TRADES)

    play(exchange, work)


def test_an_exception_of_ours_in_an_answer_ends_the_run() -> None:
    class Broken(Credulous):
        def answer(self, *_: Any) -> list[Item]:
            raise RuntimeError("our own")

    exchange = Exchange([[["ask", "one", "/x", [BOOK]]]])
    exchange.rest = {"/x": [[]]}

    async def work(rig: Rig) -> None:
        with pytest.raises(RuntimeError, match="our own"):
            await rig.start()

    play(exchange, work, make=Broken, start=False)


def test_a_loop_of_requests_ends_the_connection() -> None:
    class Endless(Credulous):
        def subscribe(self) -> list[Send | Ask]:
            return [Ask(str(n), "/x", ()) for n in range(3000 if not self.fed else 0)]

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.faults)
        assert rig.sink.faults[0][0].detail == "cannot ask: 2000 requests are open"

    play(
        Exchange(),
        work,
        make=Endless,
        limits=Limits(connects=FREE.connects, sends=FREE.sends, rest=(1, 1000.0)),
    )


# -- silence

_FAST = {"stale_min_s": 0.1, "stale_max_s": 1000.0, "keepalive_s": 1000.0}


def held(rig: Rig) -> Hand:
    """Give a connection that is not yet running a sink whose clock the test holds."""
    sink = Hand()
    line = rig.connection._line
    rig.connection._sink = line._sink = line._outlet = sink
    line.capture, line._take = sink.capture, sink.take
    return sink


def pace(rig: Rig, sink: Hand, *channels: str) -> None:
    """Let thirty messages of each channel arrive, a hundred milliseconds apart on the clock of the test."""
    for n in range(30):
        sink.mono += S // 10
        for channel in channels:
            rig.connection._line.received(_message(channel, n), final=True)


def _message(channel: str, n: int) -> bytes:
    words = {"trade": f'[["trade", "{BTC}", "{n}"]]', "ticker": f'[["ticker", "{BTC}"]]'}
    return words.get(channel, f'[["{channel}", "{BTC}", {n}]]').encode()


def test_a_frozen_exchange_is_noticed_though_it_answers_pings() -> None:
    """exchanges.md 1: silence with pongs answered hangs for ever."""
    exchange = Exchange()

    async def work(rig: Rig) -> None:
        sink, line = held(rig), rig.connection._line
        rig.start()
        await until(lambda: rig.connection.open)
        pace(rig, sink, "book", "trade")
        for _ in range(3):
            line.alive()  # a pong
            assert sink.faults == []
        sink.mono += 2 * S
        line.alive()
        await until(lambda: sink.faults)
        ((fault, since),) = sink.faults
        assert fault.reason == "stale"
        assert fault.detail.startswith("no message for ")
        assert since is not None

    play(exchange, work, start=False, **_FAST)


def test_c02_one_stream_of_several_that_falls_silent_is_noticed_while_its_socket_lives() -> None:
    exchange = Exchange()

    async def work(rig: Rig) -> None:
        sink = held(rig)
        rig.start()
        await until(lambda: rig.connection.open)
        pace(rig, sink, "book", "trade")
        pace(rig, sink, "trade")  # the book is silent for three seconds
        await until(lambda: len(sink.faults) == 2)
        (book, unknown), (rest, since) = sink.faults
        assert (book.streams, book.reason, unknown) == ((BOOK,), "stale", None)  # since its own last word
        assert (rest.streams, rest.reason) == ((TRADES,), "stale")
        assert since == sink.taken[-1][0].ts_recv
        assert book.detail.startswith(f"{BTC} orderbook silent for 3.")
        await until(lambda: len(exchange.peers) == 2)

    play(exchange, work, start=False, **_FAST)


def test_a_heartbeat_that_names_its_streams_is_a_sign_of_life_of_these_alone() -> None:
    exchange = Exchange()

    async def work(rig: Rig) -> None:
        sink, line = held(rig), rig.connection._line
        rig.start()
        await until(lambda: rig.connection.open)
        pace(rig, sink, "book", "trade", "ticker")
        for n in range(30):  # the book and the ticker are silent for three seconds, but of the book we hear
            sink.mono += S // 10
            line.received(_message("trade", n), final=True)
            line.received(f'[["heartbeat", [["{BTC}", "orderbook"]]], ["heartbeat"]]'.encode(), final=True)
        await until(lambda: sink.faults)
        assert sink.faults[0][0].streams == (TICKER,)

    play(exchange, work, channels=CHANNELS | {"ticker": [BTC]}, start=False, **_FAST)


def test_a_resubscription_that_is_never_answered_ends_after_the_upper_bound_though_all_else_is_heard() -> (
    None
):
    exchange = Exchange()

    async def work(rig: Rig) -> None:
        sink, line = held(rig), rig.connection._line
        rig.start()
        await until(lambda: rig.connection.open)
        pace(rig, sink, "book", "trade")
        line.received(f'[["fault", [["{BTC}", "orderbook"]]], ["send", "anew"]]'.encode(), final=True)
        await until(lambda: "anew" in exchange.heard)
        looked, looks = line.watches.silent, 0

        def counted(*args: Any) -> list[Silence]:
            nonlocal looks
            looks += 1
            return looked(*args)

        line.watches.silent = counted  # type: ignore[method-assign]
        for n in range(49):
            sink.mono += S // 10
            line.received(_message("trade", n), final=True)
        await until(lambda: looks >= 2)
        assert [fault.reason for fault, _ in sink.faults] == ["sequence"]
        sink.mono += S // 5
        line.received(_message("trade", 50), final=True)
        await until(lambda: len(sink.faults) == 3)
        (book, _), (rest, _) = sink.faults[1:]
        assert (book.streams, rest.streams) == ((BOOK,), (TRADES,))
        assert book.detail == f"{BTC} orderbook silent for 5.1 s, limit 5.0 s"

    play(exchange, work, start=False, **(_FAST | {"stale_max_s": 5.0}))


@pytest.mark.parametrize("waits", [True, False])
def test_a_book_that_waits_for_its_snapshot_by_rest_is_not_silent(waits: bool) -> None:
    exchange = Exchange([[["ask", "one", "/never", [BOOK]]]] if waits else [])
    release = asyncio.Event()

    async def never() -> int:
        await release.wait()
        return 500

    exchange.rest = {"/never": [never]}

    async def work(rig: Rig) -> None:
        sink, line = held(rig), rig.connection._line
        rig.start()
        await until(lambda: rig.connection.open and (exchange.asked or not waits))
        looked = line.watches.silent
        looks = 0

        def counted(*args: Any) -> list[Silence]:
            nonlocal looks
            looks += 1
            return looked(*args)

        line.watches.silent = counted  # type: ignore[method-assign]
        for n in range(50):  # five seconds of trades without a book; its limit is two
            sink.mono += S // 10
            line.received(_message("trade", n), final=True)
        await until(lambda: looks >= 2 or sink.faults)
        assert bool(sink.faults) is not waits
        release.set()

    play(exchange, work, start=False, stale_min_s=0.1, stale_max_s=2.0, keepalive_s=1000.0)


@pytest.mark.parametrize("library", ["picows", "aiohttp"])
@pytest.mark.parametrize("text", [None, b"ping"])
def test_an_idle_connection_is_pinged_and_one_without_an_answer_is_given_up(
    library: str, text: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEDALUS_WEBSOCKET", library)
    exchange = Exchange()

    class Pinging(Credulous):
        def ping(self) -> bytes | None:
            return text

    async def work(rig: Rig) -> None:
        await until(lambda: rig.connection.open)
        sink, vigil = rig.sink, rig.connection._line._vigil
        sink.captures += 2 * S // 1000  # two seconds of nothing
        if text is None:
            await until(
                lambda: vigil._pinged_at is not None and vigil._alive_at >= vigil._pinged_at
            )  # a pong
        else:
            await until(lambda: exchange.heard == ["hello", "ping"])
            await exchange.say(0, ["heartbeat"])
            await until(lambda: sink.of(Control))
        assert sink.faults == []
        vigil.alive = lambda: None  # type: ignore[method-assign]
        for _ in range(2):
            sink.captures += 2 * S // 1000
            await asyncio.sleep(0.05)
        await until(lambda: sink.faults)
        assert sink.faults[0][0].detail == "no answer to a ping for 1 s"
        assert sink.faults[0][0].reason == "disconnect"

    options = {"stale_min_s": 0.04, "stale_max_s": 1e6, "keepalive_s": 1.0}
    play(exchange, work, make=Pinging, **options)


def test_a_ping_of_the_exchange_is_answered_and_is_a_sign_of_life() -> None:
    exchange = Exchange()

    async def work(rig: Rig) -> None:
        await until(lambda: rig.connection.open)
        vigil = rig.connection._line._vigil
        before = vigil._alive_at
        pong = exchange.peers[0]
        await pong.ping(b"17")
        await until(lambda: vigil._alive_at > before)

    play(exchange, work)


# -- what passes


def test_facts_without_a_watch_of_their_own_pass_as_well() -> None:
    async def work(rig: Rig) -> None:
        await until(lambda: len(rig.sink.log) == 3)
        assert [type(said).__name__ for said in rig.sink.log] == ["EventFact", "TickerFact", "BookFact"]

    play(
        Exchange([[["event", BTC], ["ticker", BTC]], [["book", "X/Y", 1]]]),
        work,
        channels=CHANNELS | {"ticker": [BTC]},
    )


def test_the_messages_after_a_fault_in_the_same_buffer_are_not_heard() -> None:
    async def work(rig: Rig) -> None:
        line = rig.connection._line
        line.adapter.subscribe()
        for raw in (b'[["trade", "BTC/USD", "1"]]', b'[["fault"]]', b'[["trade", "BTC/USD", "2"]]'):
            line.received(raw, final=True)
        assert rig.sink.ids == ["1"]
        assert line.messages == 1

    play(Exchange(), work, start=False)
