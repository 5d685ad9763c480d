"""The memory of trades on disk: {data}/state/trades-EXCHANGE.json, written whole or not at all."""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from daedalus.actors.tradeids import TradeMemory
from daedalus.dataset.durable import make_directory, replace
from daedalus.dataset.layout import Layout
from daedalus.kernel.telemetry import get_logger

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TradeFile"]


class TradeFile:
    """One exchange's file. That the disk refuses it is told once and ends nothing."""

    def __init__(self, data: str, exchange: str, memory: TradeMemory) -> None:
        """Name the file. `data`: the data directory; "" for none, and then nothing is kept."""
        self.path: Path | None = Layout(data=data).state() / f"trades-{exchange}.json" if data else None
        self._memory = memory
        self._saved: list[tuple[int, int | None]] = []
        self._told = False

    def load(self) -> None:
        """Take what an earlier process left. A damaged file is told, and is as good as none."""
        if self.path is None:
            return
        try:
            self._memory.decode(self.path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            get_logger().warning("trade_memory_unread", path=str(self.path), error=str(error))

    def save(self, until: int) -> None:
        """Write the memory; `until`: capture time, ns. Blocks for an fsync: for the end of a process."""
        if self.path is not None:
            self._write(self._memory.encode(until))

    async def save_later(self, until: int) -> None:
        """Do the same beside the loop, if there were trades since the last time."""
        known = [(ids.taken, ids.last_ts) for ids in self._memory.of.values()]
        if self.path is not None and known != self._saved and any(taken or ts for taken, ts in known):
            self._saved = known
            await asyncio.to_thread(self._write, self._memory.encode(until))

    def _write(self, content: bytes) -> None:
        assert self.path is not None
        try:
            make_directory(self.path.parent)
            replace(self.path, content)
        except OSError as error:
            if not self._told:
                self._told = True
                get_logger().warning("trade_memory_unwritten", path=str(self.path), error=str(error))
        else:
            self._told = False
