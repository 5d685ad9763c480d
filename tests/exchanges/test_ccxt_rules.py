"""exchanges.md, section 1, row by row: what ccxt.pro does wrong, and that here it does no harm."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from daedalus.exchanges.adapter import Stream
from daedalus.exchanges.ccxt_guards import BrokenSequenceError, guard_of
from tests.exchanges.ccxt_kit import (
    Desk,
    binance_trade,
    coinbase,
    coinbase_book,
    coinbase_trades,
    okx,
    okx_book,
    turns,
    with_desk,
)

BOOK, TRADES = Stream("BTC/USDT", "orderbook"), Stream("BTC/USDT", "trades")


async def trading(desk: Desk) -> Any:
    """Return the websocket of a stream of trades that is in force and has spoken."""
    await desk.start()
    await desk.say(desk.line, {"result": None, "id": desk.line.sent[0]["id"]}, binance_trade(1))
    return desk.line


def test_no_limit_reaches_binance_and_books_are_cut_by_us() -> None:
    async def work(desk: Desk) -> None:
        seen: list[Any] = []
        watch = desk.exchange.watch_order_book
        desk.exchange.watch_order_book = lambda symbol, limit=None: seen.append(limit) or watch(symbol, limit)
        levels = {
            "bids": [[100.0 - n, 1.0] for n in range(30)],
            "asks": [[101.0 + n, 1.0] for n in range(30)],
        }
        snapshot = levels | {"nonce": 10, "symbol": "BTC/USDT", "timestamp": None, "datetime": None}
        desk.answer(fetch_rest_order_book_safe=lambda *_: dict(snapshot))
        await desk.start()
        await desk.say(desk.line, {"result": None, "id": desk.line.sent[0]["id"]})
        await desk.until(lambda: desk.sink.books)
        assert seen == [None]
        assert len(desk.sink.books[0].bids) == 5 * 16
        assert len(desk.exchange.orderbooks["BTC/USDT"]["bids"]) == 30

    with_desk("binance", {"orderbook": ["BTC/USDT"]}, levels=5)(work)


def test_0_6_the_table_of_trades_is_never_shorter_than_a_message() -> None:
    async def work(desk: Desk) -> None:
        await trading(desk)
        assert desk.exchange.options["tradesLimit"] == 1000
        assert desk.exchange.trades["BTC/USDT"].max_size == 1000

    overrides = {"enableRateLimit": False, "options": {"tradesLimit": 1}}
    with_desk("binance", {"trades": ["BTC/USDT"]}, overrides=overrides)(work)


def test_0_7_deltas_that_wait_for_their_snapshot_are_left_alone() -> None:
    async def work(desk: Desk) -> None:
        desk.answer(fetch_rest_order_book_safe=lambda *_: asyncio.sleep(3600))
        await desk.start()
        line = desk.line
        await desk.say(line, {"result": None, "id": line.sent[0]["id"]})
        for n in range(11, 40):
            await desk.say(
                line, {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": n, "u": n, "b": [], "a": []}
            )
        assert len(desk.exchange.orderbooks["BTC/USDT"].cache) == 29
        assert desk.shell.stats()["ccxt_book_deltas"] == 29

    with_desk("binance", {"orderbook": ["BTC/USDT"]})(work)


def test_best_bid_and_ask_come_beside_the_mini_ticker_that_has_none() -> None:
    async def work(desk: Desk) -> None:
        await desk.start(lines=2)
        names = sorted(name for line in desk.lines for name in line.sent[0]["params"])
        assert names == ["btcusdt@bookTicker", "btcusdt@ticker"]

    with_desk("binance", {"ticker": ["BTC/USDT"]})(work)


@pytest.mark.parametrize("raw", ["{broken", "[[[", "[]"])
def test_broken_json_and_handler_exceptions_end_the_connection_and_it_comes_back(raw: str) -> None:
    async def work(desk: Desk) -> None:
        line = await trading(desk)
        line.push(raw)
        await desk.until(lambda: len(desk.lines) == 2)
        ((fault, since),) = desk.sink.faults
        assert (fault.reason, fault.streams) == ("error", (TRADES,))
        assert since == desk.sink.taken[-1][0].ts_recv
        await desk.until(lambda: line.closed)
        await desk.until(lambda: desk.line.sent)
        await desk.say(desk.line, {"result": None, "id": desk.line.sent[0]["id"]}, binance_trade(5))
        assert [trade.trade_id for trade in desk.sink.trades] == ["1", "5"]

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_frames_nobody_expects_change_nothing() -> None:
    async def work(desk: Desk) -> None:
        line = await trading(desk)
        await desk.say(line, {}, {"e": "whatever"}, {"data": {}}, "hello", binance_trade(2))
        assert desk.sink.faults == []
        assert [trade.trade_id for trade in desk.sink.trades] == ["1", "2"]

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


@pytest.mark.parametrize("end", ["hang_up", "cancelled", "reset"])
def test_a_receive_loop_that_ends_is_noticed_at_once(end: str) -> None:
    async def work(desk: Desk) -> None:
        line = await trading(desk)
        if end == "hang_up":
            line.hang_up()
        else:
            await turns()
            name = "Client.receive" if end == "cancelled" else ""
            tasks = [t for t in asyncio.all_tasks() if "on_receive" in repr(t.get_coro()) or name in repr(t)]
            receiving = next(task for task in tasks if "on_receive" in repr(task.get_coro()))
            if end == "cancelled":
                receiving.cancel()
            else:
                line.receive = broken  # type: ignore[method-assign]
                line.push(binance_trade(2))
        await desk.until(lambda: len(desk.lines) == 2)
        assert [fault.reason for fault, _ in desk.sink.faults] == ["disconnect"]

    async def broken() -> Any:
        raise ConnectionResetError("reset by peer")

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_a_refused_subscription_is_asked_again_on_a_new_connection() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        first = desk.line
        refusal = {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": first.sent[0]["id"]}
        first.push(refusal)
        await desk.until(lambda: len(desk.lines) == 2)
        assert "invalid stream" in desk.sink.faults[0][0].detail
        await desk.until(lambda: first.closed and desk.line.sent)
        await desk.say(desk.line, {"result": None, "id": desk.line.sent[0]["id"]}, binance_trade(1))
        assert len(desk.sink.trades) == 1

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_a_subscription_that_is_never_acknowledged_is_given_up() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        connections = list(desk.shell.hooks.connections.values())
        now = desk.sink.capture().mono_ns
        assert desk.shell.hooks.watch.suspicions(connections, now + 29 * 10**9) == []
        (suspicion,) = desk.shell.hooks.watch.suspicions(connections, now + 31 * 10**9)
        assert suspicion.certain
        await desk.shell._suspect(suspicion)
        await desk.until(lambda: len(desk.lines) == 2)
        assert [fault.reason for fault, _ in desk.sink.faults] == ["stale"]

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_coinbase_sequence_numbers_are_checked_before_ccxt_sees_the_message() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        snapshot = coinbase_book("BTC-USD", ("bid", "100", "1"), ("offer", "101", "2"), kind="snapshot")
        await desk.say(
            desk.line,
            coinbase("l2_data", 0, snapshot),
            coinbase("heartbeats", 1, {}),
            coinbase("l2_data", 2, coinbase_book("BTC-USD", ("bid", "100", "5"))),
        )
        assert len(desk.sink.books) == 2
        desk.line.push(coinbase("l2_data", 4, coinbase_book("BTC-USD", ("bid", "100", "7"))))
        await desk.until(lambda: len(desk.lines) == 2)
        ((fault, since),) = desk.sink.faults
        assert (fault.reason, fault.detail) == ("sequence", "sequence_num 4 after 2")
        assert since is not None
        assert len(desk.sink.books) == 2
        await desk.until(lambda: desk.line.requests("level2"))
        await desk.say(desk.line, coinbase("l2_data", 0, snapshot))  # a new connection counts anew
        assert len(desk.sink.books) == 3

    with_desk("coinbase", {"orderbook": ["BTC/USD"]})(work)


def test_an_error_message_of_coinbase_ends_the_connection() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        await desk.say(desk.line, coinbase("market_trades", 0, coinbase_trades(("1", "BTC-USD"))))
        desk.line.push({"type": "error", "message": "channel is required"})
        await desk.until(lambda: len(desk.lines) == 2)
        ((fault, _),) = desk.sink.faults
        assert (fault.reason, "channel is required" in fault.detail) == ("error", True)

    with_desk("coinbase", {"trades": ["BTC/USD"]})(work)


def test_kraken_says_no_without_naming_the_request() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        desk.line.push({"method": "subscribe", "success": False, "error": "Currency pair not supported"})
        await desk.until(lambda: len(desk.lines) == 2)
        assert "not supported" in desk.sink.faults[0][0].detail

    with_desk("kraken", {"trades": ["BTC/USD"]})(work)


def test_okx_sequence_is_checked_before_ccxt_changes_the_live_book() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        await desk.say(
            desk.line,
            okx("books", "BTC-USDT", okx_book(10, -1, [("100", "1")], [("101", "2")]), action="snapshot"),
            okx("books", "BTC-USDT", okx_book(12, 10, [("100", "2")], []), action="update"),
        )
        live = desk.exchange.orderbooks["BTC/USDT"]
        desk.line.push(okx("books", "BTC-USDT", okx_book(20, 15, [("100.5", "9")], []), action="update"))
        await desk.until(lambda: len(desk.lines) == 2)
        ((fault, _),) = desk.sink.faults
        assert (fault.reason, fault.detail) == ("sequence", "BTC-USDT books: prevSeqId 15 after seqId 12")
        assert [list(level[:2]) for level in live["bids"]] == [[100.0, 2.0]]
        assert len(desk.sink.books) == 2

    with_desk("okx", {"orderbook": ["BTC/USDT"]})(work)


def test_okx_books_that_nobody_asked_for_do_not_fill_the_memory() -> None:
    guard = guard_of("okx")

    def opens(name: str) -> None:
        data = [{"seqId": 1, "prevSeqId": -1}]
        guard.check({"arg": {"channel": "books", "instId": name}, "action": "snapshot", "data": data})

    for number in range(5_000):
        opens(f"X{number}")
    opens("X7")
    with pytest.raises(BrokenSequenceError, match="X5000 books: nobody asked for book 5001"):
        opens("X5000")
    guard = guard_of("okx")
    with pytest.raises(BrokenSequenceError, match="nobody asked"):
        opens("X" * 65)


def test_0_2_a_stored_book_does_not_change_under_later_messages() -> None:
    async def work(desk: Desk) -> None:
        await desk.start()
        line = desk.line
        await desk.say(
            line,
            coinbase(
                "l2_data",
                0,
                coinbase_book("BTC-USD", ("bid", "100", "1"), ("offer", "101", "2"), kind="snapshot"),
            ),
        )
        first = desk.sink.books[0].bids
        before = bytes(first)
        for n in range(1, 30):
            await desk.say(line, coinbase("l2_data", n, coinbase_book("BTC-USD", ("bid", "100", str(n + 1)))))
        assert desk.sink.books[0].bids is first
        assert first == before
        assert len({book.bids for book in desk.sink.books}) == 30

    with_desk("coinbase", {"orderbook": ["BTC/USD"]})(work)


def test_c01_one_watch_call_a_subscription_and_nothing_grows_over_thousands_of_messages() -> None:
    async def work(desk: Desk) -> None:
        calls: list[Any] = []
        watch = desk.exchange.watch_multiple
        desk.exchange.watch_multiple = lambda *args, **kwargs: calls.append(args) or watch(*args, **kwargs)
        await desk.start()
        line = desk.line
        await desk.say(line, {"result": None, "id": line.sent[0]["id"]})
        sizes = []
        names = [f"{name}USDT" for name in ("BTC", "ETH", "XRP")]
        for n in range(4):
            for m in range(500):
                line.push(binance_trade(n * 500 + m, names[m % 3]))
            await desk.until(line._queue.empty)
            await turns()
            (client,) = desk.exchange.clients.values()
            tasks = len(asyncio.all_tasks())
            sizes.append((len(client.futures), len(client.rejections), len(client.subscriptions), tasks))
        assert len(calls) == 1
        assert len(desk.sink.trades) == 2000
        assert sizes[1:] == sizes[:-1]
        assert sizes[0][0] == 0

    symbols = ["BTC/USDT", "ETH/USDT", "XRP/USDT"]
    with_desk("binance", {"trades": symbols}, bulk={"trades": 10})(work)


def test_c03_d18_a_burst_in_one_step_is_taken_message_by_message() -> None:
    async def work(desk: Desk) -> None:
        line = await trading(desk)
        for n in range(2, 1500):
            line.push(binance_trade(n))
        await desk.until(lambda: len(desk.sink.trades) == 1499)
        assert [trade.trade_id for trade in desk.sink.trades] == [str(n) for n in range(1, 1500)]
        stamps = [now.ts_recv for now, _ in desk.sink.taken]
        assert stamps == sorted(stamps)

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_subscriptions_are_staggered_and_a_few_at_a_time() -> None:
    async def work(desk: Desk) -> None:
        desk.task = asyncio.get_running_loop().create_task(desk.shell.run())
        await desk.until(lambda: len(desk.lines) == 2)
        await turns(100)
        assert len(desk.lines) == 2  # the others wait for one of these
        await desk.until(lambda: desk.lines[0].sent)
        await desk.say(desk.lines[0], {"result": None, "id": desk.lines[0].sent[0]["id"]})
        await desk.until(lambda: len(desk.lines) == 3)

    symbols = [f"{name}/USDT" for name in ("BTC", "ETH", "XRP", "LTC", "SOL")]
    with_desk("binance", {"trades": symbols}, max_concurrent=2)(work)


def test_d28_no_more_subscriptions_than_the_exchange_allows() -> None:
    async def work(desk: Desk) -> None:
        desk.task = asyncio.get_running_loop().create_task(desk.shell.run())
        await desk.until(lambda: len(desk.lines) == 2)
        await turns(200)
        assert len(desk.lines) == 2
        assert desk.shell._keep.bucket.waiting == 3

    symbols = [f"{name}/USDT" for name in ("BTC", "ETH", "XRP", "LTC", "SOL")]
    allowed = (12.0, 3600.0)  # begins with a sixth of it
    with_desk("binance", {"trades": symbols}, allowed=allowed, max_concurrent=10)(work)


def test_one_socket_a_subscription_on_binance_unless_a_cap_says_otherwise() -> None:
    async def work(desk: Desk) -> None:
        await desk.start(lines=2)
        await desk.until(lambda: sum(len(line.sent) for line in desk.lines) == 4)
        assert len(desk.lines) == 2

    symbols = [f"{name}/USDT" for name in ("BTC", "ETH", "XRP", "LTC")]
    with_desk("binance", {"trades": symbols}, streams_per_connection=2)(work)


def test_a_connection_given_up_while_it_opens_is_closed_when_it_has_opened() -> None:
    async def work(desk: Desk) -> None:
        opened = asyncio.get_running_loop().create_future()
        dial = desk._dial

        async def slow(url: str) -> Any:
            line = await dial(url)
            if len(desk.lines) == 1:
                await opened
            return line

        desk._dial = slow  # type: ignore[method-assign]
        desk.task = asyncio.get_running_loop().create_task(desk.shell.run())
        await desk.until(lambda: desk.lines)
        hooks = desk.shell.hooks
        (connection,) = hooks.connections.values()
        hooks.drop(connection, hooks._fault(connection, "stale", "too slow"))
        await desk.until(lambda: len(desk.lines) == 2)
        opened.set_result(None)
        await desk.until(lambda: desk.lines[0].closed)

    with_desk("binance", {"trades": ["BTC/USDT"]})(work)


def test_raw_frames_are_handed_over_word_for_word_before_anything_else() -> None:
    async def work(desk: Desk) -> None:
        line = await trading(desk)
        line.push("{broken")
        await desk.until(lambda: len(desk.lines) == 2 and desk.line.sent)
        await desk.say(desk.line, '{"result":null}')
        frames = [(number, payload, text) for _, number, payload, text in desk.sink.frames]
        assert frames[2:] == [(1, b"{broken", True), (2, b'{"result":null}', True)]

    with_desk("binance", {"trades": ["BTC/USDT"]}, raw_frames=True)(work)


def test_our_modules_do_not_import_ccxt_until_an_exchange_is_made() -> None:
    text = "import sys, daedalus.exchanges.ccxt_pro; print('ccxt' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
