"""C07: trades that were missed in a gap, or before this process began, are fetched by REST."""

import pytest

from tests.exchanges.shellkit import BOOK, BTC, TRADES, Exchange, Rig, play
from tests.loops import until


@pytest.mark.parametrize("first", [["subscribed", [TRADES]], ["trade", BTC, "9"]])
def test_c07_trades_missed_in_a_gap_are_asked_for_once_the_stream_is_heard_again(first: list) -> None:
    exchange = Exchange([[["trade", BTC, "1"]]], [[["heartbeat"]], [first]])
    exchange.rest = {
        "/trades": [[["old", BTC, "2"], ["ask", "page", "/page", [TRADES]]]],
        "/page": [[["old", BTC, "3"]]],
    }

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.ids == ["1"])
        rig.sink.last = {BTC: "1"}
        exchange.cut(exchange.peers[0])
        await until(lambda: rig.sink.ids[-2:] == ["2", "3"])
        assert exchange.asked == ["/trades?from=1", "/page"]
        assert rig.shared.backfilled == 2
        await exchange.say(1, ["subscribed", [TRADES]], ["trade", BTC, "10"])
        await until(lambda: rig.sink.ids[-1] == "10")
        assert len(exchange.asked) == 2  # once for each gap

    play(exchange, work)


def test_c07_at_the_start_what_an_earlier_process_missed() -> None:
    exchange = Exchange([[["subscribed", [TRADES]]]])
    exchange.rest = {"/trades": [[["old", BTC, "18"]]]}

    async def work(rig: Rig) -> None:
        rig.sink.last = {BTC: "17"}
        rig.start()
        await until(lambda: rig.sink.ids == ["18"])
        assert exchange.asked == ["/trades?from=17"]

    play(exchange, work, start=False)


def test_c07_nothing_is_asked_where_nothing_was_stored_or_nothing_is_wanted() -> None:
    for backfill, last in ((True, {}), (False, {BTC: "17"})):
        exchange = Exchange([[["subscribed", [TRADES]], ["trade", BTC, "18"]]])

        async def work(rig: Rig, exchange: Exchange = exchange, last: dict[str, str] = last) -> None:
            rig.sink.last = last
            rig.start()
            await until(lambda: rig.sink.ids == ["18"])
            assert exchange.asked == []

        play(exchange, work, start=False, backfill=backfill)


def test_c07_the_pages_of_a_backfill_are_bounded() -> None:
    exchange = Exchange([[["subscribed", [TRADES]]]])
    exchange.rest = {"/trades": [[["ask", "page", "/trades?x", [TRADES]]]]}

    async def work(rig: Rig) -> None:
        rig.sink.last = {BTC: "17"}
        rig.start()
        await until(lambda: len(exchange.asked) == 50)
        await exchange.say(0, ["ask", "sync", "/other", [BOOK]])
        await until(lambda: "/other" in exchange.asked)
        assert len(exchange.asked) == 51

    play(exchange, work, start=False)


def test_c07_a_backfill_that_fails_is_a_warning_and_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    exchange = Exchange([[["subscribed", [TRADES]]]])
    exchange.rest = {"/trades": [404]}

    async def work(rig: Rig) -> None:
        rig.sink.last = {BTC: "17"}
        rig.start()
        await until(lambda: rig.adapters[0].answers)
        await exchange.say(0, ["trade", BTC, "18"])
        await until(lambda: rig.sink.ids == ["18"])
        assert rig.sink.faults == []

    play(exchange, work, start=False)
    assert "answer_refused" in "".join(capsys.readouterr())
