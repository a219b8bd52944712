"""One vLLM engine run for the tests: `python -m tests.vllm_child JOB ANSWER` (both JSON)."""

import json
import sys
from pathlib import Path

from tests.conftest import SCALE, STYLE
from tract_core.base import config
from tract_core.generate.engine import Decoding, Request
from tract_core.generate.engine.vllm import VllmEngine
from tract_core.model import models
from tract_core.text.encoding import Encoder


def main(job_file: str, answer_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    folder = Path(job["folder"])
    seed_model = models.SeedModel(folder=folder, identity="x")
    decoding = Decoding(
        encoder=Encoder(models.load_tokenizer(seed_model), STYLE, SCALE),
        sampling=config.Sampling.model_validate(job["sampling"]),
        max_length=job["max_length"],
    )
    engine = VllmEngine(folder, decoding, dtype="float32", batch_size=job["batch_size"], memory=job["memory"])
    batches = engine.generate([[Request(**request) for request in job["requests"]]], score=True)
    found = [
        {"key": s.key, "cot_ids": s.cot_ids, "finish_reason": s.finish_reason, "probs": s.score and s.score.probs}
        for samples in batches
        for s in samples
    ]
    blocks = engine.llm.llm_engine.vllm_config.cache_config.num_gpu_blocks
    Path(answer_file).write_text(json.dumps({"samples": found, "cached": engine.cached_tokens, "blocks": blocks}))


if __name__ == "__main__":
    main(*sys.argv[1:])
