"""SIGKILL of everything: each process is back by itself, nothing accepted is lost, nothing is doubled."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from daedalus import records
from tests.system import configs
from tests.system.tap import Tap
from tests.system.tree import Simulator, Tree, alive, children, descendants, marked, rows, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(180)]

# Restart limits wide open and segments short: the test is about data, not about giving up.
IMPATIENT = """
[supervisor]
intensity = 1000
[groups.store]
intensity = 1000
[groups.live]
intensity = 1000
[groups.ingest]
intensity = 1000
[writer]
max_segment_age_s = 2
[defaults.writer]
backoff = {base_s = 0.1, cap_s = 0.2}
[defaults.collector]
backoff = {base_s = 0.1, cap_s = 0.2}
[defaults.feature]
backoff = {base_s = 0.1, cap_s = 0.2}
[defaults.gateway]
backoff = {base_s = 0.1, cap_s = 0.2}
"""
KILLS_PER_KIND = 3


def _simulator(base: Path) -> Simulator:
    return Simulator(
        *("--model", "--symbols", "BTC/USDT,ETH/USDT", "--rate", "200", "--seed", "7"),
        log=base / "simulator.log",
    )


def _config(simulator: Simulator) -> str:
    coinbase = tuple(simulator.addresses["symbols"]["coinbase"])
    return (
        IMPATIENT
        + configs.binance(simulator.addresses, ("BTC/USDT", "ETH/USDT"))
        + configs.coinbase(simulator.addresses, coinbase)
    )


_KILLED = ("restart", "disconnect")  # what a kill is told as
_TOO_LONG = "cannot fill in all trades"  # … and that REST no longer tells all of the absence


def _tap(tree: Tree) -> Tap:
    return Tap([tree.runtime / f"pub-{name}.sock" for name in ("binance", "coinbase")])


def _accepted(tap: Tap) -> list[Any]:
    """Return every record the collectors published: all of them had been accepted before."""
    return [records.decode(parts[1]) for parts in tap.messages]


def _stop_twice(tree: Tree) -> None:
    """Stop in good order, and once more: by then what a slow disk left in spools is delivered."""
    assert tree.stop() == 0, tree.tail()
    tree.start()
    tree.wait_running(60)
    assert tree.stop() == 0, tree.tail()
    assert tree.active() == []


def _key(record: Any) -> tuple[Any, ...]:
    return record.exchange, record.symbol, record.session_id, record.seq


def _assert_exactly_once(tree: Tree, tap: Tap) -> None:
    kinds: dict[type, str] = {
        records.BookSnapshot: "orderbook",
        records.Trade: "trades",
        records.Ticker: "ticker",
    }
    accepted = _accepted(tap)
    for kind, channel in kinds.items():
        stored = Counter(
            (row["exchange"], row["symbol"], row["session_id"], row["seq"]) for row in rows(tree, channel)
        )
        assert stored, channel
        doubled = [key for key, count in stored.items() if count > 1]
        assert not doubled, (channel, doubled[:5])
        lost = [
            _key(record) for record in accepted if isinstance(record, kind) and _key(record) not in stored
        ]
        assert not lost, (channel, len(lost), lost[:5])
    ids = Counter((row["exchange"], row["symbol"], row["trade_id"]) for row in rows(tree, "trades"))
    assert not [key for key, count in ids.items() if count > 1], "a trade is stored twice"


def _sealers(actors: dict[str, Any]) -> list[int]:
    found = []
    for name, actor in actors.items():
        if "/writer-" in name and actor["pid"]:
            found += children(actor["pid"])
    return found


def _victims(tree: Tree, kind: str) -> list[int]:
    status = tree.status()
    actors = {actor["name"]: actor for actor in status.get("actors", [])}
    if kind == "sealer":
        return _sealers(actors)
    if kind.startswith("zygote"):
        name = kind.partition(" ")[2]
        return [z["pid"] for z in status["supervisor"]["zygotes"] if z["name"] == name and z["pid"]]
    return [a["pid"] for name, a in actors.items() if f"/{kind}" in name and a["pid"]]


def test_kill_of_every_kind_of_process_loses_and_doubles_nothing(short_tmp: Path) -> None:
    kinds = ["writer", "collector", "feature", "gateway", "sealer", "zygote light", "zygote ccxt"]
    dice = random.Random(20261121)
    schedule = kinds * KILLS_PER_KIND
    dice.shuffle(schedule)
    simulator = _simulator(short_tmp)
    tree = Tree(short_tmp, _config(simulator))
    tap = None
    try:
        tree.wait_running()
        tap = _tap(tree)
        for kind in schedule:
            time.sleep(dice.uniform(0.1, 0.8))
            victims = wait_for(f"a {kind} to kill", lambda kind=kind: _victims(tree, kind), 20)
            victim = dice.choice(victims)
            os.kill(victim, signal.SIGKILL)
            wait_for(f"{kind} {victim} to be gone", lambda victim=victim: not alive(victim), 5)
            if kind != "sealer":
                wait_for(
                    f"another {kind}",
                    lambda kind=kind, victims=victims: len(_victims(tree, kind)) >= len(victims),
                    20,
                )
        tree.wait_running(30)
        time.sleep(1.0)
        tap.close()
        everything = descendants(tree.process.pid)
        _stop_twice(tree)
        _assert_exactly_once(tree, tap)
        assert not list((tree.data / "raw").glob("quarantine/**/*.reason"))
        assert not [pid for pid in everything if alive(pid)]
        assert not marked(tree.data)
        gaps = list(rows(tree, "gaps"))
        strange = [
            (gap["reason"], gap["detail"])
            for gap in gaps
            if gap["reason"] not in _KILLED and not (gap["detail"] or "").startswith(_TOO_LONG)
        ]
        assert not strange, strange
        assert any(gap["reason"] == "restart" for gap in gaps), "a collector was killed"
        assert all(gap["started_at"] <= gap["ended_at"] for gap in gaps)
    finally:
        if tap is not None and not tap._stop.is_set():
            tap.close()
        tree.close()
        simulator.close()


def test_kill_of_the_supervisor_ends_every_actor_and_the_next_start_recovers(short_tmp: Path) -> None:
    simulator = _simulator(short_tmp)
    tree = Tree(short_tmp, _config(simulator))
    tap = None
    try:
        tree.wait_running()
        tap = _tap(tree)
        time.sleep(3)
        tree.kill()
        # A power-cut-like end: writers die with journals open, collectors with records in their spools.
        tree.start()
        tree.wait_running()
        time.sleep(2)
        tree.kill(*(f"store/writer-{channel}" for channel in ("orderbook", "trades", "ticker")))
        assert tree.active(), "journals were left for the next start"
        tree.start()
        tree.wait_running()
        time.sleep(1)
        tap.close()
        _stop_twice(tree)
        _assert_exactly_once(tree, tap)
    finally:
        if tap is not None and not tap._stop.is_set():
            tap.close()
        tree.close()
        simulator.close()
