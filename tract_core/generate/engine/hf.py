"""The transformers engine: the reference, and the fallback where vLLM does not run.

Shapes: B sequences of a batch, T tokens, V vocabulary.
"""

import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
    TopPLogitsWarper,
)

from tract_core.base.config import Sampling
from tract_core.base.errors import UserError, is_out_of_memory
from tract_core.base.label_trie import Path
from tract_core.generate.engine.base import Decoding, Request, Sample, failure, finish, given, score_seed, with_score
from tract_core.model import attention, models
from tract_core.model.label_probs import TrieReader
from tract_core.model.objectives import expected_score

logger = logging.getLogger(__name__)


class TransformersEngine:
    """Batched `generate` with a random stream of its own for each request."""

    def __init__(self, model: PreTrainedModel, decoding: Decoding) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = model.to(device).eval()
        self.decoding, self.device = decoding, device
        self._reader = TrieReader(decoding.trie).to(device)
        attention.settle(self.model, decoding.max_length)

    def generate(self, batches: Sequence[Sequence[Request]], *, score: bool) -> Iterator[list[Sample]]:
        """See Engine; answers come batch by batch. Padding changes a sample's last bits, so batches stay."""
        for batch in batches:
            refusals = {request.key: self.decoding.refusal(request, score=score) for request in batch}
            fitting = [request for request in batch if refusals[request.key] is None]
            refused = [failure(key, reason) for key, reason in refusals.items() if reason is not None]
            yield [*refused, *(self._answer(fitting, score=score) if fitting else [])]

    def _answer(self, batch: Sequence[Request], *, score: bool) -> list[Sample]:
        """One batch, or where it fails, each of its requests by itself."""
        try:
            return self._compute(batch, score=score)
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            if is_out_of_memory(error):
                longest = max(len(request.prompt_ids) for request in batch)
                raise UserError(
                    f"out of memory with {len(batch)} sequences of up to {longest} tokens and a CoT: {error}. Lower "
                    "engine.batch_size and run again; finished CoTs are kept"
                ) from None
            if len(batch) == 1:
                return [failure(batch[0].key, f"{type(error).__name__}: {error}")]
            logger.warning("a batch failed (%s); its requests are tried one by one", error)
            return [sample for request in batch for sample in self._answer([request], score=score)]

    @torch.inference_mode()
    def _compute(self, batch: Sequence[Request], *, score: bool) -> list[Sample]:
        to_sample = [request for request in batch if request.cot_ids is None]
        sampled = {sample.key: sample for sample in self._sample(to_sample)} if to_sample else {}
        samples = [sampled.get(request.key) or given(request) for request in batch]
        read = [request for request, sample in zip(batch, samples, strict=True) if score and not sample.failed]
        left = [sample for sample in samples if not score or sample.failed]
        whole = [sample for sample in samples if score and not sample.failed]
        return [*left, *(self._read(read, whole) if read else [])]

    def _sample(self, batch: Sequence[Request]) -> list[Sample]:
        input_ids_BT, mask_BT = _left_pad([request.prompt_ids for request in batch], self.device)
        stop_ids = self.decoding.encoder.stop_ids
        config = GenerationConfig(
            max_new_tokens=self.decoding.sampling.max_new_tokens,
            do_sample=False,  # _Sampler draws, and leaves only what it drew
            eos_token_id=stop_ids,
            pad_token_id=stop_ids[0],
        )
        sampler = _Sampler([request.seed for request in batch], mask_BT, self.decoding.sampling)
        output_BT = self.model.generate(
            input_ids=input_ids_BT,
            attention_mask=mask_BT,
            generation_config=config,
            logits_processor=LogitsProcessorList([sampler]),
            stopping_criteria=StoppingCriteriaList(
                [] if self.decoding.free else [_DelimiterSeen(self.decoding, input_ids_BT.shape[1])]
            ),
        )
        new_BT = output_BT[:, input_ids_BT.shape[1] :].tolist()
        return [
            failure(request.key, "the logits are not finite") if broken else self._finish(request, ids)
            for request, ids, broken in zip(batch, new_BT, sampler.broken_B.tolist(), strict=True)
        ]

    def _finish(self, request: Request, padded: list[int]) -> Sample:
        # A row that stopped early is padded with a stop id, so the first stop id ends the row either way.
        stops = set(self.decoding.encoder.stop_ids)
        length = next((place for place, token in enumerate(padded) if token in stops), len(padded))
        at_length = length >= self.decoding.sampling.max_new_tokens
        return finish(self.decoding, request, padded[:length], at_length=at_length)

    def _read(self, batch: Sequence[Request], samples: Sequence[Sample]) -> list[Sample]:
        contexts = [
            self.decoding.encoder.scoring_context(request.prompt_ids, sample.cot_ids)
            for request, sample in zip(batch, samples, strict=True)
        ]
        input_ids_BT, mask_BT = _left_pad(contexts, self.device)
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        with models.float32_head(self.model):
            output = self.model(
                input_ids=input_ids_BT, attention_mask=mask_BT, position_ids=positions_BT, logits_to_keep=1
            )
            rest = self.decoding.trie.nodes[1:]
            logits = [output.logits[:, -1], *(self._behind(output, mask_BT, node) for node in rest)]
        probs = self._probabilities(logits).double().tolist()
        drawn = [
            self._drawn(batch, input_ids_BT, mask_BT, node, logits_BV)
            for node, logits_BV in zip(self.decoding.trie.nodes, logits, strict=True)
        ]
        sampled = [self.decoding.trie.walk(tokens) for tokens in zip(*drawn, strict=True)]
        return [with_score(*one) for one in zip(samples, probs, sampled, strict=True)]

    def _behind(self, context: Any, mask_BT: Tensor, node: Path) -> Tensor:
        """[B, V], the logits behind a node's tokens, whose context is in the cache of the forward pass `context`."""
        ids = torch.tensor([node] * len(mask_BT), device=self.device)
        mask = torch.cat([mask_BT, torch.ones_like(ids)], dim=1)
        logits_BV: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1)[:, -len(node) :],
            past_key_values=copy.deepcopy(context.past_key_values),  # a forward pass adds its tokens to it
            logits_to_keep=1,
        ).logits[:, -1]
        return logits_BV

    def _probabilities(self, logits: Sequence[Tensor]) -> Tensor:
        """[B, Y], from the logits [B, V] at each node."""
        if not self.decoding.trie.is_flat:
            probs_BY: Tensor = self._reader(torch.stack(list(logits), dim=1)).whole_BY.exp()
            return probs_BY
        ids_Y = torch.tensor(self.decoding.trie.choices[0], device=self.device)
        return expected_score(logits[0], ids_Y, torch.zeros(len(ids_Y), device=self.device)).probs_BY

    def _drawn(
        self, batch: Sequence[Request], ids_BT: Tensor, mask_BT: Tensor, node: Path, logits_BV: Tensor
    ) -> list[int]:
        """The token of each row that is drawn behind a node."""
        sampler = _Sampler([score_seed(request.seed, node) for request in batch], mask_BT, self.decoding.sampling)
        read = torch.cat([ids_BT, torch.tensor([node] * len(batch), device=self.device)], dim=1) if node else ids_BT
        tokens: list[int] = sampler(read, logits_BV.float()).argmax(-1).tolist()
        return tokens


