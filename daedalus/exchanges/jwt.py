"""The token that signs a Coinbase subscription: a JWT, ES256, of two minutes, made anew for every message.

With a key the exchange lets a connection send more; what it sends is the same public data. The library that
signs comes with ccxt and is imported only where there is a key.

Source: docs.cdp.coinbase.com, JWT authentication; RFC 7515 (ES256 is r and s, 32 bytes each, not DER).
"""

import secrets
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from daedalus.exchanges.credentials import Credentials

__all__ = ["LIFETIME_S", "Signer"]

LIFETIME_S = 120
_CURVE_BITS = 256
_HALF = 32  # bytes of r, and of s


class Signer:
    """Makes tokens with one key."""

    def __init__(self, credentials: "Credentials") -> None:
        """Read the key.

        Raises:
            ValueError: the secret is not an EC private key on P-256 in PEM. The message has none of it.
        """
        self._name = credentials.key
        self._key = _load(credentials.secret)

    def __repr__(self) -> str:
        """Return a text without the key."""
        return "Signer(<redacted>)"

    def token(self, now: datetime | None = None) -> str:
        """Return a token that is valid from `now` (None: the present) for two minutes."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        seconds = int((now or datetime.now(UTC)).timestamp())
        header = {"alg": "ES256", "typ": "JWT", "kid": self._name, "nonce": secrets.token_hex(16)}
        claims = {"iss": "cdp", "sub": self._name, "nbf": seconds, "exp": seconds + LIFETIME_S}
        body = _base64(msgspec.json.encode(header)) + b"." + _base64(msgspec.json.encode(claims))
        r, s = decode_dss_signature(self._key.sign(body, ECDSA(SHA256())))
        return (body + b"." + _base64(r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big"))).decode()


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _load(pem: str) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    refused = "cannot sign with this secret: it must be an EC private key on P-256 in PEM"
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise ValueError(refused) from None  # the cause could quote the secret
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.key_size != _CURVE_BITS:
        raise ValueError(refused)
    return key
