"""Checks of [exchanges.*] and [features]: adapters, ids, symbols that clash, secrets in the wrong place."""

from pathlib import Path

from daedalus.config import catalogue
from daedalus.config.faults import nearest
from daedalus.config.models import Exchange, File
from daedalus.config.problems import Problems
from daedalus.records import CHANNELS, sanitise

__all__ = ["check_exchanges", "check_features"]

_SECRETS = ("apikey", "secret", "password", "privatekey", "token", "uid", "walletaddress", "login")


def check_exchanges(file: File, problems: Problems) -> None:
    """Check every [exchanges.X]: adapter, id, symbols, and secrets that do not belong in a file."""
    folded: dict[str, str] = {}
    for name, table in file.exchanges.items():
        path = ("exchanges", name)
        if (other := folded.setdefault(name.casefold(), name)) != name:
            problems.error(
                path, f"cannot tell the exchange {name!r} from {other!r}: names differ only in case"
            )
        _check_id(name, table, problems)
        _check_symbols(path, table, problems)
        _check_secrets((*path, "ccxt"), table.ccxt, problems)
        _check_numbers((*path, "ccxt"), table.ccxt, problems)
        if table.adapter == "native" and table.ccxt:
            problems.error(
                (*path, "ccxt"),
                "a native adapter has no ccxt table",
                'use ws_url and rest_url, or adapter = "ccxt"',
            )
        for key in ("ws_url", "rest_url"):
            if table.adapter == "ccxt" and getattr(table, key):
                problems.error(
                    (*path, key), f"{key} is for native adapters", f"set urls in [exchanges.{name}.ccxt]"
                )
        for low, high in (("stale_min_s", "stale_max_s"), ("reconnect_base_s", "reconnect_cap_s")):
            if getattr(table, low) > getattr(table, high):
                problems.error(
                    (*path, low),
                    f"{low} {getattr(table, low):g} is over {high} {getattr(table, high):g} (seconds)",
                )
        for key in ("api_key_file", "api_secret_file"):
            if (secret := getattr(table, key)) and not Path(secret).is_file():
                problems.error((*path, key), f"cannot read the secret {secret}: no such file")


def _check_id(name: str, table: Exchange, problems: Problems) -> None:
    wanted = table.id or name
    where = ("exchanges", name, "id") if table.id else ("exchanges", name)
    if table.adapter == "ccxt":
        known = catalogue.ccxt_ids()
        if known and wanted not in known:
            problems.error(where, f"ccxt.pro has no exchange {wanted!r}", nearest(wanted, known))
    elif wanted not in catalogue.native_ids():
        ccxt = ' (ccxt.pro has it: adapter = "ccxt")' if wanted in catalogue.ccxt_ids() else ""
        if wanted in catalogue.NATIVE:
            problems.error(where, f"the native adapter for {wanted!r} is not built yet{ccxt}")
        else:
            hint = (
                nearest(wanted, catalogue.NATIVE)
                or f"native adapters: {', '.join(sorted(catalogue.native_ids()))}"
            )
            problems.error(where, f"there is no native adapter for {wanted!r}{ccxt}", hint)


def _check_symbols(path: tuple[str, ...], table: Exchange, problems: Problems) -> None:
    spelled: dict[str, str] = {}
    empty = not any(getattr(table.channels, channel) for channel in CHANNELS)
    if empty and not problems.has((*path, "channels")):
        problems.error(
            (*path, "channels"), "the exchange collects nothing", 'for example trades = ["BTC/USDT"]'
        )
    for channel in CHANNELS:
        symbols = getattr(table.channels, channel)
        where = (*path, "channels", channel)
        for symbol in sorted({symbol for symbol in symbols if symbols.count(symbol) > 1}):
            problems.error(where, f"{symbol!r} is listed more than once")
        for symbol in symbols:
            try:
                safe = sanitise(symbol).casefold()
            except ValueError as error:
                problems.error(where, str(error))
                continue
            if (other := spelled.setdefault(safe, symbol)) != symbol:
                problems.error(
                    where,
                    f"cannot store {symbol!r} beside {other!r}: both become {sanitise(symbol)!r} on disk",
                    "give one of them an [exchanges.*] table of its own name, with id",
                )


def _check_secrets(path: tuple[str, ...], table: dict[str, object], problems: Problems) -> None:
    for key, value in table.items():
        if key.replace("_", "").casefold() in _SECRETS and value:
            problems.error(
                (*path, key),
                f"{key} is a secret and does not belong in this file",
                "use api_key_file, api_secret_file",
            )


def _check_numbers(path: tuple[str, ...], value: object, problems: Problems) -> None:
    """Refuse whole numbers that no other language has, and MessagePack has not."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers((*path, key), inner, problems)
    elif isinstance(value, list):
        for inner in value:
            _check_numbers(path, inner, problems)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        problems.error(path, f"cannot use {value}: a whole number has at most 64 bits")


def check_features(file: File, problems: Problems) -> None:
    """Check [features] by what the kernels themselves say of it, and that overrides name a collected book."""
    known = {
        f"{name}:{symbol}" for name, table in file.exchanges.items() for symbol in table.channels.orderbook
    }
    shared = {key: value for key, value in file.features.items() if not isinstance(value, dict)}
    _try_params(("features",), shared, problems)
    for key, value in file.features.items():
        if isinstance(value, dict):
            exchange = key.partition(":")[0]
            if key not in known and problems.has(("exchanges", exchange)):
                continue  # the exchange has faults of its own
            if key not in known:
                problems.error(
                    ("features", key), f"no orderbook of {key!r} is collected", nearest(key, known)
                )
            elif not problems.has(("features",)):
                _try_params(("features", key), shared | value, problems)


def _try_params(path: tuple[str, ...], params: dict[str, object], problems: Problems) -> None:
    """Let the kernels' own table judge, which tells one fault at a time: without that key, ask again."""
    if not params:
        return
    from daedalus.features.params import parse

    left = dict(params)
    while True:
        try:
            parse(left)
        except ValueError as error:
            text = str(error).removeprefix("cannot use the feature parameters: ")
            key = next((key for key in left if text.startswith(f"{key}:") or f"$.{key}" in text), None)
            if key is None:
                problems.error(path, text)
                return
            message, _, hint = text.removeprefix(f"{key}: ").partition(": did you mean ")
            problems.error((*path, key), message, f"did you mean {hint}" if hint else "")
            del left[key]
        else:
            return
