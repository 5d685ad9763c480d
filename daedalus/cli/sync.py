"""`daedalus sync`: what the syncer actor does, by hand."""

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daedalus.kernel.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from daedalus.actors.syncer import Settings
    from daedalus.dataset.sync import Round

__all__ = ["command"]

_ERRORS_SHOWN = 8


@click.command("sync")
@click.option("--mode", type=click.Choice(["once", "continuous"]), default="once", show_default=True)
@click.option("--interval", type=click.FloatRange(min=1), help="Seconds between rounds of --mode continuous.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")
@click.option("--config", type=click.Path(), help="supervisor.toml; its [sync] table says where to.")
@click.option("--data", type=click.Path(), help="Data directory, over the file's.")
@click.option("--bucket", help="A bucket, over the file's [sync].")
@click.option("--prefix", help="Keys begin with it.")
@click.option("--endpoint-url", help="Another store than AWS.")
@click.option("--region")
@click.option("--path-style", is_flag=True, default=None, help="Bucket in the path, not in the host.")
@click.option("--ca-file", help="Certificates to trust.")
@click.option("--checksum", type=click.Choice(["when_supported", "when_required"]))
@click.option("--max-workers", type=click.IntRange(1, 64), help="Files under way at once.")
@click.option("--multipart-mb", type=click.IntRange(5, 5000), help="Larger files go in parts of this size.")
def command(mode: str, interval: float | None, config: str | None, *, dry_run: bool, **given: Any) -> None:
    """Send sealed segments to an object store, verify each, and note it in the manifest.

    Local files are never removed. Credentials come from the environment or the files of AWS tools. Exits 1
    if a file could not be sent.
    """
    overrides = {name: value for name, value in given.items() if value is not None}
    if interval is not None:
        overrides["interval_s"] = interval
    settings = _settings(config, overrides)
    if not Path(settings.data).is_dir():
        raise click.ClickException(f"cannot sync {settings.data}: no such directory")
    if dry_run:
        _preview(settings)
        return
    sys.exit(_send(settings, mode))


def _settings(config: str | None, overrides: dict[str, Any]) -> "Settings":
    """The file's [sync], where there is one and it is enabled, below what the command line says."""
    import msgspec

    from daedalus.actors.syncer import Settings

    base: dict[str, Any] = {}
    if config is not None or "bucket" not in overrides:
        from daedalus.config import load

        tree = load(config, data=overrides.get("data"))
        base = {"data": tree.data}
        for spec in tree.actors:
            if spec.role == "syncer":
                base |= msgspec.msgpack.decode(spec.settings)
    merged = {"data": "./data"} | base | overrides
    if not merged.get("bucket"):
        raise click.UsageError("cannot sync: no bucket; set [sync] enabled and bucket, or give --bucket")
    merged["data"] = str(Path(merged["data"]).resolve())
    return Settings(**merged)


def _preview(settings: "Settings") -> None:
    from daedalus.actors.syncer import target_of
    from daedalus.dataset.layout import Layout
    from daedalus.dataset.sync import Manifest, key_of, local_files, plan

    layout = Layout(data=settings.data)
    done = Manifest.peek(layout.state() / "sync" / "manifest.jsonl", target_of(settings))
    todo = plan(local_files(layout), done)
    for item in todo:
        click.echo(f"{item.size:>12} {key_of(settings.prefix, item.path)}")
    click.echo(
        f"{len(todo)} files, {sum(item.size for item in todo)} bytes to {target_of(settings)}", err=True
    )


def _send(settings: "Settings", mode: str) -> int:
    from daedalus.actors.syncer import shipment
    from daedalus.dataset.sync import sync_once

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        opened = shipment(settings, stop)
    except ValueError as error:
        raise click.UsageError(f"cannot sync: {error}") from error
    terminal = sys.stderr.isatty()
    while True:
        found = sync_once(opened, settings.max_workers, _progress if terminal else lambda _: None)
        _conclude(found)
        if mode == "once" or stop.wait(settings.interval_s):
            break
    opened.manifest.close()
    return EXIT_FAILED if found.failed or (found.pending and mode == "once") else EXIT_OK


def _progress(found: "Round") -> None:
    click.echo(f"\r{found.uploaded} sent, {found.pending} to go, {found.failed} failed ", nl=False, err=True)


def _conclude(found: "Round") -> None:
    for error in found.errors[:_ERRORS_SHOWN]:
        click.echo(f"daedalus: {error}", err=True)
    click.echo(
        f"{found.uploaded} files ({found.uploaded_bytes} bytes) sent, {found.present} were there, "
        f"{found.failed} failed, {found.pending} to go"
    )
