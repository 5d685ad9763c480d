"""What the commands need of the supervisor."""

from collections.abc import Mapping
from typing import Any, Protocol

from daedalus.kernel import group
from daedalus.kernel.bell import Bell
from daedalus.kernel.cell import Cell
from daedalus.kernel.events import EventRing
from daedalus.kernel.nursery import Nursery
from daedalus.kernel.spec import Tree

__all__ = ["Command", "Office"]


class _Reaper(Protocol):
    @property
    def orphans_reaped(self) -> int: ...


class _Output(Protocol):
    @property
    def dropped(self) -> int: ...


class Office(Protocol):
    """The supervisor as its commands see it."""

    tree: Tree
    root: str
    state: str
    image: int  # 1 for the first; each exec in place adds one
    events: EventRing
    printed_bell: Bell  # rung at every line an actor printed
    nursery: Nursery
    started_mono: float
    loop_lag_ms: float
    foreign_datagrams: int

    @property
    def cells(self) -> Mapping[str, Cell]: ...
    @property
    def groups(self) -> Mapping[str, group.Group]: ...
    @property
    def reaper(self) -> _Reaper: ...
    @property
    def output(self) -> _Output: ...

    def feed(self, name: str, event: group.Event) -> None: ...
    async def until_change(self) -> None: ...
    def next_in_s(self, name: str) -> float | None: ...
    async def add(self, name: str, table: dict[str, Any] | None) -> Cell: ...
    def remove(self, cell: Cell) -> None: ...
    async def reload(self, *, dry_run: bool) -> dict[str, Any]: ...
    async def reexec(self) -> int: ...
    def shutdown(self) -> None: ...


class Command(Protocol):
    """One command: its arguments in, its JSON result out."""

    async def __call__(self, office: Office, args: dict[str, Any]) -> Any: ...
