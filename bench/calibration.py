"""What this machine can do, measured in the same run as every figure, so that machines can be compared.

Three fixed pieces of work: interpreted bytecode, memory bandwidth, and the flush of a small append to disk.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

__all__ = ["measure"]

_LOOPS = 200_000
_COPY_BYTES = 64 << 20
_SYNCS = 50
_ROUNDS = 5


def _bytecode() -> float:
    """Return million loop turns per second of CPU: additions, a dictionary, a call."""
    table = {number: number * 1.5 for number in range(64)}
    began = time.process_time()
    total = 0.0
    for number in range(_LOOPS):
        total += table[number & 63] * 0.5 + len(table)
    return _LOOPS / (time.process_time() - began) / 1e6


def _bandwidth() -> float:
    """Return GB/s of copying a block larger than the caches (read and written bytes both count)."""
    source = bytearray(_COPY_BYTES)
    target = memoryview(bytearray(_COPY_BYTES))
    began = time.perf_counter()
    target[:] = source
    return 2 * _COPY_BYTES / (time.perf_counter() - began) / 1e9


def _sync_ms(folder: Path) -> tuple[float, float]:
    """Return the median and the 95th percentile of appending 64 KiB and fdatasync, in ms."""
    block = os.urandom(1 << 16)
    with tempfile.TemporaryFile(dir=folder) as file:
        times = []
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(block)
            file.flush()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times), sorted(times)[int(_SYNCS * 0.95)]


def measure(folder: Path | None = None) -> dict[str, float]:
    """Return the calibration: the best of five of what is CPU-bound, percentiles of what is not.

    Args:
        folder: on the disk that the measurements write to; default the system's temporary directory.
    """
    middle, tail = _sync_ms(folder or Path(tempfile.gettempdir()))
    return {
        "bytecode_mops": round(max(_bytecode() for _ in range(_ROUNDS)), 2),
        "copy_gb_per_s": round(max(_bandwidth() for _ in range(_ROUNDS)), 2),
        "fdatasync_p50_ms": round(middle, 3),
        "fdatasync_p95_ms": round(tail, 3),
    }


def line(values: dict[str, float]) -> str:
    """Return the calibration as one line."""
    return " · ".join(f"{key} {value:g}" for key, value in values.items())
