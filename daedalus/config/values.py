"""The small grammars of supervisor.toml: sizes, symbols, names. Pure.

Every function returns the value or raises ValueError with a message that says what to write instead.
"""

import re

__all__ = ["parse_name", "parse_size", "parse_symbol", "suggest_symbol"]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)\s*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
# ccxt's unified form: BASE/QUOTE, :SETTLE for derivatives, then -EXPIRY and -STRIKE-TYPE.
_SYMBOL = re.compile(r"[^\s/:]+/[^\s/:]+(?::[^\s/:]+)?")
# Spellings of exchanges have no separator; the quote is at the end. The longer of two that match wins.
_QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "GBP", "JPY", "TRY", "BTC", "ETH", "BNB")
_NAME_MAX = 60  # it becomes part of a socket path of at most 107 bytes


def parse_size(value: object) -> int:
    """Return a size in bytes: an integer, or text with K, M or G (1024-based).

    >>> parse_size("200M"), parse_size(4096), parse_size("1.5G")
    (209715200, 4096, 1610612736)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        number: float = value
        unit = ""
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        number, unit = float(match[1]), match[2]
    else:
        raise ValueError('write a size as bytes or with K, M or G (1024-based), for example "200M"')
    size = round(number * _UNITS[unit])
    if size <= 0:
        raise ValueError("a size must be greater than 0 bytes")
    return size


def parse_name(value: str) -> str:
    """Return a name of a group, an actor or an exchange: letters, digits, `_ . -`, at most 60."""
    if not _NAME.fullmatch(value) or len(value) > _NAME_MAX:
        raise ValueError(
            f"a name begins with a letter or digit, has letters, digits, '_', '.' and '-' only, "
            f"and at most {_NAME_MAX} characters"
        )
    return value


def suggest_symbol(value: str) -> str | None:
    """Return how ccxt would spell `value`, or None when there is no telling.

    >>> suggest_symbol("BTCUSDT"), suggest_symbol("btc-usd"), suggest_symbol("??")
    ('BTC/USDT', 'BTC/USD', None)
    """
    upper = value.strip().upper()
    parts = [part for part in re.split(r"[-_/ ]", upper) if part]
    if len(parts) == 2 and all(part.isalnum() for part in parts):
        return "/".join(parts)
    if upper.isalnum():
        for quote in _QUOTES:
            if upper.endswith(quote) and len(upper) > len(quote):
                return f"{upper.removesuffix(quote)}/{quote}"
    return None


def parse_symbol(value: str) -> str:
    """Return a symbol in ccxt's unified form, `BTC/USDT` or `BTC/USDT:USDT`."""
    if _SYMBOL.fullmatch(value) and value != value.lower():
        return value
    guess = suggest_symbol(value)
    raise ValueError(
        "write the symbol in ccxt's unified form, "
        + (f'"{guess}"' if guess else '"BTC/USDT" (spot) or "BTC/USDT:USDT" (settled in USDT)')
    )
