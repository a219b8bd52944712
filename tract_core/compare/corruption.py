"""How often generated CoTs go wrong, and in which way (section 6.3 and appendix C): pure functions over rows.

The rows are those of the tables `cots` and `predictions`. A CoT can go wrong in several ways at once, so the
shares need not add up to one. `status` names one way only, so the kinds are read from `finish_reason` and the
text: a CoT that ends at once is both `empty` and `no_delimiter`.

    no_delimiter    it ended by itself without the delimiter
    truncated       it was cut at the longest length allowed
    empty           it holds no text
    stray_score     "(Score n)" in the text, n a label of the scale
    stray_bracket   "[n]" in the text, n a label of the scale, or "[RESULT]"
    loop            `repeats` finds a repetition
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tract_core.base.tables import Record

KINDS = ("no_delimiter", "truncated", "empty", "stray_score", "stray_bracket", "loop")

_MIN_WORDS, _MAX_WORDS, _TIMES = 4, 64, 4
_EXAMPLES_PER_KIND = 3
_SHOWN = 400


def repeats(text: str) -> bool:
    """Whether some sequence of 4 to 64 words stands at least 4 times in a row, word for word.

    Words are what white space separates. Honest feedback may say a phrase two or three times, and lists
    repeat single words, so both numbers are 4. The upper limit keeps the time proportional to the length of
    the text; it covers a loop over several sentences. Compressibility would be as fast, but depends on
    length and language, and its threshold says nothing to a reader.
    """
    words = text.split()
    # A loop says its first four words four times; almost no honest text repeats even one run of four.
    starts = list(zip(*(words[i:] for i in range(_MIN_WORDS)), strict=False))
    if len(starts) - len(set(starts)) < _TIMES - 1:
        return False
    longest = min(_MAX_WORDS, len(words) // _TIMES)
    return any(_stands_in_a_row(words, period) for period in range(_MIN_WORDS, longest + 1))


def kinds(row: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    """The ways in which one CoT is corrupted, in the order of `KINDS`; none for a request that failed.

    Args:
        row: with `status`, `finish_reason` (see `engine.base.Sample`) and `cot`. With status `ok` no delimiter
            is missed: a judge that decodes freely (row B.5) has written its score without one. With
            `finish_reason` `given` the model wrote nothing, so an empty text is no fault of its own.
        labels: str(y) of each score of Y.
    """
    reason, text, unfinished = row["finish_reason"], row["cot"], row["status"] != "ok"
    if reason.startswith("error"):
        return []
    label = "|".join(re.escape(name) for name in labels)
    found = {
        "no_delimiter": unfinished and reason == "end",
        "truncated": unfinished and reason == "length",
        "empty": reason != "given" and not text.strip(),
        "stray_score": _has(rf"\(\s*(?i:score(?:\s+of|\s*:)?)\s*(?:{label})\s*\)", text),
        "stray_bracket": _has(rf"\[\s*(?:{label}|(?i:RESULT))\s*\]", text),
        "loop": repeats(text),
    }
    return [kind for kind in KINDS if found[kind]]


def rates(rows: Iterable[Record], labels: Sequence[str]) -> dict[str, Any]:
    """The share of the rows that has each kind, with the first few CoTs of each kind to look at.

    Args:
        rows: rows of `cots` or `predictions`, failed requests included; they are read once.
        labels: str(y) of each score of Y.

    Returns:
        `n`; for each kind, and for `error` (failed requests), the share over all n rows, None where there
        are no rows; `reason` then; `examples` with `id`, `kind` and `cot` (at most 400 characters of it).
    """
    n, counts = 0, Counter[str]()
    examples: dict[str, list[dict[str, str]]] = {kind: [] for kind in KINDS}
    for row in rows:
        n += 1
        found = kinds(row, labels)
        counts.update([*found, *(["error"] if row["finish_reason"].startswith("error") else [])])
        for kind in found:
            if len(examples[kind]) < _EXAMPLES_PER_KIND:
                examples[kind].append({"id": row["id"], "kind": kind, "cot": _shortened(row["cot"])})
    return {
        "n": n,
        **{kind: counts[kind] / n if n else None for kind in (*KINDS, "error")},
        "reason": None if n else "there are no CoTs",
        "examples": [example for kind in KINDS for example in examples[kind]],
    }


def _stands_in_a_row(words: Sequence[str], period: int) -> bool:
    """Whether some stretch of 4 periods repeats its first: 3 periods of words equal the word one period before."""
    run = 0
    for before, word in zip(words, words[period:], strict=False):
        run = run + 1 if word == before else 0
        if run == (_TIMES - 1) * period:
            return True
    return False


def _has(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def _shortened(text: str) -> str:
    """At most 400 characters, from both ends, since loops and stray scores stand at the end; the cut is marked."""
    if len(text) <= _SHOWN:
        return text
    half = _SHOWN // 2
    return f"{text[:half]} [... {len(text) - _SHOWN} characters left out ...] {text[-half:]}"
