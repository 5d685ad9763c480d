"""`daedalus`: the tools around the data. Each command is a module, imported when it is used."""

import importlib
import importlib.util
import sys

import click

from daedalus.kernel.errors import EXIT_FAILED, DaedalusError

__all__ = ["main"]

# name -> module, which exports `command`, and the line that `--help` shows without importing it
_COMMANDS = {
    "convert": ("daedalus.cli.convert", "Turn segments of JSON lines into Parquet."),
    "coverage": ("daedalus.cli.coverage", "What was observed of a stream, and why not the rest."),
    "features": ("daedalus.cli.features", "What each column of features means."),
    "keys": ("daedalus.cli.keys", "Who may subscribe from another machine."),
    "query": ("daedalus.cli.query", "Ask the stored data in SQL."),
    "register": ("daedalus.cli.register", "What symbols are called on disk."),
    "simulate": ("daedalus.cli.simulate", "Be an exchange on loopback: recordings or a model."),
    "subscribe": ("daedalus.cli.subscribe", "Print live rows of features."),
    "sync": ("daedalus.cli.sync", "Send sealed segments to an object store."),
}


class _Lazy(click.Group):
    """Lists the commands that are built; imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        _ = ctx
        return [
            name for name, (module, _) in _COMMANDS.items() if importlib.util.find_spec(module) is not None
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="daedalus-marketdata", prog_name="daedalus")
def _group() -> None:
    """Look at live and stored market data. The runtime itself is `daedalus-supervisor` and `daedalus-ctl`."""


def main() -> None:
    """Run a command; an error addressed to a person becomes one line and exit 1."""
    try:
        _group()
    except DaedalusError as error:
        click.echo(f"daedalus: {error}", err=True)
        sys.exit(EXIT_FAILED)
