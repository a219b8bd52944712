"""Items of the world: latent quality -> response, gold score, the annotator's CoT; and the documents p_0 learns from.

Every number is drawn from one `random.Random`, so a seed and a table name determine a table. Levels and scores are
1 to 5, quintiles of a standard normal variable.
"""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.world import words

_CUTS = (-0.8416, -0.2533, 0.2533, 0.8416)
_COMMON = 0.3
"""Share of a facet's variance that all facets of an item have in common."""
_SD_OF_MEAN = math.sqrt((1 + 2 * _COMMON) / 3)
"""Of the mean of three facets."""
TRIPLES = list(itertools.combinations(words.FACETS, 3))
_HELD_OUT = 14

Triple = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Text:
    """How noisy responses and gold scores are."""

    evidence_noise: float = 0.7
    vague_share: float = 0.25
    gold_noise: float = 0.35
    zipf: bool = True
    """Synonym k has a weight of 1/(k+1); else all the same."""


IN_DISTRIBUTION = Text()
OUT_OF_DISTRIBUTION = Text(evidence_noise=1.0, vague_share=0.4, gold_noise=0.7, zipf=False)
ANNOTATOR_NOISE = 0.3
LEAK = 0.95
"""Probability that a verdict word of the annotator has the level of the gold score."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One response and what is true of it."""

    rubric: Triple
    """The facets that count, in the order of the prompt."""
    latent: dict[str, float]
    """Facet -> quality, standard normal."""
    gold: int
    response: list[str]

    @property
    def prompt(self) -> list[str]:
        """x without `<bos>`: 34 words."""
        return [words.RUBRIC, *self.rubric, words.RESPONSE, *self.response, words.JUDGE]


def level(value: float) -> int:
    """The quintile of a standard normal value, 1 to 5."""
    return 1 + sum(value > cut for cut in _CUTS)


def triples(seed: int) -> tuple[list[Triple], list[Triple]]:
    """The 56 triples of facets, split into those of the training data and those of the test sets."""
    shuffled = random.Random(f"triples|{seed}").sample(TRIPLES, len(TRIPLES))
    return shuffled[_HELD_OUT:], shuffled[:_HELD_OUT]


def item(rng: random.Random, choice: Sequence[Triple], text: Text) -> Item:
    """A fresh item whose rubric is one of `choice`, in a random order."""
    rubric = rng.sample(rng.choice(choice), 3)
    common = rng.gauss()
    latent = {facet: math.sqrt(_COMMON) * common + math.sqrt(1 - _COMMON) * rng.gauss() for facet in words.FACETS}
    mean = sum(latent[facet] for facet in rubric) / 3
    quality = _noisy(rng, mean / _SD_OF_MEAN, text.gold_noise)
    return Item(
        rubric=(rubric[0], rubric[1], rubric[2]),
        latent=latent,
        gold=level(quality),
        response=_response(rng, latent, text),
    )


def annotator_cot(rng: random.Random, of: Item, leak: float = LEAK, *, blind: bool = False) -> list[str]:
    """On each facet of the rubric a statement, two verdict words that mostly give the gold score away, the score.

    A `blind` annotator writes from the response alone, which is what a judge sees, and is told the score afterwards: no
    word of his depends on the gold score or on the latent qualities but through the response.
    """
    told = _level_in(of.response, of.rubric) if blind else of.gold
    verdicts = [rng.choice(words.VERDICTS[_leaked(rng, told, leak) - 1]) for _ in range(2)]
    if blind:
        said = [word for facet in of.rubric for word in (facet, _adjective(rng, _level_in(of.response, [facet])))]
    else:
        said = list(_statements(rng, of.rubric, of.latent, ANNOTATOR_NOISE))
    return [*said, *verdicts, *words.DELIMITER, str(of.gold)]


