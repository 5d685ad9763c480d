"""Asks what is stored: runs `dataset.tail` as a child and hands its records over in pieces.

The child needs pyarrow, which a feature actor should not carry. The pieces are paced: a burst of rows that
were missed must not fill the queues that live rows of everybody else go through.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from struct import unpack
from typing import Any

import msgspec

from daedalus.actors import endpoints
from daedalus.actors.spools import identity
from daedalus.actors.stream import Tail
from daedalus.kernel.telemetry import get_logger
from daedalus.records import decode

__all__ = ["Bronze"]

PIECE_RECORDS = 256
PIECE_S = 0.02  # 12,800 records a second at most
ANSWER_S = 60.0  # for the child to say anything; it shares the machine with whoever is starting
EXIT_MORE = 3  # of `dataset.tail`
TORN_MAX = 3  # in a row
_STDERR_BYTES = 500

Deliver = Callable[[list[Any] | None, bool], object]


class Bronze:
    """What is stored of one symbol."""

    def __init__(
        self, data: str, runtime: str, exchange: str, symbol: str, channels: tuple[str, ...]
    ) -> None:
        """Store whose records."""
        self._data, self._runtime = data, runtime
        self._exchange, self._symbol, self._channels = exchange, symbol, channels
        self._last: Any = None  # the last record of the answer
        self.read = self.failed = 0

    async def ask(self, tail: Tail, deliver: Deliver) -> None:
        """Read what is asked for, and deliver it.

        Args:
            tail: the question.
            deliver: called with records and whether more follow; (None, False) if it could not be read.
        """
        torn = 0
        while True:
            self._last = None
            code, said = await self._once(tail, deliver)
            if code == -signal.SIGBUS and torn < TORN_MAX:
                # a journal was cut to its length, or a ring begun afresh, while it was read: nothing was told
                torn += 1
                continue
            if code != EXIT_MORE or self._last is None:
                break
            tail = tail._replace(session_id=self._last.session_id, after=self._last.ts_recv)
        if code == 0:
            deliver([], False)
            return
        self.failed += 1
        get_logger().warning("tail_failed", code=code, stderr=said)
        deliver(None, False)

    async def _once(self, tail: Tail, deliver: Deliver) -> tuple[int | None, str]:
        """Run the child; return how it ended and what it said of that."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "daedalus.dataset.tail", "--data", self._data),
            *("--wanted", self._wanted(tail), "--parent", str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
        )
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            whole = await self._hand_over(child.stdout, deliver)
            said = await child.stderr.read(_STDERR_BYTES)
            code = await child.wait()
        except TimeoutError:
            return None, f"nothing within {ANSWER_S:g} s"
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        return (code if whole else None), said.decode(errors="replace").strip()

    def _wanted(self, tail: Tail) -> str:
        data_id = identity(self._data)
        rings = {
            channel: endpoints.spool(self._runtime, self._exchange, channel, data_id)
            for channel in self._channels
        }
        told = {
            "exchange": self._exchange,
            "symbol": self._symbol,
            "channels": self._channels,
            "rings": rings,
            **tail._asdict(),
        }
        return msgspec.json.encode(told).decode()

    async def _hand_over(self, out: asyncio.StreamReader, deliver: Deliver) -> bool:
        """Deliver in pieces; False if the last record is cut off."""
        piece: list[Any] = []
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    (size,) = unpack("<I", await out.readexactly(4))
                    piece.append(decode(await out.readexactly(size)))
            except asyncio.IncompleteReadError as error:
                deliver(piece, True)
                return not error.partial
            self.read += 1
            self._last = piece[-1]
            if len(piece) == PIECE_RECORDS:
                deliver(piece, True)
                piece = []
                await asyncio.sleep(PIECE_S)
