"""A supervisor without processes: it performs what the groups of a tree decide, on a clock turned by hand.

Children are scripted: each spawn of a child takes the next word of its script, the last one for good.

    ready    it comes up                     fail     it ends before it is ready, as a failure
    hang     it neither comes up nor ends    fatal    it ends before it is ready, for good (exit 78, ENOENT)
    ignore   it says IGNORE and leaves       exit0    it ends before it is ready, clean

A stop is obeyed at once, but for the names in `stubborn`, which live until they are told to `die`. What was
done is kept in `trace` as (seconds, word, name); a second process of one child is an error at once.
"""

import heapq
from collections import deque
from typing import NamedTuple

from daedalus.kernel import group as g
from daedalus.kernel.restart import step, validate, window_used
from daedalus.kernel.spec import Backoff, GroupSpec

__all__ = ["SHARP", "Node", "Shell", "actor", "group"]

SHARP = Backoff(base_s=0.1, factor=2.0, cap_s=1.0, jitter=0.0, reset_after_s=60.0)
_END = {"fail": "abnormal", "fatal": "fatal", "ignore": "ignored", "exit0": "normal"}


class Node(NamedTuple):
    """A group and what is in it: actors, then groups."""

    spec: GroupSpec
    members: "tuple[g.Child | Node, ...]"


def actor(name: str, **values: object) -> g.Child:
    return g.Child(**{"name": name, "backoff": SHARP, **values})


def group(name: str, *members: "str | g.Child | Node", **values: object) -> Node:
    """A group; its actors may be given by their names, or all in one word of single letters."""
    parts: list[g.Child | Node] = []
    for member in members:
        parts += [actor(one) for one in member.split()] if isinstance(member, str) else [member]
    spec = GroupSpec(
        **{"name": name, "parent": None if name == "root" else "root", "backoff": SHARP, **values}
    )
    return Node(spec, tuple(parts))