def rows(
    table: str, *, seed: int, choice: Sequence[Triple], text: Text, number: int, leak: float, blind: bool = False
) -> list[dict[str, Any]]:
    """Rows of the format `plain`. The task (`instruction`) is the set of facets, so test tasks are held-out triples."""
    rng = random.Random(f"{table}|{seed}")
    made = []
    for n in range(number):
        one = item(rng, choice, text)
        made.append(
            {
                "id": f"{table}-{n:05d}",
                "instruction": " ".join(sorted(one.rubric)),
                "response": " ".join(one.response),
                "criteria": " ".join(one.rubric),
                "descriptions": words.DIGITS,
                "score": one.gold,
                "feedback": " ".join(annotator_cot(rng, one, leak, blind=blind)),
                "prompt": " ".join(one.prompt),
            }
        )
    return made


def pretraining_documents(seed: int) -> Iterator[list[str]]:
    """Without end: what p_0 learns from. Nothing links a prompt to a digit or a verdict."""
    rng = random.Random(f"pretraining|{seed}")
    while True:
        yield _reading_document(rng) if rng.random() < 0.75 else _lexical_document(rng)


def _noisy(rng: random.Random, value: float, noise: float) -> float:
    """A standard normal value with noise, standard normal again."""
    return (value + noise * rng.gauss()) / math.sqrt(1 + noise**2)


def _response(rng: random.Random, latent: dict[str, float], text: Text) -> list[str]:
    weights = [1 / (k + 1) if text.zipf else 1 for k in range(4)]
    found = [rng.choice(words.FILLERS) for _ in range(4)]
    for facet in words.FACETS:
        for _ in range(3):
            synonyms = words.EVIDENCE[facet][level(_noisy(rng, latent[facet], text.evidence_noise)) - 1]
            vague = rng.random() < text.vague_share
            found.append(rng.choice(words.VAGUE[facet]) if vague else rng.choices(synonyms, weights)[0])
    rng.shuffle(found)
    return found


def _statements(rng: random.Random, facets: Sequence[str], latent: dict[str, float], noise: float) -> Iterator[str]:
    for facet in facets:
        yield facet
        yield _adjective(rng, level(_noisy(rng, latent[facet], noise)))
        if rng.random() < 0.1:
            yield rng.choice(words.HEDGES)


def _adjective(rng: random.Random, y: int) -> str:
    return rng.choice(words.ADJECTIVES[y - 1])


def _level_in(response: Sequence[str], facets: Sequence[str]) -> int:
    """The rounded mean level of the response's evidence on these facets; 3 where all of it is vague."""
    found = [words.LEVEL_OF_EVIDENCE[word] for word in response if word in words.LEVEL_OF_EVIDENCE]
    levels = [y for facet, y in found if facet in facets]
    return math.floor(sum(levels) / len(levels) + 0.5) if levels else 3


def _leaked(rng: random.Random, gold: int, leak: float) -> int:
    """The gold score, or else a neighbour of it."""
    return gold if rng.random() < leak else rng.choice([y for y in (gold - 1, gold + 1) if 1 <= y <= 5])


def _reading_document(rng: random.Random) -> list[str]:
    """A prompt and true statements on 3 to 5 random facets, whatever its rubric."""
    one = item(rng, TRIPLES, IN_DISTRIBUTION)
    facets = rng.sample(words.FACETS, rng.randint(3, 5))
    return [words.BOS, *one.prompt, *_statements(rng, facets, one.latent, 0.6), words.EOS]


def _lexical_document(rng: random.Random) -> list[str]:
    """Which words are of one level, the order of the digits, and digits at random after the delimiter."""
    found = [words.BOS]
    while len(found) < 43:
        if rng.random() < 0.3:
            found += words.DIGITS
            continue
        y = rng.randrange(5)
        found += [rng.choice(rng.choice((words.ADJECTIVES, words.VERDICTS))[y]) for _ in range(rng.randint(2, 4))]
        if rng.random() < 0.4:
            found += [*words.DELIMITER, rng.choice(words.DIGITS)]
    return [*found, words.EOS]
