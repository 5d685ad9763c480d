"""The commands about the tree as a whole: take the file anew, replace the supervisor, end it."""

import os
import select
import time
from contextlib import closing
from typing import Any

import click

from daedalus.cli.ctl.connection import READ_TIMEOUT_S, RETRY_S, TURN_S, Connection, Refused
from daedalus.cli.ctl.options import Options, example, global_options
from daedalus.cli.ctl.output import show
from daedalus.cli.ctl.patience import Patience
from daedalus.cli.ctl.words import clean, grid

__all__ = ["reexec", "reload", "shutdown"]

REEXEC_S = 60.0  # a new image imports, adopts and answers within this, even on a small board


@click.command(epilog=example("daedalus-ctl reload --dry-run"))
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@global_options
def reload(options: Options, dry_run: bool) -> None:
    """Read supervisor.toml anew and apply what changed; print the plan.

    Nothing happens to what has not changed: same process, same generation. A fault in the file changes
    nothing and exits 2. ACTION: add, remove, restart, live (applied to the running process), affinity (moved
    to other cores), order, refused.
    """
    connection = Connection(options)
    with Patience(options, []) as idle:
        result = connection.call("reload", {"dry_run": dry_run}, options.timeout, idle)
    if not options.json:
        for warning in result.get("warnings") or ():
            click.echo(f"warning: {clean(warning)}", err=True)
    show(options, result, _plan)


def _plan(result: dict[str, Any]) -> str:
    changes = result["changes"]
    if not changes:
        return f"no changes ({result['unchanged']} unchanged)"
    rows = [(item["name"], item["kind"], item["action"], ", ".join(item["keys"]) or "-") for item in changes]
    number = f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
    fate = "applied" if result["applied"] else "not applied"
    table = grid(("NAME", "KIND", "ACTION", "KEYS"), rows)
    return f"{table}{number} {fate}, {result['unchanged']} unchanged"


@click.command(epilog=example("daedalus-ctl reexec"))
@global_options
def reexec(options: Options) -> None:
    """Replace the supervisor by its version on disk; actors run on. Returns when the new one answers."""
    limit_s = options.timeout or REEXEC_S
    deadline = time.monotonic() + limit_s
    before = Connection(options).call("reexec", {}, limit_s)
    pidfd = _pidfd(before["pid"])
    while True:
        if pidfd is None or _readable(pidfd, 0):
            raise Refused("unreachable", f"cannot find the new image: supervisor {before['pid']} has left")
        now = _supervisor(options, max(RETRY_S, deadline - time.monotonic()))
        if now is not None and (now.get("image") or 0) > before["image"]:
            break
        if time.monotonic() > deadline:
            why = "nobody answers" if now is None else f"image {now.get('image')} still answers"
            raise Refused("timeout", f"cannot see the new image within {limit_s:g} s: {why}")
        time.sleep(RETRY_S)
    result = {"pid": now["pid"], "image": now["image"]}
    show(options, result, lambda result: f"supervisor: image {result['image']} (pid {result['pid']})")


def _supervisor(options: Options, wait_s: float) -> dict[str, Any] | None:
    """Return what the supervisor says of itself; None while nobody answers."""
    try:
        with closing(Connection(options)) as connection:
            document = connection.call("status", {}, min(wait_s, READ_TIMEOUT_S))
    except Refused as refused:
        if refused.code not in ("unreachable", "timeout"):
            raise
        return None
    found: dict[str, Any] = document["supervisor"]
    return found


@click.command(epilog=example("daedalus-ctl shutdown"))
@click.option(
    "--wait/--no-wait", default=True, help="Return when the supervisor has left (default), or at once."
)
@global_options
def shutdown(options: Options, wait: bool) -> None:
    """Stop the whole tree, last started first, and its supervisor.

    Under systemd the supervisor is started again unless it is stopped there: systemctl stop daedalus.
    """
    result = Connection(options).call("shutdown", {}, options.timeout or READ_TIMEOUT_S)
    if wait:
        _wait_gone(options, result["pid"])
    show(options, result, lambda _: "supervisor: stopped" if wait else "supervisor: stopping")


def _wait_gone(options: Options, pid: int) -> None:
    """Wait for the supervisor's end through a pidfd, which names it even if the pid is used again."""
    pidfd = _pidfd(pid)
    if pidfd is None:
        return
    began, limit_s = time.monotonic(), options.timeout
    with Patience(options, [], leaving=True) as idle:
        while True:
            waited_s = time.monotonic() - began
            left_s = TURN_S if limit_s is None else min(TURN_S, limit_s - waited_s)
            if left_s <= 0:
                message = f"cannot wait for the end of supervisor {pid} within {limit_s:g} s; it goes on"
                raise Refused("timeout", message)
            if _readable(pidfd, left_s):
                return
            idle(time.monotonic() - began)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _readable(pidfd: int, wait_s: float) -> bool:
    return bool(select.select([pidfd], [], [], wait_s)[0])
