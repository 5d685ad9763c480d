"""Errors that somebody catches, and the exit codes the supervisor reads.

DaedalusError
├── ConfigError      the user's file or flag: exit 78 from start, 2 from tools
├── FatalError       retrying cannot help: an actor raising it exits 78 and stays down (`failed`)
└── ControlError     a control command was refused; `code` is the wire's
"""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DIVERGES = 3
EXIT_NOT_FOUND = 4
EXIT_TIMEOUT = 5
EXIT_CONFLICT = 6
EXIT_UNREACHABLE = 7
EXIT_DENIED = 8
EXIT_ROOT_LIMIT = 70
EXIT_RECYCLE = 75  # planned: restarted at once, not counted
EXIT_CONFIG = 78


class DaedalusError(Exception):
    """Base of all errors that are addressed to a person."""


class ConfigError(DaedalusError):
    """The configuration is wrong. `faults` holds every fault, one line each."""

    def __init__(self, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class FatalError(DaedalusError):
    """An actor cannot work and a restart would not change that."""


class ControlError(DaedalusError):
    """A control command was refused or failed."""

    def __init__(self, code: str, message: str, actor: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.actor = actor
