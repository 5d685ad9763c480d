"""An actor that misbehaves on demand, for tests with real processes. What it does it notes in a file."""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from daedalus.kernel.actor import Actor, Drained
from daedalus.kernel.errors import FatalError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    trace: str
    ready_after_s: float = 0.0
    fail_starts: int = 0  # the first N generations fail to start
    exit_after_s: float | None = None
    exit_code: int = 0
    signal_self: str = ""  # with exit_after_s
    hang_after_s: float | None = None
    ignore_term: bool = False
    drain_takes_s: float = 0.0
    stop_takes_s: float = 0.0
    alloc_mib: int = 0
    fork: str = ""  # plain | setsid
    spam_lines: int = 0
    spam_every_s: float = 0.0  # for ever
    fatal: bool = False


class Probe(Actor):
    Settings = Settings

    def note(self, event: str) -> None:
        row = [time.monotonic(), self.context.name, self.context.generation, os.getpid(), event]
        with Path(self.settings.trace).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    async def start(self) -> None:
        told = self.settings
        self.note("start")
        if told.fatal:
            raise FatalError("cannot probe: told to fail for good")
        if self.context.generation <= told.fail_starts:
            raise RuntimeError("cannot start: told to fail")
        if told.ignore_term:
            for number in (signal.SIGTERM, signal.SIGUSR2):
                asyncio.get_running_loop().remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)
        if told.fork:
            child = subprocess.Popen(  # noqa: ASYNC220 - asyncio would watch over it; nobody is to
                [sys.executable, "-c", "import time; time.sleep(300)"],
                start_new_session=told.fork == "setsid",
            )
            self.note(f"forked {child.pid}")
            child.returncode = 0
        for number in range(told.spam_lines):
            sys.stderr.write(f"line {number}\n")
        await asyncio.sleep(told.ready_after_s)
        self.ballast = bytearray(told.alloc_mib << 20)
        for page in range(0, len(self.ballast), 4096):
            self.ballast[page] = 1
        self.note("ready")
        if told.exit_after_s is not None:
            asyncio.get_running_loop().call_later(told.exit_after_s, self.go)
        if told.spam_every_s:
            self.spawn(self.spam())
        if told.hang_after_s is not None:
            asyncio.get_running_loop().call_later(told.hang_after_s, time.sleep, 300)

    async def spam(self) -> None:
        number = 0
        while True:
            sys.stderr.write(f"line {number}\n")
            sys.stderr.flush()
            number += 1
            await asyncio.sleep(self.settings.spam_every_s)

    def go(self) -> None:
        if self.settings.signal_self == "SIGSEGV":
            ctypes.string_at(0)
        if self.settings.signal_self:
            os.kill(os.getpid(), signal.Signals[self.settings.signal_self])
        os._exit(self.settings.exit_code)

    async def drain(self) -> Drained:
        self.note("drain")
        await asyncio.sleep(self.settings.drain_takes_s)
        return Drained(0, 7)

    async def stop(self) -> None:
        self.note("stop")
        await asyncio.sleep(self.settings.stop_takes_s)
