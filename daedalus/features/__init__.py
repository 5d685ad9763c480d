"""The feature room: the book and the engine, compiled ahead of time, runnable uncompiled.

Importing it has one effect, and only where there is no choice: with DAEDALUS_PURE=1 in the environment (or
without Cython, where nothing was compiled) `pure.install` makes the very same files run as plain Python.
NumPy, polars and pyarrow are never imported here; `compute` and `docs` import them when called.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from daedalus import pure

if TYPE_CHECKING:
    from daedalus.features.compute import compute
    from daedalus.features.engine import FeatureEngine
    from daedalus.features.schema import Feature, Schema

__all__ = ["Feature", "FeatureEngine", "Schema", "compiled", "compute", "prewarm"]

pure.install(__name__, __path__[0], from_source=os.environ.get("DAEDALUS_PURE") == "1")

_HOME = {"FeatureEngine": "engine", "Feature": "schema", "Schema": "schema", "compute": "compute"}


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def prewarm() -> None:
    """Do what the first engine of a process costs, for a process that forks others: they share its pages."""
    import_module(f"{__name__}.engine").FeatureEngine()


def compiled() -> bool:
    """Return whether the kernels run compiled; False with DAEDALUS_PURE=1 or where they were never built."""
    return bool(import_module(f"{__name__}.book").COMPILED)
