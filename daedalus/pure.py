"""How compiled modules run without a compiler: a stand-in for Cython, and a finder that prefers source.

A compiled module is a Python file with annotations that only Cython reads. Run as it is, it needs names
that mean nothing: decorators that return what they get, and types that only ever stand in annotations.
That is `stand_in`. It takes the place of the real module only where Cython is not installed.
"""

import math
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TypeVar

__all__ = ["SourceFinder", "install", "stand_in"]

T = TypeVar("T")


def _same(thing: T) -> T:
    return thing


def _decorator(*_args: object, **_kwargs: object) -> Callable[[T], T]:
    return _same


def _cast(kind: Callable[[object], T], value: object) -> T:
    return kind(value)


def _declare(_kind: object, value: T | None = None, **_kwargs: object) -> T | None:
    return value


def stand_in() -> ModuleType:
    """Return a module with the few names of `cython` that they use."""
    cython = ModuleType("cython", "Stand-in for Cython's own pure-Python mode.")
    vars(cython).update(
        compiled=False,
        cclass=_same,
        cfunc=_same,
        ccall=_same,
        final=_same,
        inline=_same,
        exceptval=_decorator,
        locals=_decorator,
        cast=_cast,
        declare=_declare,
        double=float,
        int=int,
        longlong=int,
        uchar=int,
        ulonglong=int,
        bint=bool,
        Py_ssize_t=int,
    )
    return cython


class SourceFinder(MetaPathFinder):
    """Finds the modules of one package as source, though compiled ones lie beside them."""

    def __init__(self, package: str, folder: Path) -> None:
        self.package = package
        self.folder = folder

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the source file, None for modules that are not of the package."""
        package, _, name = fullname.rpartition(".")
        if package != self.package:
            return None
        source = self.folder / f"{name}.py"
        return spec_from_file_location(fullname, source) if source.exists() else None


def install(package: str, folder: str, *, from_source: bool) -> None:
    """Make `package` importable as it is: from source if asked, with a stand-in where Cython is missing.

    Args:
        package: dotted name of the package of compiled modules.
        folder: its directory.
        from_source: run the sources although compiled modules lie beside them.
    """
    if from_source and not any(isinstance(f, SourceFinder) and f.package == package for f in sys.meta_path):
        sys.meta_path.insert(0, SourceFinder(package, Path(folder)))
    uncompiled = from_source or not any(Path(folder).glob("*.so"))
    if uncompiled and "cython" not in sys.modules and find_spec("cython") is None:
        sys.modules["cython"] = stand_in()
        sys.modules["cython.cimports"] = ModuleType("cython.cimports")
        sys.modules["cython.cimports.libc"] = ModuleType("cython.cimports.libc")
        sys.modules["cython.cimports.libc.math"] = math
