"""`./run bench [NAME…]`: measure, each question in a fresh process; print beside the targets; keep.

A measurement is a module bench/NAME.py with `run() -> dict`: figure -> a number, or
`{"value": number, "unit": text, "target": number, "better": "lower" | "higher"}`; what else is in
the dict (texts, nested values) is kept as notes. `python -m bench --one NAME` is the fresh process.
"""

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import calibration

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
_HARNESS = {"__init__", "__main__", "calibration", "table"}
_TIMEOUT_S = 900


def names() -> list[str]:
    """Return the measurements there are: modules of this folder that define run()."""
    return sorted(
        path.stem
        for path in HERE.glob("*.py")
        if path.stem not in _HARNESS and "\ndef run(" in path.read_text(encoding="utf-8")
    )


def machine() -> dict[str, Any]:
    """Return what the figures were taken on. Nothing that names a host or a user."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith(("model name", "Model"))
        ),
        platform.machine(),
    )
    return {
        "arch": platform.machine(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def figures(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the measured figures of a result, each as {value, unit, target, better, ratio}.

    `ratio` is how many times better than its target a figure is: 1 and more is met, whichever way is better.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, entry in result.items():
        figure = dict(entry) if isinstance(entry, dict) and "value" in entry else {"value": entry}
        value = figure["value"]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        target = figure.get("target")
        if target and value:
            lower = figure.setdefault("better", "lower") == "lower"
            figure["ratio"] = round(target / value if lower else value / target, 3)
        found[name] = figure
    return found


def text(name: str, found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as lines for a terminal."""
    lines = [name]
    for key, figure in found.items():
        unit, target = figure.get("unit", ""), figure.get("target")
        sign = "≤" if figure.get("better", "lower") == "lower" else "≥"
        aim = f"  target {sign} {target:g}" if target else ""
        ratio = (
            f"  {'met' if figure['ratio'] >= 1 else 'MISSED'} ({figure['ratio']:g}x)"
            if "ratio" in figure
            else ""
        )
        lines.append(f"  {key:<36} {figure['value']:>12.6g} {unit:<12}{aim}{ratio}")
    return "\n".join(lines)


def one(name: str) -> int:
    """Run one measurement in this process and print its result as the last line of stdout."""
    before = calibration.measure()
    result = importlib.import_module(f"bench.{name}").run()
    print(json.dumps({"result": result, "calibration": before}, default=str))
    return 0


def perform(name: str) -> bool:
    """Run one measurement in a fresh process, print and keep it. False when it failed."""
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    info = machine()
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--one", name],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        print(f"{name}: FAILED (exit {done.returncode})\n{done.stdout}", flush=True)
        return False
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    found = figures(answer["result"])
    notes = {key: value for key, value in answer["result"].items() if key not in found}
    record = {
        "name": name,
        "started": started,
        "machine": info,
        "calibration": answer["calibration"],
        "figures": found,
        "notes": notes,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(text(name, found))
    print(f"  calibration: {calibration.line(answer['calibration'])}", flush=True)
    return True


def main() -> int:
    """Run what was asked for; exit 1 when a measurement failed, 2 for an unknown name."""
    parser = argparse.ArgumentParser(
        prog="./run bench", description="Measure; print figures beside targets; keep them."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one)
    known = names()
    if args.list:
        print("\n".join(known))
        return 0
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no such measurement: {', '.join(unknown)}; there are: {', '.join(known)}")
    outcomes = [perform(name) for name in args.names or known]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
