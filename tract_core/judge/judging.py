"""A trained judge in use: rows without gold -> one score each, with its distribution and uncertainty.

from tract_core.judge import judging
from tract_core.base import config
params = config.load()
tract = judging.Judge("artifacts/adapters/tract/seed_42", params.sampling, params.engine, params.score)
verdicts = tract.score(rows, num_samples=4)
for verdict in verdicts:
    print(verdict["id"], verdict["status"], verdict["expected_score"], verdict["sd_scale"], verdict["cot"])
print(judging.health(verdicts))
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tract_core.base import tables
from tract_core.base.config import Engine, Model, Prompt, Sampling, Scale, Score
from tract_core.base.errors import UserError
from tract_core.base.tables import Record
from tract_core.data import checks, prepare
from tract_core.data.raw import RawRecord
from tract_core.generate.generation import IN_WORDS, CotKey, Generator
from tract_core.model import models
from tract_core.score import scoring
from tract_core.text.encoding import Encoder

SOURCE = "judge"
_FLAG = Score(on_truncated="score_and_flag")
LOW_MASS, SKIPPED = "low_label_mass", "skipped"
"""Statuses of a verdict beside those of its CoTs (tables.STATUSES)."""
_COUNTED = {
    "truncated": ("cut CoT", "cut CoTs"),
    "empty": ("empty CoT", "empty CoTs"),
    "no_delimiter": ("CoT without the score sentence", "CoTs without the score sentence"),
    "error": ("failed CoT", "failed CoTs"),
    LOW_MASS: ("verdict with a low label mass", "verdicts with a low label mass"),
    SKIPPED: ("skipped row", "skipped rows"),
}


class Judge:
    """An adapter with everything it was trained with: base model, prompt, scale."""

    def __init__(
        self,
        adapter: str | Path,
        sampling: Sampling,
        engine: Engine,
        score: Score = _FLAG,
        *,
        work: str | Path = "work",
    ) -> None:
        """Load the tokenizer and verify the adapter; the engine starts at the first score.

        Raises:
            UserError: the folder is no adapter of this project, was altered, or its base is not to be had.
        """
        settings = tables.origin(adapter)
        if "objective" not in settings:
            raise UserError(f"{adapter}: not an adapter folder made by this project (its manifest names no objective)")
        try:
            self._model = Model.model_validate(settings["model"])
            # Adapters of older versions name neither a date nor variables of the template.
            prompt = Prompt.model_validate({"date": None, "template_arguments": {}, **settings["prompt"]})
            scale = Scale.model_validate(settings["scale"])
        except ValidationError as error:
            raise UserError(
                f"{Path(adapter) / 'manifest.json'}: its settings are not those of this version "
                f"({error.errors()[0]['msg']}); judge with the version that trained it, or train again"
            ) from None
        self._sampling, self._score, self._work = sampling, score, work
        seed_model = models.resolve(self._model, work)
        self._encoder = Encoder.create(
            models.load_tokenizer(seed_model),
            prompt,
            scale,
            cot=settings.get("cot", True),  # adapters of older versions all write a CoT
        )
        self._generator = Generator(
            self._encoder,
            model=self._model,
            sampling=sampling,
            engine=engine,
            seed_model=seed_model,
            adapter=adapter,
            stage="judge",
            work=work,
        )

    def score(
        self, rows: Sequence[Mapping[str, Any]], *, num_samples: int = 1, seed: int = 0, skip_bad: bool = False
    ) -> list[dict[str, Any]]:
        """Judge each row with K CoTs.

        Args:
            rows: fields of the `plain` format without gold: `instruction`, `response`, `criteria`,
                `descriptions` (one text for each score), `reference` and `id` optional.
            num_samples: K.
            seed: another seed samples other CoTs.
            skip_bad: a row that breaks the rules or is too long gets a verdict that says why, without a score.

        Returns:
            For each row, in order:
            `id`, `status`: `ok`, or why not: that of a CoT that the score rests on (tables.STATUSES), `low_label_mass`
                (below .95) or `skipped`; `reason`: the same in words, null where it is ok;
            `expected_score`: Eq. 3, mean over the CoTs that count (`score.on_truncated`); null where none does;
                `expected_score_renormalized`: divided by the label mass, and so always on the scale;
            `probs` over Y (mean over the same CoTs) and `label_mass`, their sum;
            `sd_scale` (standard deviation of the distribution over Y) and `sd_cots` (of the expected score over the
                CoTs; null for one), both in units of the scale;
            `cot` (the first), `cot_statuses` (of all), `num_ok` (CoTs that ended with the delimiter), `num_samples`.

        Raises:
            UserError: rows break the rules or are too long, and are not to be skipped: all offenders are listed; or a
                field that all rows need stands in none of them.
        """
        if not self._encoder.style.cot and num_samples > 1:
            raise UserError("this judge writes no CoT, so one sample is all there is; ask for num_samples = 1")
        found, skipped = self._sorted(rows, skip_bad=skip_bad)
        judged = self._judged(list(found.values()), num_samples, seed)
        return [skipped[number] if number in skipped else next(judged) for number in range(len(rows))]

    def _sorted(
        self, rows: Sequence[Mapping[str, Any]], *, skip_bad: bool
    ) -> tuple[dict[int, Record], dict[int, dict[str, Any]]]:
        """By position: the examples to judge, and the verdicts of rows that are skipped."""
        records = [RawRecord(place=f"row {number}", fields=dict(row)) for number, row in enumerate(rows, start=1)]
        limits: dict[str, Any] = {"max_length": self._model.max_length, "max_new_tokens": self._sampling.max_new_tokens}
        scale = self._encoder.scale
        if not skip_bad:
            examples = prepare.unscored_rows(records, scale, source=SOURCE)
            checks.check_lengths(self._encoder, {SOURCE: examples}, **limits, work=self._work)
            return dict(enumerate(examples)), {}
        found, problems = prepare.sorted_unscored(records, scale, source=SOURCE)
        for number, example in found.items():
            if why := checks.unfit(self._encoder, example, **limits):
                problems[number] = f"{records[number].place}: {why}"
        skipped = {number: _skipped(rows[number].get("id"), reason) for number, reason in problems.items()}
        return {number: example for number, example in found.items() if number not in skipped}, skipped

    def _judged(self, examples: Sequence[Record], num_samples: int, seed: int) -> Iterator[dict[str, Any]]:
        """The verdicts in order."""
        keys = [
            CotKey(source=SOURCE, id=example["id"], k=k, run_seed=seed)
            for example in examples
            for k in range(num_samples)
        ]
        given = None if self._encoder.style.cot else {(SOURCE, example["id"]): list[int]() for example in examples}
        cots = self._generator.sample(examples, keys, score=True, given=given)
        return (self._verdict(cots[i : i + num_samples]) for i in range(0, len(cots), num_samples))

    def _verdict(self, cots: Sequence[Record]) -> dict[str, Any]:
        values = self._encoder.scale.values
        counted = [cot for cot in cots if scoring.usable(cot, self._score) and scoring.probabilities(cot) is not None]
        read = [cot["probs"] for cot in counted]
        scores = [scoring.rail(probs, values) for probs in read]
        probs: list[float] | None = np.mean(read, axis=0).tolist() if read else None
        mass = sum(probs) if probs else None
        status, reason = _status(counted or cots, mass)
        return {
            "id": cots[0]["id"],
            "status": status,
            "reason": reason,
            "expected_score": scoring.average(scores),
            "expected_score_renormalized": scoring.rail_renormalized(probs, values) if probs and mass else None,
            "probs": probs,
            "label_mass": mass,
            "sd_scale": scoring.spread_over_scale(probs, values) if probs and mass else None,
            "sd_cots": statistics.stdev(scores) if len(scores) > 1 else None,
            "cot": cots[0]["cot"],
            "cot_statuses": [cot["status"] for cot in cots],
            "num_ok": sum(cot["status"] == "ok" for cot in cots),
            "num_samples": len(cots),
        }


def _status(cots: Sequence[Record], mass: float | None) -> tuple[str, str | None]:
    """Of a verdict that rests on these CoTs, and the reason where it is not ok."""
    bad = next((cot for cot in cots if cot["status"] != "ok"), None)
    if bad is not None:
        status: str = bad["status"]
        return status, bad["finish_reason"] if status == "error" else f"a CoT is {IN_WORDS[status]}"
    if mass is None:
        return "error", "the model gave no probabilities"
    if mass < scoring.LOW_MASS:
        return LOW_MASS, f"the labels of the scale have together a probability of {mass:.3f}"
    return "ok", None


def _skipped(identity: object, reason: str) -> dict[str, Any]:
    """The verdict of a row that was not judged; it has the fields of all others."""
    nothing = ("expected_score", "expected_score_renormalized", "probs", "label_mass", "sd_scale", "sd_cots", "cot")
    # Half a surrogate pair, which JSON can hold and no file can, may be what is wrong with the row.
    name = str(identity).encode(errors="backslashreplace").decode() if isinstance(identity, str | int) else None
    known = {"id": name, "status": SKIPPED, "reason": reason}
    return {**known, **dict.fromkeys(nothing), "cot_statuses": [], "num_ok": 0, "num_samples": 0}


def health(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """In one line how many verdicts are ok, what is wrong with the others, and the median label mass."""
    statuses = Counter(verdict["status"] for verdict in verdicts)
    cots = Counter(status for verdict in verdicts for status in verdict["cot_statuses"])
    found = {**{name: statuses[name] for name in (LOW_MASS, SKIPPED)}, **cots}
    parts = [f"{statuses['ok']} of {len(verdicts)} verdicts are ok"]
    parts += [f"{n} {words[n > 1]}" for name, words in _COUNTED.items() if (n := found.get(name, 0))]
    masses = [verdict["label_mass"] for verdict in verdicts if verdict["label_mass"] is not None]
    parts += [f"median label mass {statistics.median(masses):.3f}"] if masses else []
    return "; ".join(parts)


def warning(verdicts: Sequence[Mapping[str, Any]]) -> str | None:
    """What to do where labels have little probability; None where none has."""
    masses = [verdict["label_mass"] for verdict in verdicts if verdict["label_mass"] is not None]
    low = [mass for mass in masses if mass < scoring.LOW_MASS]
    if not low:
        return None
    return (
        f"warning: in {len(low)} of {len(masses)} verdicts the labels of the scale have together a probability below "
        f"{scoring.LOW_MASS}, the least {min(low):.3f}. The rest pulls expected_score towards 0, also below the scale: "
        "read expected_score_renormalized. Before you trust either, train the judge longer (train.epochs) and judge "
        "rows like those that it was trained on, with the prompt of its training"
    )
