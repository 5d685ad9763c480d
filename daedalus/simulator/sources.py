"""Settings of a simulator, and the sources of events they name."""

from typing import TYPE_CHECKING

import msgspec

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.binance_tape import BinanceTape
from daedalus.simulator.coinbase_tape import CoinbaseTape
from daedalus.simulator.market import Source
from daedalus.simulator.orderflow import OrderFlow
from daedalus.simulator.recording import Tape, align, lines, parse_argument
from daedalus.simulator.symbols import split_symbol

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Settings", "check", "sources_of"]

STARTS = ("auto", "immediately", "on-subscribe", "on-command")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a simulator is told, by the command line or by the demo's tree."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one
    recordings: tuple[str, ...] = ()  # FILE:SYMBOL
    symbols: tuple[str, ...] = ()  # of the order-flow model: [EXCHANGE:]BASE/QUOTE; without exchange on all
    rate: float = 20.0  # model: depth messages per second and symbol; trades come at a quarter of it
    seed: int = 1  # model
    speed: float = 1.0  # playback seconds per second
    skip_s: float = 0.0  # recordings: begin so much later, with the book of that moment
    loop: bool = False  # recordings: begin anew at the end
    start: str = (
        "auto"  # auto: recordings on-subscribe, the model immediately; or one of these, or on-command
    )
    truth: str = ""  # file of the truth log; empty: none
    faults: str = ""  # file of a schedule, or seed=N,every_s=S; empty: none


def check(settings: Settings) -> None:
    """Raise ConfigError, with every fault, if the numbers and words make no sense."""
    faults = []
    if settings.start not in STARTS:
        faults.append(f"start {settings.start!r} is not one of {', '.join(STARTS)}")
    if not settings.speed > 0:
        faults.append(f"speed {settings.speed:g} is not above 0")
    if not 0 < settings.rate <= 10_000:
        faults.append(f"rate {settings.rate:g} per second is not above 0 and at most 10000")
    if not settings.skip_s >= 0:
        faults.append(f"skip {settings.skip_s:g} s is below 0")
    if not 0 <= settings.port <= 65535:
        faults.append(f"port {settings.port} is not between 0 and 65535")
    if faults:
        raise ConfigError(f"cannot simulate: {'; '.join(faults)}", tuple(faults))


def sources_of(settings: Settings, first_id: int) -> list[Source]:
    """Return the sources that settings name, one for each symbol of each exchange.

    Args:
        settings: checked.
        first_id: of the model's trades and updates.

    Raises:
        ConfigError: a recording cannot be played, a symbol is none or comes twice, or there is nothing.
    """
    sources: list[Source] = [*_tapes(settings)]
    for text in settings.symbols:
        for exchange, symbol in split_symbol(text):
            sources.append(
                OrderFlow(exchange, symbol, rate=settings.rate, seed=settings.seed, first_id=first_id)
            )
    seen: set[tuple[str, str]] = set()
    for source in sources:
        key = (source.exchange, source.symbol)
        if key in seen:
            raise ConfigError(f"cannot simulate {source.symbol} of {source.exchange} twice")
        seen.add(key)
    if not sources:
        raise ConfigError("cannot simulate nothing: give --recording FILE:SYMBOL, or --model --symbols A,B")
    return sources


def _tapes(settings: Settings) -> list[Tape]:
    files: dict[tuple[type[Tape], str], list[Path]] = {}
    for text in settings.recordings:
        path, symbol = parse_argument(text)
        _, message = next(lines(path), (0, b""))
        kind: type[Tape] = CoinbaseTape if message.startswith(b'{"type"') else BinanceTape
        files.setdefault((kind, symbol), []).append(path)
    tapes = [kind(symbol, paths) for (kind, symbol), paths in files.items()]
    align(tapes, loop=settings.loop)
    return tapes
