"""The program itself: which commands there are, and how each way of going wrong ends.

A command's file is imported when the command is used: `status` pays for what `status` needs.
"""

import importlib
import json
import os
import sys
from typing import NoReturn

import click

from daedalus.cli.ctl.connection import EXIT_CODES, Refused
from daedalus.cli.ctl.options import Options, example, global_options
from daedalus.kernel.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE

__all__ = ["COMMANDS", "ctl", "main"]

EXIT_INTERRUPTED = 130
COMPLETE_VAR = "_DAEDALUS_CTL_COMPLETE"

# heading -> command -> file of this package that holds it
_HEADINGS = {
    "Look": {
        "status": "views",
        "tree": "views",
        "top": "top",
        "events": "follow",
        "logs": "follow",
        "stats": "views",
        "health": "views",
        "spec": "views",
        "count": "views",
    },
    "Actors": {
        "start": "operations",
        "stop": "operations",
        "restart": "operations",
        "rolling-restart": "operations",
        "drain": "operations",
        "kill": "operations",
        "pause": "operations",
        "resume": "operations",
        "reset": "operations",
        "wait": "operations",
        "add": "operations",
        "remove": "operations",
    },
    "The whole": {
        "reload": "whole",
        "reexec": "whole",
        "shutdown": "whole",
        "doctor": "doctor",
        "completion": "completion",
    },
}
COMMANDS = {name: module for commands in _HEADINGS.values() for name, module in commands.items()}


class _Lazy(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which they are best read."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"daedalus.cli.ctl.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        for heading, names in _HEADINGS.items():
            with formatter.section(heading):
                rows = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl(
                    [(name, command.get_short_help_str(100)) for name, command in rows if command]
                )


_EPILOG = """\b
Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 not as wanted, 4 no such actor,
5 timed out, 6 conflict, 7 no supervisor, 8 denied.

"""


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EPILOG + example("daedalus-ctl status"),
)
@global_options
def ctl(options: Options) -> None:
    """Look at a running tree of actors and tell it what to do.

    An ACTOR is group/actor, the bare name where it is unique, a group, a quoted pattern ('ingest/*'), or all.
    The options below may stand before or after the command.
    """
    del options


def main() -> NoReturn:
    """Run the program."""
    if COMPLETE_VAR in os.environ:
        from daedalus.cli.ctl.completion import install

        install()
    # a terminal that cannot show a character shows its number
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        ctl.main(standalone_mode=False, prog_name="daedalus-ctl")
    except Refused as refused:
        _complain(refused.error["code"], str(refused), refused.error["actor"])
        sys.exit(EXIT_CODES.get(refused.code, EXIT_FAILED))
    except click.ClickException as error:
        _complain_of_usage(error)
        sys.exit(EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_OK)


def _complain_of_usage(error: click.ClickException) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    message = " ".join(error.format_message().split()).removesuffix(".")
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    if context is not None and "--json" not in _arguments():
        message += f"; see {context.command_path} --help"
    _complain("usage", message, None)


def _complain(code: str | None, message: str, actor: str | None) -> None:
    if "--json" in _arguments():
        error = {"code": code, "message": message, "actor": actor}
        click.echo(json.dumps({"ok": False, "error": error}, ensure_ascii=False), err=True)
    else:
        click.echo(f"daedalus-ctl: {message}", err=True)


def _arguments() -> list[str]:
    """Return the words of the command line that can be options."""
    words = sys.argv[1:]
    return words[: words.index("--")] if "--" in words else words
