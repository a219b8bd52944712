"""Rows -> verdicts, one task for each CoT, all that a judge in use does offline but without its store."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tract_core.base.errors import UserError
from tract_core.base.tables import Record, content_hash
from tract_core.generate.engine.base import Decoding, Request
from tract_core.generate.generation import CotKey, record_of, request_seed
from tract_core.judge.judging import SOURCE, Judge
from tract_core.judge.verdicts import verdict
from tract_core.serve.backends import Backend
from tract_core.text.examples import judge_input


class BadRowError(Exception):
    """A row that cannot be judged: its place in the request, from 0, and why."""

    def __init__(self, row: int | None, why: str) -> None:
        super().__init__(why)
        self.row = row


class Answers:
    """Verdicts of one judge from a backend."""

    def __init__(self, judge: Judge, backend: Backend) -> None:
        self.judge, self.backend = judge, backend
        self.encoder = judge.opened.encoder
        decoding = Decoding(encoder=self.encoder, sampling=judge.sampling, max_length=judge.opened.model.max_length)
        self._decodings: dict[float | None, Decoding] = {None: decoding}

    def decoding(self, temperature: float | None) -> Decoding:
        """The judge's own way to decode, or that at another temperature; one object for each."""
        if temperature not in self._decodings:
            own = self._decodings[None]
            sampling = own.sampling.model_copy(update={"temperature": temperature})
            self._decodings = {None: own, temperature: dataclasses.replace(own, sampling=sampling)}
        return self._decodings[temperature]

    def examples(
        self, rows: Sequence[Mapping[str, Any]], *, skip_bad: bool
    ) -> tuple[dict[int, Record], dict[int, dict[str, Any]]]:
        """By position: what is judged, and the verdicts of rows that are not.

        Raises:
            BadRowError: a row breaks a rule, and is not to be skipped.
        """
        try:
            found, bad = self.judge.examples(rows, skip_bad=True)
        except UserError as error:  # a field that all rows need stands in none
            raise BadRowError(0, str(error)) from None
        if bad and not skip_bad:
            raise BadRowError(min(bad), bad[min(bad)]["reason"])
        return found, bad

    async def verdicts(
        self, examples: Mapping[int, Record], *, num_samples: int, seed: int, temperature: float | None
    ) -> AsyncIterator[tuple[dict[str, Any], int, int]]:
        """Verdicts with their `index` as they finish, and the tokens of prompt and CoTs.

        Raises:
            UnavailableError: the engine is not up; what was begun is ended.
        """
        decoding = self.decoding(temperature)
        tasks = {
            asyncio.create_task(self._judged(decoding, index, example, num_samples, seed))
            for index, example in examples.items()
        }
        try:
            for finished in asyncio.as_completed(tasks):
                yield await finished
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _judged(
        self, decoding: Decoding, index: int, example: Record, num_samples: int, seed: int
    ) -> tuple[dict[str, Any], int, int]:
        prompt_ids = self.encoder.prompt_ids(judge_input(example))
        keys = [CotKey(source=SOURCE, id=example["id"], k=k, run_seed=seed) for k in range(num_samples)]
        seeds = [request_seed(SOURCE, key) for key in keys]
        records = await asyncio.gather(*(self.record(decoding, prompt_ids, one) for one in seeds))
        found = verdict([{**r, "id": example["id"]} for r in records], self.encoder.scale.values, self.judge.scoring)
        tokens = sum(record["num_tokens"] for record in records)
        return {"index": index, **self.judge.calibrated(found)}, len(prompt_ids), tokens

    async def record(self, decoding: Decoding, prompt_ids: list[int], seed: int) -> Record:
        """One CoT and its score."""
        cot_ids: list[int] | None = None if self.encoder.style.cot else []
        key = content_hash([prompt_ids, seed, decoding.sampling.temperature])
        request = Request(key=key, prompt_ids=prompt_ids, seed=seed, cot_ids=cot_ids)
        return record_of(self.encoder, await self.backend.answer(decoding, request), score=True)