class _Sampler(LogitsProcessor):
    """Repetition penalty, temperature, top-p, then one draw for each row; only its token keeps a finite logit.

    A draw takes one uniform number from the generator of its row: every request has a stream of its own that no other
    row of the batch can shift.
    """

    def __init__(self, seeds: Sequence[int], mask_BT: Tensor, sampling: Sampling) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.mask_BT, self.sampling = mask_BT, sampling
        self.top_p = TopPLogitsWarper(sampling.top_p)
        self.broken_B = torch.zeros(len(seeds), dtype=torch.bool, device=mask_BT.device)
        """Rows that had logits which are no numbers; their draws mean nothing."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.broken_B |= ~scores.amax(-1).isfinite()
        logits_BV = self._penalized(input_ids, scores.float()) / self.sampling.temperature
        if self.sampling.top_p < 1:
            logits_BV = self.top_p(input_ids, logits_BV)
        uniform = [torch.rand((), generator=generator, dtype=torch.float64) for generator in self.generators]
        drawn_B1 = _tokens_at(logits_BV, torch.stack(uniform).to(logits_BV.device))[:, None]
        return torch.full_like(logits_BV, -torch.inf).scatter_(1, drawn_B1, 0.0)

    def _penalized(self, ids_BT: Tensor, logits_BV: Tensor) -> Tensor:
        """The penalty of the CTRL paper over prompt and answer, blind to padding."""
        penalty = self.sampling.repetition_penalty
        real_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        real_BT[:, : self.mask_BT.shape[1]] = self.mask_BT.bool()
        seen_BV = torch.zeros_like(logits_BV).scatter_add_(1, ids_BT, real_BT.to(logits_BV.dtype)) > 0
        return torch.where(seen_BV, torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty), logits_BV)


class _DelimiterSeen(StoppingCriteria):
    """Ends a row once its new text holds the delimiter; looks at the last tokens only."""

    def __init__(self, decoding: Decoding, prompt_length: int) -> None:
        self.decoding, self.start = decoding, prompt_length
        assert decoding.stop_text is not None
        self.stop = decoding.stop_text
        # One token is at least one byte, so this tail always covers the delimiter and some text before it.
        self.tail = len(self.stop.encode()) + 8

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        tails = input_ids[:, max(self.start, input_ids.shape[1] - self.tail) :].tolist()
        decode = self.decoding.encoder.tokenizer.decode
        seen = [self.stop in decode(tail, skip_special_tokens=True) for tail in tails]
        return torch.tensor(seen, device=input_ids.device)


def _tokens_at(logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The inverse of the softmax's cumulative distribution at numbers of [0, 1), in float64.

    The first token whose sum is above the number: one without probability adds nothing, so it is never that one. What
    rounding leaves of the last sum takes the place of 1.
    """
    sums_BV = logits_BV.softmax(-1, dtype=torch.float64).cumsum(-1)
    targets_B1 = uniform_B[:, None] * sums_BV[:, -1:]
    drawn_B1 = torch.searchsorted(sums_BV, targets_B1, right=True)
    return drawn_B1[:, 0].clamp(max=logits_BV.shape[-1] - 1)  # beyond the last one where logits are no numbers


def _left_pad(rows: Sequence[list[int]], device: str) -> tuple[Tensor, Tensor]:
    longest = max(len(row) for row in rows)
    ids = [[row[0]] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
