"""The client before a real gateway: rows, loss, restarts, and what it says when something is not there."""

import asyncio
import contextlib
import math
import os
import socket
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from daedalus import wire
from daedalus.client import Schema, find, find_runtime, subscribe
from daedalus.client.find import gateway_address, request_address
from daedalus.config import places
from daedalus.kernel import locate
from tests.backstage import Backstage
from tests.dataset.makings import depth


@pytest.fixture
def stage(runtime_dir: Path) -> Iterator[Backstage]:
    backstage = Backstage(runtime_dir)
    try:
        yield backstage
    finally:
        backstage.close()


def open_feed(stage: Backstage, symbol: str | None = "BTC/USDT", **options: Any) -> Any:
    options = {"timeout_s": 5, "idle_timeout_s": 5, **options}
    return subscribe("binance", symbol, runtime=stage.runtime, **options)


def test_a_row_has_times_number_and_values(stage: Backstage) -> None:
    with open_feed(stage) as feed:
        assert feed.schema.names == ("mid_price", "trades", "after_gap", "nothing")
        assert feed.schema.units == ("quote", "count", "flag", "-")
        assert feed.schema.windows == (None, 60, None, None)
        stage.publish("tb")
        row = next(feed)
        book = stage.collector.spool[-1]
        assert (row.exchange, row.symbol, row.kind) == ("binance", "BTC-USDT", "feature")
        assert (row.seq, row.gap) == (1, 0)
        assert (row.ts_event_ns, row.ts_recv_ns) == (book.ts_event, book.ts_recv)
        assert row.ts_pub_ns > row.ts_recv_ns
        assert (row["mid_price"], row["trades"]) == (100.0, 1.0)
        assert math.isnan(row["nothing"])
        assert isinstance(row.values, memoryview)
        assert (row.values.format, len(row.values)) == ("d", 4)
        with pytest.raises(KeyError, match="did you mean mid_price"):
            row["mid_prize"]


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC-USDT"])
def test_chosen_features_come_in_the_chosen_order_for_either_spelling(stage: Backstage, symbol: str) -> None:
    with open_feed(stage, symbol, features=["trades", "mid_price"]) as feed:
        assert (feed.schema.names, feed.schema.units) == (("trades", "mid_price"), ("count", "quote"))
        stage.publish("tb")
        row = next(feed)
        assert row.values.tolist() == [1.0, 100.0]
        with pytest.raises(KeyError):
            row["after_gap"]


def test_who_joins_late_begins_with_the_last_row_and_has_lost_nothing(stage: Backstage) -> None:
    stage.publish("bbb")
    with open_feed(stage) as feed:
        row = next(feed)
        assert (row.seq, row.gap) == (3, 0)
        stage.publish("b")
        row = next(feed)
        assert (row.seq, row.gap) == (4, 0)


def test_async_rows_come_without_blocking_the_loop(stage: Backstage) -> None:
    async def work() -> list[int]:
        turns = 0

        async def turning() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(turning())
        seqs = []
        async with open_feed(stage, features=["mid_price"]) as feed:
            await asyncio.to_thread(stage.publish, "b" * 300)
            async for row in feed:
                seqs.append(row.seq)
                if row.seq == 300:
                    break
        other.cancel()
        assert turns > 10
        return seqs

    assert asyncio.run(work()) == list(range(1, 301))


def test_an_async_feed_waits_without_rows_and_says_when_it_is_idle(stage: Backstage) -> None:
    async def work() -> None:
        async with open_feed(stage, idle_timeout_s=0.05) as feed:
            with pytest.raises(TimeoutError, match=r"no row for 0\.05 s"):
                await anext(feed)

    asyncio.run(work())


class Source:
    """A publisher under the test's control: it can lose what it likes."""

    def __init__(self, path: Path) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        self.socket.bind(f"ipc://{path}")

    def heard(self) -> None:
        assert self.socket.poll(5000)
        self.socket.recv()

    def send(self, seq: int, session_id: str = "s", topic: str = "feature/a/B/") -> None:
        header = wire.Header(1, "feature", seq, session_id, None, 1, 2, "i")
        payload = array("d", [float(seq)]).tobytes()
        self.socket.send_multipart([topic.encode(), wire.encode_header(header), payload])


