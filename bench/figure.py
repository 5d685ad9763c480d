"""One measured figure, as `bench.__main__` takes it and `bench.table` shows it."""

from typing import Any

__all__ = ["figure"]


def figure(value: float, unit: str, target: float | None = None, *, table: bool = True) -> dict[str, Any]:
    """Return a figure, rounded to three decimals; lower is better.

    Args:
        value: what was measured.
        unit: its unit.
        target: the bound it is held against, in the same unit.
        table: whether it belongs into the README's table; the results keep it either way.
    """
    found: dict[str, Any] = {"value": round(value, 3), "unit": unit}
    if target is not None:
        found["target"] = target
    if not table:
        found["table"] = False
    return found
