"""`python -m daedalus.config`: load a configuration in a process of its own; a Report as MessagePack.

The supervisor's command line starts this, and later the supervisor for `reload` and `add`, so that pydantic's
13 MB leave with it. Whatever is wrong with what it is given is a fault in the Report.
"""

import argparse
import json
import sys
from typing import Any

import msgspec

from daedalus.config.faults import Fault, Report
from daedalus.config.loading import Wanted, find, free_port, report
from daedalus.kernel.errors import ConfigError


def main() -> int:
    """Print the Report; the exit code is 0 whatever it says."""
    parser = argparse.ArgumentParser(prog="python -m daedalus.config", allow_abbrev=False)
    for name in ("--config", "--data", "--runtime"):
        parser.add_argument(name)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--port", type=int, default=0, help="of the demo's simulator; default: a free one")
    parser.add_argument("--actor", default="", help="give the specification of one actor too")
    parser.add_argument("--table", help="its table as JSON, in place of the one in the file")
    parser.add_argument("--stop-fails", action="store_true", help="a stop over stop_timeout_s is a fault")
    args = parser.parse_args(_joined(sys.argv[1:]))
    try:
        found = _report(args)
    except ConfigError as error:
        file = (args.config or "").encode(errors="replace").decode()
        found = Report(file=file, faults=(Fault(path="", level="error", message=str(error)),))
    sys.stdout.buffer.write(msgspec.msgpack.encode(found))
    return 0


def _joined(words: list[str]) -> list[str]:
    """Return the words with every option and its value in one, so that a value may begin with a dash."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in ("--config", "--data", "--runtime", "--actor", "--table"):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _report(args: argparse.Namespace) -> Report:
    for name in ("config", "data", "runtime", "actor", "table"):
        try:
            (getattr(args, name) or "").encode()
        except UnicodeEncodeError:  # bytes of the command line that are not UTF-8
            raise ConfigError(f"cannot use --{name}: it is not UTF-8") from None
    wanted = Wanted(args.actor, _table(args), args.stop_fails)
    path = None if args.demo else find(args.config)
    port = (args.port or free_port()) if args.demo else 0
    return report(path, data=args.data, runtime=args.runtime, demo=args.demo, port=port, wanted=wanted)


def _table(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the JSON object of --table."""
    if args.table is None:
        return None
    if not args.actor:
        raise ConfigError("cannot use --table: it needs --actor")
    try:
        table = json.loads(args.table, parse_constant=_refuse)
        # An escaped half of a surrogate pair is JSON and no text.
        json.dumps(table, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"cannot use the specification of {args.actor}: not valid JSON: {reason}") from None
    if not isinstance(table, dict):
        raise ConfigError(
            f"cannot use the specification of {args.actor}: a JSON object with the keys of an actor's table "
            f"is needed, not {args.table[:60]}"
        )
    return table


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


if __name__ == "__main__":
    sys.exit(main())
