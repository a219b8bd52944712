"""The vLLM engine: continuous batching, and each score read from the prefix cache right after its CoT."""

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # read when vllm is imported

from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt

from tract_core.engine.base import Draw, Reading, Request, Rules, finish, given, score_seed

_SCORE = "score|"


class VllmEngine:
    """One vLLM engine on a merged model folder."""

    def __init__(self, folder: Path, rules: Rules, *, dtype: str, batch_size: int, memory: float) -> None:
        """Start the engine (half a minute on a CPU).

        Args:
            folder: an ordinary model folder.
            rules: encoder, sampling and length.
            dtype: `float32` or `bfloat16`.
            batch_size: sequences decoded together.
            memory: KV cache in GiB on a CPU; share of the device's memory on a GPU.
        """
        self.rules, self.batch_size = rules, batch_size
        on_cpu = not torch.cuda.is_available()
        if on_cpu:
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(math.ceil(memory))
            os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
        # Per-request seeds and chunked prefill kill the engine on a CPU; without chunks a prefill
        # must fit one step.
        options: dict[str, Any] = (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, rules.max_length)}
            if on_cpu
            else {"gpu_memory_utilization": memory}
        )
        self.llm = LLM(
            model=str(folder),
            dtype=dtype,
            max_model_len=rules.max_length,
            max_num_seqs=batch_size,
            enforce_eager=on_cpu,
            enable_prefix_caching=True,
            generation_config="vllm",
            trust_remote_code=False,
            load_format="safetensors",
            disable_log_stats=True,
            **options,
        )

    def generate(self, requests: Sequence[Request], *, score: bool) -> Iterator[Draw]:
        """See Engine; answers come as they finish."""
        waiting = list(reversed(requests))
        by_key = {request.key: request for request in requests}
        drawn: dict[str, Draw] = {}
        engine = self.llm.llm_engine
        open_requests = 0
        while waiting or open_requests:
            # Fed a batch at a time: a million queued requests would cost memory and lose the prefix cache.
            while waiting and open_requests < 2 * self.batch_size:
                request = waiting.pop()
                if request.cot_ids is None:
                    self._add(request.key, request.prompt_ids, self._sampling(request))
                else:
                    drawn[request.key] = given(request)
                    self._ask_score(request, drawn[request.key])
                open_requests += 1
            for output in engine.step():
                if not output.finished:
                    continue
                key = output.request_id.removeprefix(_SCORE)
                if output.request_id.startswith(_SCORE):
                    open_requests -= 1
                    yield dataclasses.replace(drawn.pop(key), reading=self._reading(output))
                    continue
                draw = self._draw(by_key[key], output)
                if score:
                    drawn[key] = draw
                    self._ask_score(by_key[key], draw)
                else:
                    open_requests -= 1
                    yield draw

    def _add(self, key: str, ids: list[int], parameters: SamplingParams) -> None:
        self.llm.llm_engine.add_request(key, TokensPrompt(prompt_token_ids=ids), parameters)

    def _ask_score(self, request: Request, draw: Draw) -> None:
        context = self.rules.encoder.scoring_context(request.prompt_ids, draw.cot_ids)
        self._add(_SCORE + request.key, context, self._scoring(request))

    def _sampling(self, request: Request) -> SamplingParams:
        return SamplingParams(
            **self._settings(request.seed),
            max_tokens=self.rules.sampling.max_new_tokens,
            stop=[] if self.rules.stop_text is None else [self.rules.stop_text],
            stop_token_ids=self.rules.encoder.stop_ids,
            skip_special_tokens=True,
        )

    def _scoring(self, request: Request) -> SamplingParams:
        # raw_logprobs (the default) are taken before temperature, penalty and top-p.
        return SamplingParams(
            **self._settings(score_seed(request.seed)),
            max_tokens=1,
            logprob_token_ids=list(self.rules.label_ids),
            detokenize=False,
        )

    def _settings(self, seed: int) -> dict[str, Any]:
        sampling = self.rules.sampling
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "repetition_penalty": sampling.repetition_penalty,
            "seed": seed,
        }

    def _draw(self, request: Request, output: Any) -> Draw:
        completion = output.outputs[0]
        stops = set(self.rules.encoder.stop_ids)
        ids = list(completion.token_ids)
        while ids and ids[-1] in stops:
            ids.pop()
        return finish(self.rules, request, ids, at_length=completion.finish_reason == "length")

    def _reading(self, output: Any) -> Reading:
        completion = output.outputs[0]
        logprobs = completion.logprobs[0]
        probs = [math.exp(logprobs[token].logprob) for token in self.rules.label_ids]
        return Reading(probs=probs, sampled_id=int(completion.token_ids[0]))
