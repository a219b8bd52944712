"""A meta-judge rates CoTs from 1 to 5, each with the original gold score appended (appendix B.1).

The CoTs of two sources (annotator and p_s) on the same examples are rated and compared. The paper's prompt,
its Table 5, is not part of this project: `PROMPT` is our own wording. Who has the paper's text puts it into a
file with the places {instruction}, {response}, {reference}, {rubric} and {cot}, and names it to
`load_prompt`; ratings under another prompt are not comparable with the paper's.

Replies are kept in a folder, one JSON file for each question, so that nothing is asked twice and a killed
run goes on.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tract_core.base import tables, terminal
from tract_core.base.config import Endpoint
from tract_core.base.errors import UserError
from tract_core.generate.endpoint import Client
from tract_core.text.prompts import JudgeInput, PromptStyle, render_rubric
from tract_core.text.verdicts import last_verdict

Ask = Callable[[str], str]
"""Prompt -> the model's reply; an endpoint or a local model."""

PROMPT = """Below is an instruction, a response to it, a rubric, and what a judge wrote about the response: \
its reasons, then the score that the response deserves. The score is right. Rate how good the reasons are.

###Instruction:
{instruction}

###Response:
{response}

###Reference answer:
{reference}

###Rubric:
{rubric}

###What the judge wrote:
{cot}

###Rating:
1: the reasons are wrong, empty, or about something else.
2: mostly wrong or so general that they would fit any response.
3: partly right, but they miss what matters or do not lead to the score.
4: right and specific, with a small slip or gap.
5: right, specific, faithful to the rubric, and they lead to the score.

Explain your rating in two or three sentences. Then write a last line of the form "Rating: n", n from 1 to 5."""

RATINGS = ("1", "2", "3", "4", "5")
_PLACES = ("instruction", "response", "reference", "rubric", "cot")
# "score 4" announces no rating: replies speak of the judge's own score.
_MARK = re.compile(r"\brating\b[^\n:=]{0,30}[:=]|\[RESULT\]|\[\[", flags=re.IGNORECASE)
_BARE = re.compile(r"""[\s*_"'.]*([1-5])[\s*_"'.]*""")
_MAX_RETRIES = 2


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """Ratings of a list of prompts, and what they cost."""

    values: list[int | None]
    """1 to 5 for each prompt, None where no reply held a rating."""
    num_cached: int
    """Prompts that were answered from the folder alone."""
    num_calls: int
    """Questions put to the model now, retries included."""


def load_prompt(prompt_file: str | Path | None) -> str:
    """The prompt text: our own, or that of a file.

    Raises:
        UserError: no such file, or it has no place for the CoT.
    """
    if prompt_file is None:
        return PROMPT
    try:
        text = Path(prompt_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"meta-judge prompt {prompt_file}: cannot be read as UTF-8 text ({error})") from None
    if "{cot}" not in text:
        raise UserError(
            f"meta-judge prompt {prompt_file}: has no {{cot}}, so the CoT would not be shown; "
            f"write it where the CoT belongs (places: {', '.join(f'{{{name}}}' for name in _PLACES)})"
        )
    return text


def render(template: str, x: JudgeInput, cot: str, gold_label: str, style: PromptStyle) -> str:
    """The question about one CoT, with delimiter and gold score appended to the CoT.

    Args:
        template: from `load_prompt`; only the five places are replaced, other braces are text.
        x: what the judge read.
        cot: the CoT without delimiter and score.
        gold_label: str(y*), the original gold score whatever score the CoT argues for.
        style: delimiter, labels, and whether the judge saw the reference.
    """
    reference = x.reference if style.use_reference else None
    fields = {
        "instruction": x.instruction,
        "response": x.response,
        "reference": reference or "(none)",
        "rubric": render_rubric(x.criteria, x.descriptions, style.labels),
        "cot": f"{cot}{style.delimiter}{gold_label}",
    }
    return re.sub(rf"\{{({'|'.join(_PLACES)})\}}", lambda match: fields[match[1]], template)


def read_rating(reply: str) -> int | None:
    """The rating in a reply: a lone number, or after the last `Rating:`, `[RESULT]` or `[[`; else None."""
    if bare := _BARE.fullmatch(reply):
        return int(bare[1])
    verdict = last_verdict(reply, _MARK, RATINGS)
    return None if verdict is None or verdict.label is None else int(verdict.label)


