"""The vLLM engine: continuous batching, and each score read from the prefix cache right after its CoT."""

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # read when vllm is imported
# The engine in this process: one of its own outlives a stage that is killed, and holds its memory. On a CPU it also
# starts in a third of the time (EXPERIMENTS.md); on a GPU the cost is not measured.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from vllm import LLM, SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.inputs import TokensPrompt
from vllm.utils.cpu_resource_utils import get_memory_node_info
from vllm.v1.engine.exceptions import EngineDeadError

from tract_core.base.errors import LibraryError
from tract_core.generate.engine import asking
from tract_core.generate.engine.base import (
    Decoding,
    Request,
    Sample,
    cache_bytes,
    failure,
    given,
)

logger = logging.getLogger(__name__)

_SCORE = "score|"
_BLOCK = 32
"""Tokens in a block of the KV cache on a CPU. vLLM's 128 would find no shared beginning of a short prompt."""
_TOGETHER = 2.0
"""Seconds for which finished samples are gathered before they are handed on, and so kept."""


class VllmEngine:
    """One vLLM engine on a merged model folder."""

    def __init__(
        self,
        folder: Path,
        decoding: Decoding,
        *,
        dtype: str,
        batch_size: int,
        memory: float | Literal["auto"],
        tensor_parallel: int = 1,
    ) -> None:
        """Start the engine (half a minute on a CPU).

        Args:
            folder: an ordinary model folder.
            decoding: encoder, sampling and length.
            dtype: `float32` or `bfloat16`.
            batch_size: sequences decoded together.
            memory: KV cache in GiB on a CPU; share of the device's memory on a GPU; `auto` as in config.Engine.
            tensor_parallel: GPUs that share the weights. The scheduler stays in this process; vLLM starts one more for
                each GPU, which ends when a pipe to this one closes. Read in vLLM's source, never run.
        """
        self.decoding, self.batch_size = decoding, batch_size
        self.prompt_tokens, self.cached_tokens = Counter[str](), Counter[str]()
        """Tokens handed to vLLM, and how many of them its prefix cache held; by `CoT` and `score`."""
        on_cpu = not torch.cuda.is_available()
        if on_cpu:
            os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would win over `memory`
            os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
            free = get_memory_node_info().available_memory
            blocks = batch_size * -(-decoding.max_length // _BLOCK) + 1  # vLLM keeps one block for itself
            tokens = blocks * _BLOCK
            cache = cache_bytes(folder, dtype, tokens, free) if memory == "auto" else int(memory * 2**30)
        # Per-request seeds and chunked prefill kill the engine on a CPU; without chunks a prefill
        # must fit one step.
        options: dict[str, Any] = (
            {
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(4096, decoding.max_length),
                "kv_cache_memory_bytes": cache,
                "block_size": _BLOCK,
            }
            if on_cpu
            else {"gpu_memory_utilization": 0.9 if memory == "auto" else memory}
        )
        try:
            self.llm = LLM(
                model=str(folder),
                dtype=dtype,
                max_model_len=decoding.max_length,
                max_num_seqs=batch_size,
                tensor_parallel_size=tensor_parallel,
                enforce_eager=on_cpu,
                enable_prefix_caching=True,
                scheduling_policy="priority",
                generation_config="vllm",
                trust_remote_code=False,
                load_format="safetensors",
                # Logits of a bfloat16 model in float32: rounded to eight bits they move probabilities by a percent.
                hf_overrides={"head_dtype": "float32"},
                disable_log_stats=True,
                **options,
            )
        except (RuntimeError, ValueError, MemoryError) as error:
            raise LibraryError(
                f"vLLM does not start: {error}. If it is memory, lower engine.batch_size or change engine.memory "
                f"({memory}: GiB of KV cache on a CPU, share of the memory on a GPU)"
            ) from None

    def generate(self, batches: Sequence[Sequence[Request]], *, score: bool) -> Iterator[list[Sample]]:
        """See Engine; answers come as they finish, whatever their batch.

        Requests with equal or similar prompts go in one after the other, so that the prefix cache still holds what
        they share: batches hold one sample of many prompts, more than fit the cache.
        """
        requests = sorted((request for batch in batches for request in batch), key=lambda request: request.prompt_ids)
        finished, handed_on = list[Sample](), time.monotonic()
        try:
            for sample in self._samples(requests, score=score):
                finished += [] if sample is None else [sample]
                if finished and time.monotonic() - handed_on > _TOGETHER:
                    ready, finished, handed_on = finished, [], time.monotonic()
                    yield ready
        except (EngineDeadError, RuntimeError, MemoryError) as error:
            raise LibraryError(
                f"the vLLM engine died: {type(error).__name__}: {error}. If it was memory, lower engine.batch_size or "
                "engine.memory. Finished CoTs are kept, and a rerun asks for the others"
            ) from None
        finally:
            if finished:  # also what was finished when a signal came or the engine died
                yield finished
        shares = [f"{self.cached_tokens[kind] / total:.0%} ({kind})" for kind, total in self.prompt_tokens.items()]
        logger.info("prompt tokens found in vLLM's prefix cache: %s", ", ".join(shares) or "none asked for")

    def _samples(self, requests: Sequence[Request], *, score: bool) -> Iterator[Sample | None]:
        """Samples as they finish, and None after each step."""
        waiting = deque(requests)
        open_requests = dict[str, Request]()
        sampled: dict[str, Sample] = {}
        read = dict[str, dict[int, Any]]()
        """Of CoTs whose score is asked for: each node's answer."""
        while waiting or open_requests:
            # Fed a batch at a time: a million queued requests would cost memory and lose the prefix cache.
            while waiting and len(open_requests) < 2 * self.batch_size:
                request = waiting.popleft()
                refusal = self._begin(request, sampled, score=score)
                if refusal is None:
                    open_requests[request.key] = request
                else:
                    yield failure(request.key, refusal)
            for output in self.llm.llm_engine.step() if open_requests else []:
                if not output.finished:
                    continue
                self._count(output)
                key, node = _parted(output.request_id)
                reason = output.outputs[0].finish_reason
                if key not in open_requests:  # another node of its score has failed
                    continue
                if reason not in ("stop", "length"):
                    del open_requests[key]
                    yield failure(key, f"vLLM ended it with {reason!r}")
                    continue
                if node is not None:
                    answers = read.setdefault(key, {})
                    answers[node] = output.outputs[0]
                    if len(answers) == len(self.decoding.trie.nodes):
                        del open_requests[key]
                        yield self._scored(sampled.pop(key), read.pop(key))
                    elif node == 0:
                        self._ask_nodes(open_requests[key], sampled[key], start=1)
                    continue
                ids, request = output.outputs[0].token_ids, open_requests[key]
                sample = asking.drawn(self.decoding, request, ids, at_length=reason == "length")
                if score:
                    sampled[key] = sample
                    self._ask_nodes(request, sample)
                else:
                    del open_requests[key]
                    yield sample
            yield None

    def _begin(self, request: Request, sampled: dict[str, Sample], *, score: bool) -> str | None:
        """Hand a request to vLLM, or say why not: one that does not fit would end the engine for all."""
        refusal = self.decoding.refusal(request, score=score)
        if refusal is not None:
            return refusal
        try:
            if request.cot_ids is None:
                parameters = SamplingParams(**asking.drawing(self.decoding, request))
                self._add(request.key, request.prompt_ids, parameters)
            else:
                sampled[request.key] = given(request)
                self._ask_nodes(request, sampled[request.key])
        except (ValueError, VLLMClientError) as error:  # vLLM's own validation, before the engine sees the request
            return f"{type(error).__name__}: {error}"
        return None

    def _add(self, key: str, ids: list[int], parameters: SamplingParams, *, priority: int = 0) -> None:
        self.llm.llm_engine.add_request(key, TokensPrompt(prompt_token_ids=ids), parameters, priority=priority)

    def _ask_nodes(self, request: Request, sample: Sample, *, start: int = 0) -> None:
        """The root's token, or with `start` 1 those of all other nodes, which find the root's context in the cache.

        Before all waiting CoTs (-1): their prompts would take the place of this one's in the cache.
        """
        contexts, parameters = self.decoding.score_contexts(request, sample), asking.scoring(self.decoding, request)
        for node in range(start, len(contexts) if start else 1):
            one = SamplingParams(**parameters[node], detokenize=False)
            self._add(f"{_SCORE}{node}|{request.key}", contexts[node], one, priority=-1)

    def _count(self, output: Any) -> None:
        kind = "score" if output.request_id.startswith(_SCORE) else "CoT"
        self.prompt_tokens[kind] += len(output.prompt_token_ids)
        self.cached_tokens[kind] += output.num_cached_tokens or 0

    def _scored(self, sample: Sample, answers: Mapping[int, Any]) -> Sample:
        in_order = [answers[node] for node in range(len(answers))]
        logprobs = [{token: found.logprob for token, found in one.logprobs[0].items()} for one in in_order]
        return asking.scored(self.decoding, sample, logprobs, [int(one.token_ids[0]) for one in in_order])


def _parted(request_id: str) -> tuple[str, int | None]:
    """The key of the request that vLLM was asked for, and which node of its score; None: its CoT."""
    if not request_id.startswith(_SCORE):
        return request_id, None
    node, _, key = request_id.removeprefix(_SCORE).partition("|")
    return key, int(node)
