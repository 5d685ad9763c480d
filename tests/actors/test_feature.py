"""The feature actor between a fake collector, engine and gateway, on real sockets in one process."""

import contextlib
import math
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daedalus import wire
from daedalus.actors import endpoints
from daedalus.actors.feature import Feature, Settings
from daedalus.kernel.actor import Context
from daedalus.kernel.topic import Subscriber
from daedalus.records import Flag, encode
from tests.loops import drive, until
from tests.market import Collector, FakeEngine, Tape


class FakeFeature(Feature):
    def _make_engine(self) -> Any:
        return FakeEngine(self.settings.params)


@contextlib.asynccontextmanager
async def running(runtime: Path, **settings: Any) -> AsyncIterator[FakeFeature]:
    told = Settings(exchange="binance", symbol="BTC-USDT", **settings)
    actor = FakeFeature(told, Context(name="live/feature-binance-BTC-USDT", runtime=str(runtime)))
    actor._since_ns = 0
    await actor.start()
    try:
        yield actor
    finally:
        await actor.stop()


class Ear:
    """The gateway's end."""

    def __init__(self, runtime: Path) -> None:
        self.messages: list[tuple[str, wire.Header, bytes]] = []
        self._socket = Subscriber(self._heard, topics=[b""], bind_to=endpoints.gateway_in(str(runtime)))

    def _heard(self, parts: list[bytes]) -> None:
        self.messages.append((parts[0].decode(), wire.decode_header(parts[1]), parts[2]))

    @property
    def rows(self) -> list[tuple[wire.Header, tuple[float, ...]]]:
        return [
            (header, struct.unpack(f"<{len(payload) // 8}d", payload))
            for topic, header, payload in self.messages
            if topic == "feature/binance/BTC-USDT/"
        ]

    def close(self) -> None:
        self._socket.close()


async def connected(collector: Collector) -> None:
    await until(lambda: len(collector.heard) == 3)


def test_each_row_goes_out_with_its_header_and_a_gapless_number(runtime_dir: Path) -> None:
    async def work() -> None:
        ear, collector, tape = Ear(runtime_dir), Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(*tape.of("btbkb"))
            await until(lambda: len(ear.rows) == 3)
            assert [header.seq for header, _ in ear.rows] == [1, 2, 3]
            header, values = ear.rows[1]
            book = collector.spool[2]
            assert (header.version, header.kind) == (1, "feature")
            assert (header.ts_event_ns, header.ts_recv_ns) == (book.ts_event, book.ts_recv)
            assert header.ts_pub_ns > header.ts_recv_ns
            assert header.schema_id == actor._engine.schema.id
            assert values[:3] == (100.0, 1.0, 0.0)
            assert math.isnan(values[3])
            assert len({header.session_id for header, _ in ear.rows}) == 1
            assert actor.stats()["updates"] == 5
            assert actor.stats()["emitted"] == 3
        ear.close()
        collector.close()

    drive(work)


