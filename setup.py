"""Build of the compiled modules: Cython 3 in pure-Python mode, one abi3 extension per module."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
# The rooms that are compiled. What runs once (a schema, a package's own __init__) stays plain there.
ROOMS = ("features", "compiled")
KERNELS = sorted(
    path.with_suffix("").relative_to(HERE).as_posix()
    for room in ROOMS
    for path in (HERE / "daedalus" / room).glob("*.py")
    if "# cython: language_level=3" in path.read_text(encoding="utf-8")[:400]
)
LIMITED_API = "0x030B0000"  # CPython 3.11, the oldest supported
PARALLEL = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def extensions() -> list[Extension]:
    """Return the extensions to build; none with DAEDALUS_PURE=1."""
    if os.environ.get("DAEDALUS_PURE") == "1":
        sys.stderr.write("DAEDALUS_PURE=1: kernels stay uncompiled\n")
        return []
    from Cython.Build import cythonize

    return cythonize(
        [
            Extension(
                name.replace("/", "."),
                [f"{name}.py"],
                define_macros=[("Py_LIMITED_API", LIMITED_API)],
                # No fused multiply-add: x86-64 and aarch64 must give the same bits.
                extra_compile_args=["-O3", "-g0", "-ffp-contract=off", "-fno-math-errno"],
                py_limited_api=True,
            )
            for name in KERNELS
        ],
        nthreads=PARALLEL if PARALLEL > 1 else 0,
        language_level=3,
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": False,
        },
    )


if __name__ in {"__main__", "builtins"}:  # not in the processes that cythonize starts
    setup(
        ext_modules=extensions(),
        options={"bdist_wheel": {"py_limited_api": "cp311"}, "build_ext": {"parallel": PARALLEL}},
    )
