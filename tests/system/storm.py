"""The storm: recordings at speed, faults by a seed, a SIGKILL of somebody every two seconds, and a judge.

    daedalus simulate --loop --speed 5 --faults seed=… ──▶ three collectors ──▶ writers ──▶ ready/
                        └─ truth ─────────────────────▶ judge ◀─────────────────── rows ◀──┘

Two Binance symbols are collected twice, by ccxt as `binance` and by the native adapter as `spot`; five
products of Coinbase natively. In the end the playback is held, everybody comes to rest, the tree is stopped
in good order, started and stopped once more, and the judge looks at what lies in `ready/`.
"""

import json
import os
import random
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from daedalus.cli.coverage import command as coverage
from tests.system.judge import (
    BookRow,
    DepthRow,
    Finding,
    GapRow,
    Judge,
    Row,
    TradeRow,
    Verdict,
)
from tests.system.sent import read_truth, top_of
from tests.system.tree import Simulator, Tree, wait_for

__all__ = ["SIMULATED", "SPOTS", "Storm"]

SPOTS = {"BTC/USDT": "btcusdt_20240808.gz", "ETH/USDT": "ethusdt_20240808.gz"}
SIMULATED = {"binance": "binance", "spot": "binance", "coinbase": "coinbase"}  # stored as -> played as
REST_S = 15.0  # after the playback is held: connections come back, streams are heard, gaps end
KILLED = ("/collector-", "/writer-")

_LIMITS = """
[supervisor]
intensity = 10000
[groups.store]
intensity = 10000
[groups.live]
intensity = 10000
[groups.ingest]
intensity = 10000
[writer]
max_segment_age_s = 30
[defaults.writer]
backoff = {base_s = 0.1, cap_s = 0.2}
[defaults.collector]
backoff = {base_s = 0.1, cap_s = 0.5}
"""


def products_of(recording: Path) -> tuple[str, ...]:
    """Return the symbols in a Coinbase recording."""
    import gzip

    with gzip.open(recording, "rt") as file:
        found = {line.partition('"product_id":"')[2].partition('"')[0] for line in file}
    return tuple(sorted(name.replace("-", "/") for name in found if name))


def configuration(addresses: dict[str, Any], products: tuple[str, ...]) -> str:
    """Return what a user would write to collect from the simulator, three ways."""
    base = addresses["ctl"].removesuffix("/ctl").removeprefix("http://")
    spots = json.dumps(list(SPOTS))
    everything = json.dumps(list(products))
    patience = "reconnect_cap_s = 2\nstale_min_s = 5\nkeepalive_s = 5"
    return f"""{_LIMITS}
[exchanges.binance]
adapter = "ccxt"
{patience}
[exchanges.binance.ccxt.urls.api]
public = "http://{base}/api/v3"
[exchanges.binance.ccxt.urls.api.ws]
spot = "ws://{base}/stream/ws"
[exchanges.binance.ccxt.options.fetchMarkets]
types = ["spot"]
[exchanges.binance.ccxt.has]
fetchCurrencies = false
[exchanges.binance.channels]
{_channels(spots, "orderbook", "trades", "ticker")}
[exchanges.spot]
adapter = "native"
id = "binance"
ws_url = "ws://{base}"
rest_url = "http://{base}"
{patience}
[exchanges.spot.channels]
{_channels(spots, "orderbook", "trades", "ticker", "depth")}
[exchanges.coinbase]
adapter = "native"
ws_url = "ws://{base}/coinbase"
rest_url = "http://{base}"
{patience}
[exchanges.coinbase.channels]
{_channels(everything, "orderbook", "trades", "ticker", "depth")}
"""


def _channels(symbols: str, *names: str) -> str:
    return "\n".join(f"{name} = {symbols}" for name in names)


