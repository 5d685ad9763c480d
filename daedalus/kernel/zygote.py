"""The zygote: a process that has imported what actors need and forks them on request.

A fork from it costs 3 ms and shares its pages; a fresh interpreter costs 90 ms and shares nothing. It
only imports: no event loop, no ZeroMQ context, no threads, since none of these survives a fork.

    supervisor ──order, stdout, stderr, handshake──▶ zygote ─fork─▶ (middle) ─fork─▶ worker
         ▲                                                                             │
         └──────────────── worker's pid, when it is the supervisor's child ────────────┘

The middle process exits at once, so that the worker is handed to the supervisor (the subreaper): it
outlives the zygote, is reaped by the supervisor and dies with it. The worker becomes the actor only when
the supervisor has registered its pid and says so on the handshake socket; an end of file there means that
nobody waits for it any more. So a zygote may be killed at any moment: each order either ends in one
registered worker or in an end of file that the supervisor answers with a fresh interpreter.

A foreign program is exec'd by its worker, which has set up everything for it: no interpreter is started for
that, and the supervisor does not wait for an exec.

A worker is a process group of its own but stays in the supervisor's session: when a group loses its last tie
to its session the kernel continues the stopped processes in it (SIGHUP, SIGCONT), and so a worker that was
stopped (SIGSTOP) still hears the death of the supervisor.

`python -m daedalus.kernel.zygote --exec FD` is that fallback.
"""

import base64
import contextlib
import faulthandler
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

from daedalus.kernel.bootstrap import Order, become_program, die_with_parent, read_order, set_up

__all__ = ["GO", "ORDER_MAX", "main", "serve"]

GO = b"g"
ORDER_MAX = 128 * 1024  # bytes of one order; larger ones go to a fresh interpreter
_REPARENT_S = 10.0
_REPARENT_POLL_S = 0.0002


def preload(modules: list[str]) -> list[str]:
    """Import `modules`, call the `prewarm` of those that have one, and freeze the heap.

    Returns those that failed, each with its cause. A module that cannot be imported does not stop the
    others: the actor that needs it will say so itself.
    """
    failed = []
    for name in modules:
        try:
            getattr(importlib.import_module(name), "prewarm", lambda: None)()
        except ImportError as error:
            failed.append(f"{name}: {error}")
    gc.collect()
    gc.freeze()  # the collector would otherwise touch, and so copy, every page in every child
    return failed


def run_actor(order: Order) -> int:
    """Import the order's actor class, live as it and return the exit code."""
    from daedalus.kernel.actor import Context, run

    module, _, name = order["target"].partition(":")
    cls = getattr(importlib.import_module(module), name)
    context = Context(
        name=order["name"],
        generation=order["generation"],
        runtime=order["runtime"],
        data=order["data"],
        supervisor_pid=order["supervisor_pid"],
        heartbeat_interval_s=order["heartbeat_interval_s"],
        drain_s=order["drain_s"],
    )
    return run(cls, base64.b64decode(order["settings"]), context)


def _live(order: Order) -> NoReturn:
    """Become the actor and never return, whatever happens."""
    code = 1
    try:
        with contextlib.suppress(OSError):
            faulthandler.enable(file=2)
        set_up(order)
        code = run_actor(order)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _worker(order: Order, middle_pid: int, fds: list[int]) -> NoReturn:
    stdout, stderr, handshake_fd = fds
    deadline = time.monotonic() + _REPARENT_S
    while os.getppid() == middle_pid:
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(_REPARENT_POLL_S)
    die_with_parent(order["supervisor_pid"], signal.SIGKILL if order["command"] else signal.SIGTERM)
    handshake = socket.socket(fileno=handshake_fd)
    try:
        handshake.send(str(os.getpid()).encode())
        go = handshake.recv(1)
    except OSError:
        go = b""
    if go != GO:
        os._exit(0)
    handshake.close()
    os.setpgid(0, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    if order["command"]:
        for name in order["unset"]:
            os.environ.pop(name, None)
        become_program(order)
    _live(order)


def _fork_worker(control: socket.socket, payload: bytes, fds: list[int]) -> None:
    order: Order = json.loads(payload)
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    code = 1
    try:
        control.close()
        middle_pid = os.getpid()
        if os.fork() == 0:
            _worker(order, middle_pid, fds)
        code = 0
    finally:
        os._exit(code)


def serve(control: socket.socket, supervisor_pid: int, modules: list[str]) -> NoReturn:
    """Import, report, then fork a worker for every order until the supervisor closes the socket."""
    die_with_parent(supervisor_pid, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork.*", category=DeprecationWarning)
    started = time.monotonic()
    failed = preload(modules)
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    report = {"import_s": round(time.monotonic() - started, 3), "failed": failed, "threads": threads}
    control.send(json.dumps(report).encode())
    while True:
        payload, fds, _, _ = socket.recv_fds(control, ORDER_MAX, 3)
        if not payload:
            os._exit(0)
        # No process or no memory: closing the handshake tells the supervisor to try for itself.
        with contextlib.suppress(OSError):
            _fork_worker(control, payload, fds)
        for fd in fds:
            os.close(fd)


def main(argv: list[str]) -> NoReturn:
    """Run as `--serve FD SUPERVISOR_PID MODULE…` or `--exec FD`."""
    if argv[1] == "--serve":
        serve(socket.socket(fileno=int(argv[2])), int(argv[3]), argv[4:])
    order = read_order(int(argv[2]))
    die_with_parent(order["supervisor_pid"], signal.SIGTERM)
    _live(order)


if __name__ == "__main__":
    main(sys.argv)
