"""One vLLM engine run for the tests: `python -m tests.vllm_child JOB ANSWER` (both JSON)."""

import json
import sys
from pathlib import Path

from tests.conftest import on_scale
from tract_core.base import config
from tract_core.base.scale import ScoreScale
from tract_core.generate.engine import Decoding, Request
from tract_core.generate.engine.vllm import VllmEngine
from tract_core.model import models
from tract_core.text.encoding import Encoder


def main(job_file: str, answer_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    folder = Path(job["folder"])
    seed_model = models.SeedModel(folder=folder, identity="x")
    scale = ScoreScale.create(job["values"])
    decoding = Decoding(
        encoder=Encoder(models.load_tokenizer(seed_model), on_scale(scale)[0], scale),
        sampling=config.Sampling.model_validate(job["sampling"]),
        max_length=job["max_length"],
    )
    engine = VllmEngine(folder, decoding, dtype="float32", batch_size=job["batch_size"], memory=job["memory"])
    batches = engine.generate([[Request(**request) for request in job["requests"]]], score=True)
    found = [
        {
            **{name: getattr(s, name) for name in ("key", "cot_ids", "finish_reason")},
            "probs": s.score and s.score.probs,
            "sampled": s.score and [s.score.sampled_id, *s.score.more_sampled],
        }
        for samples in batches
        for s in samples
    ]
    blocks = engine.llm.llm_engine.vllm_config.cache_config.num_gpu_blocks
    tokens = {"cached": engine.cached_tokens, "asked": engine.prompt_tokens}
    Path(answer_file).write_text(json.dumps({"samples": found, **tokens, "blocks": blocks}))


if __name__ == "__main__":
    main(*sys.argv[1:])