def test_the_schema_and_the_last_row_are_told_each_time_the_gateway_comes_back(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(tape.book())
            await until(lambda: actor._seq == 1)
            for _ in range(2):
                ear = Ear(runtime_dir)
                await until(lambda ear=ear: len(ear.messages) == 2)
                assert [topic for topic, _, _ in ear.messages] == [
                    "schema/binance/BTC-USDT/",
                    "feature/binance/BTC-USDT/",
                ]
                _, header, payload = ear.messages[0]
                assert header.schema_id == msgspec.json.decode(payload)["id"] == actor._engine.schema.id
                assert msgspec.json.decode(payload)["names"][0] == "mid_price"
                assert ear.rows[0][0].seq == 1
                ear.close()
        collector.close()

    drive(work)


def test_records_lost_on_the_way_are_fetched_and_fed_in_capture_order(runtime_dir: Path) -> None:
    async def work() -> None:
        ear, collector, tape = Ear(runtime_dir), Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(*tape.of("btb"))
            await until(lambda: actor._updates == 3)
            for record in tape.of("btkbt"):
                collector.keep(record)
            collector.publish(*tape.of("bbt"))
            await until(lambda: actor._updates == 11 and len(ear.rows) == 6)
            assert actor._engine.seen == collector.spool
            assert actor.stats()["filled"] == 5
            assert actor.stats()["gaps"] == 0
            assert [header.seq for header, _ in ear.rows] == list(range(1, 7))
            assert collector.questions[0][0] == "BTC-USDT"
        ear.close()
        collector.close()

    drive(work)


def test_an_answer_in_pieces_is_put_together(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daedalus.actors.feature.REPLAY_MORE_BYTES", 1)

    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        collector.cut_at = 4
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(tape.book())
            await until(lambda: actor._updates == 1)
            for record in tape.of("btbtbtbtbtbt"):
                collector.keep(record)
            collector.publish(tape.book())
            await until(lambda: actor._updates == 14)
            assert actor._engine.seen == collector.spool
            assert len(collector.questions) >= 3
        collector.close()

    drive(work)


def test_a_refused_replay_is_a_gap_that_the_engine_is_told(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        collector.refusing = True
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(tape.book())
            await until(lambda: actor._updates == 1)
            collector.keep(tape.book())
            collector.publish(*tape.of("bb"))
            await until(lambda: actor._updates == 3)
            assert [record.flags for record in actor._engine.seen] == [0, Flag.AFTER_GAP, 0]
            assert actor.stats()["gaps"] == 1
        collector.close()

    drive(work)


def test_a_collector_that_does_not_answer_holds_nothing_up_for_ever(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir, replay_timeout_s=0.05) as actor:
            await connected(collector)
            collector.publish(tape.book())
            await until(lambda: actor._updates == 1)
            collector.silent = True
            collector.questions.clear()
            collector.keep(tape.book())
            collector.publish(*tape.of("bt"))
            await until(lambda: actor._updates == 3)
            assert len(collector.questions) == 1
            assert actor._engine.seen[1].flags == Flag.AFTER_GAP
            assert actor.mailbox() == 0
        collector.close()

    drive(work)


def test_a_session_begins_without_a_gap_though_the_collector_does_not_answer(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        collector.silent = True
        async with running(runtime_dir, replay_timeout_s=0.05) as actor:
            await connected(collector)
            collector.publish(*tape.of("bt"))
            await until(lambda: actor._updates == 2)
            collector.publish(*tape.of("kb"))
            await until(lambda: actor._updates == 4)
            assert actor._engine.seen == collector.spool, "no record carries a flag"
            assert len(collector.questions) == 1
            assert actor.stats()["gaps"] == 0
        collector.close()

    drive(work)


def test_a_book_published_before_the_subscription_took_effect_is_fed_in_its_place(runtime_dir: Path) -> None:
    async def work() -> None:
        ear, collector, tape = Ear(runtime_dir), Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.keep(tape.book())
            collector.publish(*tape.of("tttb"))
            await until(lambda: len(ear.rows) == 2)
            assert actor._engine.seen == collector.spool
            assert [values[1:3] for _, values in ear.rows] == [(0.0, 0.0), (3.0, 0.0)]
            assert (actor.stats()["filled"], actor.stats()["late"]) == (1, 0)
        ear.close()
        collector.close()

    drive(work)


def test_an_answer_that_comes_too_late_is_ignored(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            records = tape.of("bb")
            collector.publish(records[0])
            await until(lambda: actor._updates == 1)
            actor._answered(msgspec.msgpack.encode([99, True, [encode(records[1])]]))
            actor._answered(msgspec.msgpack.encode([actor._question, True, [encode(records[1])]]))
            assert actor._updates == 1
        collector.close()

    drive(work)


def test_the_answer_to_an_earlier_question_does_not_settle_a_later_one(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(tape.book())
            await until(lambda: actor._updates == 1)
            collector.silent = True
            lost = tape.book()
            collector.publish(tape.book())
            await until(lambda: actor.mailbox() == 1)
            actor._answered(msgspec.msgpack.encode([actor._question - 1, False, []]))
            assert (actor.mailbox(), len(actor._stream.wanted.ranges)) == (1, 3)
            actor._answered(msgspec.msgpack.encode([actor._question, True, [encode(lost)]]))
            assert [record.seq for record in actor._engine.seen] == [1, 2, 3]
        collector.close()

    drive(work)


def test_a_restarted_actor_warms_up_in_silence(runtime_dir: Path) -> None:
    async def work() -> None:
        ear, collector, tape = Ear(runtime_dir), Collector(str(runtime_dir)), Tape()
        for record in tape.of("btbtb"):
            collector.keep(record)
        async with running(runtime_dir) as actor:
            actor._since_ns = tape.us * 1000 + 1
            await connected(collector)
            collector.publish(*tape.of("btb"))
            await until(lambda: len(ear.rows) == 2)
            assert actor._engine.seen == collector.spool
            assert [(header.seq, values[1]) for header, values in ear.rows] == [(1, 2.0), (2, 3.0)]
            assert actor.stats()["warmed"] == 3
        ear.close()
        collector.close()

    drive(work)


def test_rows_of_records_captured_since_the_start_are_published_though_replayed(runtime_dir: Path) -> None:
    async def work() -> None:
        ear, collector, tape = Ear(runtime_dir), Collector(str(runtime_dir)), Tape()
        early = tape.book()
        collector.keep(early)
        collector.keep(tape.book())
        async with running(runtime_dir) as actor:
            actor._since_ns = early.ts_recv + 1
            await connected(collector)
            collector.publish(tape.book())
            await until(lambda: actor._updates == 3)
            await until(lambda: len(ear.rows) == 2)
            assert actor.stats()["warmed"] == 1
        ear.close()
        collector.close()

    drive(work)


def test_a_restarted_collector_is_taken_up_from_its_first_record(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(*tape.of("btb"))
            await until(lambda: actor._updates == 3)
            collector.close()
            collector = Collector(str(runtime_dir))
            new = Tape(session_id="s2")
            new.us = tape.us + 1_000_000
            for record in new.of("bt"):
                collector.keep(record)  # before anybody was connected
            await connected(collector)
            collector.publish(*new.of("bt"))
            await until(lambda: actor._updates == 7)
            assert actor._engine.seen[3:] == collector.spool
            assert actor.stats()["gaps"] == 0
        collector.close()

    drive(work)


def test_damaged_messages_are_counted_and_their_number_is_asked_for(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(tape.book())
            collector.noise(b"book/binance/BTC-USDT/")
            collector.noise(b"book/binance/BTC-USDT/", b"\xff\x00garbage")
            lost = tape.book()
            collector.keep(lost)
            collector.noise(b"book/binance/BTC-USDT/", encode(lost).replace(b"BTC/USDT", b"BTC\xffUSDT"))
            collector.publish(tape.book())
            await until(lambda: actor._updates == 3)
            assert actor.stats()["bad"] == 3
            assert actor._engine.seen == collector.spool
        collector.close()

    drive(work)


def test_other_symbols_with_the_same_beginning_are_not_heard(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape, other = Collector(str(runtime_dir)), Tape(), Tape(symbol="BTC-USDT-USDT")
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(*other.of("bb"), *tape.of("b"))
            await until(lambda: actor._updates == 1)
            assert actor._engine.seen[0].symbol == "BTC-USDT"
        collector.close()

    drive(work)


def test_an_actor_that_was_held_up_has_lost_nothing_up_to_the_mark(runtime_dir: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            records = tape.of("b" * 9000 + "k")
            collector.publish(*records)  # in one turn of the loop: nobody reads meanwhile
            await until(lambda: actor._updates == len(records))
            assert actor._engine.seen == records
            assert (len(collector.questions), actor.stats()["filled"]) == (1, 0)
        collector.close()

    drive(work)


def test_drain_works_on_what_has_arrived(runtime_dir: Path) -> None:
    async def work() -> None:
        ear, collector, tape = Ear(runtime_dir), Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir) as actor:
            await connected(collector)
            collector.publish(*tape.of("b" * 2000))
            collector.close()
            drained = await actor.drain()
            assert actor._updates == 2000
            assert drained.in_flight == 0
            await until(lambda: len(ear.rows) == 2000)
        ear.close()

    drive(work)


def test_lag_is_none_before_the_first_row() -> None:
    actor = FakeFeature(Settings(exchange="a", symbol="B"), Context(name="x", runtime="/tmp/x"))
    assert actor.stats()["lag_p50_ms"] is None
