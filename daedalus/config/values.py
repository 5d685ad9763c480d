"""The small grammars of supervisor.toml: sizes, symbols, names. Pure.

Every function returns the value or raises ValueError with a message that says what to write instead.
"""

import re
import signal

from daedalus.records import sanitise

__all__ = [
    "parse_alias",
    "parse_env_name",
    "parse_host_port",
    "parse_http_url",
    "parse_ipc",
    "parse_name",
    "parse_signal",
    "parse_size",
    "parse_symbol",
    "parse_tcp",
    "parse_text",
    "parse_ws_url",
    "suggest_symbol",
]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)\s*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
# ccxt's unified form: BASE/QUOTE, :SETTLE for derivatives, then -EXPIRY and -STRIKE-TYPE.
_SYMBOL = re.compile(r"[^\s/:]+/[^\s/:]+(?::[^\s/:]+)?")
# Spellings of exchanges have no separator; the quote is at the end. The longer of two that match wins.
_QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "GBP", "JPY", "TRY", "BTC", "ETH", "BNB")
_NAME_MAX = 60  # it becomes part of a socket path of at most 107 bytes
_SIZE_MAX = 1 << 62
_PORT_MAX = 65_535


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
    if size > _SIZE_MAX:
        raise ValueError(f"a size is at most {_SIZE_MAX >> 30}G")
    return size


def parse_text(value: str) -> str:
    """Return a text that the operating system can take: without NUL."""
    if "\0" in value:
        raise ValueError("a text for the operating system cannot hold the character NUL")
    return value


def parse_env_name(value: str) -> str:
    """Return the name of an environment variable."""
    if not value or "=" in value:
        raise ValueError('the name of an environment variable is not empty and has no "="')
    return parse_text(value)


def parse_tcp(value: str) -> str:
    """Return a TCP endpoint, `tcp://HOST:PORT` with the port above it free for requests; empty: none."""
    match = re.fullmatch(r"tcp://[^\s:/]+:(\d+)|tcp://\[[0-9A-Fa-f:.%]+\]:(\d+)", value, re.ASCII)
    if value and match is None:
        raise ValueError('write the address as "tcp://HOST:PORT", for example "tcp://127.0.0.1:5555"')
    if match is not None and not 1 <= int(match[1] or match[2]) < _PORT_MAX:
        raise ValueError(f"the port is 1 to {_PORT_MAX - 1}: requests are answered at the port above it")
    return value


def parse_ipc(value: str) -> str:
    """Return an endpoint of this machine, `ipc:///absolute/path`; empty: the default."""
    if value and not re.fullmatch(r"ipc:///[^\s\0]+", value):
        raise ValueError(
            'write the address as "ipc://" and an absolute path, for example "ipc:///run/x.sock"'
        )
    return value


def parse_host_port(value: str) -> str:
    """Return `HOST:PORT`; empty: none."""
    match = re.fullmatch(r"(?:[^\s:/]+|\[[0-9A-Fa-f:.%]+\]):(\d+)", value, re.ASCII)
    if value and match is None:
        raise ValueError('write the address as "HOST:PORT", for example "127.0.0.1:8080", or "" for none')
    if match is not None and int(match[1]) > _PORT_MAX:
        raise ValueError(f"the port is 0 to {_PORT_MAX}")
    return value


def _url(value: str, schemes: str, example: str) -> str:
    if value and not re.fullmatch(rf"(?:{schemes})://[^\s\0]+", value):
        raise ValueError(
            f'write the address with its scheme, for example "{example}", or "" for the usual one'
        )
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise ValueError(
            "a user or password does not belong in an address: it would stand in logs and status"
        )
    return value


def parse_http_url(value: str) -> str:
    """Return an http or https address; empty: the default."""
    return _url(value, "https?", "https://api.example.com")


def parse_ws_url(value: str) -> str:
    """Return a ws or wss address; empty: the default."""
    return _url(value, "wss?", "wss://ws.example.com")


def parse_signal(value: str) -> str:
    """Return the name of a signal that a program can answer; empty: none."""
    if value and value not in signal.Signals.__members__:
        near = f"SIG{value.upper().removeprefix('SIG')}"
        guess = near if near in signal.Signals.__members__ else "SIGUSR2"
        raise ValueError(f'there is no such signal; write its name, for example "{guess}"')
    if value in ("SIGKILL", "SIGSTOP"):
        raise ValueError(f"no program can answer {value}: drain needs a signal that it can")
    return value


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


def parse_alias(value: str) -> str:
    """Return a name for a symbol on disk, `BTC-USDT-PERP`: sanitised already, without blanks."""
    try:
        usable = sanitise(value) == value and not any(sign.isspace() for sign in value)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            'write a name that can be a directory, for example "BTC-USDT-PERP": 1 to 200 bytes, no leading '
            'dot, no blanks, none of / \\ : * ? " < > |'
        )
    return value


def parse_symbol(value: str) -> str:
    """Return a symbol in ccxt's unified form, `BTC/USDT` or `BTC/USDT:USDT`."""
    if _SYMBOL.fullmatch(value) and value != value.lower():
        return value
    guess = suggest_symbol(value)
    raise ValueError(
        "write the symbol in ccxt's unified form, "
        + (f'"{guess}"' if guess else '"BTC/USDT" (spot) or "BTC/USDT:USDT" (settled in USDT)')
    )
