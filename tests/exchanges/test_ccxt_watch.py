"""Silence: a frozen stream is found, a quiet market is left alone, and lag is seen without a clock's help."""

from typing import Any

import pytest

from daedalus.exchanges import ccxt_verify
from daedalus.exchanges.adapter import Now, Stream, TickerFact
from daedalus.exchanges.ccxt_watch import Watch
from tests.exchanges.ccxt_kit import (
    Desk,
    binance_trade,
    coinbase,
    coinbase_book,
    coinbase_trades,
    with_desk,
)

BOOK, TRADES = Stream("BTC/USD", "orderbook"), Stream("BTC/USD", "trades")
_S = 1_000_000_000


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_verify, "_GRACE_S", 0)


async def suspicions(desk: Desk, after_s: float) -> list[Any]:
    """Let time pass and return what is suspected."""
    desk.sink.ahead_ns += int(after_s * _S)
    hooks = desk.shell.hooks
    return hooks.watch.suspicions(list(hooks.connections.values()), desk.sink.capture().mono_ns)


async def both(desk: Desk) -> Any:
    """Return a Coinbase connection that carries a book and trades, both with a pace of one a second."""
    await desk.start()
    line = desk.line
    await desk.until(lambda: len(line.requests("BTC-USD")) == 2)
    names = {"level2": ["BTC-USD"], "market_trades": ["BTC-USD"]}
    await desk.say(line, coinbase("subscriptions", 0, {"subscriptions": names}))
    snapshot = coinbase_book("BTC-USD", ("bid", "100", "1"), ("offer", "101", "2"), kind="snapshot")
    await desk.say(line, coinbase("l2_data", 1, snapshot))
    for n in range(30):
        desk.sink.ahead_ns += _S
        await speak(desk, line, 2 + 2 * n, book=True, trade=True)
    return line


async def speak(desk: Desk, line: Any, number: int, *, book: bool = False, trade: bool = False) -> None:
    at = f"2026-04-07T14:{number // 60:02}:{number % 60:02}Z"
    size = coinbase_book("BTC-USD", ("bid", "100", str(number)))
    await desk.say(
        line,
        coinbase("l2_data", number, size) | {"timestamp": at} if book else coinbase("heartbeats", number, {}),
        coinbase("market_trades", number + 1, coinbase_trades((str(number), "BTC-USD")))
        if trade
        else coinbase("heartbeats", number + 1, {}),
    )


def on_coinbase(work: Any, **options: Any) -> None:
    with_desk("coinbase", {"orderbook": ["BTC/USD"], "trades": ["BTC/USD"]}, **options)(work)


def test_c02_one_stream_of_several_that_falls_silent_is_found_on_a_live_socket() -> None:
    async def work(desk: Desk) -> None:
        line = await both(desk)
        last_trade = next(now.ts_recv for now, item in reversed(desk.sink.taken) if item in desk.sink.trades)
        for n in range(31, 40):
            assert await suspicions(desk, 1) == []
            await speak(desk, line, 2 * n, book=True)
        (suspicion,) = await suspicions(desk, 3)
        assert (suspicion.streams, suspicion.frozen, suspicion.certain) == ((TRADES,), True, False)
        desk.answer(fetch_trades=lambda *_: [rest_trade("9999", 1_775_572_300_000)])
        await desk.shell._suspect(suspicion)
        await desk.until(lambda: len(desk.lines) == 2)
        since = {fault.streams: at for fault, at in desk.sink.faults}
        # the frozen stream is lost since its own last row, the book since the connection's last message
        assert since[(TRADES,)] is None
        assert since[(BOOK,)] > last_trade + 9 * _S

    on_coinbase(work)


def rest_trade(number: str, at: int) -> dict[str, Any]:
    return {"id": number, "timestamp": at, "symbol": "BTC/USD", "side": "buy", "price": 1.0, "amount": 1.0}


def test_c14_a_quiet_pair_is_not_dead() -> None:
    async def work(desk: Desk) -> None:
        line = await both(desk)
        desk.answer(fetch_trades=lambda *_: [rest_trade("60", 1_775_572_202_500)])  # the one we have
        for n in range(31, 42):
            desk.sink.ahead_ns += _S
            await speak(desk, line, 2 * n, book=True)
        (suspicion,) = await suspicions(desk, 0)
        await desk.shell._suspect(suspicion)
        assert len(desk.lines) == 1
        assert desk.sink.faults == []
        assert desk.shell.stats()["quiet_spells"] == 1
        assert await suspicions(desk, 9) == []  # and it is not asked again every second

    on_coinbase(work)


@pytest.mark.parametrize("answer", [OSError("no route"), TimeoutError(), KeyError("id")])
def test_what_the_exchange_does_not_answer_counts_as_frozen(answer: Exception) -> None:
    async def work(desk: Desk) -> None:
        line = await both(desk)
        desk.answer(fetch_trades=answer)
        for n in range(31, 42):
            desk.sink.ahead_ns += _S
            await speak(desk, line, 2 * n, book=True)
        (suspicion,) = await suspicions(desk, 0)
        await desk.shell._suspect(suspicion)
        assert {fault.reason for fault, _ in desk.sink.faults} == {"stale"}

    on_coinbase(work)