class Shell:
    """One tree that runs in fake time."""

    def __init__(self, root: Node, **scripts: str) -> None:
        self.now = 100.0
        self.groups: dict[str, g.Group] = {}
        self.parents: dict[str, str] = {}
        self.live: dict[str, int] = {}  # child -> its generation
        self.spawned: dict[str, int] = {}
        self.scripts = {name: deque(words.split()) for name, words in scripts.items()}
        self.stubborn: set[str] = set()
        self.shut: set[str] = set()  # children whose gates are shut
        self.luck = 0.0
        self.exit: int | None = None
        self.trace: list[tuple[float, str, str]] = []
        self.instructions: list[g.Instruction] = []
        self._queue: deque[tuple[str, g.Event]] = deque()
        self._timers: list[tuple[float, int, str, str, g.Event]] = []
        self._count = 0
        self._root = root.spec.name
        self._plant(root, None)

    def _plant(self, node: Node, parent: GroupSpec | None) -> g.Child | None:
        name = node.spec.name
        children = []
        for member in node.members:
            child = self._plant(member, node.spec) if isinstance(member, Node) else member
            assert child is not None
            self.parents[child.name] = name
            children.append(child)
        self.groups[name] = g.Group(spec=node.spec, children=tuple(children))
        return None if parent is None else g.child_of_group(node.spec, parent)

    # Turning it.

    def start(self) -> "Shell":
        self.feed(self._root, g.Begin())
        return self

    def feed(self, name: str, event: g.Event) -> None:
        """Give a group its news, and see to everything that follows without time passing."""
        self._queue.append((name, event))
        self._drain()
        self.advance(0.0)

    def tell(self, event: g.Event) -> None:
        """Give an event about a child to the child's group."""
        self.feed(self.parents[event.child], event)  # type: ignore[union-attr]

    def die(self, name: str, verdict: str = "abnormal", spare_s: float = 60.0) -> None:
        """A process ends by itself, or at last."""
        del self.live[name]
        self._note("gone", name)
        self.tell(g.Ended(name, verdict, self.luck, spare_s))  # type: ignore[arg-type]

    def ready(self, name: str) -> None:
        """One that hung comes up after all."""
        self._note("ready", name)
        self.tell(g.Ready(name))

    def advance(self, seconds: float) -> None:
        """Let time pass, and every timer that is due in it ring, in order."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end + 1e-9:
            at, number, owner, _, event = heapq.heappop(self._timers)
            if number in self._armed.values():
                self._armed = {key: other for key, other in self._armed.items() if other != number}
                self.now = max(self.now, at)
                self._queue.append((owner, event))
                self._drain()
        self.now = end

    # Looking at it.

    def slots(self, name: str = "root") -> dict[str, str]:
        return {child.name: child.slot for child in self.groups[name].children}

    def child(self, name: str) -> g.Child:
        return next(child for child in self.groups[self.parents[name]].children if child.name == name)

    def used(self, name: str = "root") -> int:
        return window_used(self.groups[name], self.now)

    def story(self, *words: str) -> list[str]:
        """What was done since the last look, as "word name"; only these words, if any."""
        told = [f"{word} {name}".strip() for _, word, name in self.trace if not words or word in words]
        self.trace.clear()
        return told

    # Performing.

    _armed: dict[tuple[str, str], int] = {}  # noqa: RUF012 - replaced, never changed

    def _note(self, word: str, name: str) -> None:
        self.trace.append((self.now, word, name))

    def _arm(self, kind: str, owner: str, event: g.Event, delay_s: float) -> None:
        self._count += 1
        name = event.child  # type: ignore[union-attr]
        self._armed = {**self._armed, (kind, name): self._count}
        heapq.heappush(self._timers, (self.now + delay_s, self._count, owner, name, event))

    def _disarm(self, kind: str, name: str) -> None:
        self._armed = {key: number for key, number in self._armed.items() if key != (kind, name)}

    def _drain(self) -> None:
        while self._queue:
            owner, event = self._queue.popleft()
            if owner in self.groups:
                self.groups[owner], out = step(self.groups[owner], event, self.now)
                validate(self.groups[owner])
                self.instructions += out
                for item in out:
                    self._perform(owner, item)

    def _perform(self, owner: str, item: g.Instruction) -> None:
        match item:
            case g.StartChild(name):
                wanted = {child.name for child in self.groups[owner].children if child.wanted}
                assert name in wanted, f"{name} is started though nobody wants it"
                self._disarm("due", name)
                if name in self.groups:
                    self._note("begin", name)
                    self._queue.append((name, g.Begin()))
                else:
                    self.parents[name] = owner
                    self._spawn(owner, name)
            case g.StopChild(name):
                self._stop(owner, name)
            case g.Wait(name, delay_s, _):
                self._note("wait", name)
                self._arm("due", owner, g.Due(name), delay_s)
            case g.Park(name, delay_s):
                self._note("park", name)
                self._arm("due", owner, g.Due(name), delay_s)
            case g.Hold(name, delay_s):
                self._arm("hold", owner, g.Expired(name), delay_s)
            case g.Settle(name, slot):
                self._disarm("due", name)
                self._note(slot, name)
                if slot == "removed":
                    self.groups.pop(name, None)
            case g.Opened():
                self._note("opened", owner)
                if owner != self._root:
                    self._queue.append((self.parents[owner], g.Ready(owner)))
            case g.Closed(reason):
                self._closed(owner, reason)

    def _closed(self, owner: str, reason: str) -> None:
        self._note("closed", owner)
        inside = {child.name for child in self.groups[owner].children}
        assert not inside & set(self.live), f"{owner} closed with {inside & set(self.live)} alive"
        if owner == self._root:
            self.exit = 70 if reason in ("intensity", "abort") else 0
        else:
            verdict: g.Verdict = "abnormal" if reason == "abort" else "normal"
            self._queue.append((self.parents[owner], g.Ended(owner, verdict, self.luck)))

    def _spawn(self, owner: str, name: str) -> None:
        assert name not in self.live, f"a second process of {name}"
        if name in self.shut:
            self._queue.append((owner, g.Held(name)))
            return
        self.spawned[name] = self.live[name] = self.spawned.get(name, 0) + 1
        self._note("spawn", name)
        script = self.scripts.get(name, deque(["ready"]))
        word = script.popleft() if len(script) > 1 else script[0]
        if word == "ready":
            self._note("ready", name)
            self._queue.append((owner, g.Ready(name)))
        elif word != "hang":
            del self.live[name]
            self._note("gone", name)
            self._queue.append((owner, g.Ended(name, _END[word], self.luck)))  # type: ignore[arg-type]

    def _stop(self, owner: str, name: str) -> None:
        if name in self.groups:
            self._queue.append((name, g.Close()))
            return
        if name not in self.live:
            return  # its end, or that it is held, is told already
        self._note("stop", name)
        if name not in self.stubborn:
            del self.live[name]
            self._note("gone", name)
            self._queue.append((owner, g.Ended(name, "normal")))
