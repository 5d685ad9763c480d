"""Daedalus: market-data infrastructure for mid-frequency trading."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "gaps", "rebuild", "scan"]

_LATE = {
    "gaps": "daedalus.dataset.mask",
    "rebuild": "daedalus.dataset.rebuild",
    "scan": "daedalus.dataset.scan",
}


def __getattr__(name: str) -> Any:
    """Import what was asked for, at the first time: importing daedalus stays cheap."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
