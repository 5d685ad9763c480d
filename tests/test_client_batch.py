"""Many rows at once, bars, and what NumPy and polars get of them, before a real gateway."""

import asyncio
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from daedalus import wire
from daedalus.actors import endpoints
from daedalus.client import Batch, subscribe
from daedalus.kernel.topic import Publisher
from tests.backstage import Backstage
from tests.loops import until

NAMES = ("mid_price", "trades", "after_gap", "nothing")


@pytest.fixture
def stage(runtime_dir: Path) -> Iterator[Backstage]:
    backstage = Backstage(runtime_dir)
    try:
        yield backstage
    finally:
        backstage.close()


class Bars:
    """Publishes bars as a feature actor does, from the loop behind the stage."""

    def __init__(self, stage: Backstage) -> None:
        self.stage, heard = stage, []
        self.publisher = stage.call(
            lambda: Publisher(connect_to=endpoints.gateway_in(stage.runtime), on_subscribe=heard.append)
        )
        stage.call(lambda: until(lambda: heard))

    def send(self, *parts: bytes) -> None:
        self.stage.call(lambda: self.publisher.publish(parts))

    def announce(self, schema_id: str = "bars", **more: Any) -> None:
        names = ["timestamp", "close"]
        told = {"id": schema_id, "names": names, "units": ["us", "quote"], "windows": [None, None], **more}
        header = wire.Header(1, "schema", 0, "f", None, 1, 2, schema_id)
        self.send(b"schema/binance/BTC-USDT/", wire.encode_header(header), msgspec.json.encode(told))

    def bar(self, seconds: int, seq: int, close: float, schema_id: str = "bars") -> None:
        header = wire.Header(1, "bar", seq, "f", None, 1, 2, schema_id)
        values = array("d", [seq * 60e6, close]).tobytes()
        self.send(f"bar/binance/BTC-USDT/{seconds}/".encode(), wire.encode_header(header), values)

    def close(self) -> None:
        self.stage.call(self.publisher.close)


def feed_of(stage: Backstage, **options: Any) -> Any:
    return subscribe("binance", "BTC/USDT", runtime=stage.runtime, timeout_s=5, idle_timeout_s=5, **options)


def address_of(values: Any) -> int:
    return int(values.__array_interface__["data"][0])


def test_a_row_is_a_view_for_numpy(stage: Backstage) -> None:
    with feed_of(stage) as feed:
        stage.publish("tb")
        row = next(feed)
        values = row.numpy()
        assert values[:3].tolist() == [100.0, 1.0, 0.0]
        assert math.isnan(values[3])
        assert address_of(values) == address_of(np.frombuffer(row.values))
        assert not values.flags.writeable
    with (
        feed_of(stage, kind="trade") as feed,
        pytest.raises(TypeError, match="cannot make an array of a trade"),
    ):
        next(feed).numpy()


def test_a_batch_has_every_row_and_neither_numpy_nor_polars_copies_it(stage: Backstage) -> None:
    with feed_of(stage) as feed:
        stage.publish("t" + "b" * 300)
        batch = feed.batch(300, timeout_s=20)
        assert len(batch) == 300
        assert (batch.seqs, batch.gap) == (list(range(1, 301)), 0)
        assert batch.ts_recv_ns == [one.ts_recv for one in stage.collector.spool[1:]]
        values = batch.numpy()
        assert values.shape == (300, 4)
        assert (values[:, 0] == 100.0).all()
        assert np.isnan(values[:, 3]).all()
        assert address_of(batch.numpy()) == address_of(values)
        frame = batch.polars()
        assert frame.columns == ["exchange", "symbol", "seq", "ts_recv", *NAMES]
        assert frame.height == 300
        for at, name in enumerate(NAMES):
            assert address_of(frame[name].to_numpy(allow_copy=False)) == address_of(values[:, at])
        assert frame["nothing"].is_nan().all()
        assert frame["ts_recv"].dt.epoch("ns").to_list() == batch.ts_recv_ns


