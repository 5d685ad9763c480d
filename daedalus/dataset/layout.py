"""Where things lie: the directories of a data set, partitions, and the grammar of segment names.

    {data}/raw/active/{channel}/…                                      journals, one writer per channel
    {data}/raw/ready/{source}/{channel}/exchange=E/symbol=S/year=2026/month=2/day=3/hour=14/
            segment_20260203T14_00001.parquet
    {data}/raw/quarantine/{channel}/…                                  what could not be read, and why
    {data}/processed/{source}/{channel}/{tier}/exchange=E/…            silver and gold
    {data}/state/…                                                     counters, manifests

Time partitions are UTC hours of the capture time, written unpadded; padded directories are read as well.
Pure: nothing here touches the disk.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

__all__ = ["HOUR_NS", "Layout", "Partition", "hive_values", "segment_path"]

HOUR_NS = 3_600_000_000_000
_HIVE = re.compile(r"(exchange|symbol|year|month|day|hour)=(.+)")


class Partition(NamedTuple):
    """One hour of one stream. All names are sanitised."""

    source: str  # ccxt | native
    channel: str  # orderbook | trades | ticker | gaps …
    exchange: str
    symbol: str
    hour: int  # hours since 1970, UTC

    @property
    def start(self) -> datetime:
        """The first instant of the hour, UTC."""
        return datetime.fromtimestamp(self.hour * 3600, UTC)

    @property
    def stream(self) -> str:
        """The partition without its hour: `ccxt/orderbook/binance/BTC-USDT`."""
        return f"{self.source}/{self.channel}/{self.exchange}/{self.symbol}"

    @property
    def stamp(self) -> str:
        """The hour as it stands in file names: `20260203T14`."""
        return f"{self.start:%Y%m%dT%H}"


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The directories of one data set. The names are those of `[paths]`."""

    data: str
    raw_dir: str = "raw"
    active_subdir: str = "active"
    ready_subdir: str = "ready"
    processing_subdir: str = "processing"
    processed_dir: str = "processed"
    tier_raw: str = "bronze"
    tier_features: str = "silver"
    tier_aggregates: str = "gold"
    state_dir: str = "state"

    def active(self, channel: str) -> Path:
        """Journals of one channel, and segments not yet published."""
        return Path(self.data, self.raw_dir, self.active_subdir, channel)

    def ready(self, source: str = "", channel: str = "") -> Path:
        """Published segments: of everything, of one source, or of one channel of it."""
        return Path(self.data, self.raw_dir, self.ready_subdir, source, channel)

    def quarantine(self, channel: str) -> Path:
        """What could not be read, with a `.reason` file beside it."""
        return Path(self.data, self.raw_dir, "quarantine", channel)

    def processed(self, source: str, channel: str, tier: str) -> Path:
        """Files of the features' or the aggregates' tier."""
        return Path(self.data, self.processed_dir, source, channel, tier)

    def state(self) -> Path:
        """Counters, manifests, checkpoints."""
        return Path(self.data, self.state_dir)

    def partition(self, partition: Partition) -> Path:
        """The directory of one partition in `ready`."""
        start = partition.start
        return (
            self.ready(partition.source, partition.channel)
            / f"exchange={partition.exchange}"
            / f"symbol={partition.symbol}"
            / f"year={start.year}"
            / f"month={start.month}"
            / f"day={start.day}"
            / f"hour={start.hour}"
        )


def segment_path(layout: Layout, partition: Partition, counter: int, suffix: str = ".parquet") -> Path:
    """Return the path of a published segment.

    >>> hour = Partition("ccxt", "trades", "binance", "BTC-USDT", 491_630)
    >>> segment_path(Layout(data="d"), hour, 1).name
    'segment_20260131T14_00001.parquet'
    """
    return layout.partition(partition) / f"segment_{partition.stamp}_{counter:05d}{suffix}"


def hive_values(path: str | Path) -> dict[str, str | int]:
    """Return the partition values spelled in a path; directories may be padded (`hour=03`).

    >>> hive_values("x/exchange=binance/hour=03/a.parquet")
    {'exchange': 'binance', 'hour': 3}

    Raises:
        ValueError: a time directory does not hold a number.
    """
    values: dict[str, str | int] = {}
    for part in Path(path).parts:
        found = _HIVE.fullmatch(part)
        if found is not None:
            key, text = found.groups()
            if key in {"exchange", "symbol"}:
                values[key] = text
            elif text.isascii() and text.isdecimal():
                values[key] = int(text)
            else:
                raise ValueError(f"cannot read the partition directory {part!r}: {text!r} is not a number")
    return values
