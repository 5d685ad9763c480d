"""The supervisor's pulse: four times a second it looks at beats, every two seconds at memory.

Nobody is punished for our own absence: how late the pulse itself comes is measured and forgiven to all. The
same figure decides whether systemd's watchdog is told that all is well.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from daedalus.kernel import vitals, watchdog
from daedalus.kernel.limits import SAMPLE_INTERVAL_S
from daedalus.kernel.spec import stop_bound
from daedalus.kernel.timers import LAG_S

if TYPE_CHECKING:
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["Pulse"]

TICK_S = 0.25
STEP_MARGIN_S = 30.0
EXTEND_MAX_S = 3600.0  # an actor that may take for ever is asked about once an hour


class Pulse:
    """Beats as long as the supervisor lives."""

    def __init__(self, supervisor: "Supervisor") -> None:
        """Begin without a beat."""
        self._supervisor = supervisor
        self._ping_s = watchdog.interval_s(os.environ, os.getpid())
        self._doubts: tuple[str, ...] = ()
        self._heads: dict[str, tuple[tuple[str, str], float]] = {}  # group -> its step in flight, since when
        self.lag_s = 0.0  # how late the last beat came

    def step_begun(self, name: str, now: float) -> None:
        """Note which step of its plan a group is at, and ask the service manager for the time it may take."""
        group = self._supervisor.groups.get(name)
        if group is None or not group.plan:
            self._heads.pop(name, None)
        elif name not in self._heads or self._heads[name][0] != group.plan[0]:
            self._heads[name] = (group.plan[0], now)
            bound_s = self._bound_s(group.plan[0][1])
            if bound_s is not None and self._supervisor.state in ("starting", "stopping"):
                self._supervisor.systemd.extend_timeout(int(min(bound_s, EXTEND_MAX_S) * 1e6))

    def _bound_s(self, child: str) -> float | None:
        """Return how long a step about an actor may take; None when it says nothing about us.

        A group's step is its own children's business, and a process that the kernel does not let go nobody's.
        """
        cell = self._supervisor.cells.get(child)
        if cell is None or not cell.live or cell.state == "stuck":
            return None
        return stop_bound(cell.spec) + cell.spec.start_timeout_s + STEP_MARGIN_S

    def _steps(self, now: float) -> list[watchdog.Step]:
        """Return the oldest unfinished step of each group that has one."""
        found = []
        for name, ((_, child), since) in self._heads.items():
            bound_s = self._bound_s(child)
            if bound_s is not None:
                found.append(watchdog.Step(name, now - since, bound_s))
        return found

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
            steps=self._steps(now),
            accepting=self._supervisor.control.accepting,
        )
        if not doubts:
            self._supervisor.systemd.watchdog()
        elif doubts != self._doubts:
            self._supervisor.report("watchdog_withheld", doubts=doubts)
        self._doubts = doubts
