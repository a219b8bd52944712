"""What vLLM is asked for a CoT and for a score, in this process or over HTTP, and what is made of its answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from tract_core.generate.engine.base import Decoding, Request, Sample, finish, score_seed, with_score

_NONE = {"top_k": 0, "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""What params.yaml does not have. A server that is not told takes them from its folder's generation_config.json."""


def drawing(decoding: Decoding, request: Request) -> dict[str, Any]:
    """Parameters that draw a CoT; names as in vLLM's SamplingParams and in its HTTP requests."""
    return {
        **_settings(decoding, request.seed),
        "max_tokens": decoding.sampling.max_new_tokens,
        "stop": [] if decoding.stop_text is None else [decoding.stop_text],
        "stop_token_ids": decoding.encoder.stop_ids,
        "skip_special_tokens": True,
    }


def scoring(decoding: Decoding, request: Request) -> list[dict[str, Any]]:
    """Parameters that read the score: for each node one token, and the log-probabilities of those that continue it.

    The contexts are `Decoding.score_contexts`. vLLM takes log-probabilities (`raw_logprobs`, its default) before
    temperature, penalty and top-p.
    """
    return [
        {
            **_settings(decoding, score_seed(request.seed, node)),
            "max_tokens": 1,
            "logprob_token_ids": list(choices),
        }
        for node, choices in zip(decoding.trie.nodes, decoding.trie.choices, strict=True)
    ]


def drawn(decoding: Decoding, request: Request, token_ids: Sequence[int], *, at_length: bool) -> Sample:
    """The sample without a score; the token that ended it is no part of it."""
    ids, stops = list(token_ids), set(decoding.encoder.stop_ids)
    while ids and ids[-1] in stops:
        ids.pop()
    return finish(decoding, request, ids, at_length=at_length)


def scored(
    decoding: Decoding, sample: Sample, logprobs: Sequence[Mapping[int, float]], sampled: Sequence[int]
) -> Sample:
    """The sample with its score, from each node's log-probabilities by token id and the token that was drawn there."""
    return with_score(sample, decoding.trie.probabilities(logprobs), decoding.trie.walk(sampled))


def _settings(decoding: Decoding, seed: int) -> dict[str, Any]:
    sampling = decoding.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        **_NONE,
        "seed": seed,
        "ignore_eos": True,  # vLLM adds the ends of the folder's generation_config.json; ours are all in `stop_ids`
    }
