"""Prompt texts: pure strings, no tokenizer.

The section headings are those of the benchmark files of prometheus-eval, so that one reader understands
both; the wording of the task description is this project's own. `prompt.source: dataset` uses the wording
that a file ships instead (without CoT still ours, since theirs ask for feedback), `verbatim` its prompt for both, with
the delimiter at its end where no CoT follows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tract_core.base.errors import UserError

HEADINGS = {
    "task": "###Task Description:",
    "instruction": "###The instruction to evaluate:",
    "response": "###Response to evaluate:",
    "reference": "###Reference Answer (Score {high}):",
    "rubric": "###Score Rubrics:",
    "feedback": "###Feedback:",
}
_TASK = """Judge the response to the instruction below by the rubric{reference}.
1. Write detailed feedback, strictly by the rubric, not in general.
2. Then give a score from {low} to {high}.
3. Output format: "{format_text}"
4. Write nothing else."""
_DIRECT_TASK = """Judge the response to the instruction below by the rubric{reference}.
1. Give a score from {low} to {high}, strictly by the rubric, not in general.
2. Write the score and nothing else."""
_FORMAT = {
    "authors": "Feedback: (your feedback) [RESULT] (a score from {low} to {high})",
    "aligned": "(your feedback){delimiter}(a score from {low} to {high})",
}


@dataclass(frozen=True, kw_only=True)
class PromptStyle:
    """What the rendering of an example depends on (section `prompt` of params.yaml, and the scale's ends)."""

    source: str
    format_text: str
    use_reference: bool
    delimiter: str
    labels: tuple[str, ...]
    cot: bool = True
    """Whether a CoT stands before the score; without one the prompt itself asks for the score."""
    head: str = ""
    """What each user turn begins with: the system text of a model whose chat template has no place for one."""

    @property
    def shipped(self) -> bool:
        """Whether the prompt is the data set's own."""
        return self.source == "verbatim" or (self.source == "dataset" and self.cot)


@dataclass(frozen=True, kw_only=True)
class JudgeInput:
    """x: what the judge reads."""

    instruction: str
    response: str
    reference: str | None
    criteria: str
    descriptions: tuple[str, ...]
    """One description for each score of Y, in the order of Y; "" for a score that the rubric says nothing of."""
    prompt: str | None = None
    """The prompt as the data set rendered it, for `source: dataset` and `verbatim`."""


def render(x: JudgeInput, style: PromptStyle) -> str:
    """The user turn for one example, without trailing white space.

    Raises:
        UserError: `source: dataset` or `verbatim` and the example ships no prompt.
    """
    return style.head + _render(x, style)


def _render(x: JudgeInput, style: PromptStyle) -> str:
    if style.shipped:
        if x.prompt is None:
            raise UserError(f"prompt.source is `{style.source}`, but this example ships no prompt; use `template`")
        return (x.prompt if style.cot else f"{x.prompt.rstrip()}{style.delimiter}").rstrip()
    reference = x.reference if style.use_reference else None
    if style.source == "brief":
        return _brief(x, reference, style)
    low, high = style.labels[0], style.labels[-1]
    format_text = _FORMAT[style.format_text].format(low=low, high=high, delimiter=style.delimiter)
    task = (_TASK if style.cot else _DIRECT_TASK).format(
        low=low,
        high=high,
        format_text=format_text,
        reference=f"; a reference answer that deserves {high} is given" if reference else "",
    )
    sections = [("task", task), ("instruction", x.instruction), ("response", x.response)]
    if reference:
        sections.append(("reference", reference))
    sections.append(("rubric", render_rubric(x.criteria, x.descriptions, style.labels)))
    bodies = [f"{HEADINGS[key].format(high=high)}\n{body}" for key, body in sections]
    ending = HEADINGS["feedback"] if style.cot else _direct_heading(style.labels)
    return "\n\n".join([*bodies, ending])


def _brief(x: JudgeInput, reference: str | None, style: PromptStyle) -> str:
    rubric = " ".join(f"{label}: {text}" for label, text in zip(style.labels, x.descriptions, strict=True) if text)
    parts = [
        f"{x.criteria} Score the response from {style.labels[0]} to {style.labels[-1]}. {rubric}",
        f"Instruction: {x.instruction}",
        f"Response: {x.response}",
        *([f"Reference: {reference}"] if reference else []),
        "Feedback:" if style.cot else "Score:",
    ]
    return "\n\n".join(parts)


def _direct_heading(labels: Sequence[str]) -> str:
    """The last line of a prompt without CoT (rows B.1, B.3, B.4; docs/differences.md, point 18)."""
    numbers = [int(label) for label in labels if label.isdecimal()]
    if len(numbers) == len(labels) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"###Score (an integer from {labels[0]} to {labels[-1]}):"
    return f"###Score (one of {', '.join(labels)}):"


def render_rubric(criteria: str, descriptions: Sequence[str], labels: Sequence[str]) -> str:
    """`[criteria]`, then one line `Score y: description` for each score that has a description."""
    lines = [f"Score {label}: {text}" for label, text in zip(labels, descriptions, strict=True) if text]
    return "\n".join([f"[{criteria}]", *lines])


def parse_rendered(prompt: str, labels: Sequence[str]) -> JudgeInput:
    """The fields of a benchmark prompt in six `###` sections (the files of prometheus-eval).

    Raises:
        ValueError: a heading is missing, stands twice or out of order, or the rubric is not readable.
    """
    headings = {key: text.format(high=labels[-1]) for key, text in HEADINGS.items()}
    places = {key: _only_place(prompt, text) for key, text in headings.items()}
    if list(places.values()) != sorted(places.values()):
        raise ValueError(f"the headings do not stand in the order {list(headings.values())}")
    starts = {key: place + len(headings[key]) for key, place in places.items()}
    ends = dict(zip(places, [*list(places.values())[1:], len(prompt)], strict=True))
    bodies = {key: prompt[starts[key] : ends[key]].strip() for key in places}
    criteria, descriptions = _parse_rubric(bodies["rubric"], labels)
    return JudgeInput(
        instruction=bodies["instruction"],
        response=bodies["response"],
        reference=bodies["reference"] or None,
        criteria=criteria,
        descriptions=descriptions,
        prompt=prompt,
    )


def _only_place(prompt: str, heading: str) -> int:
    places = [match.start() for match in re.finditer(rf"^{re.escape(heading)}", prompt, flags=re.MULTILINE)]
    if len(places) != 1:
        raise ValueError(f"the heading {heading!r} stands {len(places)} times, expected once")
    return places[0]


def _parse_rubric(text: str, labels: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Read line by line: `Score 2:` inside a description is part of it."""
    names = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    lines = list(re.finditer(rf"^[ \t]*Score ({names}):", text, flags=re.MULTILINE))
    criteria = text[: lines[0].start()].strip() if lines else ""
    in_brackets = criteria.startswith("[") and criteria.endswith("]")
    if not in_brackets or [line[1] for line in lines] != list(labels):
        raise ValueError(f"the rubric is not `[criteria]` and one `Score y:` line for each of {list(labels)}")
    ends = [*(line.start() for line in lines[1:]), len(text)]
    descriptions = (text[line.end() : end].strip() for line, end in zip(lines, ends, strict=True))
    return criteria[1:-1].strip(), tuple(descriptions)
