"""Keys: where they come from, that they are never shown, and what they sign."""

import base64
import json
import pickle
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from daedalus.exchanges.adapter import Send
from daedalus.exchanges.coinbase import CoinbaseAdapter
from daedalus.exchanges.credentials import Credentials, load_credentials
from daedalus.exchanges.jwt import Signer

NAME = "organizations/o/apiKeys/k"
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_without_a_key_there_are_no_credentials() -> None:
    assert load_credentials("coinbase", environ={}) is None


def test_the_environment_outranks_the_files(tmp_path: Path) -> None:
    key, secret = written(tmp_path / "k", "file key\n"), written(tmp_path / "s", PEM)
    assert load_credentials("coinbase", key, secret, {}) == Credentials("file key", PEM.strip())
    environ = {"DAEDALUS_MY_COINBASE_API_KEY": "e", "DAEDALUS_MY_COINBASE_API_SECRET": r"line\nline"}
    assert load_credentials("my-coinbase", key, secret, environ) == Credentials("e", "line\nline")


@pytest.mark.parametrize("both", [True, False])
def test_the_file_of_the_developer_platform_holds_both(tmp_path: Path, both: bool) -> None:
    file = written(tmp_path / "cdp.json", json.dumps({"name": NAME, "privateKey": PEM}))
    assert load_credentials("coinbase", file, file if both else "", {}) == Credentials(NAME, PEM)
    assert load_credentials("coinbase", "", file, {}) == Credentials(NAME, PEM)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_d29_a_file_that_others_may_read_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    key = written(tmp_path / "k", "the key itself", mode)
    secret = written(tmp_path / "s", "the secret itself")
    assert load_credentials("coinbase", key, secret, {}) is not None
    told = "".join(capsys.readouterr())
    assert told.count("secret_file_exposed") == 1
    assert f"{mode:04o}" in told
    assert "itself" not in told


def test_d29_no_message_has_a_value_in_it(tmp_path: Path) -> None:
    secret = written(tmp_path / "s", "hidden")
    cases = [
        ("", secret, "there is a secret but no key"),
        (secret, "", "there is a key but no secret"),
        (written(tmp_path / "j", '{"name": "hidden"}'), "", "JSON must have the texts name and privateKey"),
        (str(tmp_path / "none"), "", "FileNotFoundError"),
        (written(tmp_path / "long", "hidden" * 20_000), "", "longer than 65536 bytes"),
    ]
    for key_file, secret_file, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            load_credentials("coinbase", key_file, secret_file, {})
        assert "hidden" not in "".join(traceback.format_exception(caught.value))


def test_d29_credentials_and_signers_do_not_show_themselves() -> None:
    from rich.pretty import pretty_repr

    credentials = Credentials("hidden", PEM)
    for shown in (repr(credentials), str(credentials), f"{[credentials]}", pretty_repr(credentials)):
        assert "hidden" not in shown
        assert "BEGIN" not in shown
    assert repr(Signer(credentials)) == "Signer(<redacted>)"
    assert pickle.loads(pickle.dumps(credentials)) == credentials


def decoded(part: str) -> dict[str, object]:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))  # type: ignore[no-any-return]


def test_a_token_is_signed_es256_and_lives_for_two_minutes() -> None:
    signer = Signer(Credentials(NAME, PEM))
    token = signer.token(datetime(2026, 1, 1, tzinfo=UTC))
    header, claims, signature = token.split(".")
    nonce = decoded(header).pop("nonce")
    assert decoded(header) == {"alg": "ES256", "typ": "JWT", "kid": NAME, "nonce": nonce}
    assert len(str(nonce)) == 32
    assert decoded(claims) == {"iss": "cdp", "sub": NAME, "nbf": 1_767_225_600, "exp": 1_767_225_720}
    raw = base64.urlsafe_b64decode(signature + "==")
    assert len(raw) == 64
    both = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    KEY.public_key().verify(both, f"{header}.{claims}".encode(), ec.ECDSA(SHA256()))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "hidden",
        PEM.replace("M", "N"),
        ec.generate_private_key(ec.SECP384R1())
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode(),
    ],
)
def test_d29_a_secret_that_cannot_sign_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="EC private key on P-256 in PEM") as caught:
        CoinbaseAdapter({"trades": ["BTC/USD"]}, credentials=Credentials(NAME, secret))
    told = "".join(traceback.format_exception(caught.value))
    assert not secret.strip() or secret.splitlines()[-1] not in told


def test_every_subscription_has_a_token_of_its_own() -> None:
    adapter = CoinbaseAdapter({"trades": ["BTC/USD"]}, credentials=Credentials(NAME, PEM))
    tokens = [
        json.loads(item.data)["jwt"]
        for _ in range(2)
        for item in adapter.subscribe()
        if isinstance(item, Send)
    ]
    assert len(set(tokens)) == len(tokens) == 4
    public = CoinbaseAdapter({"trades": ["BTC/USD"]})
    assert all("jwt" not in json.loads(item.data) for item in public.subscribe() if isinstance(item, Send))
