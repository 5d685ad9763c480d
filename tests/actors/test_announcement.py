"""What a feature actor says of its columns."""

import msgspec

from daedalus.actors.feature import announcement
from tests.market import FakeSchema


def test_an_announcement_names_units_and_windows_whatever_the_schema_calls_them() -> None:
    schema_id, blob = announcement(FakeSchema("i", ("a",), ("bps",), (5,)))
    assert (schema_id, msgspec.json.decode(blob)["windows"]) == ("i", [5])

    class Column(msgspec.Struct):
        name: str
        unit: str
        window: int | None

    class Columns(msgspec.Struct):
        id: str
        columns: list[Column]

    _, blob = announcement(Columns("i", [Column("a", "bps", 5)]))
    value = msgspec.json.decode(blob)
    assert (value["names"], value["units"], value["windows"]) == (["a"], ["bps"], [5])
