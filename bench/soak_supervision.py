"""The soak of supervision: forty actors in seven groups are hurt in every way, and the rules must hold.

What is done comes from a seed (soak_plan), what must hold is pure (soak_rules), the tree is seen from outside
(soak_tree). After every action, and once more before the next, a snapshot of /proc, status and events goes
through the rules. At the end everything is let go and started: the tree must heal, stop and leave nothing.
"""

import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.soak_plan import GROW_HARD_MB, GROW_SOFT_MB, Action, Plan
from bench.soak_rules import FDS_PER_ACTOR, LIVE, Snapshot, Watch, flatness, overlapping
from bench.soak_tree import HANG_S, NUMBERS, RefusedError, SoakTree

PROGRESS_S = 30.0
RSS_EVERY_S = 1.0
JUDGED_S = 600.0  # a shorter run only prints the trend of memory: rings are still filling
START_S = 60.0
HEAL_S = 90.0
CONTROLLED = ("stop", "start", "restart", "drain", "pause", "resume", "reload")
# What the tree may answer to a command that comes at a bad moment; anything else breaks a rule.
ALLOWED = {
    "start": {"failed", "restarting", "busy"},
    "restart": {"failed", "restarting", "busy"},
    "drain": {"failed", "busy"},
    "pause": {"failed", "busy"},
    "resume": {"failed", "busy"},
}


class BrokenError(Exception):
    """A rule does not hold."""