class Storm:
    """One run, in a directory of its own."""

    def __init__(
        self, base: Path, recordings: Path, seed: int, *, every_s: float = 1.5, speed: float = 5.0
    ) -> None:
        self.base, self.seed = base, seed
        self.dice = random.Random(f"kills {seed}")
        self.truth = base / "truth"
        self.killed: Counter[str] = Counter()
        coinbase = recordings / "coinbase_exchange" / "level2_matches_ticker_20210417.gz"
        self.products = products = products_of(coinbase)
        arguments = [
            f"--recording={recordings / 'binance_spot' / file}:{name}" for name, file in SPOTS.items()
        ]
        arguments += [f"--recording={coinbase}:{name}" for name in products]
        self.simulator = Simulator(
            *(*arguments, "--loop", f"--speed={speed:g}", "--start=on-command", f"--truth={self.truth}"),
            f"--faults=seed={seed},every_s={every_s:g},from_s=3",
            log=base / "simulator.log",
        )
        self.tree = Tree(base, configuration(self.simulator.addresses, products))

    def begin(self) -> None:
        """Wait until everybody collects, and let the playback begin."""
        self.tree.wait_running(60)
        wait_for("subscribers", lambda: self._listening() >= 3, 60)
        self.command("start")

    def _listening(self) -> int:
        """Return how many of the three collectors are subscribed to something."""
        topics = [len(one["topics"]) for one in self.simulator.ask()["connections"]]
        return sum(count > 0 for count in topics)

    def rage(self, duration_s: float, every_s: float = 2.0) -> None:
        """Kill somebody every so often for so long; the faults come by themselves."""
        until = time.monotonic() + duration_s
        while time.monotonic() < until:
            time.sleep(every_s * self.dice.uniform(0.5, 1.5))
            self.kill()
            assert self.simulator.process.poll() is None, self.simulator.log.read_text()[-2000:]
            assert self.tree.process.poll() is None, self.tree.tail()

    def kill(self) -> None:
        """SIGKILL a collector or writer that is up. Nobody may give up because of the weather."""
        actors = self.tree.actors()
        for name, actor in actors.items():
            assert actor["state"] not in ("failed", "parked"), f"{name} gave up: {actor['last_exit']}"
        names = sorted(
            name for name, actor in actors.items() if actor["pid"] and any(k in name for k in KILLED)
        )
        if names:
            name = self.dice.choice(names)
            try:
                os.kill(actors[name]["pid"], signal.SIGKILL)
            except ProcessLookupError:
                return
            self.killed[name] += 1

    def settle(self) -> None:
        """Hold the playback, let everybody come to rest, stop the tree; once more for what lay in spools."""
        self.command("pause")
        self.tree.wait_running(60)
        time.sleep(REST_S)
        assert self.tree.stop(90) == 0, self.tree.tail()
        self.tree.start()
        self.tree.wait_running(60)
        assert self.tree.stop(90) == 0, self.tree.tail()
        self.simulator.close()
        assert self.tree.active() == []

    def command(self, word: str) -> None:
        body = json.dumps({"cmd": word}).encode()
        with urllib.request.urlopen(
            urllib.request.Request(self.simulator.addresses["ctl"], body), timeout=10
        ):
            pass

    def close(self) -> None:
        self.tree.close()
        self.simulator.close()

    def judge(self) -> Verdict:
        """Hold what is stored against what was sent, stream by stream."""
        judge = Judge(read_truth(self.truth))
        for exchange, symbol, channel in self._streams():
            gaps = [
                GapRow(_us(row["started_at"]), _us(row["ended_at"]), *(row[key] for key in _GAP))
                for row in self._rows(exchange, symbol, "gaps")
                if row["channel"] == channel
            ]
            rows = [_made(channel, row) for row in self._rows(exchange, symbol, channel)]
            name, place = f"{exchange}:{symbol}", (SIMULATED[exchange], symbol)
            if channel == "trades":
                judge.trades(name, place, rows, gaps)
            elif channel == "orderbook":
                judge.books(name, place, rows, gaps)
            else:
                judge.others(name, channel, rows, gaps)
            if channel == "depth":
                judge.depth(name, place, rows)
        verdict = judge.close()
        verdict.seen.update({f"kills of {name}": count for name, count in self.killed.items()})
        for name in sorted({f"{exchange}:{symbol}" for exchange, symbol, _ in self._streams()}):
            verdict.findings += self._covered(name)
        return verdict

    def _streams(self) -> list[tuple[str, str, str]]:
        """Return (exchange, symbol, channel) of everything that has rows or gaps."""
        symbols = {symbol.replace("/", "-"): symbol for symbol in (*SPOTS, *self.products)}
        found = set()
        for channel in ("trades", "orderbook", "ticker", "depth"):
            for path in self.tree.segments(channel):
                exchange, symbol = (part.partition("=")[2] for part in path.parts[-7:-5])
                found.add((exchange, symbols[symbol], channel))
        return sorted(found)

    def _covered(self, name: str) -> list[Finding]:
        """Return what `daedalus coverage` finds that no gap row tells of."""
        arguments = [name, "--data", str(self.tree.data), "--json"]
        done = CliRunner().invoke(coverage, arguments)
        try:
            channels = json.loads(done.stdout)["channels"]
        except ValueError:
            return [Finding("covered", name, f"daedalus coverage says {done.output!r} {done.exception!r}")]
        return [
            Finding("covered", f"{name} {one['channel']}", f"{one[word]} {word}")
            for one in channels
            for word in ("unexplained", "duplicates", "disordered")
            if one[word]
        ]

    def _rows(self, exchange: str, symbol: str, channel: str) -> Iterator[dict[str, Any]]:
        """Yield stored rows, read by polars, after pyarrow has agreed on how many there are."""
        import polars as pl
        import pyarrow.parquet as pq

        place = f"exchange={exchange}/symbol={symbol.replace('/', '-')}"
        ready = self.tree.data / "raw" / "ready"
        for path in sorted(ready.glob(f"*/{channel}/{place}/**/*.parquet")):
            frame = pl.read_parquet(path, hive_partitioning=False)
            assert frame.height == pq.ParquetFile(path).read().num_rows > 0, path
            columns = [name for name in frame.columns if name not in ("info_json", "detail")]
            yield from frame.select(columns).iter_rows(named=True)


_GAP = ("first_seq", "last_seq", "reason", "session_id")
_TRADE = ("trade_id", "price", "amount", "side")


def _us(moment: Any) -> int:
    return round(moment.timestamp() * 1_000_000)


def _made(channel: str, row: dict[str, Any]) -> Any:
    """Return a stored row as the judge knows it."""
    head = (row["session_id"], row["seq"], _us(row["capture_ts"]), row["flags"])
    if channel == "trades":
        return TradeRow(*head, *(row[key] for key in _TRADE))
    if channel not in ("orderbook", "depth"):
        return Row(*head)
    bids, asks = ([(level["price"], level["size"]) for level in row[side]] for side in ("bids", "asks"))
    number = row["nonce"] if row["nonce"] is not None else row["exch_seq"]
    if channel == "depth":
        return DepthRow(*head, number, row["kind"], bids, asks)
    best = (bids[0][0] if bids else None, asks[0][0] if asks else None)
    return BookRow(*head, number, top_of(bids, asks), best)
