"""A trained judge in use: rows without gold -> one score each, with its distribution and uncertainty.

from tract_core import judge
from tract_core.base import config
params = config.load()
tract = judge.Judge("artifacts/adapters/tract/seed_42", params.sampling, params.engine)
for verdict in tract.score(rows, num_samples=4):
    print(verdict["id"], verdict["expected_score"], verdict["sd_scale"], verdict["cot"])
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tract_core.base import tables
from tract_core.base.config import Engine, Model, Prompt, Sampling, Scale
from tract_core.base.errors import UserError
from tract_core.data import prepare
from tract_core.data.checks import check_lengths
from tract_core.data.raw import RawRecord
from tract_core.generate.generation import CotKey, Generator
from tract_core.model import models
from tract_core.score import scoring
from tract_core.text.encoding import Encoder

SOURCE = "judge"


class Judge:
    """An adapter with everything it was trained with: base model, prompt, scale."""

    def __init__(self, adapter: str | Path, sampling: Sampling, engine: Engine, *, work: str | Path = "work") -> None:
        """Load the tokenizer and verify the adapter; the engine starts at the first score.

        Raises:
            UserError: the folder is no adapter of this project, was altered, or its base is not to be had.
        """
        settings = tables.origin(adapter)
        if "objective" not in settings:
            raise UserError(f"{adapter}: not an adapter folder made by this project (its manifest names no objective)")
        self._model = Model.model_validate(settings["model"])
        self._sampling, self._work = sampling, work
        seed_model = models.resolve(self._model, work)
        self._encoder = Encoder.create(
            models.load_tokenizer(seed_model),
            Prompt.model_validate(settings["prompt"]),
            Scale.model_validate(settings["scale"]),
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

    def score(self, rows: Sequence[Mapping[str, Any]], *, num_samples: int = 1, seed: int = 0) -> list[dict[str, Any]]:
        """Judge each row with K CoTs.

        Args:
            rows: fields of the `plain` format without gold: `instruction`, `response`, `criteria`,
                `descriptions` (one text for each score), `reference` and `id` optional.
            num_samples: K.
            seed: another seed samples other CoTs.

        Returns:
            For each row, in order: `id`; `expected_score` (Eq. 3, mean over CoTs); `probs` over Y (mean) and
            `label_mass`; `sd_scale` (standard deviation of the distribution over Y) and `sd_cots` (of the
            expected score over the K CoTs; null for K = 1), both in units of the scale; `cot` (the first);
            `num_ok` (CoTs that ended with the delimiter) of `num_samples`.

        Raises:
            UserError: rows break the rules or are too long; all offenders are listed.
        """
        examples = prepare.unscored_rows(
            [RawRecord(place=f"row {number}", fields=dict(row)) for number, row in enumerate(rows, start=1)],
            self._encoder.scale,
            source=SOURCE,
        )
        check_lengths(
            self._encoder,
            {SOURCE: examples},
            max_length=self._model.max_length,
            max_new_tokens=self._sampling.max_new_tokens,
            work=self._work,
        )
        if not self._encoder.style.cot and num_samples > 1:
            raise UserError("this judge writes no CoT, so one sample is all there is; ask for num_samples = 1")
        keys = [
            CotKey(source=SOURCE, id=example["id"], k=k, run_seed=seed)
            for example in examples
            for k in range(num_samples)
        ]
        given = None if self._encoder.style.cot else {(SOURCE, example["id"]): list[int]() for example in examples}
        cots = self._generator.sample(examples, keys, score=True, given=given)
        return [self._verdict(cots[i : i + num_samples]) for i in range(0, len(cots), num_samples)]

    def _verdict(self, cots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        values = self._encoder.scale.values
        read = [probs for cot in cots if (probs := scoring.probabilities(cot)) is not None]
        scores = [scoring.rail(probs, values) for probs in read]
        probs = np.mean(read, axis=0).tolist() if read else None
        return {
            "id": cots[0]["id"],
            "expected_score": scoring.average(scores),
            "probs": probs,
            "label_mass": sum(probs) if probs else None,
            "sd_scale": scoring.spread_over_scale(probs, values) if probs and any(probs) else None,
            "sd_cots": statistics.stdev(scores) if len(scores) > 1 else None,
            "cot": cots[0]["cot"],
            "num_ok": sum(cot["status"] == "ok" for cot in cots),
            "num_samples": len(cots),
        }
