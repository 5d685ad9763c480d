"""The notebook in which checks write what they find; lines are looked up when it is closed."""

from daedalus.config.faults import Fault, lines_of, locate

__all__ = ["Problems"]


class Problems:
    """Gathers faults and warnings, each with the path of keys it is about."""

    def __init__(self, text: str = "", outside: tuple[str, ...] | None = None) -> None:
        """Begin; `text` is the TOML the paths point into, `outside` a table that came from elsewhere."""
        self._lines = lines_of(text)
        self._outside = outside
        self._found: list[Fault] = []
        self._faulty: set[tuple[str, ...]] = set()

    def error(self, path: tuple[str, ...], message: str, hint: str = "", *, line: int | None = None) -> None:
        """Note a fault: the file cannot be used. `line`: where it is known better than by its path."""
        self._faulty.add(path)
        self._add(path, "error", message, hint, line)

    def warn(self, path: tuple[str, ...], message: str, hint: str = "") -> None:
        """Note a warning: it can be used, and may not do what was meant."""
        self._add(path, "warning", message, hint)

    def has(self, path: tuple[str, ...]) -> bool:
        """Return whether a fault was noted at or below `path`: what follows from it need not be told."""
        return any(faulty[: len(path)] == path for faulty in self._faulty)

    def _add(
        self, path: tuple[str, ...], level: str, message: str, hint: str, line: int | None = None
    ) -> None:
        # A part with a dot or a slash is quoted, as it has to be in the file.
        dotted = ".".join(
            part if part.replace("_", "").replace("-", "").isalnum() else f'"{part}"' for part in path
        )
        if line is None and not self._is_outside(path):
            line = locate(self._lines, path)
        self._found.append(Fault(path=dotted, level=level, message=message, hint=hint, line=line))

    def _is_outside(self, path: tuple[str, ...]) -> bool:
        return self._outside is not None and path[: len(self._outside)] == self._outside

    def of(self, level: str) -> tuple[Fault, ...]:
        """Return what was found of one level, in the order of the file."""
        found = [fault for fault in self._found if fault.level == level]
        return tuple(sorted(found, key=lambda fault: fault.line or 0))
