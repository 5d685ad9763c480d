"""A foreign program that does as it is told: `python -S -E probe.py --trace FILE [FLAGS]`.

It speaks sd_notify on $NOTIFY_SOCKET and appends what it lives through to the trace, one JSON line each:
[monotonic seconds, name, generation, pid, event]. Standard library only, and little of it: it is started
hundreds of times. The real-time signals make it leave: SIGRTMIN + i with the code CODES[i].

Events: spawn · fail · ready · drain · drained N · deaf SIGNAL · term · usr1 · forked PID · orphan PID ·
thread · exit CODE.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

CODES = (0, 1, 75, 78, 3)  # of SIGRTMIN, SIGRTMIN + 1, …
LIFE_S = 300.0  # longer than any test: what is forgotten ends by itself
TURN_S = 0.05
NAME = os.environ.get("DAEDALUS_ACTOR", "?")
GENERATION = int(os.environ.get("DAEDALUS_GENERATION", "0"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trace", required=True)
    parser.add_argument("--ready-after", type=float, default=0.0)  # inf: never
    parser.add_argument("--fail-start", type=int, default=0)  # the first N; what is left stands in a file
    parser.add_argument("--exit-after", type=float)  # seconds after READY
    parser.add_argument("--exit-early", type=float)  # seconds after the start, ready or not
    parser.add_argument("--exit-first", type=int, default=1 << 30)  # only the first N generations leave
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--signal-self")
    parser.add_argument("--hang", action="store_true")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--no-handler", action="store_true")
    parser.add_argument("--drain", type=float, default=0.0)
    parser.add_argument("--queue", type=int, default=0)
    parser.add_argument("--alloc", type=float, default=0.0)  # MiB/s
    parser.add_argument("--alloc-max", type=float, default=1e9)  # MiB
    parser.add_argument("--alloc-first", type=int, default=1 << 30)  # only the first N generations grow
    parser.add_argument("--fork", choices=("setsid", "plain"), action="append", default=[])
    parser.add_argument("--spam", type=int, default=0)  # lines, in the first generation
    parser.add_argument("--last-words")
    parser.add_argument("--tick", type=float, default=0.0)
    parser.add_argument("--ignore", action="store_true")
    parser.add_argument("--close-notify", action="store_true")
    parser.add_argument("--beat", type=float, default=0.2)
    parser.add_argument("--note", default="")
    return parser.parse_args()


class Probe:
    """One life."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.trace = os.open(flags.trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.note("spawn")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = os.environ.get("NOTIFY_SOCKET", "")
        self.queued = flags.queue
        self.drain_began: float | None = None
        self.hoard: list[bytearray] = []
        self.hoarded = 0.0
        self.signals: list[int] = []
        self.ticks = 0

    def note(self, event: str) -> None:
        line = json.dumps([time.monotonic(), NAME, GENERATION, os.getpid(), event])
        os.write(self.trace, line.encode() + b"\n")

    def say(self, **state: object) -> None:
        text = "\n".join(f"{key}={value}" for key, value in state.items())
        with contextlib.suppress(OSError):
            self.notify.sendto(text.encode(), self.address)

    def leave(self, code: int) -> None:
        if self.flags.last_words:
            sys.stderr.write(f"{self.flags.last_words}\n")
            sys.stderr.flush()
        sys.stdout.flush()
        self.note(f"exit {code}")
        os._exit(code)

    def fail_if_told(self) -> None:
        """Fail while the file beside the trace has failures left; a test may write more into it."""
        file = Path(f"{self.flags.trace}.{NAME.replace('/', '-')}.fails")
        if not file.exists() and not self.flags.fail_start:
            return
        left = int(file.read_text()) if file.exists() else self.flags.fail_start
        file.write_text(str(max(0, left - 1)))
        if left > 0:
            self.note("fail")
            os._exit(1)

    def look_for_orphans(self) -> None:
        """Note each process that an earlier generation forked and that is still there."""
        for line in Path(self.flags.trace).read_text().splitlines():
            _, name, _, _, event = json.loads(line)
            if name == NAME and event.startswith("forked") and Path(f"/proc/{event.split()[1]}").exists():
                self.note(f"orphan {event.split()[1]}")

    def fork(self, how: str) -> None:
        pid = os.fork()
        if pid:
            self.note(f"forked {pid}")
            return
        if how == "setsid":
            os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(LIFE_S)
        os._exit(0)

    def listen(self) -> int:
        """Turn signals into bytes of a pipe, so that they are taken by the loop and nowhere else."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        heard = [signal.SIGUSR1, signal.SIGUSR2, *(signal.SIGRTMIN + i for i in range(len(CODES)))]
        if not self.flags.no_handler:
            heard.append(signal.SIGTERM)
        for number in heard:
            signal.signal(number, lambda *_: None)
        return reader

    def run(self) -> None:
        flags = self.flags
        reader = self.listen()
        self.fail_if_told()
        if flags.fork:
            self.look_for_orphans()
        for how in flags.fork:
            self.fork(how)
        if flags.ignore:
            self.say(X_DAEDALUS_IGNORE=1)
            self.leave(0)
        began = time.monotonic()
        ready_at, beat_at, tick_at = began + flags.ready_after, 0.0, 0.0
        ready = False
        while (now := time.monotonic()) < began + LIFE_S:
            if not ready and now >= ready_at:
                ready = True
                self.note("ready")
                self.say(READY=1)
                self.do_once()
            if ready and flags.beat and now >= beat_at:
                beat_at = now + flags.beat
                self.say(WATCHDOG=1, X_DAEDALUS_MAILBOX=self.queued)
            if flags.tick and ready and now >= tick_at:
                tick_at, self.ticks = now + flags.tick, self.ticks + 1
                sys.stdout.write(f"tick {GENERATION} {self.ticks}\n")
                sys.stdout.flush()
            if ready and flags.exit_after is not None and flags.exit_first >= GENERATION:
                self.perhaps_leave(now - ready_at)
            if flags.exit_early is not None and now - began >= flags.exit_early:
                self.leave(flags.code)
            self.grow(now - began)
            self.drain(now)
            with contextlib.suppress(BlockingIOError):
                if select.select([reader], [], [], TURN_S if ready or ready_at > now + TURN_S else 0.005)[0]:
                    for number in os.read(reader, 64):
                        self.take(number)
        self.leave(9)

    def do_once(self) -> None:
        """Do what comes right after READY."""
        for number in range(1, (self.flags.spam if GENERATION == 1 else 0) + 1):
            sys.stdout.write(f"spam {number}\n")
        sys.stdout.flush()
        if self.flags.close_notify:
            self.notify.close()
        if self.flags.hang:
            threading.Thread(target=self.tread, daemon=True).start()
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
            threading.Event().wait()

    def tread(self) -> None:
        for _ in range(int(LIFE_S * 5)):
            self.note("thread")
            time.sleep(0.2)

    def perhaps_leave(self, up_s: float) -> None:
        if up_s < self.flags.exit_after:
            return
        if self.flags.signal_self:
            number = signal.Signals[self.flags.signal_self]
            self.note(f"exit {number.name}")
            signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
            os.kill(os.getpid(), number)
            time.sleep(LIFE_S)
        self.leave(self.flags.code)

    def grow(self, age_s: float) -> None:
        if not self.flags.alloc or self.flags.alloc_first < GENERATION:
            return
        wanted = min(self.flags.alloc * age_s, self.flags.alloc_max)
        while self.hoarded + 1 <= wanted:
            self.hoard.append(bytearray(b"x") * (1 << 20))
            self.hoarded += 1

    def drain(self, now: float) -> None:
        if self.drain_began is None or now - self.drain_began < self.flags.drain:
            return
        flushed, self.queued = self.queued, 0
        self.say(X_DAEDALUS_DRAINED=1, X_DAEDALUS_IN_FLIGHT=0, X_DAEDALUS_FLUSHED=flushed)
        self.note(f"drained {flushed}")
        self.leave(0)

    def take(self, number: int) -> None:
        if number == signal.SIGUSR2:
            self.note("deaf SIGUSR2" if self.flags.close_notify else "drain")
            if not self.flags.close_notify:
                self.drain_began = time.monotonic()
                self.drain(self.drain_began)
        elif number == signal.SIGTERM:
            if self.flags.ignore_term:
                self.note("deaf SIGTERM")
            else:
                self.note("term")
                self.leave(0)
        elif number == signal.SIGUSR1:
            self.note("usr1")
        elif number >= signal.SIGRTMIN:
            self.leave(CODES[number - signal.SIGRTMIN])


if __name__ == "__main__":
    Probe(parse()).run()
