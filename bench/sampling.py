"""K CoTs with their scores: our engine beside itself without sharing, and beside transformers' `generate`.

    python -m bench.sampling [--repeats 5] [--cot 250]

SmolLM2-135M, real judge prompts of about 1,300 tokens (vicuna_eval.json in TRACT_REFERENCE_DIR; made text without it),
exactly 250 tokens for each CoT, so that all variants do the same work. Without sharing: vLLM reads no prefix cache, and
the scores are a second pass. transformers: one padded batch, or one CoT after the other (two of them), then one forward
pass to the score; both get the last position's logits alone, which is kind to them.
First the probabilities are compared with a float32 softmax over the vocabulary, after CoTs that end as they like.
On a GPU, where there is one, in bfloat16 and with more CoTs.
"""

import argparse
import dataclasses
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import vllm

from bench import fits, measuring
from bench.generate import PARAMS, model_and_decoding
from bench.measuring import Seconds, Times
from bench.rows import words
from tract_core.base.scale import ScoreScale
from tract_core.data import prepare
from tract_core.generate.engine import Request, Sample
from tract_core.generate.engine.vllm import VllmEngine
from tract_core.plan import cost
from tract_core.plan.cost import DEVICES, Sizes, Work
from tract_core.text.encoding import Encoder
from tract_core.text.examples import judge_input
from tract_core.text.prompts import JudgeInput

OURS, UNSHARED, BATCHED, SINGLE = "ours", "vLLM without sharing", "transformers, batched", "transformers, one at a time"
PROMPT, COT = 1300, 250
ON_GPU = measuring.DEVICE == "cuda"
CASES = {"K=1": (64, 1), "K=8": (16, 8)} if ON_GPU else {"K=1": (4, 1), "K=8": (1, 8)}
"""Prompts and CoTs for each."""
_BATCH, _MEMORY = (256, 0.5) if ON_GPU else (32, 1.0)
"""Sequences together, and engine.memory: half of a GPU, since the peer holds its model there, too."""
_TOLERANCE = 3e-2 if ON_GPU else 1e-4  # bfloat16: rounding of the logits in two implementations
_SINGLES = 2


class FixedEngine(VllmEngine):
    """Ours with CoTs of one length (None: they end as they like), and with the prefix cache out of use if asked."""

    length: int | None = None
    sharing = True

    def _settings(self, seed: int) -> dict[str, Any]:
        return {**super()._settings(seed), "skip_reading_prefix_cache": not self.sharing}

    def _sampling(self, request: Request) -> Any:
        parameters = super()._sampling(request)
        if self.length is not None:
            parameters.max_tokens = parameters.min_tokens = self.length
        return parameters

    def sample(self, requests: Sequence[Request], *, score: bool) -> list[Sample]:
        """All at once, with a prefix cache that knows nothing yet."""
        assert self.llm.reset_prefix_cache()
        return [sample for samples in self.generate([requests], score=score) for sample in samples]

    def shared(self, requests: Sequence[Request], length: int | None) -> list[Sample]:
        self.length, self.sharing = length, True
        return self.sample(requests, score=True)

    def unshared(self, requests: Sequence[Request], length: int) -> list[Sample]:
        """All CoTs, then all scores, every prompt read anew."""
        self.length, self.sharing = length, False
        cots = {sample.key: sample.cot_ids for sample in self.sample(requests, score=False)}
        return self.sample([dataclasses.replace(r, cot_ids=cots[r.key]) for r in requests], score=True)


class Peer:
    """bench/generate.py in a process of its own, which takes its own time."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "bench.generate"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"python -m bench.generate ended with {self.process.wait()}")
        return json.loads(answer)

    def batched(self, requests: Sequence[Request], length: int) -> Seconds:
        return Seconds(*self.ask(batches=[[request.prompt_ids for request in requests]], length=length))

    def one_by_one(self, requests: Sequence[Request], length: int) -> Seconds:
        return Seconds(*self.ask(batches=[[request.prompt_ids] for request in requests[:_SINGLES]], length=length))


def judged(encoder: Encoder) -> tuple[list[list[int]], str]:
    """Prompts, the ones nearest to 1,300 tokens first, and where they come from."""
    folder = Path(os.environ.get("TRACT_REFERENCE_DIR", "../shared")) / "data"
    if not (folder / "vicuna_eval.json").exists():
        return [encoder.prompt_ids(made(random.Random(number))) for number in range(CASES["K=1"][0])], "made text"
    data = PARAMS.data.model_copy(update={"folder": str(folder)})
    scale = ScoreScale.create(PARAMS.scale.values, PARAMS.scale.labels)
    examples = prepare.prepare(data, scale, PARAMS.prompt.delimiter).benchmarks["vicuna_heldout"]
    prompts = [encoder.prompt_ids(judge_input(row)) for row in examples]
    return sorted(prompts, key=lambda ids: abs(len(ids) - PROMPT)), "real judge prompts"


def made(rng: random.Random) -> JudgeInput:
    return JudgeInput(
        instruction=words(50, rng),
        response=words(80, rng),
        reference=words(80, rng),
        criteria=words(10, rng),
        descriptions=tuple(words(5, rng) for _ in range(5)),
    )


def requests_of(prompts: Sequence[list[int]], case: str) -> list[Request]:
    count, samples = CASES[case]
    return [
        Request(key=f"{case} {n} {k}", prompt_ids=prompts[n], seed=1000 * n + k)
        for k in range(samples)
        for n in range(count)
    ]


def after_warm_up(
    run: Callable[[Sequence[Request], int], object], requests: Sequence[Request], length: int
) -> Callable[[], object]:
    """The first run, which `interleaved` leaves out, samples eight tokens only: the machine is shared."""
    lengths = itertools.chain([8], itertools.repeat(length))
    return lambda: run(requests, next(lengths))


def check(engine: FixedEngine, peer: Peer, requests: Sequence[Request]) -> dict[str, Any]:
    """CoTs as they end by themselves: their lengths, what the prefix cache held, and the probabilities' error."""
    samples = engine.shared(requests, None)
    worst = 0.0
    for sample in samples[:4]:
        prompt = next(request.prompt_ids for request in requests if request.key == sample.key)
        (exact,) = peer.ask(contexts=[engine.decoding.encoder.scoring_context(prompt, sample.cot_ids)])
        assert sample.score is not None
        worst = max(worst, *(abs(a - b) for a, b in zip(sample.score.probs, exact, strict=True)))
    if worst > _TOLERANCE:
        raise SystemExit(f"probabilities differ by {worst:.1e} from the full softmax; nothing is timed")
    cached = {kind: engine.cached_tokens[kind] / total for kind, total in engine.prompt_tokens.items()}
    lengths = [sample.num_tokens for sample in samples]
    return {"error": worst, "cached": cached, "lengths": lengths, "ends": [sample.finish_reason for sample in samples]}


