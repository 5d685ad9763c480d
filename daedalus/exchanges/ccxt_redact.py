"""Secrets out of texts. ccxt's exceptions quote the request: its URL with signature and key, its headers.

Every text of ccxt's goes through here before it becomes a log line or the `detail` of a gap row. Pure.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote

from daedalus.exchanges.redact import USER_INFO

__all__ = ["Redactor"]

_HIDDEN = "***"
_SHORTEST = 4  # characters: a shorter value would blot out innocent words
_WORDS = (
    r"signature|sign|api[-_]?key|access[-_]?key|apisecret|secret(?:key)?|passphrase|password|jwt|listen[-_]?key"
    r"|private[-_]?key|auth(?:orization)?|[a-z0-9_-]*(?:apikey|access-key|access-sign|access-passphrase|token)"
)
# name=value of a query, "name": "value" of JSON, 'Name': 'value' of headers
_NAMED = re.compile(rf"(?i)(?<![a-z0-9])({_WORDS})(['\"]?\s*[=:]\s*['\"]?)(?:bearer\s+)?([^\s&'\",}}]+)")
_BEARER = re.compile(r"(?i)\bbearer\s+[a-z0-9._~+/=-]+")
_JWT = re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]+)?")
_PEM = re.compile(r"-----BEGIN[^-]*-----.*?(?:-----END[^-]*-----|\Z)", re.DOTALL)


class Redactor:
    """Hides the given values wherever they stand, and whatever is named like a secret.

    >>> Redactor(["k3y-0f-mine"])("GET https://u:pw@x/api?apiKey=abc&symbol=BTC {'X': 'k3y-0f-mine'}")
    "GET https://***@x/api?apiKey=***&symbol=BTC {'X': '***'}"
    """

    def __init__(self, secrets: Iterable[object] = ()) -> None:
        """Take the values; None and short ones are left out."""
        texts = {text for text in secrets if isinstance(text, str) and len(text) >= _SHORTEST}
        forms = texts | {quote(text, safe="") for text in texts}
        forms |= {text.replace("\n", "\\n") for text in texts}
        self._values = sorted(forms, key=len, reverse=True)  # the longest first: one may hold another

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        for value in self._values:
            if value in text:
                text = text.replace(value, _HIDDEN)
        text = _PEM.sub(_HIDDEN, text)
        text = _NAMED.sub(rf"\1\2{_HIDDEN}", text)
        text = _BEARER.sub(_HIDDEN, text)
        text = _JWT.sub(_HIDDEN, text)
        return USER_INFO.sub(f"{_HIDDEN}@", text)

    def error(self, error: BaseException, length: int = 300) -> str:
        """Return what an exception says: class and text, at most `length` characters."""
        return f"{type(error).__name__}: {self(str(error))}"[:length]
