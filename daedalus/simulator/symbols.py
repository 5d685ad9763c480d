"""Symbols as the simulator is told them."""

import re

from daedalus.kernel.errors import ConfigError

__all__ = ["EXCHANGES", "check_symbol", "split_symbol"]

EXCHANGES = ("binance", "coinbase")
_SYMBOL = re.compile(r"[A-Z0-9]{1,20}/[A-Z0-9]{1,20}")


def check_symbol(symbol: str) -> str:
    """Return `symbol` if it is one, as BTC/USDT.

    Raises:
        ConfigError: it is not.
    """
    if _SYMBOL.fullmatch(symbol) is None:
        raise ConfigError(f"cannot use the symbol {symbol!r}: write BASE/QUOTE in capitals, as BTC/USDT")
    return symbol


def split_symbol(text: str) -> list[tuple[str, str]]:
    """Return the (exchange, symbol) pairs meant by `[EXCHANGE:]BASE/QUOTE`; without exchange, all of them.

    >>> split_symbol("coinbase:BTC/USD")
    [('coinbase', 'BTC/USD')]

    Raises:
        ConfigError: the exchange is not simulated or the symbol is none.
    """
    exchange, colon, symbol = text.rpartition(":")
    if colon and exchange not in EXCHANGES:
        raise ConfigError(f"cannot simulate the exchange {exchange!r}: there are {', '.join(EXCHANGES)}")
    check_symbol(symbol)
    return [(name, symbol) for name in ([exchange] if colon else EXCHANGES)]
