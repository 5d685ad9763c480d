"""The JSON Schema of supervisor.toml, for editors: made from the models, so it cannot say anything else.

`daedalus-supervisor schema` prints it; docs/supervisor.schema.json is a copy that a test compares.
"""

from typing import Any

import msgspec

from daedalus.config.models import File
from daedalus.config.tree import Actor, Defaults
from daedalus.features.params import Params

__all__ = ["FEATURES", "document", "unit"]

# The kernels' table gives types and defaults; these are its comments.
FEATURES = {
    "max_levels": "levels with columns of their own, at least 10",
    "ofi_levels": "levels in ofi_multi and mlofi",
    "ofi_decay_alpha": "mlofi weighs level i by exp(-alpha i)",
    "bands_bps": "ascending edges; the first band begins at 0",
    "horizons_s": "ascending rolling windows",
    "bar_durations_s": "bars that are made",
    "emit_interval_s": "a row at most so often; 0 = at every update",
    "spread_regime_window_s": "over which the spread's percentiles are taken",
    "use_dynamic_spread_regime": "regimes by percentile rather than by threshold",
    "spread_tight_percentile": "at or below it the spread is tight",
    "spread_wide_percentile": "at or above it the spread is wide",
    "tight_spread_threshold": "share of the mid, when regimes are not dynamic",
    "wide_spread_threshold": "share of the mid, when regimes are not dynamic",
    "kyle_lambda_window_s": "of the regression",
    "kyle_flow": "what the price is regressed on",
    "enable_vpin": "whether VPIN is computed",
    "vpin_bucket_volume": "auto, or an amount in the base currency",
    "vpin_window_buckets": "buckets in the mean",
    "vpin_classify": "how a trade's side is found",
    "realized_spread_delays_s": "ascending delays after the trade",
    "smart_depth_k": "smart depth weighs a level by exp(-k abs(P - M) / M)",
    "max_state_staleness_s": "silence longer than this is a gap",
    "emit_ofi_levels": "whether each level's OFI has a column",
    "checkpoint_interval_s": "how often the state is saved",
}

_UNITS = {
    "_s": "seconds",
    "_ms": "milliseconds",
    "_mb": "MiB",
    "_h": "hours",
    "_bps": "basis points",
    "_pct": "percent",
}
_UNIT_OF = {
    "memory_warn": "bytes",
    "memory_soft": "bytes",
    "memory_hard": "bytes",
    "memory_rlimit": "bytes",
    "intensity": "restarts",
    "max_orderbook_depth": "levels",
    "batch_records": "records",
    "commit_records": "records",
    "row_group_rows": "rows",
    "send_hwm": "messages",
    "max_concurrent_subscriptions": "subscriptions",
    "symbols_per_connection": "symbols",
    "max_workers": "uploads",
    "recycle_mb_per_h": "MiB an hour",
    "jitter": "share",
    "instances": "processes",
}
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$"


def unit(key: str) -> str:
    """Return the unit of a key's number, or ''.

    >>> unit("period_s"), unit("memory_hard"), unit("nice")
    ('seconds', 'bytes', '')
    """
    suffix = f"_{key.rpartition('_')[2]}"
    return _UNIT_OF.get(key) or _UNITS.get(suffix, "")


def document() -> dict[str, Any]:
    """Return the schema: draft 2020-12, with a title, a description, a unit and a default for every key."""
    made = File.model_json_schema()
    tables: dict[str, Any] = made["$defs"]
    tables["FeaturesOfSymbol"] = _features(tables)
    tables["Features"] = tables["FeaturesOfSymbol"] | {
        "patternProperties": {"^[^:]+:.+$": {"$ref": "#/$defs/FeaturesOfSymbol"}},
        "properties": dict(tables["FeaturesOfSymbol"]["properties"]),
    }
    made["properties"]["features"] = {
        "$ref": "#/$defs/Features",
        "description": "Parameters of the kernels; tables named EXCHANGE:SYMBOL hold for one symbol.",
    }
    for table in (made, *tables.values()):
        for key, field in table.get("properties", {}).items():
            table["properties"][key] = _field(key, field)
    for name in ("groups", "exchanges"):
        made["properties"][name]["propertyNames"] = {"pattern": _NAME}
    for title, model in (("Actor", Actor), ("Defaults", Defaults)):
        tables[title]["description"] = (model.__doc__ or "").strip()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "supervisor.toml",
        "description": "The one file that describes a Daedalus runtime.",
    }


def _field(key: str, field: dict[str, Any]) -> dict[str, Any]:
    """Return a key's schema without what TOML does not have (null), and with its unit."""
    found = dict(field)
    members = [member for member in found.pop("anyOf", []) if member != {"type": "null"}]
    if len(members) == 1:
        found = members[0] | found
    elif members:
        found["anyOf"] = members
    if found.get("default", 0) is None or isinstance(found.get("default"), dict):
        del found["default"]
    found["title"] = key
    if (measure := unit(key)) != "":
        found["x-unit"] = measure
        said = found.get("description", "")
        found["description"] = f"{said} ({measure})" if said else measure
    return dict(sorted(found.items()))


def _features(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of [features] from the kernels' own table of parameters."""
    _, parts = msgspec.json.schema_components([Params], ref_template="#/$defs/{name}")
    own: dict[str, Any] = parts.pop("Params")
    tables.update(parts)
    for key, meaning in FEATURES.items():
        own["properties"][key]["description"] = meaning
    return own | {"description": "Parameters of the kernels. What they enter into: docs/features.md."}
