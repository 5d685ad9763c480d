"""`./run soak NAME [--seed N] [--duration S]`: long tests, never part of `./run test`.

A soak is a module bench/soak_NAME.py with `soak(seed, duration_s) -> int`, the exit code: 0 when every
invariant held, 1 when one broke, with the seed and the story that led there.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path


def names() -> list[str]:
    """Return the soaks there are."""
    return sorted(
        path.stem.partition("_")[2]
        for path in Path(__file__).parent.glob("soak_*.py")
        if "\ndef soak(" in path.read_text(encoding="utf-8")
    )


def main() -> int:
    """Run one soak."""
    parser = argparse.ArgumentParser(prog="./run soak", description="Long tests with real processes.")
    parser.add_argument("name", choices=names())
    parser.add_argument("--seed", type=int, help="default: the time, and it is printed")
    parser.add_argument("--duration", type=float, default=1800.0, metavar="S", help="seconds, default 1800")
    args = parser.parse_args()
    seed = int(time.time()) if args.seed is None else args.seed
    module = importlib.import_module(f"bench.soak_{args.name}")
    return int(module.soak(seed, args.duration))


if __name__ == "__main__":
    sys.exit(main())
