"""A tap on the sockets of a running tree: what its collectors accepted, what its gateway published."""

import threading
from pathlib import Path

import zmq


class Tap:
    """Collects every message of some PUB sockets in a thread, until it is closed."""

    def __init__(self, addresses: list[Path], topic: bytes = b"") -> None:
        self.messages: list[list[bytes]] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 10)
        self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        for address in addresses:
            self._socket.connect(f"ipc://{address}")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(50):
                self.messages.append(self._socket.recv_multipart())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close(0)
        self._context.term()
