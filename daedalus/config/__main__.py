"""`python -m daedalus.config`: load a configuration in a process of its own; a Report as MessagePack.

The supervisor's command line starts this, so that pydantic's 13 MB leave with it.
"""

import argparse
import sys

import msgspec

from daedalus.config.faults import Fault, Report
from daedalus.config.loading import find, free_port, report
from daedalus.kernel.errors import ConfigError


def main() -> int:
    """Print the Report; the exit code is 0 whatever it says."""
    parser = argparse.ArgumentParser(prog="python -m daedalus.config")
    for name in ("--config", "--data", "--runtime"):
        parser.add_argument(name)
    parser.add_argument("--demo", action="store_true")
    args = parser.parse_args()
    try:
        path = None if args.demo else find(args.config)
        port = free_port() if args.demo else 0
        found = report(path, data=args.data, runtime=args.runtime, demo=args.demo, port=port)
    except ConfigError as error:
        found = Report(file=args.config or "", faults=(Fault(path="", level="error", message=str(error)),))
    sys.stdout.buffer.write(msgspec.msgpack.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
