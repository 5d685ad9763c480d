"""`daedalus-supervisor` without zygotes, for comparison: every built-in actor gets a fresh interpreter."""

from typing import Any

from daedalus.cli.supervisor import main
from daedalus.kernel import nursery, supervisor


class Barren(nursery.Nursery):
    """A nursery that has nothing to fork from, and so executes."""

    def __init__(self, _preload: Any, *rest: Any, **more: Any) -> None:
        super().__init__({}, *rest, **more)


if __name__ == "__main__":
    supervisor.Nursery = Barren  # type: ignore[misc]
    main()