def line(case: str, name: str, times: Times, ours: Times, length: int) -> dict[str, object]:
    drawn = CASES[case][0] * CASES[case][1]
    cots = {name: min(_SINGLES, drawn) if name == SINGLE else drawn, OURS: drawn}
    seconds = sorted(second / cots[name] for second in times.wall)
    median, base = statistics.median(seconds), statistics.median(ours.wall) / drawn
    cpu = statistics.median(times.cpu) / cots[name]
    return {
        "case": case,
        "variant": name,
        "s a CoT": f"{median:.3g} ({seconds[0]:.3g} to {seconds[-1]:.3g})",
        "times ours": f"{median / base:.2f}",
        "CoTs/s": f"{1 / median:.3g}",
        "their tokens/s": f"{length / median:.3g}",
        "processor s a CoT": f"{cpu:.3g}",
    }


def projected(samples: int) -> str:
    """Ours against no sharing for Mistral-7B on an H100, from the FLOP model."""
    shape, sizes = fits.shape("Mistral-7B"), Sizes(prompt=PROMPT, cot=COT)
    drawn = 1024.0 * samples
    seconds = [
        cost.seconds(work, shape, DEVICES["h100"], sizes, batch=256)
        for work in (Work(drawn=drawn, prompts=1024.0), Work(drawn=drawn, prompts=drawn, read=drawn))
    ]
    return f"K={samples} {seconds[1] / seconds[0]:.2f}x"


def started(length: int) -> tuple[FixedEngine, Peer]:
    """The peer first: a process inherits the cores to which vLLM binds its parent."""
    peer = Peer()
    peer.ask(contexts=[[0]])  # it has its model by now, and vLLM sees how much of a GPU is left
    seed_model, decoding = model_and_decoding(length)
    return FixedEngine(seed_model.folder, decoding, dtype=measuring.DTYPE, batch_size=_BATCH, memory=_MEMORY), peer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cot", type=int, default=COT, help="tokens of a CoT")
    given = parser.parse_args()
    engine, peer = started(given.cot)
    prompts, kind = judged(engine.decoding.encoder)
    found = check(engine, peer, requests_of(prompts, "K=8"))
    print(found, flush=True)
    lines, data = list[dict[str, object]](), dict[str, object]()
    for case in CASES:
        asked = requests_of(prompts, case)
        variants = {OURS: engine.shared, UNSHARED: engine.unshared, BATCHED: peer.batched}
        if case == "K=8":  # alone it takes as long for each CoT whatever K
            variants[SINGLE] = peer.one_by_one
        runs = {name: after_warm_up(run, asked, given.cot) for name, run in variants.items()}
        times = measuring.interleaved(runs, given.repeats)
        lines += [line(case, name, one, times[OURS], given.cot) for name, one in times.items()]
        data[case] = {name: vars(one) for name, one in times.items()}
    lengths = sorted(len(ids) for ids in prompts[: CASES["K=1"][0]])
    mean = statistics.mean(found["lengths"])
    notes = [
        f"{given.repeats} interleaved repeats; {kind} of {lengths[0]} to {lengths[-1]} tokens; CoTs of {given.cot} "
        f"tokens. K=1: {CASES['K=1'][0]} prompts; K=8: {CASES['K=8'][0]}; one at a time: {_SINGLES} CoTs a repeat. "
        f"vllm {vllm.__version__}; transformers in a process of its own, which takes its own time.",
        f"Before timing: probabilities within {found['error']:.1e} of the float32 softmax; K=8 CoTs that ended as they "
        f"liked had {mean:.0f} tokens on average ({min(found['lengths'])} to {max(found['lengths'])}); found in the "
        f"prefix cache: {found['cached']['CoT']:.1%} of the CoTs' prompts, {found['cached']['score']:.1%} of the "
        "scores' contexts.",
        f"Projection, not measured (Mistral-7B, H100, FLOP model): {', '.join(projected(k) for k in (1, 8, 16))} "
        "faster than without sharing.",
    ]
    measuring.write("sampling", "Sampling and scoring", lines, notes, {**data, "check": found})


if __name__ == "__main__":
    main()
