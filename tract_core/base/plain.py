"""Text of others, such as an id, where somebody looks at it: it is shown, and commands nothing."""

import re

_COMMANDS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, those that turn the direction of writing, and halves of surrogate pairs."""
_FORMULA = ("=", "+", "-", "@", "\t")


def visible(text: str) -> str:
    """The text with its control characters written out, as `\\x1b`: a terminal would obey them."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def cell(value: object) -> object:
    """A value for a CSV file: a text that a spreadsheet would take for a formula has a `'` before it."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
