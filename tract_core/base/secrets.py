"""Credentials of URLs and of the environment, kept out of what a stage writes to its output."""

import base64
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

_CREDENTIALS = re.compile(r"""(?<=://)(?:[^\s/@:]*:(?:(?!://)[^\s"'<>])*|[^\s/]+)(?=@)""")
"""User and password of a URL, up to its last `@`: a password may hold `@` and `/`, although it should be encoded.

So `http://host:80/a@b` is hidden, too; it could be a password as well.
"""
_QUERY = re.compile(
    r"""(?<=[?&;])((?:[\w.-]{0,50}(?:key|token|secret|passw|passphrase|pwd|signature|credential|auth)[\w.-]{0,50}"""
    r"""|sig|pass|pat)=)([^\s&;#"'<>]+)""",
    flags=re.IGNORECASE,
)
"""A secret in the query of a URL: its name, and its value."""
_SECRET = re.compile(
    r"(?:^|_)(?:KEY|TOKEN|SECRET|PAT|PASS|CREDENTIAL)S?(?:_|$)|_PWD(?:_|$)|APIKEY|PASSWORD|PASSWD|PASSPHRASE",
    flags=re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """The text without user, password and secrets in the query of URLs, and without the secrets of the environment.

    Those are the values of variables named as secrets, and what is secret in the URLs of any variable, such as a
    proxy's. Libraries and servers put them into their messages, also encoded for a URL or a header.
    """
    forms = [(form, name) for name, value in _secrets() for form in _forms(value)]
    for form, name in sorted(forms, key=lambda one: -len(one[0])):  # one secret may stand inside of another
        text = text.replace(form, f"[{name}]")
    return _QUERY.sub(r"\1***", _CREDENTIALS.sub("***", text))


def _secrets() -> Iterator[tuple[str, str]]:
    """Names and values; short values would tear ordinary words apart."""
    for name, value in os.environ.items():
        found = [value] if _SECRET.search(name) else []
        for credentials in _CREDENTIALS.findall(value):
            for plain in (credentials, unquote(credentials)):
                found += [plain, plain.partition(":")[2]]
        found += [form for _, hidden in _QUERY.findall(value) for form in (hidden, unquote(hidden))]
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
