"""What must hold of a supervised tree at every moment of a soak. Pure: snapshots in, broken rules out.

Snapshots are taken from outside: /proc, the status document, the events. What needs more than one of them
(how long a zombie has been there, generations, numbers of events, memory over time) is remembered here.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Flatness", "Process", "Snapshot", "Watch", "flatness", "overlapping"]

ZOMBIE_S = 1.0
FDS_PER_ACTOR = 3  # two log pipes and a pidfd
FDS_SPARE = 24  # log pipes and sockets of processes being made or buried, connections to the control socket
GROWTH_MB = 1.0  # of the supervisor's memory over the second half, beyond three times the noise
LIVE = ("starting", "running", "degraded", "draining", "stopping", "killing", "stuck")


class Process(NamedTuple):
    """One process of the tree as /proc shows it."""

    pid: int
    parent: int
    group: int
    state: str  # the kernel's letter
    started: int  # ticks since boot: with the pid, who it is for all time
    actor: str = ""
    generation: int = 0

    @property
    def alive(self) -> bool:
        """Whether it runs: a zombie does not."""
        return self.state not in ("Z", "X")


class Snapshot(NamedTuple):
    """What was seen at one moment."""

    at: float  # monotonic seconds
    supervisor: int
    processes: tuple[Process, ...]
    actors: Mapping[str, Mapping[str, Any]]  # of the status document, by name
    events: Sequence[Mapping[str, Any]]  # since the last snapshot
    fds: int  # of the supervisor


def overlapping(processes: Iterable[Process]) -> list[tuple[Process, Process]]:
    """Return pairs of living processes of one actor and of different generations: the oldest and the newest.

    A reading of /proc takes time, so a pair is a suspicion until its elder is seen alive once more.
    """
    by_actor: dict[str, list[Process]] = defaultdict(list)
    for process in processes:
        if process.alive and process.actor:
            by_actor[process.actor].append(process)
    pairs = []
    for found in by_actor.values():
        oldest, newest = (pick(found, key=lambda item: item.generation) for pick in (min, max))
        if oldest.generation != newest.generation:
            pairs.append((oldest, newest))
    return pairs


class Flatness(NamedTuple):
    """How memory went over the second half of a run."""

    slope_mb_per_h: float
    growth_mb: float
    noise_mb: float  # standard deviation about the line

    @property
    def flat(self) -> bool:
        """Whether the growth is within the noise."""
        return self.growth_mb <= GROWTH_MB + 3 * self.noise_mb


def flatness(samples: Sequence[tuple[float, float]]) -> Flatness | None:
    """Return the trend of the second half of (seconds, MB); None when there is too little to say."""
    half = [sample for sample in samples if sample[0] >= (samples[0][0] + samples[-1][0]) / 2]
    if len(half) < 10:
        return None
    times, values = zip(*half, strict=True)
    slope, offset = statistics.linear_regression(times, values)
    noise = statistics.pstdev(value - (slope * at + offset) for at, value in zip(times, values, strict=True))
    return Flatness(slope * 3600, slope * (times[-1] - times[0]), noise)


@dataclass
class Watch:
    """The memory of a soak. `fds_base`: the supervisor's descriptors apart from those of its actors."""

    fds_base: int
    down: set[str] = field(default_factory=set)  # stopped by the operator, and the stop has been answered
    known: set[str] = field(default_factory=set)  # who must be in the status document
    frozen: dict[str, float] = field(default_factory=dict)  # SIGSTOPped by us: until when a hang may follow
    last_seq: int = 0
    generations: dict[str, int] = field(default_factory=dict)
    zombies: dict[tuple[int, int], float] = field(default_factory=dict)

    def forgive(self, seconds: float) -> None:
        """Take out of account time in which the supervisor was stopped by us."""
        self.zombies = {key: since + seconds for key, since in self.zombies.items()}

    def check(self, seen: Snapshot) -> list[str]:
        """Return the rules that this snapshot breaks, as sentences."""
        return [
            *self._down(seen), *self._zombies(seen), *self._fds(seen),
            *self._events(seen), *self._generations(seen), *self._listed(seen),
        ]  # fmt: skip

    def _down(self, seen: Snapshot) -> list[str]:
        broken = [
            f"{item.actor} is stopped, and pid {item.pid} of its generation {item.generation} runs"
            for item in seen.processes
            if item.alive and item.actor in self.down
        ]
        for name in sorted(self.down & set(seen.actors)):
            actor = seen.actors[name]
            if actor["desired"] != "down":
                broken.append(f"{name} was stopped, and its desired state is {actor['desired']}")
            if actor["state"] in LIVE or actor["state"] == "backoff":
                broken.append(f"{name} was stopped, and its state is {actor['state']}")
        return broken

    def _zombies(self, seen: Snapshot) -> list[str]:
        found = {
            (item.pid, item.started): item
            for item in seen.processes
            if item.state == "Z" and item.parent == seen.supervisor
        }
        self.zombies = {key: self.zombies.get(key, seen.at) for key in found}
        return [
            f"pid {key[0]} ({found[key].actor or 'unnamed'}) has been a zombie for {seen.at - since:.1f} s"
            for key, since in self.zombies.items()
            if seen.at - since > ZOMBIE_S
        ]

    def _fds(self, seen: Snapshot) -> list[str]:
        live = sum(actor["state"] in LIVE for actor in seen.actors.values())
        bound = self.fds_base + FDS_PER_ACTOR * live + FDS_SPARE
        if seen.fds <= bound:
            return []
        return [f"the supervisor has {seen.fds} descriptors open: over {bound} with {live} live actors"]

    def _events(self, seen: Snapshot) -> list[str]:
        broken = []
        for event in seen.events:
            if event["seq"] != self.last_seq + 1:
                broken.append(f"event {event['seq']} follows event {self.last_seq}")
            self.last_seq = event["seq"]
            name = event["actor"]
            if event["type"] == "hang" and self.frozen.get(name, 0.0) < event["mono"]:
                broken.append(f"{name} was taken for hung (event {event['seq']}), and nobody had stopped it")
            if event["type"] == "ready" and event["generation"] < self.generations.get(name, 0):
                broken.append(
                    f"{name}: ready of generation {event['generation']} (event {event['seq']}) "
                    f"after generation {self.generations[name]}"
                )
            if event["type"] == "spawn":
                if event["generation"] <= self.generations.get(name, 0):
                    broken.append(
                        f"{name}: generation {event['generation']} was spawned after {self.generations[name]}"
                    )
                self.generations[name] = event["generation"]
        return broken

    def _generations(self, seen: Snapshot) -> list[str]:
        broken = []
        for name, actor in seen.actors.items():
            if actor["generation"] < self.generations.get(name, 0):
                broken.append(
                    f"{name} is in generation {actor['generation']} after generation {self.generations[name]}"
                )
        return broken

    def _listed(self, seen: Snapshot) -> list[str]:
        missing, strange = sorted(self.known - set(seen.actors)), sorted(set(seen.actors) - self.known)
        return [
            *(f"{name} is in the file and not in the status" for name in missing),
            *(f"{name} is in the status and not in the file" for name in strange),
        ]

    def forget(self, name: str) -> None:
        """Take an actor out of account: it was removed from the file."""
        self.known.discard(name)
        self.down.discard(name)
        self.generations.pop(name, None)
        self.frozen.pop(name, None)
