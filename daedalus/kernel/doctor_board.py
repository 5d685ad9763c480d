"""The board and its system services, as the doctor sees them: watchdog, journal, power and heat.

Rows are (name, level, value, advice), as `doctor.Check` takes them.
"""

from pathlib import Path
from typing import Literal

__all__ = ["decode_throttled", "examine"]

_Row = tuple[str, Literal["ok", "warn", "bad", "unknown"], str, str]

HOT_C = 80.0  # a Pi begins to slow down here
VCGENCMD_TIMEOUT_S = 2.0
_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_JOURNAL_FOLDERS = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")


def examine(root: Path) -> list[_Row]:
    """Return the rows of the board, in a fixed order. Never raises."""
    return [_watchdog(root), _journal(root), _throttling(root), _temperature(root)]


def _watchdog(root: Path) -> _Row:
    state = _text(root / "sys/class/watchdog/watchdog0/state")
    if state is None and not (root / "dev/watchdog0").exists():
        return (
            "watchdog",
            "warn",
            "none",
            "a hung kernel stays hung: on a Pi set dtparam=watchdog=on in config.txt",
        )
    if state == "active":
        timeout = _text(root / "sys/class/watchdog/watchdog0/timeout")
        return "watchdog", "ok", "active" if timeout is None else f"active, {timeout} s", ""
    return (
        "watchdog",
        "warn",
        state or "present, nobody feeds it",
        "set RuntimeWatchdogSec=15s in /etc/systemd/system.conf.d/",
    )


def _journal(root: Path) -> _Row:
    """Where journald keeps its files. `auto`, its own default, means: on the disk if there is a directory."""
    if not (root / "run/systemd/journal").is_dir():
        return "journal", "unknown", "no journald", ""
    settings = _journal_settings(root)
    storage = settings.get("Storage", "auto")
    on_disk = storage == "persistent" or (storage == "auto" and (root / "var/log/journal").is_dir())
    value = storage if storage != "auto" else f"auto: {'persistent' if on_disk else 'volatile'}"
    if not on_disk:
        return "journal", "ok", f"{value} (a reboot loses it)", ""
    if "SystemMaxUse" in settings:
        return "journal", "ok", f"{value}, at most {settings['SystemMaxUse']}", ""
    return (
        "journal",
        "warn",
        f"{value}, no bound",
        "spare the card: in /etc/systemd/journald.conf.d/ set Storage=volatile, or SystemMaxUse=50M",
    )


def _journal_settings(root: Path) -> dict[str, str]:
    """Return journald's settings: the main file, then drop-ins by name; an empty value is the default.

    A drop-in hides those of the same name in folders of lower rank, as systemd has it.
    """
    main: Path | None = None
    drop_ins: dict[str, Path] = {}
    for folder in _JOURNAL_FOLDERS:
        found = root / folder / "journald.conf"
        main = found if found.exists() else main
        try:
            drop_ins |= {path.name: path for path in (root / folder / "journald.conf.d").glob("*.conf")}
        except OSError:
            continue
    settings: dict[str, str] = {}
    for path in ([main] if main else []) + [drop_ins[name] for name in sorted(drop_ins)]:
        for line in (_text(path) or "").splitlines():
            key, separator, value = line.partition("=")
            if separator and not key.lstrip().startswith(("#", ";")):
                settings[key.strip()] = value.strip()
    return {key: value for key, value in settings.items() if value}


def _throttling(root: Path) -> _Row:
    import subprocess

    program = root / "usr/bin/vcgencmd"
    if not program.exists():
        return "throttling", "unknown", "no vcgencmd: not a Raspberry Pi", ""
    try:
        done = subprocess.run(  # noqa: S603 - an absolute path, fixed words
            [str(program), "get_throttled"],
            capture_output=True,
            text=True,
            timeout=VCGENCMD_TIMEOUT_S,
            check=False,
        )
        bits = int(done.stdout.strip().removeprefix("throttled="), 16)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return "throttling", "unknown", "vcgencmd does not say", "add the user to the group `video`"
    now, since = decode_throttled(bits)
    advice = ""
    if "under-voltage" in now + since:
        advice = "use the 5.1 V supply of the board and a short cable: a sag looks like a hang"
    elif now or since:
        advice = "cool the board: throttling delays every actor"
    if now:
        return "throttling", "bad", f"now: {', '.join(now)}", advice
    if since:
        return "throttling", "warn", f"since the start: {', '.join(since)}", advice
    return "throttling", "ok", "never", ""


def decode_throttled(bits: int) -> tuple[list[str], list[str]]:
    """Return what holds now and what has occurred since the start, of `vcgencmd get_throttled`.

    Bits 0 to 3 are now, 16 to 19 the same since boot (Raspberry Pi documentation, computers/os).
    """
    now = [name for bit, name in _NOW.items() if bits >> bit & 1]
    since = [name for bit, name in _NOW.items() if bits >> (bit + 16) & 1]
    return now, since


def _temperature(root: Path) -> _Row:
    text = _text(root / "sys/class/thermal/thermal_zone0/temp")
    try:
        celsius = int(text or "") / 1000.0
    except ValueError:
        return "temperature", "unknown", "no sensor", ""
    if celsius >= HOT_C:
        return (
            "temperature",
            "warn",
            f"{celsius:.0f} °C",
            f"cool the board: it slows down from {HOT_C:.0f} °C",
        )
    return "temperature", "ok", f"{celsius:.0f} °C", ""


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None
