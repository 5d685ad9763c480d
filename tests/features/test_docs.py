"""The page of features is the declarations' own; importing the room costs little."""

import re
import subprocess
import sys
from pathlib import Path

from daedalus import __version__
from daedalus.features.docs import page
from daedalus.features.layout import features
from daedalus.features.params import Params
from daedalus.features.schema import Schema

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"


def test_features_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m daedalus.features.docs"


def test_every_column_and_parameter_is_on_the_page() -> None:
    text = page()
    for feature in features(Params(emit_ofi_levels=True)):
        name = re.sub(r"_L\d+$", "_L{i}", feature.name)
        if feature.window_s is not None and not feature.fixed:
            name = re.sub(r"_\d+s$", "_{h}s", name)
        assert f"| `{name}` | {feature.unit} |" in text
    for key in Params.__struct_fields__:
        assert f"| {key} | " in text


def test_metadata_for_parquet_says_of_each_column_what_its_declaration_says() -> None:
    declared = features(Params())
    schema = Schema.of(declared)
    assert schema.parquet_metadata() == {"daedalus.schema": schema.id, "daedalus.version": __version__}
    columns = schema.column_metadata()
    assert list(columns) == schema.names
    for feature in declared:
        said = columns[feature.name]
        assert {"unit", "formula", "null", "warmup"} <= said.keys()
        assert said["unit"] == feature.unit
        assert said.get("window_s") == (None if feature.window_s is None else f"{feature.window_s:g}")
        assert said.get("paper") == feature.paper


def test_importing_and_running_the_engine_imports_no_table_library() -> None:
    program = (
        "import sys; from daedalus.features import FeatureEngine, compute; e = FeatureEngine();"
        "e.restore(e.snapshot());"
        "print(sorted({'numpy', 'polars', 'pyarrow', 'pandas'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