class Soak:
    """One run."""

    def __init__(self, seed: int, base: Path) -> None:
        self.plan = Plan(seed)
        self.tree = SoakTree(base, self.plan.members)
        self.watch = Watch(fds_base=0, known=set(self.plan.names()))
        self.story: list[str] = []
        self.done: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.missing: set[str] = set()
        self.waking: list[tuple[float, int]] = []  # when to SIGCONT whom
        self.rss: list[tuple[float, float]] = []
        self.began = time.monotonic()

    # Looking.

    def check(self) -> None:
        """Look at everything once.

        Raises:
            BrokenError: a rule does not hold.
        """
        tree = self.tree
        if (code := tree.process.poll()) is not None:
            raise BrokenError(f"the supervisor has left with {code}")
        try:
            events = tree.ask("events", since=self.watch.last_seq)
            document = tree.ask("status")
        except (TimeoutError, ConnectionError, RefusedError) as error:
            raise BrokenError(f"status and events are not answered: {error}") from None
        processes = tuple(tree.processes())
        for elder, younger in overlapping(processes):
            if tree.alive(elder):
                raise BrokenError(
                    f"{elder.actor}: pid {elder.pid} of generation {elder.generation} lives beside "
                    f"pid {younger.pid} of generation {younger.generation}"
                )
        actors = {actor["name"]: actor for actor in document["actors"]}
        self.kinds.update(event["type"] for event in events)
        at = time.monotonic()
        broken = self.watch.check(Snapshot(at, tree.process.pid, processes, actors, events, tree.fds()))
        if broken:
            raise BrokenError("; ".join(broken))
        if not self.rss or at - self.began - self.rss[-1][0] >= RSS_EVERY_S:
            self.rss.append((at - self.began, tree.rss_mb()))

    def wait(self, seconds: float) -> None:
        """Let time pass, and wake up whom we have frozen when it is time."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            due = [item for item in self.waking if item[0] <= now]
            self.waking = [item for item in self.waking if item[0] > now]
            for _, pid in due:
                self.tree.signal(pid, signal.SIGCONT)
            if now >= until:
                return
            time.sleep(max(0.0, min(until, *(at for at, _ in self.waking), now + 0.25) - now))

    # Doing.

    def act(self, action: Action) -> None:
        """Do one thing and look, let it be for its time and look again."""
        if not set(action.targets) <= self.watch.known and action.kind != "reload":
            return  # a reload that this supervisor does not know would have added it
        self.story.append(f"{time.monotonic() - self.began:8.2f} {action}")
        self.done[action.kind] += 1
        if action.kind in CONTROLLED:
            self.command(action)
        elif action.kind == "stall":
            self.stall(float(action.detail))
        else:
            self.hurt(action)
        self.check()
        self.wait(action.wait_s)
        self.check()

    def command(self, action: Action) -> None:
        """Give an order on the control socket and judge the answer."""
        kind, targets = action.kind, list(action.targets)
        if kind == "reload":
            self.tree.write(self.plan.members)
        if kind in self.missing:
            return
        # what may be true before the answer comes
        if kind in ("start", "restart"):
            self.watch.down -= set(targets)
        if kind == "reload" and action.detail == "remove":
            self.watch.known -= set(targets)
            self.watch.down -= set(targets)
        answer = self.asked(kind, targets)
        if kind in ("stop", "drain"):
            self.watch.down |= set(targets)
        if kind == "reload":
            self.reloaded(action, answer)

    def asked(self, kind: str, targets: list[str]) -> dict[str, Any]:
        """Return the answer; empty when it is a refusal that is in order."""
        try:
            answer: dict[str, Any] = self.tree.ask(kind, **({"actors": targets} if kind != "reload" else {}))
        except TimeoutError:
            raise BrokenError(f"{kind} {targets} is not answered") from None
        except RefusedError as error:
            self.answered[f"{kind}: {error.code}"] += 1
            if error.code not in ALLOWED.get(kind, set()):
                raise BrokenError(f"{kind} {targets} is refused: {error}") from None
            self.story.append(f"         refused: {error}")
            return {}
        self.answered[f"{kind}: ok"] += 1
        return answer

    def reloaded(self, action: Action, result: dict[str, Any]) -> None:
        """Hold what a reload says it did against what was changed."""
        changes = result["changes"]
        touched = {change["name"] for change in changes if change.get("kind", "actor") == "actor"}
        wanted = set(action.targets)
        for name in action.targets:
            if name in self.plan.members:
                names = set(self.plan.members[name].names(name))
                wanted |= names
                self.watch.known |= names
            else:
                self.watch.forget(name)
        if touched - wanted:
            raise BrokenError(f"the reload of {sorted(wanted)} touches {sorted(touched - wanted)}: {changes}")
        if bool(touched) != bool(wanted):
            raise BrokenError(f"the reload of {sorted(wanted)} ({action.detail}) says: {changes}")

    def stall(self, seconds: float) -> None:
        """Stop the supervisor, for longer than any heartbeat may be away."""
        pid = self.tree.process.pid
        os.kill(pid, signal.SIGSTOP)
        self.wait(seconds)
        os.kill(pid, signal.SIGCONT)
        self.watch.forgive(seconds)

    def hurt(self, action: Action) -> None:
        """Send signals to processes, as the world does. Who is not up at the moment is spared."""
        document = self.tree.ask("status")
        pids = {actor["name"]: actor["pid"] for actor in document["actors"] if actor["ready"]}
        for name in action.targets:
            pid = pids.get(name)
            if pid is None:
                self.answered[f"{action.kind}: was not up"] += 1
            elif action.kind == "freeze":
                lasts_s = HANG_S + 10.0 if action.detail == "hang" else float(action.detail)
                self.watch.frozen[name] = time.monotonic() + lasts_s + 2 * HANG_S
                if self.tree.signal(pid, signal.SIGSTOP):
                    self.waking.append((time.monotonic() + lasts_s, pid))
            elif action.kind == "grow":
                size = GROW_SOFT_MB if action.detail == "soft" else GROW_HARD_MB
                # the kernel has few real-time signals, so growth comes in steps
                for step in steps(size):
                    self.tree.signal(pid, signal.SIGRTMIN + step)
            else:
                self.tree.signal(pid, NUMBERS[action.detail])

    # The run.

    def begin(self) -> None:
        """Wait for the forty, learn which commands there are, take the base line of descriptors."""
        self.tree.wait_running(START_S)
        for kind in CONTROLLED:
            if not self.tree.knows(kind):
                self.missing.add(kind)
        if self.missing:
            print(f"the supervisor has no {', '.join(sorted(self.missing))}: left out", flush=True)
        time.sleep(1.0)
        actors = self.tree.actors()
        live = sum(actor["state"] in LIVE for actor in actors.values())
        self.watch.fds_base = self.tree.fds() - FDS_PER_ACTOR * live
        print(f"{live} actors; descriptors: {self.watch.fds_base} + {FDS_PER_ACTOR} each", flush=True)

    def run(self, duration_s: float) -> None:
        """Act until the time is up, then let the tree heal and stop it.

        Raises:
            BrokenError: a rule does not hold.
        """
        self.began = time.monotonic()
        printed = self.began
        self.check()
        for action in self.plan.actions():
            now = time.monotonic()
            if now - self.began >= duration_s:
                break
            if now - printed >= PROGRESS_S:
                printed = now
                print(self.progress(), flush=True)
            self.act(action)
        self.heal()
        self.settle()
        if duration_s >= JUDGED_S and (trend := flatness(self.rss)) is not None and not trend.flat:
            raise BrokenError(f"the supervisor's memory grows: {trend}")
        self.end()

    def progress(self) -> str:
        """Return one line: time, actions, what happened, memory."""
        happened = " ".join(f"{kind} {self.kinds[kind]}" for kind in ("spawn", "exit", "hang", "memory"))
        return (
            f"{time.monotonic() - self.began:6.0f} s  {sum(self.done.values())} actions  {happened}  "
            f"rss {self.rss[-1][1]:.1f} MB  slowest answer {self.tree.slowest_s * 1e3:.0f} ms"
        )

    def heal(self) -> None:
        """Let everything go and start everything: all must run in the end."""
        self.story.append(f"{time.monotonic() - self.began:8.2f} heal")
        for _, pid in self.waking:
            self.tree.signal(pid, signal.SIGCONT)
        self.waking = []
        for kind, names in (("resume", self.plan.paused), ("start", self.plan.down)):
            if kind not in self.missing:
                for name in sorted(names):
                    self.command(Action(kind, (name,)))
        deadline, again = time.monotonic() + HEAL_S, 0.0
        while late := self.late():
            self.check()
            if time.monotonic() > deadline:
                raise BrokenError(f"the tree does not heal: {late}")
            if time.monotonic() > again:
                again = time.monotonic() + 5.0
                for name, state in late.items():
                    if state in ("done", "stopped", "failed"):  # ended well, or a start was refused
                        self.command(Action("start", (name,)))
            time.sleep(0.2)
        time.sleep(2.0)
        self.check()

    def settle(self) -> None:
        """Hold the descriptors of the tree at rest against those of the beginning."""
        live = len(self.tree.actors())
        fds = self.tree.fds()
        if fds > self.watch.fds_base + FDS_PER_ACTOR * live + 2:
            raise BrokenError(
                f"descriptors leak: {fds} with {live} actors at rest, {self.watch.fds_base} + "
                f"{FDS_PER_ACTOR} each at the start"
            )

    def late(self) -> dict[str, str]:
        """Return the actors that do not run, and their states."""
        actors = self.tree.actors()
        return {name: actor["state"] for name, actor in actors.items() if actor["state"] != "running"}

    def end(self) -> None:
        """Stop the tree: exit 0, and nothing lives."""
        whole = list(self.tree.processes())
        code = self.tree.stop()
        left = [item.pid for item in whole if self.tree.alive(item)]
        if code or left:
            raise BrokenError(f"the stop is not clean: exit {code}, still there: {left}")

    def report(self) -> str:
        """Return what was done and seen."""
        trend = flatness(self.rss)
        settled = statistics.median(size for _, size in self.rss[-20:]) if self.rss else 0.0
        lines = [
            "actions: " + " ".join(f"{kind} {count}" for kind, count in sorted(self.done.items())),
            "answers: " + ", ".join(f"{what} {count}" for what, count in sorted(self.answered.items())),
            "events: " + " ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items())),
            f"status and events: {self.tree.answers} answers, the slowest {self.tree.slowest_s * 1e3:.0f} ms",
        ]
        if trend is not None:
            lines.append(
                f"supervisor: {settled:.1f} MB resident; second half: {trend.slope_mb_per_h:+.2f} MB/h, "
                f"{trend.growth_mb:+.2f} MB, noise {trend.noise_mb:.2f} MB"
            )
        return "\n".join(lines)


def steps(size_mb: int) -> list[int]:
    """Return growth in MiB as numbers of distinct real-time signals: pending signals of one kind are one."""
    found, step = [], 25
    while size_mb > 0 and step > 0:
        found.append(min(step, size_mb))
        size_mb -= found[-1]
        step = found[-1] - 1
    return found


def soak(seed: int, duration_s: float) -> int:
    """Run the soak; 0 when every rule held. On failure the story is printed and the tree's log is kept."""
    print(f"soak supervision: seed {seed}, {duration_s:g} s", flush=True)
    base = Path(tempfile.mkdtemp(prefix="ds-", dir="/tmp"))
    run = Soak(seed, base)
    try:
        run.begin()
        run.run(duration_s)
    except (BrokenError, AssertionError) as error:
        print(f"BROKEN (seed {seed}): {error}", file=sys.stderr)
        story = base / "story"
        story.write_text("\n".join(run.story) + "\n")
        with contextlib.suppress(OSError, ValueError):
            (base / "status.json").write_text(json.dumps(run.tree.status(), indent=1))
        print("\n".join(["the last actions:", *run.story[-40:]]), file=sys.stderr)
        print(f"the whole story: {story}; the tree's log: {run.tree.log}", file=sys.stderr)
        print(run.report(), file=sys.stderr, flush=True)
        return 1
    finally:
        run.tree.close()
    print(run.report())
    print(f"every rule held (seed {seed})", flush=True)
    for path in sorted(base.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    base.rmdir()
    return 0
