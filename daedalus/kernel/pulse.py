"""The supervisor's pulse: four times a second it looks at beats, every two seconds at memory.

Nobody is punished for our own absence: how late the pulse itself comes is measured and forgiven to all. The
same figure decides whether systemd's watchdog is told that all is well.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from daedalus.kernel import vitals, watchdog
from daedalus.kernel.limits import SAMPLE_INTERVAL_S
from daedalus.kernel.timers import LAG_S

if TYPE_CHECKING:
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["Pulse", "steps"]

TICK_S = 0.25
STEP_MARGIN_S = 30.0


class Pulse:
    """Beats as long as the supervisor lives."""

    def __init__(self, supervisor: "Supervisor") -> None:
        """Begin without a beat."""
        self._supervisor = supervisor
        self._ping_s = watchdog.interval_s(os.environ, os.getpid())
        self._doubts: tuple[str, ...] = ()
        self.lag_s = 0.0  # how late the last beat came

    async def beat(self) -> None:
        """Beat for ever."""
        loop = asyncio.get_running_loop()
        due = sample_at = ping_at = loop.time()
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            now = loop.time()
            self.lag_s = now - due
            self._supervisor.loop_lag_ms = self.lag_s * 1e3
            due = now + TICK_S
            self._supervisor.empty_mail()
            self._check_beats(now)
            if now >= sample_at:
                sample_at = now + SAMPLE_INTERVAL_S
                self._sample(now)
            if self._ping_s is not None and now >= ping_at:
                ping_at = now + self._ping_s
                self._ping(now)

    def _check_beats(self, now: float) -> None:
        for cell in list(self._supervisor.cells.values()):
            if self.lag_s > LAG_S and cell.beat_at is not None:
                cell.beat_at = min(now, cell.beat_at + self.lag_s)
            vitals.check_beat(cell, now)

    def _sample(self, now: float) -> None:
        self._supervisor.reaper.collect()
        for cell in list(self._supervisor.cells.values()):
            vitals.check_memory(cell, now)
        self._supervisor.output.tell_drops()

    def _ping(self, now: float) -> None:
        doubts = watchdog.doubts(
            loop_lag_s=self.lag_s,
            steps=steps(self._supervisor, now),
            accepting=self._supervisor.control.accepting,
        )
        if not doubts:
            self._supervisor.systemd.watchdog()
        elif doubts != self._doubts:
            self._supervisor.report("watchdog_withheld", doubts=doubts)
        self._doubts = doubts


def steps(supervisor: "Supervisor", now: float) -> list[watchdog.Step]:
    """Return the oldest unfinished step of each group that has one.

    One whose process the kernel does not let go (`stuck`) says nothing about us.
    """
    found = []
    for name, (head, since) in supervisor.heads.items():
        cell = supervisor.cells.get(head[1])
        if cell is not None and cell.live and cell.state != "stuck":
            bound_s = cell.stop_bound_s() + cell.spec.start_timeout_s + STEP_MARGIN_S
            found.append(watchdog.Step(name, now - since, bound_s))
    return found
