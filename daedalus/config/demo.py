"""The demonstration: an exchange simulator in the tree, and real collectors pointed at it over loopback."""

from typing import Any

from daedalus.config.expand import Planned

__all__ = ["COINBASE", "SYMBOLS", "plan"]

SYMBOLS = ("BTC/USDT", "ETH/USDT")  # through ccxt's binance class
COINBASE = ("BTC/USD", "ETH/USD")  # through the native adapter
_CHANNELS = ("orderbook", "trades", "ticker")


def plan(port: int) -> tuple[dict[str, Any], tuple[Planned, ...]]:
    """Return the demo's tables, as a file would hold them, and its simulator, which listens on `port`."""
    base = f"127.0.0.1:{port}"
    tables: dict[str, Any] = {
        "exchanges": {
            "binance": {
                "adapter": "ccxt",
                # What a user does to reach a proxy or a test net: the class itself is ccxt's own.
                "ccxt": {
                    "urls": {
                        "api": {"public": f"http://{base}/api/v3", "ws": {"spot": f"ws://{base}/stream/ws"}}
                    },
                    "options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}},
                    "has": {"fetchCurrencies": False},
                },
                "channels": {channel: list(SYMBOLS) for channel in _CHANNELS},
            },
            "coinbase": {
                "adapter": "native",
                "ws_url": f"ws://{base}/coinbase",
                "rest_url": f"http://{base}",
                "channels": {channel: list(COINBASE) for channel in _CHANNELS},
            },
        },
    }
    symbols = [f"binance:{symbol}" for symbol in SYMBOLS] + [f"coinbase:{symbol}" for symbol in COINBASE]
    simulator = Planned("demo", "simulator", "simulator", {"port": port, "symbols": symbols})
    return tables, (simulator,)
