"""The JSON Schema for editors: it is the models', it takes the shipped file and refuses broken ones."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daedalus.config import docs, models
from daedalus.config.schema import FEATURES, document
from daedalus.features.params import Params

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = document()
BARE = re.sub(r"(?m)^# ([a-z_]+ = .*)$", r"\1", (ROOT / "supervisor.toml").read_text(encoding="utf-8"))
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def faults(value: Any, schema: dict[str, Any], path: str = "$") -> list[str]:
    """Return what a value breaks of the keywords that our schema has; others are an error."""
    known = {
        *("$schema", "$defs", "title", "description", "default", "x-unit", "$ref", "anyOf", "enum", "type"),
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "required", "items"),
        *("minimum", "maximum", "exclusiveMinimum", "minLength", "minItems", "pattern"),
    }
    assert set(schema) <= known, set(schema) - known
    found: list[str] = []
    if "$ref" in schema:
        found += faults(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], path)
    if "anyOf" in schema and all(faults(value, one, path) for one in schema["anyOf"]):
        found.append(f"{path}: none of anyOf")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: not in enum")
    if "type" in schema:
        right = isinstance(value, TYPES[schema["type"]])
        if not right or (isinstance(value, bool) and schema["type"] != "boolean"):
            return [*found, f"{path}: no {schema['type']}"]
    return found + _of_kind(value, schema, path)


def _of_kind(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    found = []
    if isinstance(value, dict):
        names, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        found += [f"{path}: no {key}" for key in schema.get("required", ()) if key not in value]
        for key, inner in value.items():
            rules = [names[key]] if key in names else []
            rules += [rule for pattern, rule in patterns.items() if re.search(pattern, key)]
            if not rules:
                rest = schema.get("additionalProperties", True)
                if rest is False:
                    found.append(f"{path}.{key}: unknown")
                rules = [rest] if isinstance(rest, dict) else []
            found += [one for rule in rules for one in faults(inner, rule, f"{path}.{key}")]
            found += faults(key, schema.get("propertyNames", {}), f"{path}.{key}")
    elif isinstance(value, list):
        found += [one for inner in value for one in faults(inner, schema.get("items", {}), f"{path}[]")]
        found += [f"{path}: too few"] if len(value) < schema.get("minItems", 0) else []
    elif isinstance(value, str):
        found += [f"{path}: pattern"] if not re.search(schema.get("pattern", ""), value) else []
        found += [f"{path}: too short"] if len(value) < schema.get("minLength", 0) else []
    elif isinstance(value, (int, float)):
        found += [f"{path}: small"] if value < schema.get("minimum", value) else []
        found += [f"{path}: large"] if value > schema.get("maximum", value) else []
        found += [f"{path}: not over"] if value <= schema.get("exclusiveMinimum", value - 1) else []
    return found


def properties() -> list[tuple[str, str, dict[str, Any]]]:
    tables = {"File": SCHEMA, **SCHEMA["$defs"]}
    return [
        (name, key, field) for name, table in tables.items() for key, field in table["properties"].items()
    ]


def test_the_committed_copy_and_the_page_are_those_that_the_models_make() -> None:
    made = "run: ./run python -m daedalus.config.docs"
    assert (ROOT / "docs" / "supervisor.schema.json").read_text(encoding="utf-8") == docs.schema_text(), made
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == docs.page(), made


def test_the_shipped_file_names_its_schema_and_passes_it() -> None:
    text = (ROOT / "supervisor.toml").read_text(encoding="utf-8")
    assert text.startswith("#:schema ./docs/supervisor.schema.json\n")
    assert faults(tomllib.loads(text), SCHEMA) == []


def test_keys_that_stand_commented_in_the_shipped_file_pass_too() -> None:
    tables = tomllib.loads(BARE.partition("# [actors.")[0])
    assert tables["defaults"]["writer"]["memory_rlimit"] == "512M"
    assert faults(tables, SCHEMA) == []


def test_every_key_of_the_models_is_in_the_schema_and_no_other() -> None:
    for name, model in vars(models).items():
        if isinstance(model, type) and issubclass(model, models.Table) and name not in ("Table", "File"):
            assert set(SCHEMA["$defs"][name]["properties"]) == set(model.model_fields), name
    assert set(SCHEMA["properties"]) == set(models.File.model_fields)
    assert set(SCHEMA["$defs"]["Features"]["properties"]) == set(Params.__struct_fields__) == set(FEATURES)


def test_every_key_has_a_title_and_a_meaning_and_numbers_have_a_unit_or_none() -> None:
    for table, key, field in properties():
        assert field["title"] == key, (table, key)
        inner = SCHEMA["$defs"].get(field.get("$ref", "").removeprefix("#/$defs/"), {})
        assert field.get("description") or inner.get("description"), (table, key)
        if key.endswith("_s"):
            assert field["x-unit"] == "seconds", (table, key)
        if key.startswith("memory_") and not key.endswith("_s"):
            assert [one["type"] for one in field["anyOf"]] == ["integer", "string"], key


def test_defaults_are_those_of_the_models_and_never_null() -> None:
    assert "null" not in json.dumps(SCHEMA)
    for table, key, field in properties():
        model = getattr(models, table, None)
        if model is not None and isinstance(default := model.model_fields[key].default, (int, float, str)):
            assert field["default"] == default, (table, key)
    own = msgspec.structs.asdict(Params())
    for key, field in SCHEMA["$defs"]["Features"]["properties"].items():
        assert json.dumps(field["default"]) == json.dumps(own[key]), key


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[writter]\n", "$.writter: unknown"),
        ('[actors."ops/x"]\nrestrat = "permanent"\n', "$.actors.ops/x.restrat: unknown"),
        ('[groups.store]\nstrategy = "one_for_none"\n', "$.groups.store.strategy: not in enum"),
        ("[groups.store]\nperiod_s = 0\n", "$.groups.store.period_s: not over"),
        ("[supervisor]\nintensity = -1\n", "$.supervisor.intensity: small"),
        ("[supervisor]\nintensity = true\n", "$.supervisor.intensity: no integer"),
        ('[defaults.writer]\nmemory_hard = "12 bananas"\n', "$.defaults.writer.memory_hard: none of anyOf"),
        ('[defaults.writer]\nshutdown_s = "infinit"\n', "$.defaults.writer.shutdown_s: none of anyOf"),
        ('[gateway]\ntcp = "5555"\n', "$.gateway.tcp: pattern"),
        ('[exchanges.x]\nid = "binance"\n', "$.exchanges.x: no adapter"),
        (
            '[exchanges.x]\nadapter = "ccxt"\nchannels = { trades = ["BTCUSDT"] }\n',
            "$.exchanges.x.channels.trades[]: pattern",
        ),
        ('[groups."a b"]\n', "$.groups.a b: pattern"),
        ("[features]\nmax_level = 3\n", "$.features.max_level: unknown"),
        (
            '[features."binance:BTC/USDT"]\nkyle_flow = "x"\n',
            "$.features.binance:BTC/USDT.kyle_flow: not in enum",
        ),
        ('[actors."ops/x"]\ncommand = []\n', "$.actors.ops/x.command: too few"),
        ("[writer]\ncompression_level = 30\n", "$.writer.compression_level: large"),
    ],
)
def test_broken_files_break_the_schema(text: str, fault: str) -> None:
    assert faults(tomllib.loads(text), SCHEMA) == [fault]


def test_every_heading_of_the_page_is_a_table_of_the_file() -> None:
    page = docs.page()
    for name in models.File.model_fields:
        assert re.search(rf"(?m)^## `\[{name}[\].]", page) or name == "defaults", name
    for _, key, _ in properties():
        assert (
            f"| `{key}` |" in page
            or key in models.File.model_fields
            or key in models.RoleDefaults.model_fields
        )
