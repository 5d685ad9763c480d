"""Where a running supervisor gets its configuration anew: the command to run, and how to read its answer.

The supervisor reaps its children itself, so it starts the loader and collects its output; here is only what
it has to start and what comes back. No pydantic.
"""

import json
import sys
from typing import Any

import msgspec

from daedalus.config.faults import Fault, Report
from daedalus.kernel.errors import ConfigError

__all__ = ["Source"]

_ARGUMENT_MAX = 100_000  # bytes; the kernel takes 128 KiB for one


class Source:
    """The loader of one configuration: `python -m daedalus.config` with the arguments of the start."""

    def __init__(self, arguments: list[str]) -> None:
        """Begin; `arguments` say which file, directories and port."""
        self.arguments = list(arguments)

    def command(self, extra: list[str]) -> list[str]:
        """Return the command line of the loader; with `extra` from `actor`, for one actor's sake."""
        # -P: what lies in the working directory is data, not modules
        return [sys.executable, "-P", "-m", "daedalus.config", *self.arguments, *extra]

    @staticmethod
    def actor(name: str, table: dict[str, Any] | None = None) -> list[str]:
        """Return the arguments that ask for one actor, with `table` (TOML keys) in place of the file's.

        Raises:
            ConfigError: they cannot be handed over.
        """
        words = [f"--actor={name}"]
        if table is not None:
            words.append(f"--table={json.dumps(table)}")
        for what, word in zip(("name", "specification"), words, strict=False):
            try:
                size = len(word.encode())
            except UnicodeEncodeError:
                raise ConfigError(f"cannot use the actor's {what}: it is not text") from None
            if "\0" in word:
                raise ConfigError(f"cannot use the actor's {what}: it holds the character NUL")
            if size > _ARGUMENT_MAX:
                raise ConfigError(
                    f"cannot use the actor's {what}: it has {size} bytes, at most {_ARGUMENT_MAX} fit"
                )
        return words

    @staticmethod
    def parse(output: bytes) -> Report:
        """Return the Report that the loader printed; when it printed none, one with that fault."""
        try:
            return msgspec.msgpack.decode(output, type=Report)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            reason = str(error) if output else "the loader printed nothing"
            message = f"cannot load the configuration: {reason}"
            return Report(file="", faults=(Fault(path="", level="error", message=message),))