def test_every_loss_is_told_and_nothing_is_told_twice(short_tmp: Path) -> None:
    source = Source(short_tmp / "x")
    feed = subscribe("a", "B", endpoint=f"ipc://{short_tmp}/x", idle_timeout_s=5)
    feed._schemas["i"] = (Schema("i", ("n",)), None)
    rows = iter(feed)
    source.heard()
    for seq, session_id in [(5, "s"), (6, "s"), (6, "s"), (2, "s"), (10, "s"), (1, "t"), (2, "t"), (4, "u")]:
        source.send(seq, session_id)
    got = [(row.session_id, row.seq, row.gap) for _, row in zip(range(6), rows, strict=False)]
    assert got == [("s", 5, 0), ("s", 6, 0), ("s", 10, 3), ("t", 1, 0), ("t", 2, 0), ("u", 4, 3)]
    feed.close()
    assert list(feed) == []
    feed.close()
    source.socket.close(0)


def test_a_slow_strategy_is_told_how_much_it_lost(stage: Backstage) -> None:
    with open_feed(stage) as feed:
        feed._socket.setsockopt(zmq.RCVHWM, 100)
        stage.publish("b")
        assert next(feed).seq == 1
        # the gateway drops at its own mark; here the test drops, the numbers are the same
        stage.call(lambda: setattr(stage.feature, "_seq", 500))
        stage.publish("b")
        row = next(feed)
        assert (row.seq, row.gap) == (501, 499)


def test_a_restarted_gateway_is_found_again_and_rows_go_on(stage: Backstage) -> None:
    with open_feed(stage) as feed:
        stage.publish("bb")
        assert [next(feed).seq for _ in range(2)] == [1, 2]
        stage.stop("gateway")
        stage.publish("bb")  # nobody hears of seq 3; seq 4 is the last value
        stage.start_gateway()
        row = next(feed)
        assert (row.seq, row.gap) == (4, 1)
        stage.publish("b")
        assert (next(feed).seq, row.gap) == (5, 1)


def test_a_feature_actor_with_new_columns_is_followed_by_name(stage: Backstage) -> None:
    with open_feed(stage, features=["trades", "mid_price"]) as feed:
        stage.publish("b")
        next(feed)
        stage.stop("feature")
        stage.start_feature(more=["new"])
        stage.call(lambda: setattr(stage.feature, "_since_ns", 2**62))
        stage.publish("b")
        row = next(feed)
        assert (row.seq, row.schema.names) == (1, ("trades", "mid_price"))
        assert row["mid_price"] == 100.0


def test_records_come_under_the_names_of_their_columns(stage: Backstage) -> None:
    stage.publish("t")
    with open_feed(stage, kind="trade") as feed:
        row = next(feed)
        assert (row["price"], row["side"], row["symbol_raw"]) == (100.0, "buy", "BTC/USDT")
        assert row["timestamp"] == row.ts_event_ns // 1_000_000


def test_changes_of_the_full_book_come_as_depth(stage: Backstage) -> None:
    with open_feed(stage, kind="depth", timeout_s=0.1) as feed:
        stage.call(lambda: stage.collector.publish(depth(7, bids=[(99.5, 0.0)])))
        row = next(feed)
        assert (row.kind, row.seq, row["kind"], row["bids"]) == ("depth", 7, "update", [[99.5, 0.0]])
        assert (row["nonce"], row["first_exch_seq"], row["asks"]) == (70, 61, [])


def test_a_wide_feed_learns_each_schema_as_it_comes(stage: Backstage) -> None:
    stage.publish("b")
    with open_feed(stage, symbol=None) as feed:
        row = next(feed)
        assert (row.symbol, row["mid_price"]) == ("BTC-USDT", 100.0)


def test_an_unknown_feature_is_named_with_its_nearest(stage: Backstage) -> None:
    feed = open_feed(stage, features=["mid_prise"])
    with pytest.raises(LookupError, match=r"cannot select the feature 'mid_prise': did you mean mid_price\?"):
        feed.__enter__()
    assert feed._socket is None


def test_an_unknown_symbol_lists_what_is_known(stage: Backstage) -> None:
    with pytest.raises(LookupError, match=r"binance/BTC-USDC: .* did you mean binance/BTC-USDT\?; known:"):
        open_feed(stage, "BTC/USDC", timeout_s=0.2).__enter__()


