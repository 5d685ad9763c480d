"""Which exchanges there are: native adapters, and ccxt's classes by their file names.

Importing ccxt to ask would cost half a second and 110 MB.
"""

import importlib.util
from functools import cache
from pathlib import Path

__all__ = ["NATIVE", "ccxt_ids", "native_ids"]

NATIVE = ("coinbase", "binance", "binanceusdm", "kraken", "okx")  # the names; what is built is native_ids()


@cache
def ccxt_ids() -> frozenset[str]:
    """Return the ids of the exchanges ccxt.pro has a class for; empty when ccxt is not installed."""
    spec = importlib.util.find_spec("ccxt")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    folder = Path(spec.submodule_search_locations[0]) / "pro"
    return frozenset(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


@cache
def native_ids() -> frozenset[str]:
    """Return the ids of the native adapters that are built."""
    return frozenset(
        name for name in NATIVE if importlib.util.find_spec(f"daedalus.exchanges.{name}") is not None
    )
