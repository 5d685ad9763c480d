"""A collector's life without an exchange: what it opens, watches, says and leaves behind."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daedalus.actors import collector as collector_module
from daedalus.actors.collector import Collector
from daedalus.actors.sources import CollectorSettings
from daedalus.exchanges.adapter import Fault, Stream
from daedalus.kernel.actor import Context
from daedalus.kernel.errors import EXIT_RECYCLE, FatalError
from daedalus.kernel.journal import Mark
from daedalus.kernel.notify import DATAGRAM_MAX
from daedalus.records import Gap, Trade, decode
from tests.actors.makings import BTC, backfilled, book, trade

TRADES, BOOK = Stream(BTC, "trades"), Stream(BTC, "orderbook")


class Shell:
    """An exchange's shell that waits to be told what its exchange says."""

    source = "native"
    hooks = None

    def __init__(self, _settings: Any, sink: Any) -> None:
        self.sink = sink
        self.running = asyncio.Event()

    async def run(self) -> None:
        self.running.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.sink.lost(Fault((TRADES,), "disconnect", "closed"), None)

    def stats(self) -> dict[str, Any]:
        return {"messages": 3}


@pytest.fixture
def live(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what lets a collector live, does something with it and drains it; it returns the exit code."""
    monkeypatch.setattr(collector_module, "make_adapter", Shell)
    monkeypatch.setattr(collector_module, "WELCOME_WAIT_S", 0.01)
    monkeypatch.setattr(collector_module, "is_synchronized", lambda: True)

    def settings(**changes: Any) -> CollectorSettings:
        given: dict[str, Any] = {
            "exchange": "x",
            "adapter": "native",
            "channels": {"trades": [BTC], "orderbook": [BTC]},
            "runtime": str(short_tmp / "r"),
            "data": str(short_tmp / "d"),
            "spool_mb": 1,
        }
        return CollectorSettings(**(given | changes))

    async def life(act: Callable[[Collector], Awaitable[None]], given: CollectorSettings) -> int | None:
        made = Collector(given, Context(name="c", drain_s=0.3))
        made._ended = asyncio.get_running_loop().create_future()
        await made.start()
        try:
            await made._adapter.running.wait()
            await act(made)
            code = made._ended.result() if made._ended.done() else None
            await made.drain()
        finally:
            for task in list(made._tasks):
                task.cancel()
            await asyncio.gather(*made._tasks, return_exceptions=True)
            await made.stop()
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
        return code

    (short_tmp / "r").mkdir(mode=0o700)
    (short_tmp / "d").mkdir()
    return lambda act, **changes: asyncio.run(life(act, settings(**changes)))


def say(made: Collector, *facts: Any) -> None:
    made.intake.take(made.intake.capture(), facts)


def rows(made: Collector, channel: str = "trades") -> list[Any]:
    spool = made._outlets[channel].spool
    return [decode(one) for one in spool.read(spool.oldest(), 10_000)]


@pytest.mark.parametrize("gone", ["nothing", "spool", "file"])
def test_the_next_process_knows_what_was_stored_and_asks_from_there(
    live: Any, short_tmp: Path, gone: str
) -> None:
    async def first(made: Collector) -> None:
        say(made, *map(trade, range(100)))

    async def second(made: Collector) -> None:
        assert made.intake.last_trade(BTC) == "99"
        if gone == "spool":  # only the writer can say that nothing was stored after the file
            made.intake.welcomed("trades", {"BTC-USD": Mark(1, 100, "before")}, [])
        say(made, backfilled(98), backfilled(100), trade(101))
        stored = [row.trade_id for row in rows(made) if isinstance(row, Trade)]
        assert stored[-2:] == ["100", "101"]
        assert made.stats()["duplicates"] == 1

    live(first)
    if gone == "spool":
        shutil.rmtree(short_tmp / "r" / "spool")
    elif gone == "file":
        (short_tmp / "d" / "state" / "trades-x.json").unlink()
    live(second)


def test_a_request_to_recycle_ends_with_exit_75(live: Any) -> None:
    async def act(made: Collector) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(20):
            await made._ended  # type: ignore[misc]

    assert live(act) == EXIT_RECYCLE


def test_c01_a_process_that_grows_recycles_itself(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_module, "anonymous_bytes", lambda: memory[0])
    memory = [100 << 20]

    async def act(made: Collector) -> None:
        for minute in range(30, 600):
            made._began = time.monotonic() - minute * 60
            made._ticks = collector_module.SAMPLE_EVERY - 1
            await made._look_around()
            if made._ended.done():  # type: ignore[union-attr]
                break
            memory[0] += 1 << 20
        assert 160 << 20 < memory[0] < 260 << 20

    assert live(act, recycle_mb_per_h=50, memory_soft=240 << 20) == EXIT_RECYCLE
    memory[0] = 100 << 20


def test_d26_a_full_disk_holds_the_intake_until_there_is_room(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [50]
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free[0], f_blocks=1000))

    async def look(made: Collector, at: int) -> None:
        free[0] = at
        made._ticks = collector_module.LOOK_EVERY - 1
        await made._look_around()

    async def act(made: Collector) -> None:
        say(made, trade(1))
        assert made.status() == "disk 5.0 % free"
        await look(made, 19)
        say(made, trade(2), trade(3))
        assert made.status() == "1 of 2 streams shedding; disk 1.9 % free: nothing is stored"
        await look(made, 25)
        assert made._outlets["trades"].held, "a point above the mark"
        await look(made, 500)
        say(made, trade(4))
        (gap,) = [row for row in rows(made) if not isinstance(row, Trade)]
        assert (gap.reason, gap.lost_estimate) == ("overflow", 2)
        assert gap.detail == "disk 1.9 % free: nothing is stored"
        assert made.status() == ""

    live(act)


def test_statistics_are_numbers_json_can_have(live: Any) -> None:
    async def act(made: Collector) -> None:
        say(made, trade(1), trade(1), book())
        stats = made.stats()
        json.loads(json.dumps(stats, allow_nan=False))
        assert {key: stats[key] for key in ("received", "stored", "duplicates", "gaps", "messages")} == {
            "received": 2, "stored": 2, "duplicates": 1, "gaps": 0, "messages": 3,
        }  # fmt: skip
        figures = (
            "received",
            "stored",
            "shed",
            "gaps",
            "lag_p50_ms",
            "lag_p99_ms",
            "rate_per_s",
            "last_age_s",
        )
        assert all(f"trades.BTC-USD.{figure}" in stats for figure in figures)

    live(act)


def test_trade_ids_that_the_next_one_refuted_are_counted_in_the_statistics(live: Any) -> None:
    async def act(made: Collector) -> None:
        say(made, trade(1), trade(2))
        assert made.stats()["trade_ids_refuted"] == 0
        say(made, trade(10**17), trade(3))
        assert made.stats()["trade_ids_refuted"] == 1
        assert made.intake.last_trade(BTC) == "3"

    live(act)


def test_a_thousand_streams_are_told_in_one_datagram_the_troubled_first(
    live: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"VERYLONGNAME{number}/USDT:USDT" for number in range(1000)]

    async def act(made: Collector) -> None:
        say(made, *(trade(1, symbol=name) for name in names))
        made.intake.lost(Fault((Stream(names[-1], "trades"),), "stale", ""), None)
        stats = made.stats()
        assert len(json.dumps(stats)) < DATAGRAM_MAX - 1000
        assert stats["received"] == 1000
        assert 800 < stats["streams_untold"] < 950
        assert stats["trades.VERYLONGNAME999-USDT-USDT.received"] == 1
        await made.drain()
        assert sum(isinstance(row, Gap) for row in rows(made)) == 1000

    live(act, channels={"trades": names})
    assert "gaps=950" in capsys.readouterr().out.rsplit("gaps_recorded", 1)[1]


def test_d10_a_name_that_another_symbol_has_is_refused_at_the_start(live: Any) -> None:
    async def nothing(_made: Collector) -> None:
        pass

    live(nothing)
    with pytest.raises(FatalError, match=r"that is 'BTC/USD'; another name"):
        live(nothing, channels={"trades": ["BTC-USD"]})
    live(nothing, channels={"trades": ["BTC-USD"]}, aliases={"BTC-USD": "BTC-USD-2"})


def test_a_symbol_is_stored_and_published_under_its_alias(live: Any) -> None:
    async def act(made: Collector) -> None:
        say(made, trade(1))
        assert [(row.symbol, row.symbol_raw) for row in rows(made)] == [("coin", BTC)]
        assert made.intake._topics[TRADES] == b"trade/x/coin/"

    live(act, aliases={BTC: "coin"})


def test_the_last_rows_are_written_though_the_exchange_does_not_let_go(live: Any) -> None:
    async def act(made: Collector) -> None:
        say(made, trade(1))
        made._adapter.close = asyncio.Event().wait  # type: ignore[assignment, method-assign]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made.drain(), 0.05)
        assert [row.detail for row in rows(made) if not isinstance(row, Trade)] == ["stopped"]

    live(act)


def test_the_last_rows_are_written_once_whoever_ends_the_collector(live: Any) -> None:
    async def act(made: Collector) -> None:
        say(made, trade(1))
        await made.drain()
        say(made, trade(2))
        assert [row.detail for row in rows(made) if not isinstance(row, Trade)] == ["stopped"]

    live(act)
