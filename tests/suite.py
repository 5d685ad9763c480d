"""`./run test`: everything that must hold, in the order in which it fails fastest.

    ./run test              lint, format, types, contracts, lock, then tests: unit, real processes
                            (both parallel), whole systems (serial)
    ./run test ARGS…        just pytest with them

Exits 0 when every step passed, 1 otherwise. All steps run, whatever the ones before said.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTEST = (sys.executable, "-m", "pytest", "-q", "--no-header")
_NO_TESTS = 5  # pytest's exit code when nothing was selected


class Step(NamedTuple):
    """One command of the suite."""

    name: str
    command: tuple[str, ...]


STEPS = (
    Step("lint", (str(BIN / "ruff"), "check", "--quiet", ".")),
    Step("format", (str(BIN / "ruff"), "format", "--check", "--quiet", ".")),
    Step("types", (str(BIN / "mypy"), "--no-error-summary")),
    Step("contracts", (str(BIN / "lint-imports"), "--no-logo")),
    Step("lock", (sys.executable, str(Path(__file__)), "--check-lock")),
    Step("unit", (*PYTEST, "-n", "2", "-m", "not system")),
    # Real processes that mostly wait: side by side, but those of one file may share a tree.
    Step(
        "processes",
        (*PYTEST, "-n", "3", "--dist", "loadfile", "-m", "system", "--ignore=tests/system", "tests"),
    ),
    Step("system", (*PYTEST, "-m", "system", "tests/system")),
)
_COUNTS = re.compile(r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed)")


class Outcome(NamedTuple):
    """How a step ended."""

    step: Step
    passed: bool
    seconds: float
    counts: dict[str, int]


def addresses_in(text: str) -> list[str]:
    """Return the addresses in a lock file: it must hold names, versions and hashes only."""
    return re.findall(r"https?://\S+", text)


def check_lock() -> int:
    """Return 1 when a lock file records where its packages come from."""
    code = 0
    for path in sorted(ROOT.glob("*.lock")):
        for address in addresses_in(path.read_text(encoding="utf-8")):
            print(f"{path.name}: an address in a lock file: {address}")
            code = 1
    return code


def perform(step: Step) -> Outcome:
    """Run a step, showing its output as it comes."""
    print(f"=== {step.name}: {' '.join(Path(word).name for word in step.command[:8])}", flush=True)
    began = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        step.command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            print(line, end="", flush=True)
        code = process.wait()
    summary = next((line for line in reversed(lines) if " in " in line and _COUNTS.search(line)), "")
    counts = {word.rstrip("s") if word == "errors" else word: int(n) for n, word in _COUNTS.findall(summary)}
    passed = code == 0 or (code == _NO_TESTS and step.command[: len(PYTEST)] == PYTEST)
    return Outcome(step, passed, time.monotonic() - began, counts)


def summary(outcomes: list[Outcome]) -> str:
    """Return the table of steps and, last, one line as pytest has it."""
    lines = ["=== summary"]
    totals: dict[str, int] = {}
    for outcome in outcomes:
        for word, number in outcome.counts.items():
            totals[word] = totals.get(word, 0) + number
        told = ", ".join(
            f"{number} {word}" for word, number in outcome.counts.items() if word != "deselected"
        )
        lines.append(
            f"{outcome.step.name:<10} {'ok' if outcome.passed else 'FAILED':<7}"
            f" {outcome.seconds:6.1f} s  {told}"
        )
    broken = [each.step.name for each in outcomes if not each.passed and not each.counts.get("failed")]
    failed = totals.get("failed", 0) + len(broken)
    parts = [f"{failed} failed"] if failed else []
    parts += [
        f"{totals[word]} {word}"
        for word in ("passed", "skipped", "xfailed", "xpassed", "error")
        if totals.get(word)
    ]
    seconds = sum(outcome.seconds for outcome in outcomes)
    lines.append(f"===== {', '.join(parts) or 'nothing ran'} in {seconds:.2f}s =====")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the suite, or pytest with the arguments given."""
    if arguments == ["--check-lock"]:
        return check_lock()
    os.chdir(ROOT)
    if arguments:
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])
    outcomes = [perform(step) for step in STEPS]
    print(summary(outcomes), flush=True)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
