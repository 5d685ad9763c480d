"""From a specification to a running supervisor and back to the shell: `run(tree)` is all there is to call.

The order matters. Nothing of another supervisor is touched before both locks are ours; survivors of a dead
one go before anything is started; the control socket is open before the first spawn.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from daedalus.kernel import amend, bootstrap, errors, group, intent, process, upgrade
from daedalus.kernel.cgroups import Cgroups
from daedalus.kernel.home import Home, LockedError
from daedalus.kernel.notify import Listener
from daedalus.kernel.source import Source
from daedalus.kernel.spec import Tree
from daedalus.kernel.supervisor import Supervisor

__all__ = ["run"]

_FINAL_SWEEP_S = 5.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def run(
    tree: Tree | None,
    *,
    duration_s: float = 0.0,
    greet: Callable[[], None] | None = None,
    source: Source | None = None,
) -> int:
    """Run a tree until it is told to stop, and return the exit code of the process.

    Args:
        tree: what to run; None when `upgrade.inherited()` says that a tree runs in this process already. The
            runtime directory is made when it is missing.
        duration_s: stop the tree in good order after so many seconds; 0 runs until told.
        greet: called once the runtime directory is ours, before anything is started.
        source: how to read the configuration again, for a reload.

    Returns:
        0 stopped in good order; 6 a supervisor already runs in this directory; 70 the root gave up;
        78 the runtime directory cannot be used.
    """
    os.umask(0o077)
    estate = upgrade.inherited()
    if estate is not None:
        home = _home(estate.tree)
        return asyncio.run(_live(estate.tree, home, estate.cores, source, estate=estate))
    assert tree is not None
    try:
        home = _home(tree)
        home.lock()
        if tree.data:
            home.locks.append(intent.lock_data(tree.data))
    except (LockedError, errors.ConfigError) as error:
        print(f"daedalus-supervisor: {error}", file=sys.stderr)  # noqa: T201 - before any log there is only this
        return errors.EXIT_CONFLICT if isinstance(error, LockedError) else errors.EXIT_CONFIG
    if greet is not None:
        greet()
    swept = home.sweep_survivors()
    cores = bootstrap.pin(tree.supervisor_cpus)
    bootstrap.become_subreaper()
    try:
        return asyncio.run(_live(tree, home, cores, source, duration_s=duration_s, swept=swept))
    except errors.ConfigError as error:  # a Unix group that is not there, a control group that is not ours
        print(f"daedalus-supervisor: {error}", file=sys.stderr)  # noqa: T201
        home.close()
        return errors.EXIT_CONFIG


def _home(tree: Tree) -> Home:
    return Home(tree.runtime, shared=bool(tree.control_group or tree.readonly_group))


async def _live(
    tree: Tree,
    home: Home,
    cores: list[int],
    source: Source | None,
    *,
    duration_s: float = 0.0,
    swept: Sequence[str] = (),
    estate: upgrade.Estate | None = None,
) -> int:
    """Run until the tree is closed and return the exit code."""
    loop = asyncio.get_running_loop()
    cgroups = Cgroups.find(os.environ)
    if cgroups is not None and not cgroups.prepare():
        cgroups = None
    supervisor = Supervisor(tree, home, cores, cgroups=cgroups, source=source)
    loop.set_exception_handler(supervisor.loop_fault)
    if estate is None:
        if cgroups is not None:
            swept = [*swept, *cgroups.sweep()]
        if swept:
            supervisor.report("survivors_swept", survivors=swept)
        supervisor.plant()
        supervisor.listen(Listener(str(home.path / "notify.sock"), supervisor.heard))
        await supervisor.control.start()
    else:
        await upgrade.take_over(supervisor, estate)
    loop.add_signal_handler(signal.SIGCHLD, supervisor.reaper.collect)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.shutdown)
    loop.add_signal_handler(signal.SIGHUP, amend.reload_unasked, supervisor)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # an earlier image blocked them before it left
    supervisor.nursery.start()
    beating = loop.create_task(supervisor.pulse.beat())
    end_at = upgrade.end_of(estate, duration_s)
    if end_at is not None:
        supervisor.end_at = end_at
        loop.call_at(end_at, _time_is_up, supervisor)
    if estate is None:
        supervisor.feed(supervisor.root, group.Begin())
    else:
        upgrade.resume(supervisor, estate)
    try:
        await asyncio.wait((supervisor.finished, beating), return_when=asyncio.FIRST_COMPLETED)
        if beating.done():
            beating.result()
        return supervisor.finished.result()
    finally:
        beating.cancel()
        await _end(supervisor)
        home.close()


def _time_is_up(supervisor: Supervisor) -> None:
    if supervisor.stopping_mono is None:
        supervisor.shutdown()


async def _end(supervisor: Supervisor) -> None:
    """Leave no process behind: zygotes, adopted orphans, and after a fault of ours the actors too."""
    supervisor.state = "stopped"
    signal.pthread_sigmask(
        signal.SIG_BLOCK, _SIGNALS
    )  # the exit code is decided: one more signal changes nothing
    await supervisor.control.close()
    supervisor.timers.cancel_all()
    supervisor.gatekeeper.close()
    supervisor.nursery.close()
    deadline = time.monotonic() + _FINAL_SWEEP_S
    while (left := process.children_of(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            process.kill_child(pid)
        await asyncio.sleep(0.01)
        supervisor.reaper.collect()
    await supervisor.register.close()
    supervisor.close_mail()
    stopping = supervisor.stopping_mono
    now = time.monotonic()
    took_s = None if stopping is None else round(now - stopping, 3)
    supervisor.report("tree_stopped", took_s=took_s, lived_s=round(now - supervisor.started_mono, 3))
    with contextlib.suppress(OSError):
        supervisor.output.close()
