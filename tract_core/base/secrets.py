"""Credentials of URLs and of the environment, kept out of what a stage writes to its output."""

import base64
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_SECRET = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET)S?(?:_|$)|APIKEY|PASSWORD|PASSWD|PASSPHRASE", flags=re.IGNORECASE)


def without_secrets(text: str) -> str:
    """The text without the user and password of URLs, and without the secrets of the environment.

    Those are the values of variables named as secrets, and users with passwords in URLs of any variable, such as a
    proxy's. Libraries and servers put them into their messages, also encoded for a URL or a header.
    """
    forms = [(form, name) for name, value in _secrets() for form in _forms(value)]
    for form, name in sorted(forms, key=lambda one: -len(one[0])):  # one secret may stand inside of another
        text = text.replace(form, f"[{name}]")
    return _CREDENTIALS.sub("***", text)


def _secrets() -> Iterator[tuple[str, str]]:
    """Names and values; short values would tear ordinary words apart."""
    for name, value in os.environ.items():
        found = [value] if _SECRET.search(name) else []
        for credentials in _CREDENTIALS.findall(value):
            for plain in (credentials, unquote(credentials)):
                found += [plain, plain.partition(":")[2]]
        yield from ((name, secret) for secret in found if len(secret) >= 8)


def _forms(value: str) -> set[str]:
    """As it is, in a URL, and in base64 (after `Basic` in a header)."""
    encoded = base64.b64encode(value.encode(errors="surrogateescape")).decode().rstrip("=")
    return {
        value,
        quote(value, safe="", errors="surrogateescape"),
        quote_plus(value, errors="surrogateescape"),
        encoded,
    }