def test_a_batch_ends_with_the_time_and_the_next_goes_on(stage: Backstage) -> None:
    with feed_of(stage, features=["trades", "mid_price"]) as feed:
        empty = feed.batch(10, timeout_s=0)
        assert (len(empty), empty.numpy().shape, empty.polars().height) == (0, (0, 0), 0)
        stage.publish("tbbb")
        first = feed.batch(2, timeout_s=20)
        second = feed.batch(1, timeout_s=20)
        assert (first.seqs, second.seqs) == ([1, 2], [3])
        assert first.schema.names == ("trades", "mid_price")
        assert first.numpy().tolist() == [[1.0, 100.0]] * 2
        assert len(feed.batch(10, timeout_s=0.05)) == 0
        with pytest.raises(ValueError, match="of 0 rows: at least 1"):
            feed.batch(0)


def test_a_batch_of_the_loop_lets_others_run(stage: Backstage) -> None:
    async def work() -> Batch:
        async with feed_of(stage) as feed:
            assert len(await feed.batch_async(10, timeout_s=0.01)) == 0
            waiting = asyncio.create_task(feed.batch_async(200, timeout_s=20))
            await asyncio.to_thread(stage.publish, "b" * 200)
            return await waiting

    assert asyncio.run(work()).seqs == list(range(1, 201))


def test_a_batch_ends_where_the_schema_changes_and_loses_nothing(stage: Backstage) -> None:
    bars = Bars(stage)
    bars.announce(kind="bar", durations_s=[60])
    bars.announce("other", kind="bar", durations_s=[60])
    with feed_of(stage, kind="bar", duration_s=60) as feed:
        for seq in range(1, 7):
            bars.bar(60, seq, 1.5 * seq, "bars" if seq < 4 else "other")
        first, second = feed.batch(6, timeout_s=20), feed.batch(3, timeout_s=20)
    bars.close()
    assert (first.seqs, first.schema.id) == ([1, 2, 3], "bars")
    assert (second.seqs, second.schema.id) == ([4, 5, 6], "other")
    assert (first.gap, second.gap) == (0, 0)


def test_bars_are_rows_of_their_own_topic_and_schema(stage: Backstage) -> None:
    bars = Bars(stage)
    bars.announce(kind="bar", durations_s=[60, 300])
    with feed_of(stage, kind="bar", duration_s=60, features=["close"]) as feed:
        assert feed.schema.units == ("quote",)
        bars.bar(300, 1, 7.0)
        bars.bar(60, 1, 5.0)
        bars.bar(60, 4, 6.0)
        rows = [next(feed), next(feed)]
        assert [(row.kind, row.duration_s, row["close"], row.gap) for row in rows] == [
            ("bar", 60, 5.0, 0),
            ("bar", 60, 6.0, 2),
        ]
    with feed_of(stage, kind="bar", duration_s=300) as feed:
        assert next(feed)["timestamp"] == 60e6  # the last value
    with feed_of(stage) as feed:
        assert feed.schema.names == NAMES  # the features' schema is what it was
    bars.close()


@pytest.mark.parametrize("durations", [None, "60", [60, "x"], list(range(1, 100)), [True]])
def test_a_schema_of_bars_that_cannot_be_is_counted(stage: Backstage, durations: Any) -> None:
    bars = Bars(stage)
    assert stage.gateway is not None
    gateway = stage.gateway
    bars.announce(kind="bar", durations_s=durations)
    stage.call(lambda: until(lambda: gateway.stats()["bad"] == 1))
    bars.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration_s": 60}, "cannot use duration_s 60"),
        ({"kind": "bar", "duration_s": 0}, "cannot use duration_s 0"),
        ({"kind": "trade", "features": ["a"]}, "only of feature or bar"),
        ({"kind": "candle"}, "the kinds are feature, bar, book"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        subscribe("binance", "BTC/USDT", endpoint="ipc:///tmp/x", **options)


def test_records_make_no_batch(stage: Backstage) -> None:
    stage.publish("t")
    with feed_of(stage, kind="trade") as feed, pytest.raises(TypeError, match="cannot make a batch of trade"):
        feed.batch()
