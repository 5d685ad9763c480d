"""A service manager as the supervisor sees it: a datagram socket that somebody reads."""

import os
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple


class Message(NamedTuple):
    """One datagram, and when it came."""

    mono: float
    state: dict[str, str]


class Manager:
    """Listens where $NOTIFY_SOCKET will point."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[Message] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(0.1)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        while not self.ended.is_set():
            try:
                data = self.socket.recv(8192)
            except TimeoutError:
                continue
            pairs = (line.partition("=") for line in data.decode().splitlines())
            self.messages.append(Message(time.monotonic(), {key: value for key, _, value in pairs}))

    def said(self, key: str, since: float = 0.0) -> list[Message]:
        """Return the messages with this key that came after a moment."""
        return [message for message in self.messages if key in message.state and message.mono > since]

    def environment(self, watchdog_s: float) -> dict[str, str]:
        """Return what a manager puts into the environment."""
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}

    def close(self) -> None:
        self.ended.set()
        self.thread.join()
        self.socket.close()
        os.unlink(self.path)  # noqa: PTH108 - it is a socket
