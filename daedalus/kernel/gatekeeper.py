"""Who is held at a gate, and who may pass: between the pure `gates` and the running cells."""

from typing import TYPE_CHECKING

from daedalus.kernel import gates, group

if TYPE_CHECKING:
    from daedalus.kernel.cell import Cell
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["Gatekeeper"]


class Gatekeeper:
    """Holds cells, and releases them when their gates open."""

    def __init__(self, supervisor: "Supervisor") -> None:
        """Begin with nobody held."""
        self._supervisor = supervisor
        self._watch = gates.Watch(self._look)

    def holds(self, cell: "Cell") -> bool:
        """Hold the cell if a gate of it is shut; False: it may pass."""
        shut = gates.shut(cell.spec.requires, self._state_of)
        if shut:
            cell.hold(shut)
            self._follow()
        return bool(shut)

    def resume(self) -> None:
        """Watch for those that an earlier image of this supervisor held."""
        self._follow()

    def look(self) -> None:
        """Look at the gates that depend on other actors: the state of one has changed."""
        self._watch.look()

    def close(self) -> None:
        """Watch no more."""
        self._watch.close()

    def _held(self) -> "list[Cell]":
        return [cell for cell in self._supervisor.cells.values() if cell.state == "held"]

    def _state_of(self, name: str) -> str | None:
        cell = self._supervisor.cells.get(name)
        return None if cell is None else cell.state

    def _follow(self) -> None:
        self._watch.follow(gates.parse(text) for cell in self._held() for text in cell.shut_gates)

    def _look(self) -> None:
        for cell in self._held():
            cell.shut_gates = gates.shut(cell.spec.requires, self._state_of)
            if not cell.shut_gates:
                self._supervisor.feed(cell.spec.group, group.Released(cell.spec.name))
        self._follow()