def test_no_gateway_is_said_with_its_path(runtime_dir: Path) -> None:
    feed = subscribe("binance", "BTC/USDT", runtime=str(runtime_dir), timeout_s=0.1)
    with pytest.raises(TimeoutError, match=f"gateway at ipc://{runtime_dir}/gateway.sock: no answer"):
        feed.__enter__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "bars"}, "the kinds are feature"),
        ({"exchange": None}, "name the exchange"),
        ({"features": []}, "name at least one"),
        ({"kind": "book", "features": ["x"]}, "only of feature or bar"),
        ({"endpoint": "tcp://10.0.0.1:5555"}, "another host needs server_key"),
        ({"endpoint": "http://x"}, "must be ipc://PATH or tcp://HOST:PORT"),
        ({"runtime": "/" + "x" * 100}, "at most 107"),
        ({"symbol": ""}, "cannot use the name"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_anything_happens(
    options: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"exchange": "a", "symbol": "B", "runtime": "/tmp/none", **options}
    with pytest.raises(ValueError, match=message):
        subscribe(**arguments)


def test_requests_go_beside_the_stream() -> None:
    assert request_address("ipc:///r/gateway.sock") == "ipc:///r/gateway.sock.req"
    assert request_address("tcp://127.0.0.1:5555") == "tcp://127.0.0.1:5556"
    assert gateway_address("/r/g", None) == "ipc:///r/g"


def test_the_runtime_is_found_in_the_order_of_the_interface(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEDALUS_RUNTIME", "/env")
    assert find_runtime("/given") == "/given"
    assert find_runtime() == "/env"
    monkeypatch.delenv("DAEDALUS_RUNTIME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_tmp))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 987_654)
    with pytest.raises(LookupError, match="cannot find a running daedalus: none of /run/daedalus"):
        find_runtime()
    (short_tmp / "daedalus").mkdir()
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(f"{short_tmp}/daedalus/control.sock")
        control.listen()
        assert find_runtime() == f"{short_tmp}/daedalus"


_NAMED = {"RUNTIME_DIRECTORY": "/run/one:/run/two", "XDG_RUNTIME_DIR": "/run/user/7"}


@pytest.mark.parametrize("names", [(), ("RUNTIME_DIRECTORY",), ("XDG_RUNTIME_DIR",), tuple(_NAMED)])
def test_client_control_program_and_supervisor_mean_the_same_directory(names: tuple[str, ...]) -> None:
    environ = {name: _NAMED[name] for name in names}
    assert find.candidates(environ) == locate.candidates(environ)
    made = places.runtime_dir(None, "", environ, os.geteuid()).path
    assert made == locate.default_runtime(environ)
    assert made in find.candidates(environ)


@pytest.mark.parametrize("place", ["ours", "open to others", "a link", "a file", "another's", "missing"])
def test_client_and_control_program_refuse_the_same_directories(
    place: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = short_tmp / "d"
    for module in (find, locate):
        monkeypatch.setattr(module, "_temporary", lambda *_: str(path))
    for name in ("DAEDALUS_RUNTIME", *_NAMED):
        monkeypatch.delenv(name, raising=False)
    if place == "a file":
        path.touch(0o700)
    elif place != "missing":
        real = short_tmp / "r"
        real.mkdir(0o755 if place == "open to others" else 0o700)
        (path.symlink_to if place == "a link" else real.rename)(real if place == "a link" else path)
    euid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: euid + (place == "another's"))
    with contextlib.ExitStack() as stack:
        if path.is_dir():
            control = stack.enter_context(socket.socket(socket.AF_UNIX))
            control.bind(f"{path}/control.sock")
            control.listen()
        if place == "ours":
            assert f"{find_runtime()}/control.sock" == locate.find_socket(os.environ)
            return
        with pytest.raises(OSError, match=r"^cannot ") as told:
            locate.find_socket(os.environ)
        with pytest.raises(LookupError, match=r"^cannot ") as refused:
            find_runtime()
    trusted = isinstance(told.value, FileNotFoundError)
    assert trusted == (place == "missing")
    if not trusted:
        assert str(refused.value) == str(told.value)


def test_the_client_loads_zmq_and_msgspec_and_nothing_heavy_of_ours() -> None:
    code = (
        "import sys, daedalus.client; names = {n.split('.')[0] for n in sys.modules};"
        "ours = sorted(n for n in sys.modules if n.startswith('daedalus') and not n.startswith('__'));"
        "heavy = names & {'pyarrow', 'polars', 'ccxt', 'numpy', 'pydantic', 'structlog', 'click', 'aiohttp'};"
        "print(ours, sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = [f"daedalus.client{part}" for part in ("", ".batch", ".feed", ".find", ".rows")]
    assert out.stdout.strip() == f"{['daedalus', *ours, 'daedalus.records', 'daedalus.wire']} []"
