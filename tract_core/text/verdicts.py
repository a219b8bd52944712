"""Scores in texts: where one is announced, which label it is, and an annotator's feedback without it.

One reading of numbers for all places: annotators' feedback, free decoding (row B.5) and the replies of a meta-judge.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_PUNCTUATION = r"""[\s:：=*_"'`(\[]*"""
_LEAD = rf"{_PUNCTUATION}(?:(?i:(?:an?\s+)?(?:score(?:\s+of)?|result)){_PUNCTUATION})?"
_NUMBER = re.compile(rf"{_LEAD}[+-]?\d")
_RESULT = r"\[RESULT\]"

# What follows holds for the end of a feedback alone: "a score of 4 points in the game" is no verdict elsewhere.
_TAIL = 200  # characters that are searched, so that long texts cost no more
_BEFORE = (
    r"[\s*_(\[#-]*(?:\b(?:so|thus|hence|therefore|overall|and)\b[\s,]*)?(?:\b(?:the|my|its|an?)\s+)?"
    r"(?:\b(?:overall|final|total)\s+)?"
)
_CUE = (
    r"\b(?:(?:score|rating|grade|verdict|result)\b(?:\s+(?:is|of|would\s+be|should\s+be)\b)?"
    r"|(?:deserves|(?:give|rate)\s+(?:it|this))\b(?:\s+an?\b)?)|(?:评分|得分|分数)[是为]?|是(?=[^\n]{1,12}分)"
)
_OUT_OF = r"\s*(?:/|out\s+of)\s*(?P<highest>\d+)"
_UNIT = r"(?:\s*(?:points?|stars?|分))?"
_END = r"""[\s*_.!"'`)\]。]*"""
_SENTENCE_ENDS = ".!?:;,。！？：；，)]*"


class Verdict(NamedTuple):
    """A mark and the number that follows it."""

    mark: re.Match[str]
    written: str
    """The first characters after the mark."""
    label: str | None
    """None where the number is no score of the scale."""
    at: int | None
    """Where the label begins in the text."""


class Feedback(NamedTuple):
    """An annotator's text, and the score that stood in it."""

    cot: str
    """The text before the score; the whole text where none stands in it."""
    written: str | None
    """The score as written; None where none stands in the text."""
    label: str | None
    """The label of the scale that was written; None also where the number is none of them."""


def last_verdict(text: str, mark: re.Pattern[str], labels: Sequence[str]) -> Verdict | None:
    """The last place where a number or a label follows the mark; None where there is no such place.

    Args:
        text: a model's output.
        mark: what announces the score.
        labels: the scores as written, in increasing order.
    """
    score = _score_pattern(labels)
    for found in reversed(list(mark.finditer(text))):
        written = text[found.end() : found.end() + 20].strip()
        if match := score.match(text, found.end()):
            return Verdict(mark=found, written=written, label=match["label"], at=match.start("label"))
        if _NUMBER.match(text, found.end()):
            return Verdict(mark=found, written=written, label=None, at=None)
    return None


def split_feedback(text: str, delimiter: str, labels: Sequence[str]) -> Feedback:
    """An annotator's text without the score that it ends with, in the spellings that data sets have.

    The last delimiter or `[RESULT]` with a number behind it counts, whatever follows the number. Without one, the
    end of the text is read: `Score: 4`, `**Rating:** 4`, `4/5`, `4 out of 5`, `是4分`.

    Args:
        text: the feedback as it stands in the data.
        delimiter: the project's own announcement of a score (`prompt.delimiter`).
        labels: the scores as written, in increasing order.
    """
    spaced = r"\s+".join(re.escape(word) for word in delimiter.split())
    announced = re.compile(f"{spaced}|{_RESULT}" if spaced else _RESULT, flags=re.IGNORECASE)
    if verdict := last_verdict(text, announced, labels):
        return Feedback(text[: verdict.mark.start()].strip(), verdict.written, verdict.label)
    return _verdict_at_the_end(text.strip(), labels)


def _verdict_at_the_end(text: str, labels: Sequence[str]) -> Feedback:
    known = "|".join(re.escape(name) for name in _longest_first(labels))
    value = rf"(?<![0-9A-Za-z_./])(?P<value>(?-i:{known})|\d+(?:\.\d+)?)"
    cut = max(0, len(text) - _TAIL)
    announced = rf"{_BEFORE}(?:{_CUE}){_PUNCTUATION}{value}(?:{_OUT_OF})?{_UNIT}{_END}\Z"
    found = re.search(announced, text[cut:], flags=re.IGNORECASE)
    if not found:
        found = re.search(rf"{_BEFORE}{value}{_OUT_OF}{_END}\Z", text[cut:], flags=re.IGNORECASE)
        if found and found["highest"] != labels[-1] and text[: cut + found.start()][-1:] not in _SENTENCE_ENDS:
            return Feedback(text, None, None)  # "on the platform 9 out of 12": no sentence of its own
    if not found:
        return Feedback(text, None, None)
    written = text[cut:][found.start("value") : found.end("highest" if found["highest"] else "value")]
    fits = found["value"] in labels and found["highest"] in (None, labels[-1])
    return Feedback(text[: cut + found.start()].strip(), written, found["value"] if fits else None)


def _longest_first(labels: Sequence[str]) -> list[str]:
    """So that "A+" is not read as "A"."""
    return sorted(labels, key=len, reverse=True)


def _score_pattern(labels: Sequence[str]) -> re.Pattern[str]:
    """A label that is not part of a longer word, a decimal number, a percentage, a range or another scale."""
    label = "|".join(re.escape(name) for name in _longest_first(labels))
    longer = r"\w|[.,]\d|\s*(?:%|(?:-|\u2013|to\b|or\b)\s*\d)"
    other_scale = rf"\s*(?:/|out\s+of)\s*(?!{re.escape(labels[-1])}\b)\d"
    return re.compile(rf"{_LEAD}(?P<label>{label})(?!{longer}|{other_scale})")
