"""`daedalus simulate`: exchanges on loopback, from recordings or from a model of order flow."""

import sys
from typing import TYPE_CHECKING

import click

from daedalus.kernel.errors import EXIT_FAILED, EXIT_USAGE, ConfigError

if TYPE_CHECKING:
    from daedalus.simulator.sources import Settings

__all__ = ["command"]

_HELP = """Be Binance spot and Coinbase Advanced Trade on loopback, for tests and demos.

Prints its addresses as one line of JSON when it listens, then plays until Ctrl-C.

\b
  daedalus simulate --recording btcusdt.gz:BTC/USDT --recording ethusdt.gz:ETH/USDT --speed 10
  daedalus simulate --model --symbols binance:BTC/USDT,coinbase:BTC/USD --rate 50 --seed 7

A recording is a file of lines `<receive time, ns> <message>`, plain or gzipped: Binance spot's combined
stream with one depth snapshot in it, or the Coinbase Exchange feed. Several files of one symbol are played
one after the other, several symbols side by side. It begins one second after the last of the symbols was
subscribed to (see --start), and when it has ended the sockets stay open.

Control: GET /ctl tells the state, POST /ctl takes {"cmd": "start"}, {"cmd": "pause"} and faults:

\b
  curl -d '{"fault": "freeze", "exchange": "binance", "for_s": 5}' http://127.0.0.1:PORT/ctl

The same orders come on schedule with --faults: from a file (NDJSON, or TOML with tables [[fault]], each
with at_s, the seconds since the playback began) or from a seed. docs/simulator.md explains each argument.

\b
%(menu)s

Exit codes: 0 told to stop, 1 the truth log cannot be written further, 2 bad usage or input, port in use
included.
"""


def _help() -> str:
    """Return the help with the menu of faults in it."""
    from textwrap import wrap

    from daedalus.simulator.menu import MENU

    lines = []
    for name, dish in MENU.items():
        known = ", ".join(dish.arguments)
        text = f"{dish.words} ({known})" if known else dish.words
        first, *rest = wrap(text, 82)
        lines += [f"  {name:<18} {first}", *(f"  {'':<18} {line}" for line in rest)]
    return _HELP % {"menu": "\n".join(lines)}


class _Simulate(click.Command):
    """Knows its help only when it is asked: what it costs to import is paid by who simulates."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the help."""
        self.help = _help()
        return super().get_help(ctx)


@click.command("simulate", cls=_Simulate, short_help="Be exchanges on loopback, for tests and demos.")
@click.option(
    "--recording",
    "recordings",
    multiple=True,
    metavar="FILE:SYMBOL",
    help="Play FILE as SYMBOL (BASE/QUOTE). Repeatable.",
)
@click.option("--model", is_flag=True, help="Play a seeded model of order flow.")
@click.option(
    "--symbols",
    default="",
    metavar="A,B",
    help="Symbols of the model, [EXCHANGE:]BASE/QUOTE; without EXCHANGE on both.",
)
@click.option(
    "--rate",
    default=20.0,
    show_default=True,
    metavar="N",
    help="Book updates per second and symbol of the model; trades come at a quarter of it.",
)
@click.option(
    "--seed", default=1, show_default=True, metavar="S", help="Of the model: same seed, same events."
)
@click.option("--speed", default=1.0, show_default=True, metavar="X", help="Seconds played in a second.")
@click.option(
    "--skip", "skip_s", default=0.0, metavar="SECONDS", help="Begin so far into the recordings, silently."
)
@click.option("--loop", is_flag=True, help="Begin recordings anew at their end; ids and times go on.")
@click.option(
    "--start",
    type=click.Choice(["auto", "immediately", "on-subscribe", "on-command"]),
    default="auto",
    show_default=True,
    help="When to begin. auto: recordings on-subscribe, the model immediately.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, metavar="P", help="Port to listen on; 0, the default, takes a free one.")
@click.option(
    "--truth", default="", metavar="FILE", help="Write what was sent, and the true books, as JSON lines."
)
@click.option(
    "--faults",
    default="",
    metavar="FILE|SEED",
    help="Faults on schedule: a file, or seed=N,every_s=1.5[,from_s=5][,until_s=600].",
)
def command(model: bool, symbols: str, **options: object) -> None:
    """Run the simulator until it is told to stop."""
    import asyncio

    import msgspec

    from daedalus.simulator.sources import Settings
    from daedalus.simulator.truth import TruthError

    names = tuple(name.strip() for name in symbols.split(",") if name.strip())
    if model != bool(names):
        raise click.UsageError("--model and --symbols A,B go together")
    settings = msgspec.convert(options | {"symbols": names}, Settings)
    try:
        asyncio.run(_serve(settings))
    except ConfigError as error:
        click.echo(f"daedalus simulate: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except TruthError as error:
        click.echo(f"daedalus simulate: {error}", err=True)
        sys.exit(EXIT_FAILED)


async def _serve(settings: "Settings") -> None:
    import asyncio
    import json
    import signal

    from daedalus.simulator.server import Server

    server = Server(settings)
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    try:
        click.echo(json.dumps(await server.start()))
        sys.stdout.flush()
        playing = loop.create_task(server.run())
        waiting = loop.create_task(told.wait())
        await asyncio.wait((playing, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if playing.done():
            playing.result()  # it ends only by failing
        playing.cancel()
    finally:
        await server.stop()
