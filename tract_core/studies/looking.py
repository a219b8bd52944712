"""Is the judge looking? Changes of an example that must move the score of a judge that reads it.

An attack should not raise a score, and a judge that ignores the response passes every attack. So beside the attacks
each example is judged with another task's response, with its own response twice, with the rubric's descriptions in
reverse order, without its reference, and with each paraphrase of its rubric in `robustness.paraphrases`; the empty
response is among the attacks.

What they did to the scores, and what is said of it: tract_core/studies/reading.py.

Pointwise judging has no position that could matter: the judge sees one response, alone.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tract_core.base.config import Paraphrase
from tract_core.base.tables import Record

Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One way to change an example."""

    name: str
    """Part of a source's name in the tables: `BENCHMARK/NAME`."""
    about: str
    change: Callable[[Record, Record | None], Fields | None]
    """(example, an example of another task) -> fields with new values; None where there is nothing to change."""


EMPTY = "empty"
"""The attack that is a check as well."""
OTHER, DOUBLED, REVERSED, ALONE = "other_response", "doubled_response", "reversed_rubric", "no_reference"
_CHECKS = (
    Check(
        name=OTHER,
        about="the response to another task of the benchmark",
        change=lambda example, other: None if other is None else {"response": other["response"]},
    ),
    Check(
        name=DOUBLED,
        about="the response twice, one after the other",
        change=lambda example, other: {"response": f"{example['response']}\n\n{example['response']}"},
    ),
    Check(
        name=REVERSED,
        about="the rubric's descriptions in reverse order",
        change=lambda example, other: {"descriptions": example["descriptions"][::-1]},
    ),
    Check(
        name=ALONE,
        about="without the reference answer",
        change=lambda example, other: None if example["reference"] is None else {"reference": None},
    ),
)


def checks(paraphrases: Sequence[Paraphrase] = ()) -> list[Check]:
    """All that an example may go through; each paraphrase belongs to one rubric."""
    return [*_CHECKS, *(_paraphrased(number, one) for number, one in enumerate(paraphrases, 1))]


def _paraphrased(number: int, one: Paraphrase) -> Check:
    new = {"criteria": one.criteria, "descriptions": one.descriptions}
    return Check(
        name=f"paraphrase_{number}",
        about=f"the rubric in other words: {one.criteria}",
        change=lambda example, other: new if example["criteria"] == one.of else None,
    )


def changed(examples: Sequence[Record], paraphrases: Sequence[Paraphrase] = ()) -> list[Record]:
    """Every example under every check that changes it, under the source `SOURCE/CHECK`, in the order of the examples.

    Where the data set ships a rendered prompt, the texts are changed inside it; a prompt that does not hold each of
    them exactly once, and so every one without its reference, becomes None.
    """
    others = _others(examples)
    found = []
    for example, other in zip(examples, others, strict=True):
        for check in checks(paraphrases):
            fields = check.change(example, other)
            if fields is not None:
                source, prompt = f"{example['source']}/{check.name}", _in_prompt(example, fields)
                found.append({**example, **fields, "source": source, "prompt": prompt})
    return found


def _others(examples: Sequence[Record]) -> list[Record | None]:
    """For each example one of another task of its benchmark, the next in an order by hashes, or None."""
    ordered = sorted(examples, key=lambda one: hashlib.sha256(f"other|{one['id']}".encode()).hexdigest())
    places = {(one["source"], one["id"]): place for place, one in enumerate(ordered)}

    def other(example: Record) -> Record | None:
        place = places[example["source"], example["id"]]
        following = [*ordered[place:], *ordered[:place]]
        return next((one for one in following if _is_other(example, one)), None)

    return [other(example) for example in examples]


def _is_other(example: Record, one: Record) -> bool:
    differs = all(one[name] != example[name] for name in ("group_id", "response"))
    return differs and bool(one["source"] == example["source"])


def _in_prompt(example: Record, fields: Fields) -> str | None:
    """The shipped prompt with the new texts; None where there is none, or not one place for each."""
    prompt: str | None = example["prompt"]
    if prompt is None or "reference" in fields:
        return None
    pairs = [pair for name, new in fields.items() for pair in zip(_texts(example[name]), _texts(new), strict=False)]
    if any(prompt.count(old) != 1 for old, _ in pairs):
        return None
    places = sorted((prompt.index(old), old, new) for old, new in pairs)
    parts, end = [], 0
    for start, old, new in places:
        parts += [prompt[end:start], new]
        end = start + len(old)
    return "".join([*parts, prompt[end:]])


def _texts(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
