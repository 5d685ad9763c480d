"""Midnight on real trades, 8 to 9 August 2024, with the wall clock of the recording."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from daedalus.actors import writer as module
from daedalus.actors.sealing import Sealing
from daedalus.dataset.layout import Layout
from daedalus.dataset.seal import seal_channel
from daedalus.dataset.segment import Options
from daedalus.kernel.journal import Mark
from daedalus.records import Trade, encode
from tests.actors.test_writer import Rig
from tests.dataset.makings import trade
from tests.loops import drive, until

MIDNIGHT_NS = 1_723_161_600_000_000_000
BEFORE, AFTER = 300, 300


class Found(NamedTuple):
    """The trades around midnight, and how many of them came before it."""

    trades: list[Trade]
    before: int


@pytest.fixture(scope="module")
def tape(recordings: Path) -> Found:
    lines: list[tuple[int, dict]] = []
    for name in ("btcusdt_20240808.gz", "btcusdt_20240809.gz"):
        with gzip.open(recordings / "binance_spot" / name, "rt") as file:
            for line in file:
                received, _, text = line.partition(" ")
                if '"e":"trade"' in text:
                    lines.append((int(received), json.loads(text)["data"]))
    lines.sort(key=lambda line: line[0])
    before = sum(received < MIDNIGHT_NS for received, _ in lines)
    kept = lines[before - BEFORE : before + AFTER]
    made, last = [], 0
    for number, (received, data) in enumerate(kept, 1):
        last = max(received // 1000 * 1000, last + 1000)
        at = MIDNIGHT_NS if number == BEFORE + 1 else last  # one exactly at midnight: it is of the new day
        made.append(trade(number, ts=at, trade_id=str(data["t"]), price=float(data["p"])))
    assert made[BEFORE - 1].ts_recv < MIDNIGHT_NS
    return Found(made, BEFORE)


def test_d12_at_midnight_each_trade_lies_in_its_own_day(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tape: Found
) -> None:
    wall_s = [tape.trades[0].ts_recv / 1e9]
    monkeypatch.setattr(module.time, "time", lambda: wall_s[0])

    async def work() -> None:
        rig = Rig(short_tmp, rollover_grace_s=0.02)
        layout = Layout(data=str(rig.data))

        async def once(_: Sealing) -> bool:
            return all("error" not in found for found in seal_channel(layout, "trades", Options()))

        monkeypatch.setattr(Sealing, "_once", once)
        await rig.start()

        async def offer(trades: list[Trade]) -> None:
            for made in trades:
                wall_s[0] = max(wall_s[0], made.ts_recv / 1e9)
                assert rig.link.append(encode(made), "BTC-USDT", Mark(made.ts_recv, made.seq, "s1"))
            assert await rig.link.drain() == 0

        await offer(tape.trades[: tape.before])
        assert not list(layout.ready().rglob("*.parquet"))
        wall_s[0] = MIDNIGHT_NS / 1e9 + 0.03
        rig.writer._look()  # the timer is set for a minute at most; the fake clock jumped
        await until(lambda: list(layout.ready().rglob("*.parquet")))  # without a record of the new day
        await asyncio.sleep(0.01)
        await offer(tape.trades[tape.before :])
        await rig.writer.drain()
        await rig.stop()
        days = {8: tape.trades[: tape.before], 9: tape.trades[tape.before :]}
        for day, hour in ((8, 23), (9, 0)):
            root = layout.ready("ccxt", "trades") / "exchange=binance/symbol=BTC-USDT/year=2024/month=8"
            (path,) = (root / f"day={day}" / f"hour={hour}").iterdir()
            assert path.name == f"segment_2024080{day}T{hour:02d}_00001.parquet"
            rows = pl.read_parquet(path, hive_partitioning=False)
            assert rows["trade_id"].to_list() == [made.trade_id for made in days[day]]
            assert rows.select("day", "hour").unique().rows() == [(day, hour)]
        assert not (rig.data / "state" / "dirty-hours").exists()

    drive(work)
    closed = [line for line in capsys.readouterr().out.splitlines() if "journal_closed" in line]
    assert "hour" in closed[0]