def test_c02_a_book_that_repeats_itself_is_frozen() -> None:
    async def work(desk: Desk) -> None:
        line = await both(desk)
        for n in range(31, 43):
            desk.sink.ahead_ns += _S
            same = coinbase_book("BTC-USD", ("bid", "100", "60"))
            at = "2026-04-07T14:01:00Z"  # the exchange's time stands still
            await desk.say(
                line,
                coinbase("l2_data", 2 * n, same) | {"timestamp": at},
                coinbase("market_trades", 2 * n + 1, coinbase_trades((str(n * 100), "BTC-USD"))),
            )
        (suspicion,) = await suspicions(desk, 0)
        assert suspicion.streams == (BOOK,)
        desk.answer(fetch_order_book={"bids": [[100.5, 1.0]], "asks": [[101.0, 1.0]]})
        await desk.shell._suspect(suspicion)
        assert [fault.reason for fault, _ in desk.sink.faults] == ["stale", "stale"]

    on_coinbase(work)


def test_a_book_nobody_changes_agrees_with_rest_and_is_kept() -> None:
    async def work(desk: Desk) -> None:
        line = await both(desk)
        for n in range(31, 43):
            desk.sink.ahead_ns += _S
            await speak(desk, line, 2 * n, trade=True)
        (suspicion,) = await suspicions(desk, 0)
        assert suspicion.streams == (BOOK,)
        desk.answer(fetch_order_book={"bids": [[100.0, 9.0]], "asks": [[101.0, 1.0]]})
        await desk.shell._suspect(suspicion)
        assert desk.sink.faults == []

    on_coinbase(work)


def test_silence_with_pongs_answered_is_found() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        line = desk.line
        await desk.say(line, {"result": None, "id": line.sent[0]["id"]})
        for n in range(30):
            desk.sink.ahead_ns += _S
            await desk.say(line, binance_trade(n + 1))
        assert await suspicions(desk, 9) == []
        (suspicion,) = await suspicions(desk, 2)
        assert not suspicion.frozen
        desk.answer(fetch_trades=[rest_trade("31", 5_000)])
        await desk.shell._suspect(suspicion)
        await desk.until(lambda: len(desk.lines) == 2)
        ((fault, since),) = desk.sink.faults
        assert (fault.reason, since) == ("stale", desk.sink.taken[-1][0].ts_recv)

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_a_stream_that_spoke_while_rest_was_asked_is_alive() -> None:
    async def work(desk: Desk) -> None:
        line = await both(desk)

        async def fetch() -> Any:
            await speak(desk, line, 62, trade=True)
            return [rest_trade("63", 1_775_572_300_000)]

        desk.answer(fetch_trades=lambda *_: fetch())
        hooks = desk.shell.hooks
        hooks.watch._streams[TRADES].last -= 200 * _S
        (suspicion,) = await suspicions(desk, 0)
        await desk.shell._suspect(suspicion)
        assert desk.sink.faults == []

    on_coinbase(work)


def test_an_unchanged_ticker_or_candle_is_asked_for_too() -> None:
    async def work(desk: Desk) -> None:
        await desk.start(lines=3)
        for line in desk.lines:
            await desk.say(line, {"result": None, "id": line.sent[0]["id"]})
        candles = next(line for line in desk.lines if line.requests("kline"))
        candle = {"t": 60_000, "s": "BTCUSDT", "i": "1m", "o": "1", "h": "1", "l": "1", "c": "1", "v": "1"}
        await desk.say(candles, {"e": "kline", "E": 5, "s": "BTCUSDT", "k": candle})
        quotes = next(line for line in desk.lines if line.requests("@bookTicker"))
        await desk.say(quotes, {"u": 7, "s": "BTCUSDT", "b": "100", "B": "1", "a": "101", "A": "2"})
        results, errors = desk.shell.hooks.results, desk.shell._errors

        async def quiet(channel: str) -> bool:
            stream = Stream("BTC/USDT", channel)
            return await ccxt_verify.is_quiet(desk.exchange, results, stream, "BTC/USDT", errors)

        desk.answer(
            fetch_ohlcv=[[60_000, 1.0, 1.0, 1.0, 1.0, 1.0]], fetch_ticker={"bid": 100.0, "ask": 101.0}
        )
        assert [await quiet(channel) for channel in ("ticker", "ohlcv")] == [True, True]
        desk.answer(
            fetch_ohlcv=[[120_000, 1.0, 1.0, 1.0, 1.0, 1.0]], fetch_ticker={"bid": 90.0, "ask": 101.0}
        )
        assert [await quiet(channel) for channel in ("ticker", "ohlcv")] == [False, False]

    with_desk("binance", {"ticker": ["BTC/USDT"], "ohlcv": ["BTC/USDT"]})(work)


def test_channels_that_may_be_silent_for_days_are_not_paced() -> None:
    watch = Watch(10, 120)
    forced = Stream("BTC/USDT:USDT", "liquidations")
    watch.opened([forced], 0)
    assert watch._streams == {}


def test_c09_d04_lag_is_what_exceeds_the_smallest_delay_whatever_the_clocks_say() -> None:
    watch = Watch(10, 120)

    def hear(recv: int, event: int) -> float:
        fact = TickerFact(symbol="BTC/USDT", ts_event=event)
        watch.heard([fact], Now(recv, recv, 0))
        return watch.lag_ns / 1e6

    assert hear(1_000_000_000, 2_270_000_000) == 0  # our clock is 1.27 s behind: no negative latency
    assert hear(1_100_000_000, 2_370_000_000) == pytest.approx(0, abs=1)
    assert hear(1_900_000_000, 2_470_000_000) == pytest.approx(700, abs=1)
    watch.heard([TickerFact(symbol="BTC/USDT")], Now(2_000_000_000, 0, 0))  # D-01: no time, no lag
    assert watch.lag_ns / 1e6 == pytest.approx(700, abs=1)
