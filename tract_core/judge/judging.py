"""A trained judge in use: rows without gold -> one score each, with its distribution and uncertainty.

from tract_core.judge import verdicts
from tract_core.judge.judging import Judge
tract = Judge("my-judge")  # a folder that `tract export` wrote
found = tract.score(rows, num_samples=4)
for verdict in found:
    print(verdict["id"], verdict["status"], verdict["expected_score"], verdict["sd_scale"], verdict["cot"])
print(verdicts.health(found))

Whole files: tract_core/judge/files.py.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tract_core.base.config import Engine, Sampling, Score
from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.calibrate import intervals
from tract_core.data import checks, prepare
from tract_core.data.raw import RawRecord
from tract_core.generate.generation import CotKey, Generator
from tract_core.judge.folder import opened
from tract_core.judge.frames import rows_of
from tract_core.judge.verdicts import calibrated, skipped, verdict

SOURCE = "judge"
_FLAG = Score(on_truncated="score_and_flag")


def default_engine() -> Engine:
    """vLLM where it is installed, else transformers."""
    name: Any = "vllm" if importlib.util.find_spec("vllm") else "transformers"
    return Engine(name=name, batch_size=32, memory="auto")


class Judge:
    """A judge's folder with everything it was trained with: base model, prompt, scale."""

    def __init__(
        self,
        folder: str | Path,
        sampling: Sampling | None = None,
        engine: Engine | None = None,
        score: Score | None = None,
        *,
        temperature: float | None = None,
        work: str | Path = "work",
    ) -> None:
        """Load the tokenizer and verify the folder; the engine starts at the first score.

        Args:
            folder: an exported judge (`tract export`), or an adapter of the pipeline (artifacts/adapters/ROW/seed_N).
            sampling: of the CoTs; None: the exported judge's own. An adapter has none.
            engine: None: vLLM where it is installed, else transformers.
            temperature: of the CoTs, in place of the sampling's.
            score: which CoTs count; None: the exported judge's own, of an adapter also those that were cut.
            work: where finished CoTs are kept, so that a run that was killed goes on.

        Raises:
            UserError: the folder is no judge of this project, was altered, or its base is not to be had; an adapter
                and no `sampling`.
        """
        self.opened = opened(folder, work)
        found = sampling or self.opened.sampling
        if found is None:
            raise UserError(f"{folder}: is an adapter of the pipeline; its sampling stands in params.yaml, so give it")
        if temperature is not None:
            found = found.model_copy(update={"temperature": temperature})
        self.sampling, self.scoring, self._work = found, score or self.opened.score or _FLAG, work
        self._generator = Generator(
            self.opened.encoder,
            model=self.opened.model,
            sampling=found,
            engine=engine or default_engine(),
            seed_model=self.opened.seed_model,
            adapter=self.opened.adapter,
            stage=SOURCE,
            work=work,
            served=self.opened.name,
        )

    @property
    def scale(self) -> ScoreScale:
        """The scores that it gives."""
        return self.opened.encoder.scale

    def score(
        self,
        rows: Any,
        *,
        num_samples: int = 1,
        seed: int = 0,
        skip_bad: bool = False,
        interval: float | None = None,
    ) -> list[dict[str, Any]]:
        """Judge each row with K CoTs.

        Args:
            rows: mappings, or a DataFrame of pandas or polars, with the fields of the `plain` format without gold:
                `instruction`, `response`, `criteria`, `descriptions` (one text for each score), `reference` and `id`
                optional, or `messages` in place of the first two.
            num_samples: K.
            seed: another seed samples other CoTs.
            skip_bad: a row that breaks the rules or is too long gets a verdict that says why, without a score.
            interval: the probability with which gold lies between `interval_low` and `interval_high`, as in 0.9; what
                that asks of the rows stands in tract_core/calibrate/intervals.py. None: verdicts have no interval.

        Returns:
            For each row, in order:
            `id`, `status`: `ok`, or why not: that of a CoT that the score rests on (tables.STATUSES), `low_label_mass`
                (below .95) or `skipped`; `reason`: the same in words, null where it is ok;
            `expected_score`: Eq. 3, mean over the CoTs that count (`score.on_truncated`); null where none does;
                `expected_score_renormalized`: divided by the label mass, and so always on the scale;
            `calibrated_score`: what people give such rows on average (`tract calibrate`); null for a judge that is not
                calibrated; `interval_low`, `interval_high`: scores of the scale, where `interval` is given;
            `probs` over Y (mean over the same CoTs) and `label_mass`, their sum;
            `sd_scale` (standard deviation of the distribution over Y) and `sd_cots` (of the expected score over the
                CoTs; null for one), both in units of the scale;
            `cot` (the first), `cot_statuses` (of all), `num_ok` (CoTs that ended with the delimiter), `num_samples`.

        Raises:
            UserError: rows break the rules or are too long, and are not to be skipped: all offenders are listed; or a
                field that all rows need stands in none of them; or an interval of a judge that is not calibrated, or
                whose calibration has too few tasks for it.
        """
        factor = None if interval is None else self._factor(interval)
        if not self.opened.encoder.style.cot and num_samples > 1:
            raise UserError("this judge writes no CoT, so one sample is all there is; ask for num_samples = 1")
        rows = rows_of(rows)
        found, bad = self.examples(rows, skip_bad=skip_bad)
        judged = self._judged(list(found.values()), num_samples, seed)
        plain = (bad[number] if number in bad else next(judged) for number in range(len(rows)))
        return [self.calibrated(one, factor) for one in plain]

    def calibrated(self, found: Mapping[str, Any], factor: float | None = None) -> dict[str, Any]:
        """A verdict of this judge as `score` returns it; `factor`: that of an interval (calibrate/intervals.py)."""
        return calibrated(found, self.opened.calibration, self.scale.values, factor)

    def _factor(self, level: float) -> float:
        if self.opened.calibration is None:
            raise UserError(
                "this judge is not calibrated, so there is no interval; rate replies to some tasks of yours, and run "
                "`tract calibrate FOLDER GOLD` on the exported judge"
            )
        return intervals.quantile(self.opened.calibration.residuals, level)

    def examples(
        self, rows: Sequence[Mapping[str, Any]], *, skip_bad: bool
    ) -> tuple[dict[int, Record], dict[int, dict[str, Any]]]:
        """By position: the examples to judge, and the verdicts of rows that are skipped; see `score`."""
        records = [RawRecord(place=f"row {number}", fields=dict(row)) for number, row in enumerate(rows, start=1)]
        limits: dict[str, Any] = {
            "max_length": self.opened.model.max_length,
            "max_new_tokens": self.sampling.max_new_tokens,
        }
        encoder = self.opened.encoder
        if not skip_bad:
            examples = prepare.unscored_rows(records, encoder.scale, source=SOURCE)
            checks.check_lengths(encoder, {SOURCE: examples}, **limits, work=self._work)
            return dict(enumerate(examples)), {}
        found, problems = prepare.sorted_unscored(records, encoder.scale, source=SOURCE)
        for number, example in found.items():
            if why := checks.unfit(encoder, example, **limits):
                problems[number] = f"{records[number].place}: {why}"
        bad = {number: skipped(rows[number].get("id"), reason) for number, reason in problems.items()}
        return {number: example for number, example in found.items() if number not in bad}, bad

    def _judged(self, examples: Sequence[Record], num_samples: int, seed: int) -> Iterator[dict[str, Any]]:
        """The verdicts in order."""
        keys = [
            CotKey(source=SOURCE, id=example["id"], k=k, run_seed=seed)
            for example in examples
            for k in range(num_samples)
        ]
        given = (
            None if self.opened.encoder.style.cot else {(SOURCE, example["id"]): list[int]() for example in examples}
        )
        cots = self._generator.sample(examples, keys, score=True, given=given)
        values = self.opened.encoder.scale.values
        groups = (cots[start : start + num_samples] for start in range(0, len(cots), num_samples))
        return (verdict(group, values, self.scoring) for group in groups)
