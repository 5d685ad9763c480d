"""A feature actor that is killed or stopped, and its successor: one session, every row once."""

from pathlib import Path

import pytest

from daedalus.actors.gateway import Gateway
from daedalus.actors.gateway import Settings as GatewaySettings
from daedalus.kernel.actor import Context
from tests.actors.test_feature import Ear, connected, running
from tests.loops import drive, until
from tests.market import Collector, Tape


@pytest.fixture(autouse=True)
def no_wait_for_a_gateway_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daedalus.actors.feature.GATEWAY_WAIT_S", 0.3)


def rows(ear: Ear) -> list[tuple[str, int, tuple[float, ...]]]:
    return [(header.session_id, header.seq, values[:3]) for header, values in ear.rows]


def test_a_killed_actor_goes_on_with_its_session_and_publishes_what_it_missed_once(
    runtime_dir: Path, tmp_path: Path
) -> None:
    async def work() -> None:
        ear, collector, tape = Ear(runtime_dir), Collector(str(runtime_dir)), Tape()
        told = {"data": str(tmp_path)}
        async with running(runtime_dir, **told) as first:
            await connected(collector)
            collector.publish(*tape.of("btb"))
            await until(lambda: len(ear.rows) == 2)
            first._saving.soon()
            await first._saving.wait()
            collector.publish(*tape.of("tb"))
            await until(lambda: len(ear.rows) == 3)
            first._feeding = True  # killed: it saves no more
        for record in tape.of("tbt"):
            collector.keep(record)
        async with running(runtime_dir, **told) as second:
            await until(lambda: len(ear.rows) == 5)
            collector.publish(*tape.of("b"))
            await until(lambda: len(ear.rows) == 6)
            assert second.stats()["emitted"] == 5
        found = rows(ear)
        assert len({session for session, _, _ in found}) == 1
        assert [seq for _, seq, _ in found] == [1, 2, 3, 3, 4, 5], "nobody answered what the gateway had"
        assert found[2] == found[3], "the same row again"
        assert [values[1] for _, _, values in found] == [0.0, 1.0, 2.0, 2.0, 3.0, 4.0]
        ear.close()
        collector.close()

    drive(work)


def test_rows_that_the_gateway_had_are_not_sent_again(runtime_dir: Path, tmp_path: Path) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        gateway = Gateway(GatewaySettings(), Context(name="live/gateway", runtime=str(runtime_dir)))
        await gateway.start()
        told = {"data": str(tmp_path)}
        async with running(runtime_dir, **told) as first:
            await until(lambda: len(collector.heard) == 3 and first._announced)
            collector.publish(*tape.of("b"))
            await until(lambda: gateway._rows_in == 2)  # schema and row
            await first._saving.wait()
            collector.publish(*tape.of("bb"))
            await until(lambda: gateway._rows_in == 4)
            first._feeding = True
        for record in tape.of("bb"):
            collector.keep(record)
        async with running(runtime_dir, **told) as second:
            await until(lambda: second._seq == 5)
            await until(lambda: gateway._positions[b"feature/binance/BTC-USDT/"][1] == 5)
            assert second._published == 3
            assert second._publisher.sent == 3, "the schema and two rows"
        await gateway.stop()
        collector.close()

    drive(work)


def test_an_actor_that_stopped_goes_on_behind_its_last_record(runtime_dir: Path, tmp_path: Path) -> None:
    async def work() -> None:
        ear, collector, tape = Ear(runtime_dir), Collector(str(runtime_dir)), Tape()
        told = {"data": str(tmp_path)}
        async with running(runtime_dir, **told):
            await connected(collector)
            collector.publish(*tape.of("btb"))
            await until(lambda: len(ear.rows) == 2)
        async with running(runtime_dir, **told) as second:
            assert second._seq == 2
            collector.publish(*tape.of("tb"))
            await until(lambda: len(ear.rows) == 3)
            assert [record.ts_recv for record in second._engine.seen] == [
                record.ts_recv for record in collector.spool[3:]
            ]
        assert [seq for _, seq, _ in rows(ear)] == [1, 2, 3]
        ear.close()
        collector.close()

    drive(work)


def test_a_checkpoint_of_other_parameters_is_refused_and_the_session_begins_anew(
    runtime_dir: Path, tmp_path: Path
) -> None:
    async def work() -> None:
        collector, tape = Collector(str(runtime_dir)), Tape()
        async with running(runtime_dir, data=str(tmp_path)) as first:
            await connected(collector)
            collector.publish(*tape.of("b"))
            await until(lambda: first._seq == 1)
        async with running(runtime_dir, data=str(tmp_path), params={"more": ["x"]}) as second:
            assert second._session_id != first._session_id
            assert second._seq == 0
        collector.close()

    drive(work)
    assert sorted(path.name for path in tmp_path.rglob("*.bad")) == ["00000002.bad", "00000003.bad"]
