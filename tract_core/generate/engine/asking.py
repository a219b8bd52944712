"""What vLLM is asked for a CoT and for a score, in this process or over HTTP, and what is made of its answers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tract_core.generate.engine.base import Decoding, Request, Sample, finish, score_seed, with_score


def drawing(decoding: Decoding, request: Request) -> dict[str, Any]:
    """Parameters that draw a CoT; names as in vLLM's SamplingParams and in its HTTP requests."""
    return {
        **_settings(decoding, request.seed),
        "max_tokens": decoding.sampling.max_new_tokens,
        "stop": [] if decoding.stop_text is None else [decoding.stop_text],
        "stop_token_ids": decoding.encoder.stop_ids,
        "skip_special_tokens": True,
    }


def scoring(decoding: Decoding, request: Request) -> dict[str, Any]:
    """Parameters that read the score: one token, and the log-probabilities of the labels.

    vLLM takes these (`raw_logprobs`, its default) before temperature, penalty and top-p.
    """
    return {
        **_settings(decoding, score_seed(request.seed)),
        "max_tokens": 1,
        "logprob_token_ids": list(decoding.label_ids),
    }


def drawn(decoding: Decoding, request: Request, token_ids: Sequence[int], *, at_length: bool) -> Sample:
    """The sample without a score; the token that ended it is no part of it."""
    ids, stops = list(token_ids), set(decoding.encoder.stop_ids)
    while ids and ids[-1] in stops:
        ids.pop()
    return finish(decoding, request, ids, at_length=at_length)


def scored(decoding: Decoding, sample: Sample, logprobs: Mapping[int, float], sampled_id: int) -> Sample:
    """The sample with its score, from the log-probabilities by token id."""
    probs = [math.exp(logprobs[label]) for label in decoding.label_ids]
    return with_score(sample, probs, sampled_id)


def _settings(decoding: Decoding, seed: int) -> dict[str, Any]:
    sampling = decoding.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": seed,
        "ignore_eos": True,  # vLLM adds the ends of the folder's generation_config.json; ours are all in `stop_ids`
    }
