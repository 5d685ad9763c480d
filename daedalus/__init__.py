"""Daedalus: market-data infrastructure for mid-frequency trading."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "scan"]


def __getattr__(name: str) -> Any:
    """Import `scan` when it is first asked for: importing daedalus stays cheap."""
    if name == "scan":
        return importlib.import_module("daedalus.dataset.scan").scan
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
