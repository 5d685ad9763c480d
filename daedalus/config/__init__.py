"""supervisor.toml: read, checked, and expanded into the tree that the supervisor runs.

    text ──models──▶ File (pydantic, every fault at once) ──expand──▶ kernel.spec.Tree (frozen Structs)

pydantic lives only here and is imported only inside `report`, so the supervisor never holds it: its command
line runs `python -m daedalus.config` and reads the Report from its standard output.
"""

from daedalus.config.faults import Fault, Report
from daedalus.config.loading import Wanted, find, load, report

__all__ = ["Fault", "Report", "Wanted", "find", "load", "report"]
