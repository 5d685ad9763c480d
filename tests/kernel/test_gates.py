"""Gates: what opens each kind."""

from pathlib import Path

import pytest

from daedalus.kernel import timesync
from daedalus.kernel.errors import ConfigError
from daedalus.kernel.gates import Gate, is_open, parse, shut

ROUTE_4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
DEFAULT_4 = "eth0\t00000000\t010200C0\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n"
ZERO = "0" * 32
NO_ROUTE_6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"
DEFAULT_6 = f"{ZERO} 00 {ZERO} 00 fe80{'0' * 27}1 00000400 00000002 00000000 00450003     eth0\n"


def nobody(_name: str) -> str | None:
    return None


def put(root: Path, path: str, text: str = "") -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


# --- what a gate is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("time-sync", Gate("time-sync")),
        ("net:default-route", Gate("net")),
        ("path:/dev/ttyUSB0", Gate("path", "/dev/ttyUSB0")),
        ("path:/dev/by-id/a:b=c", Gate("path", "/dev/by-id/a:b=c")),
        ("actor:store/writer=running", Gate("actor", "store/writer")),
        ("actor:a=b=running", Gate("actor", "a=b")),
    ],
)
def test_each_form_is_read(text: str, gate: Gate) -> None:
    assert parse(text) == gate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "time-sync:",
        "timesync",
        "path:",
        "path:dev/x",
        "path:/a\0b",
        "net:",
        "net:eth0",
        "actor:a",
        "actor:=running",
        "actor:a=stopped",
        "file:/x",
    ],
)
def test_anything_else_is_a_fault_that_names_the_forms(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot read the gate .* must be one of time-sync, path:/ABSOLUTE"
    ):
        parse(text)


# --- what opens it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "expected"),
    [("running", True), ("degraded", True), ("starting", False), ("stopped", False), (None, False)],
)
def test_an_actor_opens_its_gate_when_it_is_ready(state: str | None, expected: bool) -> None:
    asked: list[str] = []
    assert is_open(parse("actor:a=running"), lambda name: asked.append(name) or state) is expected
    assert asked == ["a"]


def test_a_path_opens_its_gate_by_being_there(tmp_path: Path) -> None:
    gate = parse("path:/dev/x")
    assert not is_open(gate, nobody, tmp_path)
    put(tmp_path, "/dev/x")
    assert is_open(gate, nobody, tmp_path)
    (tmp_path / "dev/x").unlink()
    (tmp_path / "dev/x").symlink_to("gone")
    assert not is_open(gate, nobody, tmp_path)


def test_the_clock_opens_its_gate_by_word_of_timesyncd_or_of_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timesync, "_kernel_says_so", lambda: False)
    assert not is_open(parse("time-sync"), nobody, tmp_path)
    put(tmp_path, "/run/systemd/timesync/synchronized")
    assert is_open(parse("time-sync"), nobody, tmp_path)
    monkeypatch.setattr(timesync, "_kernel_says_so", lambda: True)
    assert is_open(parse("time-sync"), nobody, tmp_path / "elsewhere")


def test_the_kernel_can_be_asked_about_the_clock() -> None:
    assert timesync._kernel_says_so() in (True, False)


@pytest.mark.parametrize(
    ("v4", "v6", "expected"),
    [
        (None, None, False),
        (ROUTE_4, NO_ROUTE_6, False),
        (ROUTE_4 + DEFAULT_4.format(flags="0003", mask="00000000"), None, True),
        (ROUTE_4 + DEFAULT_4.format(flags="0001", mask="00000000"), None, True),  # a tunnel has no gateway
        (ROUTE_4 + DEFAULT_4.format(flags="0002", mask="00000000"), None, False),  # not up
        (ROUTE_4 + DEFAULT_4.format(flags="0201", mask="00000000"), None, False),  # refuses
        (ROUTE_4 + DEFAULT_4.format(flags="0003", mask="00000080"), None, False),  # half of the world
        (ROUTE_4, NO_ROUTE_6 + DEFAULT_6, True),
        (None, DEFAULT_6.replace("eth0", "lo"), False),
        ("", "damaged line\n", False),
    ],
)
def test_only_a_default_route_that_leads_out_opens_the_gate(
    tmp_path: Path, v4: str | None, v6: str | None, expected: bool
) -> None:
    if v4 is not None:
        put(tmp_path, "/proc/net/route", v4)
    if v6 is not None:
        put(tmp_path, "/proc/net/ipv6_route", v6)
    assert is_open(parse("net:default-route"), nobody, tmp_path) is expected


def test_shut_names_those_still_shut_in_the_order_given(tmp_path: Path) -> None:
    put(tmp_path, "/dev/b")
    requires = ("path:/dev/c", "actor:a=running", "path:/dev/b", "path:/dev/a")
    states = {"a": "running"}
    assert shut(requires, states.get, tmp_path) == ("path:/dev/c", "path:/dev/a")
    assert shut((), nobody, tmp_path) == ()
