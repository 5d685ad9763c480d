"""Who shares an exchange's allowance: it counts by address, and all collectors have one. Pure.

A collector keeps to the limits by itself, in its own process. So where several tables ask the same hosts of
one exchange, each gets an equal part, from here, at the time the file is read: nothing has to be agreed on
between processes. Binance counts spot, USD-M and COIN-M apart, so a table may draw on several pools; its
part is the smallest of them. Another address (proxy, test net) is another pool, and a simulator on loopback
counts nothing.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from daedalus.config.models import Exchange, File

__all__ = ["notes", "pools", "shares"]

_SAME = {"coinbaseadvanced": "coinbase", "huobi": "htx"}  # classes of ccxt that are one exchange
_BINANCE = {"binance": "binance spot", "binanceusdm": "binance USD-M", "binancecoinm": "binance COIN-M"}
_USUAL = {
    *("api.binance.com", "stream.binance.com", "fapi.binance.com", "fstream.binance.com", "dapi.binance.com"),
    *("api.coinbase.com", "advanced-trade-ws.coinbase.com", "api.kraken.com", "ws.kraken.com"),
    *("www.okx.com", "ws.okx.com"),
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("proxy", "httpproxy", "httpsproxy", "socksproxy", "proxyurl")


def shares(file: File) -> dict[str, int]:
    """Return for each [exchanges.X] among how many collectors the fullest of its pools is divided: from 1."""
    members = _members(file)
    return {
        name: max((len(members[pool]) for pool in pools(name, table)), default=1)
        for name, table in file.exchanges.items()
    }


def notes(file: File) -> tuple[str, ...]:
    """Return a sentence for people about each allowance that is divided."""
    divided = shares(file)
    return tuple(
        f"{len(names)} collectors share what {pool} allows one address: "
        + ", ".join(f"{name} keeps to 1/{divided[name]} of it" for name in names)
        for pool, names in _members(file).items()
        if len(names) > 1
    )


def pools(name: str, table: Exchange) -> frozenset[str]:
    """Return the allowances that the collector of [exchanges.NAME] draws on; none: it asks a simulator."""
    wanted = table.id or name
    where = _elsewhere(table)
    if where is None:
        return frozenset()
    kinds = {_SAME.get(wanted, wanted)}
    if wanted == "binance" and table.adapter == "ccxt":
        kinds = {_kind(symbol) for symbols in table.channels.in_use().values() for symbol in symbols}
    return frozenset(_BINANCE.get(kind, kind) + where for kind in kinds)


def _members(file: File) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for name, table in file.exchanges.items():
        for pool in sorted(pools(name, table)):
            members.setdefault(pool, []).append(name)
    return members


def _kind(symbol: str) -> str:
    """Return which of Binance's markets ccxt's one class asks for a symbol."""
    pair, colon, settle = symbol.partition(":")
    if not colon:
        return "binance"
    return "binanceusdm" if settle.partition("-")[0] == pair.partition("/")[2] else "binancecoinm"


def _elsewhere(table: Exchange) -> str | None:
    """Return "" for the exchange's own address, else what tells another one apart; None: loopback."""
    urls = [table.rest_url or table.ws_url]
    if table.adapter == "ccxt":
        urls = [*_texts(table.ccxt.get("urls"))]
    hosts = sorted({host for url in urls if (host := _host(url))})
    if hosts and all(host in _LOOPBACK for host in hosts):
        return None
    words = [host for host in hosts if host not in _USUAL]
    if table.ccxt.get("sandbox"):
        words.append("test net")
    for key, value in table.ccxt.items():  # the exchange sees another address
        if key.replace("_", "").casefold() in _PROXIES and isinstance(value, str):
            words.append(f"through {_host(value) or 'a proxy'}")
    return f" ({', '.join(words)})" if words else ""


def _host(url: str) -> str | None:
    """Return the host of an address; None if it has none, or is no address: whoever uses it says so."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from _texts(below)
