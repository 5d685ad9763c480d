"""`daedalus-ctl doctor`: what the machine gives, and what a supervisor says of itself, if one can be reached.

The machine is looked at by `kernel.doctor`, in this process: it works where nothing runs. Nothing here
changes anything.
"""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from daedalus.cli.ctl.connection import READ_TIMEOUT_S, Connection, Refused
from daedalus.cli.ctl.options import Options, example, global_options
from daedalus.cli.ctl.output import show, width
from daedalus.cli.ctl.text import diverges
from daedalus.cli.ctl.words import clean, grid
from daedalus.kernel.errors import EXIT_DIVERGES, EXIT_OK
from daedalus.kernel.locate import default_runtime

__all__ = ["doctor", "of_supervisor"]

_INDENT = "    "
LAG_WARN_MS = 200.0
LAG_BAD_MS = 2000.0  # the watchdog of systemd is no longer fed


@click.command(epilog=example("daedalus-ctl doctor"))
@click.option(
    "--data",
    type=click.Path(),
    metavar="DIR",
    help="The data directory, where no supervisor runs that knows it.",
)
@global_options
def doctor(options: Options, data: str | None) -> None:
    """Look for what keeps this machine from running a tree well, and say what to do.

    Works without a supervisor; where one runs, it is asked too. Exits 3 when something is bad.
    """
    from daedalus.kernel.doctor import examine

    document, trouble = _document(options)
    known = {} if document is None else document["supervisor"]
    data = data or known.get("data") or os.environ.get("STATE_DIRECTORY", "").split(":")[0] or "data"
    runtime = options.runtime or known.get("runtime") or default_runtime(os.environ)
    places = [str(Path(place).absolute()) for place in (data, runtime)]
    checks = [check._asdict() for check in examine(data=places[0], runtime=places[1])]
    checks += of_supervisor(document, trouble)
    bad = any(check["level"] == "bad" for check in checks)
    show(options, {"ok": not bad, "checks": checks}, _table)
    sys.exit(EXIT_DIVERGES if bad else EXIT_OK)


def _document(options: Options) -> tuple[dict[str, Any] | None, Refused | None]:
    try:
        with closing(Connection(options)) as connection:
            document: dict[str, Any] = connection.call("status", {}, options.timeout or READ_TIMEOUT_S)
    except Refused as refused:
        if refused.code == "usage":
            raise
        return None, refused
    return document, None


def of_supervisor(document: dict[str, Any] | None, trouble: Refused | None) -> list[dict[str, str]]:
    """Return the checks of a running supervisor: from its status, or from why there is none."""
    if document is None:
        if trouble is not None and trouble.code == "timeout":
            return [_check("supervisor", "bad", str(trouble), "it hangs: look at its log, then restart it")]
        return [_check("supervisor", "unknown", str(trouble), "start it, or name its --runtime")]
    supervisor = document["supervisor"]
    checks = [
        _check("supervisor", "ok", f"pid {supervisor['pid']}, {supervisor['version']}, {supervisor['state']}")
    ]
    lag = supervisor["loop_lag_ms"]
    level = "bad" if lag > LAG_BAD_MS else "warn" if lag > LAG_WARN_MS else "ok"
    advice = (
        "" if level == "ok" else "the machine is overloaded, or its disk stalls: verdicts of hangs come late"
    )
    checks.append(_check("supervisor loop", level, f"{lag:.0f} ms late", advice))
    missing = [zygote["name"] for zygote in supervisor["zygotes"] if not zygote["pid"]]
    if missing:
        advice = "actors are exec'd meanwhile, which costs memory: look for zygote_exited in its log"
        checks.append(_check("zygotes", "warn", f"{', '.join(missing)} not running", advice))
    if supervisor["log_dropped"]:
        advice = "whoever reads its standard error is too slow"
        checks.append(_check("supervisor log", "warn", f"{supervisor['log_dropped']} lines dropped", advice))
    if diverges(document):
        checks.append(_check("tree", "warn", "not as it is wanted", "daedalus-ctl status"))
    else:
        checks.append(_check("tree", "ok", f"{len(document['actors'])} actors as they are wanted"))
    return checks


def _check(name: str, level: str, value: str, advice: str = "") -> dict[str, str]:
    return {"name": name, "level": level, "value": value, "advice": advice}


def _table(result: dict[str, Any]) -> str:
    """Return a row per check, and its advice below: that may be long."""
    rows = [(check["name"], check["level"], clean(check["value"])) for check in result["checks"]]
    head, *lines = grid(("CHECK", "LEVEL", "VALUE"), rows).splitlines()
    shown = [head]
    for line, check in zip(lines, result["checks"], strict=True):
        shown += [line, *_wrapped(clean(check["advice"]))]
    return "\n".join(shown)


def _wrapped(advice: str) -> list[str]:
    import textwrap

    columns = width()
    if not advice or columns is None:
        return [_INDENT + advice] if advice else []
    return textwrap.wrap(advice, max(columns, 40), initial_indent=_INDENT, subsequent_indent=_INDENT)
