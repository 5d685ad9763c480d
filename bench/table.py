"""`python -m bench.table`: the README's table of figures, made from bench/results between its two markers."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def results(folder: Path = ROOT / "bench" / "results") -> list[dict[str, Any]]:
    """Return the kept results, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def render(found: list[dict[str, Any]]) -> str:
    """Return the table as Markdown: a figure, its target, and what is missing to it."""
    lines = ["| Measurement | Figure | Value | Target | |", "|---|---|---|---|---|"]
    for result in found:
        for name, figure in result["figures"].items():
            if not figure.get("table", True):
                continue  # kept in the results, too much for a table
            target = figure.get("target")
            sign = "≤" if figure.get("better", "lower") == "lower" else "≥"
            ratio = figure.get("ratio")
            verdict = "" if ratio is None else "met" if ratio >= 1 else f"missed by {1 / ratio:.2f} times"
            unit = figure.get("unit", "")
            lines.append(
                f"| {result['name']} | {name} | {figure['value']:.4g} {unit} | "
                f"{f'{sign} {target:g} {unit}' if target else ''} | {verdict} |".replace("  |", " |")
            )
    machines = {
        f"{entry['machine']['cpu']}, {entry['machine']['cores']} cores, Python {entry['machine']['python']}: "
        + " · ".join(f"{key} {value:g}" for key, value in entry["calibration"].items())
        for entry in found[:1]
    }
    return "\n".join(
        [*lines, "", *(f"Taken on {machine} (calibration of that run)." for machine in machines)]
    )


def replaced(text: str, table: str) -> str:
    """Return a page with the table between its markers; the end marker is added when it is missing."""
    head, marker, rest = text.partition(BEGIN)
    if not marker:
        raise ValueError(f"cannot place the table: no {BEGIN} in the page")
    _, end, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table}\n{END}{tail if end else rest}"


def main() -> int:
    """Rewrite the README; with --check only say whether it is up to date."""
    page = ROOT / "README.md"
    old = page.read_text(encoding="utf-8")
    new = replaced(old, render(results()))
    if "--check" in sys.argv:
        return int(new != old)
    page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
