"""A quiet hour at a steady rate: no actor's memory and no actor's table of descriptors may grow.

The simulator plays its order-flow model beside the tree; nothing is broken on purpose. Resident memory and
descriptors of every actor are read from /proc. Memory is judged over the second half, against its own noise,
as that of the supervisor in the other soak; descriptors may not rise above the highest count of the first
half. In the end everything stored is counted: no gap may be there that nobody made, nothing may be missing.
"""

import signal
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.soak_rules import flatness
from tests.system import configs
from tests.system.tree import Simulator, Tree

RATE = 500  # records a second over all channels, about: the model's rates follow from it
SAMPLE_S = 5.0
PROGRESS_S = 60.0
QUIET_S = 5.0  # between two trades of the model, at most
SETTLE_S = 60.0  # imports, first snapshots, first books: until then memory may do what it likes
BINANCE = ("BTC/USDT", "ETH/USDT")
COINBASE = ("BTC/USD", "ETH/USD")
# Of each update the model makes, channels carry: a book, and now and then a trade and a ticker. With the
# full-depth channel of Coinbase beside the books this many records come out of one update, measured.
RECORDS_PER_UPDATE = 2.6


class BrokenError(Exception):
    """A rule does not hold."""


def resident(pid: int) -> tuple[float, int] | None:
    """Return anonymous and shared memory (MB; no page cache) and open descriptors; None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fds = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    sizes = [int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem"))]
    return sum(sizes) / 1024, fds


class Run:
    """One soak."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.pids = {name: actor["pid"] for name, actor in tree.actors().items()}
        self.pids["supervisor"] = tree.process.pid
        self.memory: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.fds: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.began = time.monotonic()

    def sample(self) -> None:
        """Read every actor once; a process that is not the one of the start has been restarted."""
        now = time.monotonic() - self.began
        for name, actor in self.tree.actors().items():
            if actor["pid"] != self.pids[name]:
                raise BrokenError(f"{name} was restarted: {actor['last_exit']}")
        for name, pid in self.pids.items():
            found = resident(pid)
            if found is None:
                raise BrokenError(f"{name} is gone")
            self.memory[name].append((now, found[0]))
            self.fds[name].append((now, found[1]))

    def judge(self) -> list[str]:
        """Return a line per actor; raise for one that grows."""
        lines, broken = [], []
        for name in sorted(self.pids):
            trend = flatness(self.memory[name])
            half = self.memory[name][-1][0] / 2
            early = max(count for at, count in self.fds[name] if at <= half)
            late = max(count for at, count in self.fds[name] if at > half)
            size = self.memory[name][-1][1]
            line = f"{name:34} {size:7.1f} MB  descriptors {early} -> {late}"
            if trend is not None:
                line += (
                    f"  second half {trend.slope_mb_per_h:+.2f} MB/h, {trend.growth_mb:+.2f} MB, "
                    f"noise {trend.noise_mb:.2f} MB"
                )
            lines.append(line)
            if (trend is not None and not trend.flat) or late > early:
                broken.append(line)
        if broken:
            raise BrokenError("grows:\n" + "\n".join(broken))
        return lines


def configuration(simulator: Simulator) -> str:
    """Return the tree: a ccxt collector and a native one with its full depth, everything behind them."""
    return (
        configs.binance(simulator.addresses, BINANCE)
        + configs.coinbase(simulator.addresses, COINBASE, "orderbook trades ticker depth")
        + '[dashboard]\nlisten = ""\n'
    )


def stored(data: Path, stopped: datetime) -> dict[str, int]:
    """Return rows per channel; raise for a gap, or for a number that is not there.

    The one gap of each stream that is right begins with the stop: nobody listened from there on.
    """
    import polars as pl

    import daedalus

    rows = {}
    keys = ["exchange", "symbol", "session_id"]
    for channel in ("orderbook", "trades", "ticker", "depth"):
        frame = daedalus.scan(data, channel=channel).select(*keys, "seq").collect()
        rows[channel] = frame.height
        for key, part in frame.group_by(keys):
            if part["seq"].sort().to_list() != list(range(1, part.height + 1)):
                raise BrokenError(f"{channel} of {key}: {part.height} rows, last seq {part['seq'].max()}")
    before = pl.col("started_at") < stopped - timedelta(seconds=QUIET_S)
    gaps = daedalus.scan(data, channel="gaps").filter(before).collect().to_dicts()
    if gaps:
        raise BrokenError(f"{len(gaps)} gap rows where nothing was broken, the first: {gaps[0]}")
    return rows


def watched(tree: Tree, duration_s: float) -> list[str]:
    """Watch a tree, stop it, count what it stored; return the report."""
    run = Run(tree)
    printed = run.began
    while time.monotonic() - run.began < duration_s:
        run.sample()
        if time.monotonic() - printed >= PROGRESS_S:
            printed = time.monotonic()
            sizes = ", ".join(f"{n.rpartition('/')[2]} {v[-1][1]:.1f}" for n, v in run.memory.items())
            print(f"{printed - run.began:6.0f} s  MB: {sizes}", flush=True)
        time.sleep(SAMPLE_S)
    lines = run.judge()
    lasted = time.monotonic() - run.began
    stopped = datetime.now(UTC)
    if code := tree.stop():
        raise BrokenError(f"the stop is not clean: exit {code}")
    rows = stored(tree.data, stopped)
    total = sum(rows.values())
    return [*lines, f"{total} rows stored: {rows}; about {total / lasted:.0f} a second, no gap"]


def soak(seed: int, duration_s: float) -> int:
    """Run the tree for `duration_s` and judge it. Returns the exit code."""
    symbols = [f"binance:{one}" for one in BINANCE] + [f"coinbase:{one}" for one in COINBASE]
    rate = RATE / RECORDS_PER_UPDATE / len(symbols)
    print(
        f"soak bronze: seed {seed}, {duration_s:g} s, {rate:.0f} updates/s in each of 4 markets", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as folder:
        base = Path(folder)
        simulator = Simulator(
            *("--model", "--symbols", ",".join(symbols), "--rate", f"{rate:.1f}", "--seed", str(seed)),
            log=base / "simulator.log",
        )
        tree = Tree(base, configuration(simulator))
        try:
            tree.wait_running(60)
            time.sleep(min(SETTLE_S, duration_s / 4))
            print("\n".join(watched(tree, duration_s)), flush=True)
        except (BrokenError, AssertionError) as error:
            print(f"seed {seed}: {error}\n{tree.log.read_text()[-3000:]}", flush=True)
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            tree.close()
            simulator.close()
    return 0
