"""Where a tree comes from, as far as the kernel needs to know: a command to run, and what it says.

The command reads and checks the configuration in a process of its own, so that what it needs for that leaves
with it.
"""

from collections.abc import Sequence
from typing import Protocol

from daedalus.kernel.errand import run
from daedalus.kernel.errors import ControlError
from daedalus.kernel.nursery import actor_environment
from daedalus.kernel.reaper import Reaper
from daedalus.kernel.spec import ActorSpec, Tree

__all__ = ["Account", "Source", "ask"]

READ_TIMEOUT_S = 60.0


class _Fault(Protocol):
    def text(self, file: str) -> str: ...


class Account(Protocol):
    """What came of reading the configuration."""

    @property
    def file(self) -> str: ...
    @property
    def faults(self) -> Sequence[_Fault]: ...
    @property
    def warnings(self) -> Sequence[_Fault]: ...
    @property
    def tree(self) -> Tree | None: ...
    @property
    def actor(self) -> ActorSpec | None: ...


class Source(Protocol):
    """How to read the configuration again."""

    def command(self, extra: list[str]) -> list[str]:
        """Return the program and its arguments."""
        ...

    def parse(self, output: bytes) -> Account:
        """Return what it said."""
        ...


async def ask(
    source: Source | None, reaper: Reaper, extra: list[str], *, cores: Sequence[int] = ()
) -> Account:
    """Read the configuration and return an account without faults.

    Args:
        source: how to read it.
        reaper: waits for the reader.
        extra: arguments of the reader.
        cores: those that actors may have: without them the plan would be for the supervisor's own core.

    Raises:
        ControlError: there is no source, it could not be read, or it has faults: all of them, one a line.
    """
    if source is None:
        raise ControlError("config", "cannot read the configuration again: it came from no file")
    try:
        done = await run(
            source.command(extra),
            reaper,
            timeout_s=READ_TIMEOUT_S,
            environment=actor_environment(),
            cores=cores,
        )
    except OSError as error:
        raise ControlError("failed", f"cannot start the reader of the configuration: {error}") from None
    if not done.ok:
        raise ControlError("failed", f"cannot read the configuration: the reader left: {done.complaint()}")
    account = source.parse(done.stdout)
    if account.faults:
        raise ControlError("config", "\n".join(fault.text(account.file) for fault in account.faults))
    return account
