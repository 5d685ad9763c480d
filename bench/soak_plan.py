"""What the soak of supervision does to its tree, as a function of a seed and of nothing else. Pure.

A plan draws one action after the other from a seeded generator and keeps a roster of what the tree ought to
be: which actors are in the file, with which arguments and limits, which of them an operator took down, which
are paused. It never looks at the tree, so a seed gives the same story however fast the machine is.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["GROUPS", "WEIGHTS", "Action", "Member", "Plan", "roster"]

POOL = "pool/w"
POOL_SIZE = 8
SOFT_MB = (40, 44)  # soft limits that reloads change between
HARD_MB = 90
GROW_SOFT_MB = 36  # on top of what an interpreter has: past soft, short of hard
GROW_HARD_MB = 120
STALLS_S = ("3", "6")  # the longer one outlasts any heartbeat
SIGNALS = ("SIGKILL", "SIGSEGV", "SIGTERM")
EXTRA_MAX = 4  # actors that reloads add and remove again

GROUPS: dict[str, dict[str, object]] = {
    "one": {"strategy": "one_for_one", "intensity": 20, "period_s": 10, "on_limit": "park"},
    "all": {"strategy": "one_for_all", "intensity": 20, "period_s": 10, "on_limit": "park"},
    "rest": {"strategy": "rest_for_one", "intensity": 20, "period_s": 10, "on_limit": "park"},
    "pool": {"strategy": "simple_one_for_one", "intensity": 20, "period_s": 10, "on_limit": "park"},
    "outer": {"strategy": "one_for_one", "intensity": 50, "period_s": 10, "on_limit": "park"},
    "inner-all": {"strategy": "one_for_all", "intensity": 3, "period_s": 5, "parent": "outer"},
    "inner-rest": {"strategy": "rest_for_one", "intensity": 3, "period_s": 5, "parent": "outer"},
}
_SIZES = {"one": 10, "all": 5, "rest": 6, "outer": 3, "inner-all": 4, "inner-rest": 4}

WEIGHTS = {
    "kill": 30, "burst": 4, "stop": 10, "start": 14, "restart": 8, "drain": 5, "pause": 4, "resume": 6,
    "freeze": 5, "grow": 4, "reload": 12, "stall": 2,
}  # fmt: skip
_DETAILS = {
    "kill": SIGNALS,
    "freeze": ("0.5", "1.5", "hang"),
    "grow": ("soft", "soft", "hard"),
}
_RELOADS = {"args": 4, "limits": 4, "add": 3, "remove": 3, "same": 2}


class Action(NamedTuple):
    """One thing to do; `wait_s` is how long the tree is left alone after it."""

    kind: str
    targets: tuple[str, ...] = ()
    detail: str = ""
    wait_s: float = 0.0

    def __str__(self) -> str:
        words = [self.kind, ",".join(self.targets), self.detail, f"then {self.wait_s:.2f} s"]
        return " ".join(word for word in words if word)


@dataclass
class Member:
    """One actor of the file; a template's instances are one member."""

    tag: int = 0
    soft_mb: int = SOFT_MB[0]
    fork: str = ""
    restart: str = "permanent"
    instances: int = 1

    def names(self, name: str) -> list[str]:
        """Return the actors it makes."""
        return [f"{name}@{number + 1}" for number in range(self.instances)] if name == POOL else [name]


def roster() -> dict[str, Member]:
    """Return the forty actors that a soak begins with, in the order of the file."""
    found: dict[str, Member] = {}
    for group, size in _SIZES.items():
        for number in range(size):
            member = Member()
            if number % 4 == 1:
                member.fork = "plain"
            elif number % 4 == 3:
                member.fork = "setsid"
            if group == "one" and number in (2, 6):
                member.restart = "transient"
            found[f"{group}/{group}{number}"] = member
    found[POOL] = Member(instances=POOL_SIZE)
    return found


@dataclass
class Plan:
    """The story of one seed. `next` changes the roster as the file and the operator are to change."""

    seed: int
    members: dict[str, Member] = field(default_factory=roster)
    down: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    extras: list[str] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def names(self) -> list[str]:
        """Return all actors that there are to be, in a fixed order."""
        return [one for name, member in self.members.items() for one in member.names(name)]

    def actions(self) -> Iterator[Action]:
        """Yield the story, without end."""
        while True:
            yield self.next()

    def next(self) -> Action:
        """Draw the next action and change the roster by it."""
        draw = self._random
        up = [name for name in self.names() if name not in self.down]
        free = [name for name in up if name not in self.paused]
        kinds = dict(WEIGHTS)
        if not self.down:
            del kinds["start"]
        if not self.paused:
            del kinds["resume"]
        if len(free) < 2 * len(self.names()) // 3:  # most of the tree runs, or there is nothing to soak
            for kind in ("stop", "drain", "pause"):
                del kinds[kind]
        kind = draw.choices(list(kinds), list(kinds.values()))[0]
        wait_s = draw.choice((0.0, 0.05, 0.2, 0.6, 1.2))
        targets, detail = self._told(kind, free)
        return Action(kind, targets, detail, wait_s)

    def _told(self, kind: str, free: list[str]) -> tuple[tuple[str, ...], str]:
        draw = self._random
        if kind == "stall":
            return (), draw.choice(STALLS_S)
        if kind == "reload":
            return self._reload()
        if kind == "burst":
            return tuple(draw.sample(free, 5)), "SIGKILL"
        if kind in ("start", "resume"):
            back = self.down if kind == "start" else self.paused
            target = draw.choice(sorted(back))
            back.discard(target)
            return (target,), ""
        target = draw.choice(free)
        if kind in ("stop", "drain"):
            self.down.add(target)
        elif kind == "pause":
            self.paused.add(target)
        return (target,), draw.choice(_DETAILS[kind]) if kind in _DETAILS else ""

    def _reload(self) -> tuple[tuple[str, ...], str]:
        draw = self._random
        what = draw.choices(list(_RELOADS), list(_RELOADS.values()))[0]
        if what == "remove" and not self.extras:
            what = "add"
        if what == "add" and len(self.extras) >= EXTRA_MAX:
            what = "remove"
        if what == "same":
            return (), what
        if what == "add":
            self.made += 1
            group = draw.choice(("one", "rest", "outer"))
            name = f"{group}/extra{self.made}"
            self.members[name] = Member()
            self.extras.append(name)
            return (name,), what
        if what == "remove":
            name = self.extras.pop(draw.randrange(len(self.extras)))
            del self.members[name]
            self.down.discard(name)
            self.paused.discard(name)
            return (name,), what
        name = draw.choice(list(self.members))
        member = self.members[name]
        if what == "args":
            member.tag += 1
            self.paused -= set(member.names(name))  # a new process is not paused
        else:
            member.soft_mb = SOFT_MB[member.soft_mb == SOFT_MB[0]]
        return (name,), what
