"""The house tests itself: sizes, names, imports, events, docstrings, generated pages."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import table
from daedalus.features.params import Params
from daedalus.kernel import supervisor
from tests import suite

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 400
ATTIC = {"utils", "util", "helpers", "helper", "common", "legacy", "misc", "v2", "old", "new"}
LOGGED = {"debug", "info", "warning", "error", "exception"}
# House rule 3: the actor loop, the supervisor loop, the command line.
CATCH_ALL = {
    "daedalus/kernel/actor.py",
    "daedalus/kernel/supervisor.py",
    "daedalus/cli/data.py",
    # where foreign code is called back by foreign code: what ccxt swallows would freeze a stream in silence
    "daedalus/exchanges/ccxt_hooks.py",
}


def sources(*rooms: str) -> list[Path]:
    """Return the Python files of the given folders (default: the package)."""
    return [path for room in rooms or ("daedalus",) for path in sorted((ROOT / room).rglob("*.py"))]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def calls(path: Path, methods: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
            yield node


def literal(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


# --- files ------------------------------------------------------------------------------------------------


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        name(path): lines
        for path in sources("daedalus", "tests", "bench")
        if (lines := _lines(path)) > LINES_MAX
    }
    assert long == {}


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_named_after_an_attic() -> None:
    assert [name(path) for path in sources("daedalus", "tests", "bench") if path.stem in ATTIC] == []


def test_every_module_says_what_it_is() -> None:
    silent = [name(path) for path in sources("daedalus", "bench") if not _docstring(path)]
    assert silent == []


def _docstring(path: Path) -> str | None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return None if text is None or text.startswith("TBD") else text


def test_every_public_function_and_class_has_a_docstring() -> None:
    missing = []
    for path in sources():
        if not any(part.startswith("_") and part != "__init__.py" for part in path.parts):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            missing += [f"{name(path)}:{line} {what}" for line, what in _undocumented(tree)]
    assert missing == []


def _undocumented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in tree.body:
        if (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ):
            yield node.lineno, node.name


def test_no_lock_file_records_where_packages_come_from() -> None:
    assert suite.check_lock() == 0
    assert suite.addresses_in("a==1 # https://pypi.example/simple") != []


def test_nothing_is_left_to_be_done_and_no_place_of_ours_is_named() -> None:
    # spelled in parts, so that this file passes its own test
    words = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "/ro" + "ot/", "/ho" + "me/", "/wo" + r"rk/\w")))
    found = []
    for path in tracked():
        if path.suffix in {".py", ".md", ".toml", ".sh", ".cfg", ""} and path.stat().st_size < 1 << 20:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name(path)}: {match[0]}" for match in words.finditer(text)]
    assert found == []


# --- imports and exceptions -------------------------------------------------------------------------------


def test_imports_go_down_and_heavy_libraries_have_one_door() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_everything_is_caught_in_the_named_places_only() -> None:
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and _catches_all(node.type) and not _raises_again(node):
                found.add(name(path))
    assert found <= CATCH_ALL


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _catches_all(caught: ast.expr | None) -> bool:
    return caught is None or any(
        isinstance(node, ast.Name) and node.id in ("Exception", "BaseException") for node in ast.walk(caught)
    )


# --- events -----------------------------------------------------------------------------------------------


def log_events() -> set[str]:
    """Return the name of every event that the source logs."""
    found = set()
    for path in sources():
        for call in calls(path, LOGGED | {"report", "_report", "event"}):
            word = literal(call)
            if word is not None and name(path).split("/")[1] != "config":
                found.add(word)
    return found | {f"actor_{kind}" for kind in tree_events() - set(supervisor._QUIET)}


def tree_events() -> set[str]:
    """Return the type of every event in `daedalus-ctl events`."""
    return {
        word
        for path in sources("daedalus/kernel")
        for call in calls(path, {"emit", "record"})
        if (word := literal(call)) is not None
    }


def listed(heading: str) -> set[str]:
    """Return the names in the first column of a table of docs/events.md."""
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    part = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)`", part, re.MULTILINE))


def test_every_log_event_is_listed_and_every_listed_one_is_logged() -> None:
    assert log_events() == listed("Log lines")


def test_every_tree_event_is_listed_and_every_listed_one_happens() -> None:
    assert tree_events() == listed("Events of the tree")


def test_events_are_named_noun_participle() -> None:
    assert [event for event in log_events() if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", event)] == []


def test_events_are_literal_so_that_they_can_be_listed() -> None:
    loose = [
        f"{name(path)}:{call.lineno}"
        for path in sources()
        if name(path).split("/")[1] != "config"
        for call in calls(path, LOGGED)
        if literal(call) is None
        and re.search(r"log(ger)?(\(\))?$", ast.unparse(call.func).rpartition(".")[0])
    ]
    assert loose == []


# --- the shipped configuration and generated pages --------------------------------------------------------


def test_the_shipped_configuration_names_every_key_with_its_default() -> None:
    from pydantic import BaseModel

    from daedalus.config import models

    text = (ROOT / "supervisor.toml").read_text(encoding="utf-8")
    # keys that stand commented count: that is how a default that depends on the machine is shown
    shown = set(re.findall(r"(?m)^#? ?([a-z_]+) = ", text)) | set(re.findall(r"([a-z_]+) = ", text))
    tables = [
        model
        for model in vars(models).values()
        if isinstance(model, type)
        and issubclass(model, BaseModel)
        and model not in (models.File, models.RoleDefaults)
    ]
    for model in tables:
        if model is not models.Table:
            missing = set(model.model_fields) - shown - {"ccxt", "channels"}
            assert missing == set(), model.__name__
    headers = {header.partition(".")[0].strip('" ') for header in re.findall(r"(?m)^#? ?\[([^\]]+)\]", text)}
    assert headers == set(models.File.model_fields)


def test_values_of_the_shipped_configuration_are_the_defaults() -> None:
    from daedalus.config import models

    tables = tomllib.loads((ROOT / "supervisor.toml").read_text(encoding="utf-8"))
    for key in ("supervisor", "link", "writer", "gateway", "sync", "dashboard", "paths"):
        fresh = getattr(models.File(), key)
        assert {name: getattr(fresh, name) for name in tables[key]} == tables[key], key
    params = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in msgspec.structs.asdict(Params()).items()
    }
    assert tables["features"] == params
    shipped = {k: v for k, v in tables["exchanges"]["coinbase"].items() if k not in ("adapter", "channels")}
    fresh = models.Exchange(adapter="native")
    assert {name: getattr(fresh, name) for name in shipped} == shipped


# --- traps ------------------------------------------------------------------------------------------------

NUMBERS = {"0.{}": 25, "C-{:02}": 19, "D-{:02}": 34, "X-{:02}": 19}


def traps() -> dict[str, dict[str, Any]]:
    """Return the rows of tests/traps.toml by number."""
    return tomllib.loads((ROOT / "tests" / "traps.toml").read_text(encoding="utf-8"))


def test_every_trap_has_its_row() -> None:
    wanted = {form.format(number) for form, last in NUMBERS.items() for number in range(1, last + 1)}
    assert traps().keys() == wanted


def test_every_test_that_the_table_of_traps_names_is_there() -> None:
    missing = [
        f"{number}: {test}"
        for number, row in traps().items()
        for test in row["tests"]
        if (path := ROOT / test.partition("::")[0]).is_file() is False
        or test.partition("::")[2] not in _tests(path)
    ]
    assert missing == []


def test_every_trap_of_collectors_and_bronze_has_a_test_named_after_it() -> None:
    unnamed = {
        number
        for number, row in traps().items()
        if row["work"] == "bronze" and not any(_named_after(number, test) for test in row["tests"])
    }
    assert unnamed == set()


def _named_after(number: str, test: str) -> bool:
    """Return whether a test has the number of its trap in its name; those of ccxt have sentences."""
    tag = number.replace(".", "_").replace("-", "").lower()
    return number.startswith("X") or f"_{tag}_" in test.partition("::")[2]


@cache
def _tests(path: Path) -> set[str]:
    """Return the names of the tests of a file."""
    found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {
        node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_the_table_of_figures_is_the_one_the_results_make() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.BEGIN in page
    if (ROOT / "bench" / "results").is_dir() and table.results():
        assert table.replaced(page, table.render(table.results())) == page, "run: ./run python -m bench.table"
