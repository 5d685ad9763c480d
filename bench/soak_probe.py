"""The actor of the soak: speaks sd_notify, and does by signal what the soak wants of it.

`soak_probe.py [--beat S] [--fork plain|setsid] [--tag WORD]…` · SIGTERM leaves · SIGUSR2 drains and leaves ·
SIGRTMIN + n grows by n MiB and keeps them. It sleeps otherwise: forty of them must be cheap.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
import time

ALONE_S = (
    20.0  # of a forked child: longer than it should live, so that a missed one is seen, and not for ever
)
PAGE = 4096
LINES = 32  # printed at each start


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--beat", type=float, default=0.5)
    parser.add_argument("--fork", choices=("plain", "setsid"))
    parser.add_argument("--tag", action="append", help="changes the command line and nothing else")
    return parser.parse_args()


class Probe:
    """One life."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.connect(os.environ["NOTIFY_SOCKET"])
        self.hoard: list[bytearray] = []

    def say(self, text: str) -> None:
        """Tell the supervisor, as sd_notify does: while its queue is full (ten by default) this waits."""
        with contextlib.suppress(OSError):
            self.socket.send(text.encode())

    def take(self, number: int) -> None:
        """Do what a signal says."""
        if number == signal.SIGTERM:
            os._exit(0)
        if number == signal.SIGUSR2:
            self.say("X_DAEDALUS_DRAINED=1\nX_DAEDALUS_IN_FLIGHT=0\nX_DAEDALUS_FLUSHED=1")
            os._exit(0)
        block = bytearray((number - signal.SIGRTMIN) << 20)
        for page in range(0, len(block), PAGE):
            block[page] = 1
        self.hoard.append(block)

    def run(self, flags: argparse.Namespace) -> None:
        heard = {signal.SIGTERM, signal.SIGUSR2, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)}
        signal.pthread_sigmask(signal.SIG_BLOCK, heard)
        if flags.fork and os.fork() == 0:
            if flags.fork == "setsid":
                os.setsid()
            time.sleep(ALONE_S)
            os._exit(0)
        name, generation = os.environ["DAEDALUS_ACTOR"], os.environ["DAEDALUS_GENERATION"]
        for line in range(
            LINES
        ):  # so that the supervisor's rings are full within minutes, and its memory flat
            print(f"{name} generation {generation} line {line}")
        sys.stdout.flush()
        self.say("READY=1")
        while True:
            told = signal.sigtimedwait(heard, flags.beat)
            if told is None:
                self.say("WATCHDOG=1\nX_DAEDALUS_MAILBOX=0")
            else:
                self.take(told.si_signo)


if __name__ == "__main__":
    Probe().run(parse())
