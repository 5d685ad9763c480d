"""The symbol registry: what each symbol of an exchange is called on disk, once and for all.

`{data}/state/symbols.json` says of every symbol that was ever collected which name it has in paths, topics
and the `symbol` column, and what market it is. Two symbols never share a name: not at the same time, and not
one after the other, for their rows would lie in one directory. Names are compared without regard to case,
because some file systems do so too.

Collectors of several exchanges share the file: each claims its own symbols in memory and `save` merges them
under a lock. A copy lies beside it; a file that cannot be read is moved aside and the copy takes its place.
"""

import contextlib
import re
from pathlib import Path

import msgspec

from daedalus.dataset.durable import locked, make_directory, replace
from daedalus.dataset.layout import Layout
from daedalus.kernel.errors import FatalError
from daedalus.records import sanitise

__all__ = ["Entry", "Registry", "market_of", "names_of"]

VERSION = 1

# ccxt's unified form: BASE/QUOTE, then :SETTLE of a derivative, -EXPIRY of a future, -STRIKE-C of an option
_UNIFIED = re.compile(
    r"(?P<base>[^/:]+)/(?P<quote>[^/:-]+)(:(?P<settle>[^-]+)(-(?P<expiry>\d+)(?P<option>-.+)?)?)?"
)


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of one symbol."""

    symbol: str  # sanitised: BTC-USDT-USDT
    type: str | None = None  # spot | swap | future | option
    base: str | None = None
    quote: str | None = None
    settle: str | None = None
    former: list[str] = []  # names that rows of it lie under, from before it was called otherwise


class _File(msgspec.Struct):
    """The content of symbols.json."""

    version: int = VERSION
    exchanges: dict[str, dict[str, Entry]] = {}  # exchange -> symbol as configured -> its entry


def market_of(symbol_raw: str) -> dict[str, str | None]:
    """Return what ccxt's unified spelling says of a market: type, base, quote, settle; {} when it is another.

    >>> market_of("BTC/USDT:USDT-251226")
    {'type': 'future', 'base': 'BTC', 'quote': 'USDT', 'settle': 'USDT'}
    """
    found = _UNIFIED.fullmatch(symbol_raw)
    if found is None:
        return {}
    kind = "spot"
    if found["settle"]:
        kind = "swap" if not found["expiry"] else "option" if found["option"] else "future"
    return {"type": kind, "base": found["base"], "quote": found["quote"], "settle": found["settle"]}


def names_of(layout: Layout, symbol: str) -> dict[str, set[str]]:
    """Return exchange -> the names that rows of a symbol lie under there; "" stands for all other exchanges.

    Reads only: it is for who asks the data, and the disk may be another's.

    Args:
        layout: of the data set.
        symbol: as configured, or as it is called on disk.

    Raises:
        ValueError: nothing can have that name.
    """
    names = {"": {sanitise(symbol)}}
    path = layout.state() / "symbols.json"
    for place in (path, _copy_of(path)):
        try:
            found = msgspec.json.decode(place.read_bytes(), type=_File)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue
        for exchange, symbols in found.exchanges.items():
            if (entry := symbols.get(symbol)) is not None:
                names[exchange] = {entry.symbol, *entry.former}
        break
    return names


class Registry:
    """Claims names for symbols. Not for several threads."""

    def __init__(self, layout: Layout) -> None:
        """Begin empty; `load` reads what there is."""
        self._path = layout.state() / "symbols.json"
        self._file = _File()
        self._claims: list[tuple[str, str, str, dict[str, str | None]]] = []

    @classmethod
    def load(cls, layout: Layout) -> "Registry":
        """Return the registry of a data set; an empty one when there is none yet.

        A damaged file is moved aside, and the copy beside it is used.

        Raises:
            FatalError: a later version of Daedalus wrote it.
            OSError: the disk does not let it be read.
        """
        registry = cls(layout)
        registry._file = _read(registry._path)
        return registry

    def entries(self, exchange: str | None = None) -> list[tuple[str, str, Entry]]:
        """Return (exchange, symbol as configured, entry), sorted; of one exchange or of all."""
        return sorted(
            (name, raw, entry)
            for name, symbols in self._file.exchanges.items()
            for raw, entry in symbols.items()
            if exchange in (None, name)
        )

    def claim(
        self, exchange: str, symbol_raw: str, sanitised: str | None = None, **market: str | None
    ) -> str:
        """Return the name of a symbol, which is its own from now on.

        Claiming again is free, and adds what is then known of the market. A symbol may be given another
        name; the rows that are there stay under the old one, which nobody else gets.

        Args:
            exchange: the name of its [exchanges.*] table.
            symbol_raw: the symbol as configured, `BTC/USDT:USDT`.
            sanitised: an explicit alias; None: `BTC-USDT-USDT`.
            market: type, base, quote, settle, where the exchange has said so; else the spelling says it.

        Raises:
            FatalError: another symbol has that name, or it cannot be a name.
            TypeError: `market` has other keys.
        """
        if unknown := set(market) - {"type", "base", "quote", "settle"}:
            raise TypeError(f"claim() got an unexpected keyword argument {min(unknown)!r}")
        name = _usable(sanitised if sanitised is not None else symbol_raw, alias=sanitised is not None)
        _claim(self._file, _usable(exchange), symbol_raw, name, market)
        self._claims.append((_usable(exchange), symbol_raw, name, dict(market)))
        return name

    def save(self) -> None:
        """Make the claims durable, beside those of other processes.

        Raises:
            FatalError: another process has given a name away since `load`.
            OSError: the disk does not take it.
        """
        make_directory(self._path.parent)
        with locked(self._path.with_suffix(".lock")):
            there = _read(self._path)
            before = msgspec.json.encode(there)
            for claim in self._claims:
                _claim(there, *claim)
            self._file = there
            if msgspec.json.encode(there) == before and self._path.exists():
                return
            content = msgspec.json.format(msgspec.json.encode(there, order="sorted"), indent=1)
            replace(self._path, content)
            replace(_copy_of(self._path), content)


def _usable(name: str, *, alias: bool = False) -> str:
    try:
        safe = sanitise(name)
    except ValueError as error:
        raise FatalError(str(error)) from None
    if alias and safe != name:
        raise FatalError(f"cannot use the alias {name!r}: a directory would be called {safe!r}")
    return safe


def _claim(file: _File, exchange: str, symbol_raw: str, name: str, market: dict[str, str | None]) -> None:
    symbols = file.exchanges.setdefault(exchange, {})
    folded = name.casefold()
    for other, entry in symbols.items():
        if other != symbol_raw and folded in (used.casefold() for used in (entry.symbol, *entry.former)):
            raise FatalError(
                f"cannot store {symbol_raw!r} of {exchange} as {name!r}: that is {other!r}; another name: "
                f'[exchanges.{exchange}.aliases] "{symbol_raw}" = "{name}-2"'
            )
    known = symbols.get(symbol_raw)
    entry = known if known is not None else Entry(symbol=name)
    if entry.symbol != name:
        entry.former = sorted({*entry.former, entry.symbol} - {name})
        entry.symbol = name
    for key, guess in market_of(symbol_raw).items():
        if getattr(entry, key) is None:
            setattr(entry, key, guess)
    for key, value in market.items():
        if value is not None:
            setattr(entry, key, value)
    symbols[symbol_raw] = entry


def _copy_of(path: Path) -> Path:
    return path.with_name("symbols.copy.json")


def _read(path: Path) -> _File:
    """Return the content, or the copy's; what is damaged is moved aside and told."""
    for place in (path, _copy_of(path)):
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            continue
        try:
            found = msgspec.json.decode(content, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            kept = _free_name(place)
            with contextlib.suppress(FileNotFoundError):  # another collector was faster
                place.rename(kept)
            from daedalus.kernel.telemetry import get_logger  # who only asks the data need not load it

            get_logger().error("symbols_damaged", path=str(place), kept_in=kept.name, error=str(error))
            continue
        if found.version > VERSION:
            raise FatalError(f"cannot use {place}: its version is {found.version}, this one knows {VERSION}")
        return found
    return _File()


def _free_name(path: Path) -> Path:
    number = 1
    while (free := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return free
