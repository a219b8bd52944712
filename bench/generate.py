"""The peer of bench/sampling.py: transformers' `generate` with its own sampler, then a forward pass to the score.

A process of its own, because vLLM binds the threads of its process to cores. Reads a question in JSON from each line of
stdin and answers in a line of stdout.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from bench import measuring
from pipeline import preset
from tract_core.generate.engine import Decoding
from tract_core.generate.engine.hf import _left_pad
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.text.encoding import Encoder

PARAMS = preset.load("vicuna")


def model_and_decoding(length: int) -> tuple[SeedModel, Decoding]:
    """SmolLM2-135M, and CoTs of at most `length` tokens."""
    seed_model = models.resolve(PARAMS.model)
    encoder = Encoder.create(models.load_tokenizer(seed_model), PARAMS.prompt, PARAMS.scale)
    sampling = PARAMS.sampling.model_copy(update={"max_new_tokens": length})
    return seed_model, Decoding(encoder=encoder, sampling=sampling, max_length=PARAMS.model.max_length)


class Peer:
    def __init__(self) -> None:
        seed_model, self.decoding = model_and_decoding(1)
        self.model: Any = models.load_model(seed_model, measuring.DTYPE).to(measuring.DEVICE).eval()

    def answer(self, question: dict[str, Any]) -> Any:
        """Probabilities after `contexts`, or the seconds that CoTs of `length` tokens for `prompts` take."""
        if "contexts" in question:
            return self.probabilities(question["contexts"])
        wall, cpu = time.perf_counter(), time.process_time()
        for batch in question["batches"]:
            self.run(batch, question["length"])
        return time.perf_counter() - wall, time.process_time() - cpu

    @torch.inference_mode()
    def run(self, prompts: Sequence[list[int]], length: int) -> None:
        ids_BT, mask_BT = _left_pad(prompts, measuring.DEVICE)
        sampling, encoder = self.decoding.sampling, self.decoding.encoder
        settings = GenerationConfig(
            max_new_tokens=length,
            min_new_tokens=length,
            do_sample=True,
            top_k=0,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            eos_token_id=encoder.stop_ids,
            pad_token_id=encoder.stop_ids[0],
        )
        output_BT = self.model.generate(input_ids=ids_BT, attention_mask=mask_BT, generation_config=settings)
        cots = output_BT[:, ids_BT.shape[1] :].tolist()
        self.probabilities([encoder.scoring_context(*one) for one in zip(prompts, cots, strict=True)])

    @torch.inference_mode()
    def probabilities(self, contexts: Sequence[list[int]]) -> list[list[float]]:
        """Softmax over the whole vocabulary in float32, at the score."""
        ids_BT, mask_BT = _left_pad(contexts, measuring.DEVICE)
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        logits_BV = self.model(
            input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions_BT, logits_to_keep=1
        ).logits[:, -1]
        return logits_BV.float().softmax(-1)[:, list(self.decoding.trie.choices[0])].tolist()


def main() -> None:
    peer = Peer()
    for line in sys.stdin:
        print(json.dumps(peer.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
