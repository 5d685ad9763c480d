"""The child that all process managers are measured with: `idle.py SOCKET NAME` says it is up, then waits.

It tells the bench through SOCKET (name, pid, monotonic ns), and its manager by sd_notify where there is one
that listens. Everything it may be told on top (a note, to make it another command line) is ignored.
"""

import os
import signal
import socket
import sys
import time


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    notify = os.environ.get("NOTIFY_SOCKET")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        up = time.monotonic_ns()
        if notify:
            sock.sendto(b"READY=1", notify)
        sock.sendto(f"{sys.argv[2]} {os.getpid()} {up}".encode(), sys.argv[1])
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
