"""Checks of [exchanges.*] and [features]: adapters, ids, symbols that clash, secrets in the wrong place."""

import stat
from pathlib import Path

from daedalus.config import catalogue
from daedalus.config.adapters import check_adapter
from daedalus.config.faults import nearest
from daedalus.config.models import Exchange, File
from daedalus.config.problems import Problems
from daedalus.config.settings import stored_name

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
        _check_channels(path, table, problems)
        _check_symbols(name, table, problems)
        check_adapter(name, table, problems)
        _check_literals((*path, "ccxt"), table.ccxt, problems)
        _check_secret_files(path, table, problems)
        _check_numbers((*path, "ccxt"), table.ccxt, problems)
        if table.adapter == "native" and table.ccxt:
            problems.error(
                (*path, "ccxt"),
                "a native adapter has no ccxt table",
                'use ws_url and rest_url, or adapter = "ccxt"',
            )
        if table.adapter == "ccxt" and "rotate_after_h" in table.model_fields_set:
            problems.warn(
                (*path, "rotate_after_h"),
                "rotate_after_h has no effect: a connection of ccxt's lasts until the exchange cuts it",
                'adapter = "native" replaces its connections without a gap',
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


def _check_id(name: str, table: Exchange, problems: Problems) -> None:
    wanted = table.id or name
    where = ("exchanges", name, "id") if table.id else ("exchanges", name)
    if table.adapter == "ccxt":
        known = catalogue.ccxt_ids()
        if known and wanted not in known:
            problems.error(where, f"ccxt.pro has no exchange {wanted!r}", nearest(wanted, known))
    elif wanted not in catalogue.NATIVE:
        ccxt = ' (ccxt.pro has it: adapter = "ccxt")' if wanted in catalogue.ccxt_ids() else ""
        hint = nearest(wanted, catalogue.NATIVE) or f"native adapters: {', '.join(sorted(catalogue.NATIVE))}"
        problems.error(where, f"there is no native adapter for {wanted!r}{ccxt}", hint)


def _check_channels(path: tuple[str, ...], table: Exchange, problems: Problems) -> None:
    """Refuse channels that the adapter has not."""
    for channel in table.channels.in_use():
        where = (*path, "channels", channel)
        if table.adapter == "ccxt" and channel in catalogue.NATIVE_ONLY:
            problems.error(
                where,
                f"ccxt has no {channel}: it gives states of a book, not the exchange's own changes",
                f'adapter = "native" for {", ".join(catalogue.NATIVE)}; or orderbook',
            )
        elif table.adapter == "native" and channel in catalogue.CCXT_ONLY:
            hint = "ticker has the best bid and ask" if channel == "bidask" else 'adapter = "ccxt"'
            problems.error(where, f"no native adapter has {channel}", hint)


def _check_symbols(name: str, table: Exchange, problems: Problems) -> None:
    path = ("exchanges", name)
    stored: dict[str, str] = {}
    used = table.channels.in_use()
    if not used and not problems.has((*path, "channels")):
        problems.error(
            (*path, "channels"), "the exchange collects nothing", 'for example trades = ["BTC/USDT"]'
        )
    for channel, symbols in used.items():
        where = (*path, "channels", channel)
        for symbol in sorted({symbol for symbol in symbols if symbols.count(symbol) > 1}):
            problems.error(where, f"{symbol!r} is listed more than once")
        for symbol in symbols:
            try:
                safe = stored_name(table, symbol)
            except ValueError as error:
                problems.error(where, str(error))
                continue
            if (other := stored.setdefault(safe.casefold(), symbol)) != symbol and not problems.has(
                (*path, "aliases")
            ):
                problems.error(
                    where,
                    f"cannot store {symbol!r} beside {other!r}: both become {safe!r} on disk",
                    f'[exchanges.{name}.aliases] "{symbol}" = "{safe}-2" names one of them',
                )
    for symbol in sorted(table.aliases.keys() - {symbol for symbols in used.values() for symbol in symbols}):
        problems.error((*path, "aliases", symbol), f"no channel collects {symbol!r}")


def _check_secret_files(path: tuple[str, ...], table: Exchange, problems: Problems) -> None:
    for key in ("api_key_file", "api_secret_file"):
        secret = Path(getattr(table, key))
        if not getattr(table, key):
            continue
        if not secret.is_file():
            problems.error((*path, key), f"cannot read the secret {secret}: no such file")
        elif (mode := stat.S_IMODE(secret.stat().st_mode)) & 0o077:
            problems.warn(
                (*path, key), f"others may read the secret {secret}: its mode is {mode:04o}", "chmod 600"
            )


def _check_literals(path: tuple[str, ...], table: dict[str, object], problems: Problems) -> None:
    for key, value in table.items():
        if isinstance(value, dict):
            _check_literals((*path, key), value, problems)
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
