"""The user part of addresses out of texts: a proxy's password, as libraries quote it in their errors.

Every error text of a native connection goes through `redacted` before it becomes a log line or the `detail`
of a gap row. Pure but for the environment, which names the proxies.
"""

import os
import re

__all__ = ["PROXIES", "USER_INFO", "redacted"]

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
USER_INFO = re.compile(r"(?<=://)[^/\s]+@")
_HIDDEN = "***"


def redacted(text: str) -> str:
    """Return a text without the user and the password of any address in it.

    >>> redacted("407, url='http://joe:pass@w0rd@proxy.example:3128'")
    "407, url='http://***@proxy.example:3128'"
    """
    for name in PROXIES:  # one that is no proper address, a slash in its password, is quoted as it stands
        user, at, _ = os.environ.get(name, "").rpartition("@")
        user = user.rpartition("://")[2]
        if at and user:
            text = text.replace(user + at, _HIDDEN + at)
    return USER_INFO.sub(f"{_HIDDEN}@", text)
