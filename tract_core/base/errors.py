"""What stage scripts turn into an exit code: 2 for what the user can fix, 128 + n after signal n."""

import base64
import errno
import os
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote, quote_plus, unquote

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_SECRET = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET)S?(?:_|$)|APIKEY|PASSWORD|PASSWD|PASSPHRASE", flags=re.IGNORECASE)
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "unexpected pos")
"""Texts of the system, which safetensors passes on, and of torch, which notices that its file is too short."""


class UserError(ValueError):
    """Bad parameters, data, model or environment: the message says what, where and the remedy."""


class DiskFullError(UserError):
    """There was no room for a file; what stood at its place before is whole."""


class SignalError(BaseException):
    """A signal ended the work at a point from which the next run goes on; stage scripts exit 128 + its number.

    As with KeyboardInterrupt, no handler of ordinary errors takes it for one.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def is_disk_full(error: BaseException) -> bool:
    """Whether it says that there is no room. Libraries wrap the system's error in their own, with its text at best."""
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return True
    return any(text in str(error) for text in _FULL)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out: torch has a class for it on a GPU, and a text on a CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def list_some(lines: Sequence[str], *, limit: int = 20) -> str:
    """The first `limit` lines, one per line, and how many more there are."""
    shown = [f"  {line}" for line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"  ... and {len(lines) - limit} more")
    return "\n".join(shown)


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
    """As it is, in a URL, and in base64 (behind `Basic` in a header)."""
    encoded = base64.b64encode(value.encode(errors="surrogateescape")).decode().rstrip("=")
    return {
        value,
        quote(value, safe="", errors="surrogateescape"),
        quote_plus(value, errors="surrogateescape"),
        encoded,
    }
