"""`daedalus keys`: what it prints, what it writes, and how it exits."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from daedalus.actors import keyring
from daedalus.cli.keys import command
from daedalus.kernel.zap import public_of


def run(directory: Path | None, *arguments: str) -> tuple[int, str, str]:
    where = [] if directory is None else ["--keys-dir", str(directory)]
    result = CliRunner().invoke(command, [*arguments, *where])
    return result.exit_code, result.stdout, result.stderr


def test_make_prints_what_a_client_needs_and_the_secret_once(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, "make", "desk", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"name", "public", "secret", "server_key", "endpoint"}
    assert found["name"] == "desk"
    assert public_of(found["secret"]) == found["public"]
    assert found["server_key"] == public_of(keyring.server_secret(tmp_path))
    assert all(
        found["secret"] not in path.read_text(errors="replace")
        for path in tmp_path.rglob("*")
        if path.is_file()
    )
    code, out, _ = run(tmp_path, "make", "other")
    assert [line.split()[0] for line in out.splitlines()] == ["name", "public", "secret", "server_key"]


def test_make_writes_to_a_private_file_and_then_prints_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "desk.json"
    code, out, _ = run(tmp_path / "keys", "make", "desk", "--out", str(file))
    found = json.loads(file.read_text())
    assert code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert public_of(found["secret"]) == found["public"]
    assert found["secret"] not in out
    code, _, err = run(tmp_path / "keys", "make", "second", "--out", str(file))
    assert (code, "it exists" in err) == (1, True)
    code, _, err = run(tmp_path / "keys", "make", "third", "--out", str(tmp_path / "no/such/file"))
    assert (code, "cannot write the keys" in err) == (1, True)
    assert [key.name for key in keyring.clients(tmp_path / "keys")[0]] == ["desk"]


def test_list_and_revoke(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, "list", "--json")[1]) == {"keys": [], "faults": []}
    for name in ("b", "a"):
        assert run(tmp_path, "make", name)[0] == 0
    code, out, _ = run(tmp_path, "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["name", "a", "b"]
    keys = json.loads(run(tmp_path, "list", "--json")[1])["keys"]
    assert [set(key) for key in keys] == [{"name", "public", "made_at"}] * 2
    assert run(tmp_path, "revoke", "a")[:2] == (0, "revoked a\n")
    assert json.loads(run(tmp_path, "revoke", "b", "--json")[1]) == {"name": "b", "revoked": True}
    code, _, err = run(tmp_path, "revoke", "a")
    assert (code, err) == (1, f"daedalus: cannot revoke the key of a: there is none in {tmp_path}\n")


def test_a_damaged_key_is_told(tmp_path: Path) -> None:
    run(tmp_path, "make", "good")
    (tmp_path / "clients/bad.pub").write_text("nonsense")
    code, out, err = run(tmp_path, "list", "--json")
    assert code == 1
    assert [key["name"] for key in json.loads(out)["keys"]] == ["good"]
    assert "bad.pub: not 40 characters of Z85" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["make", "../x"], 2, "cannot name a key '../x'"),
        (["revoke", "../x"], 2, "cannot name a key '../x'"),
        (["make"], 2, "Missing argument"),
        (["make", "twice"], 1, "there is one in"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    run(tmp_path, "make", "twice")
    found, _, err = run(tmp_path, *arguments)
    assert (found, message in err) == (code, True)


def test_the_file_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "supervisor.toml"
    channels = (
        '[exchanges.coinbase]\nadapter = "native"\n[exchanges.coinbase.channels]\ntrades = ["BTC/USD"]\n'
    )
    file.write_text(f'[gateway]\ntcp = "tcp://0.0.0.0:5555"\nkeys_dir = "{tmp_path}/k"\n{channels}')
    code, out, _ = run(None, "make", "desk", "--json")
    assert (code, json.loads(out)["endpoint"]) == (0, "tcp://0.0.0.0:5555")
    assert (tmp_path / "k/clients/desk.pub").exists()
    file.write_text(channels)
    code, _, err = run(None, "list", "--config", str(file))
    assert (code, "set keys_dir in [gateway]" in err) == (2, True)
    file.write_text("[gatewai]\n")
    code, _, err = run(None, "list")
    assert (code, "unknown key 'gatewai'" in err) == (2, True)