def open_endpoint(endpoint: Endpoint) -> Ask:
    """Connect to an endpoint.

    Raises:
        UserError: the environment variable with the key is not set or `openai` is not installed; from the function
            returned: the endpoint cannot be reached or refuses.
    """
    client = Client(endpoint, "the meta-judge")
    return lambda prompt: client.complete([{"role": "user", "content": prompt}]).text


def rate(prompts: Sequence[str], ask: Ask, *, name: str, folder: str | Path, progress: bool = True) -> Ratings:
    """Rate each prompt, asking only what the folder does not hold.

    A reply without a rating is asked for again up to 2 times; if none has one, the rating is None, in
    later runs too.

    Args:
        prompts: from `render`.
        ask: an endpoint (`open_endpoint`) or any function from text to text.
        name: what determines a reply besides the prompt (`Endpoint.name`, or the identity of a local model).
        folder: one JSON file for each question.
        progress: show a bar.
    """
    values: list[int | None] = []
    calls: list[int] = []
    for prompt in terminal.bar(prompts, desc="meta-judge", unit="CoT", disable=not progress):
        replies, num_calls = _replies(prompt, ask, name, Path(folder))
        values.append(read_rating(replies[-1]))
        calls.append(num_calls)
    return Ratings(values=values, num_cached=calls.count(0), num_calls=sum(calls))


def compare(
    ratings_a: Sequence[int | None],
    ratings_b: Sequence[int | None],
    *,
    level: float = 0.95,
) -> dict[str, Any]:
    """Two sources rated on the same examples, in the same order.

    Returns:
        `a` and `b`: `mean` over the readable ratings, `n`, `n_ok`, `reason`. `difference`: mean of a - b over
        the examples with both ratings (`n_pairs`), Student's interval over examples (`low`, `high`), and `p` of the
        Wilcoxon signed-rank test; None with a `reason` where undefined.

    Raises:
        ValueError: the two differ in length.
    """
    both = zip(ratings_a, ratings_b, strict=True)
    differences = np.array([a - b for a, b in both if a is not None and b is not None], dtype=np.float64)
    return {
        "a": _summary(ratings_a),
        "b": _summary(ratings_b),
        "difference": _paired(differences, level=level),
    }


def _replies(prompt: str, ask: Ask, name: str, folder: Path) -> tuple[list[str], int]:
    """The replies to a prompt, the last of them the one that counts, and how many of them are new."""
    file = folder / f"{tables.content_hash({'model': name, 'prompt': prompt})}.json"
    replies = _kept(file)
    num_kept = len(replies)
    while not replies or (read_rating(replies[-1]) is None and len(replies) <= _MAX_RETRIES):
        replies.append(ask(prompt))
        # ASCII: a reply may hold half a surrogate pair, which is no UTF-8.
        tables.write_text(file, json.dumps({"model": name, "prompt": prompt, "replies": replies}, indent=1))
    return replies, len(replies) - num_kept


def _kept(file: Path) -> list[str]:
    if not file.exists():
        return []
    try:
        replies: list[str] = json.loads(file.read_text(encoding="utf-8"))["replies"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserError(f"{file}: no kept reply of the meta-judge; remove the file and run again") from None
    return replies


def _summary(ratings: Sequence[int | None]) -> dict[str, Any]:
    present = [rating for rating in ratings if rating is not None]
    return {
        "mean": float(np.mean(present)) if present else None,
        "n": len(ratings),
        "n_ok": len(present),
        "reason": None if present else "no reply held a rating",
    }


def _paired(differences: Any, *, level: float) -> dict[str, Any]:
    n = len(differences)
    result: dict[str, Any] = {"mean": float(differences.mean()) if n else None, "n_pairs": n}
    if n < 2:
        reason = f"an interval needs 2 examples with both ratings, got {n}"
        return {**result, "low": None, "high": None, "p": None, "reason": reason}
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(level)
    equal = not differences.any()
    return {
        **result,
        "low": float(low),
        "high": float(high),
        "p": None if equal else float(stats.wilcoxon(differences).pvalue),
        "reason": "both ratings are equal on every example, so the test has no rank" if equal else None,
    }
