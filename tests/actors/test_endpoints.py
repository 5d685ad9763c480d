"""Names below the runtime directory: they are a contract between processes, so they are spelled out here."""

import subprocess
import sys

import pytest

from daedalus.actors import endpoints


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (endpoints.link("/run/d", "orderbook"), "ipc:///run/d/link-orderbook.sock"),
        (endpoints.pub("/run/d", "binance"), "ipc:///run/d/pub-binance.sock"),
        (endpoints.replay("/run/d", "binance"), "ipc:///run/d/replay-binance.sock"),
        (endpoints.gateway_in("/run/d"), "ipc:///run/d/gateway-in.sock"),
        (endpoints.gateway("/run/d"), "ipc:///run/d/gateway.sock"),
        (endpoints.gateway_req("/run/d"), "ipc:///run/d/gateway.sock.req"),
        (endpoints.control("/run/d"), "/run/d/control.sock"),
        (endpoints.notify("/run/d"), "/run/d/notify.sock"),
        (endpoints.spool("/run/d", "binance", "trades"), "/run/d/spool/binance-trades.spool"),
    ],
)
def test_every_endpoint_has_the_name_of_the_architecture_page(address: str, expected: str) -> None:
    assert address == expected


def test_a_path_that_does_not_fit_in_a_socket_address_names_length_and_bound() -> None:
    runtime = "/" + "x" * 96
    with pytest.raises(ValueError, match=r"113 bytes, at most 107; choose a shorter runtime directory"):
        endpoints.gateway(runtime + "yyy")
    assert endpoints.gateway("/" + "x" * 93).endswith("/gateway.sock")


def test_a_path_of_exactly_107_bytes_fits() -> None:
    runtime = "/" + "x" * (107 - 1 - len("/gateway.sock"))
    assert len(endpoints.gateway(runtime)) == 107 + len("ipc://")
    with pytest.raises(ValueError, match="108 bytes"):
        endpoints.gateway(runtime + "x")


def test_paths_do_not_load_zmq() -> None:
    code = "import sys, daedalus.actors.endpoints as e; e.control('/r'); print('zmq' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
