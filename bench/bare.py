"""Parts a to c of `bench/gpu.sh --bare`, which need no model file: all weights are random.

    python -m bench.bare parity|training|generation [--smoke]

parity: losses, gradients and probabilities of the GPU beside those of the CPU. training: a step of a model of
Mistral-7B's shape, ours beside the released loss and settings. generation: CoTs of such a model by the transformers
engine. `--smoke` takes models of two layers, on whatever device there is: every line runs, and no number counts.
What is finished is written at once, as NAME_so_far until all of it is there.
"""

import argparse
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedModel

from bench import measuring, train_step
from bench.measuring import Times
from bench.train_step import FULL, OURS, RELEASED, Step
from pipeline import preset
from tests.tiny import bpe_tokenizer
from tract_core.generate.engine import Decoding, Request
from tract_core.generate.engine.hf import TransformersEngine
from tract_core.model.objectives import expected_score
from tract_core.plan import cost
from tract_core.plan.cost import DEVICES
from tract_core.text.encoding import Encoder
from tract_core.train.memory import GIB, Shape

DEVICE = measuring.DEVICE
ALLOWED = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest relative difference to the CPU's float32; that of bfloat16 is the one that training and engines allow."""
PAPER_ROWS, PAPER_EPOCHS = 100_000, 2
_TINY = {
    "vocab_size": 2000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
_SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
# (prompt, completion) in tokens; both means are those of the paper's data, about 1,000 + 250.
_LENGTHS = {
    "micro-batch 1": [(1000, 250)],
    "micro-batch 4": [(1250, 310), (1050, 270), (900, 230), (800, 190)],
}
_SHORT = {"micro-batch 1": [(20, 6)], "micro-batch 4": [(24, 8), (20, 6), (18, 5), (12, 4)]}
_BATCHES, _PROMPT, _COT = (8, 32, 128), 1000, 250


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("parity", "training", "generation"))
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    {"parity": parity, "training": training, "generation": generation}[given.part](smoke=given.smoke)


def random_model(config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """Made where it is used: 7B weights in bfloat16 fit a GPU, in float32 on the way they would not."""
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model


def parity(*, smoke: bool) -> None:
    """One step on the CPU in float32, then on the device in float32 and as a training computes there."""
    lengths = _SHORT["micro-batch 4"] if smoke else [(844, 146), (955, 166), (882, 90), (1210, 100)]
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(LlamaConfig(**(_TINY if smoke else _SMOLLM2)))
    base.to(torch.bfloat16).float()  # so that bfloat16 on the device has the same weights
    step = Step(lengths, base, "cpu")
    expected = computed(step)
    table = []
    for dtype in ALLOWED:
        step.move(lengths, DEVICE)
        if dtype == "bfloat16":
            for weight in base.parameters():
                weight.data = weight.data if weight.requires_grad else weight.data.bfloat16()
        step.autocast = dtype == "bfloat16"
        found = {name: difference(value, expected[name]) for name, value in computed(step).items()}
        fits = max(found.values()) <= ALLOWED[dtype]
        numbers = {name: f"{value:.1e}" for name, value in found.items()}
        table.append({"computed in": dtype, **numbers, "allowed": ALLOWED[dtype], "within": "yes" if fits else "NO"})
    failed = any(row["within"] == "NO" for row in table)
    notes = [
        "Relative differences to float32 on this machine's CPU: of the loss, the gradient of all LoRA weights, "
        "that of the squared error alone, and the score probabilities. Random model of "
        f"{base.config.num_hidden_layers} layers and width {base.config.hidden_size}; rows (prompt, completion): "
        f"{lengths}."
    ]
    measuring.write(
        "bare_parity_failed" if failed else "bare_parity", f"Parity of {_device()} with the CPU", table, notes, table
    )
    if failed:
        raise SystemExit(
            f"{_device()} and the CPU differ by more than is allowed: bare_parity_failed.md has the numbers"
        )


def computed(step: Step) -> dict[str, torch.Tensor]:
    """Loss and gradient of ours, the gradient of its squared error alone, and score probabilities, on the CPU.

    Of the whole gradient the cross-entropy over hundreds of tokens hides what the squared error has.
    """
    loss, gradient = step.gradient(OURS)
    batch = step.ours
    inputs = {name: batch[name] for name in ("input_ids", "position_ids", "lengths", "shared")}
    step.optimizer.zero_grad()
    with torch.autocast(step.device, torch.bfloat16, enabled=step.autocast):
        logits_NV = step.model(**inputs, logits_to_keep=batch["positions_N"], use_cache=False).logits[0]
        score = expected_score(logits_NV[batch["score_places_B"]], *step.scores)
        (score.value_B - batch["gold_B"]).square().sum().backward()
    of_score = torch.cat([p.grad.flatten() for p in step.trained])
    found = {"loss": torch.tensor(loss), "gradient": gradient, "its squared error's": of_score}
    found["probabilities"] = score.probs_BY
    return {name: value.detach().double().cpu() for name, value in found.items()}


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def training(*, smoke: bool) -> None:
    """Seconds of an optimizer step; a micro-batch is the whole step, since steps differ in nothing else."""
    config, cases = (MistralConfig(**_TINY), _SHORT) if smoke else (MistralConfig(), _LENGTHS)
    step = Step(cases["micro-batch 1"], random_model(config, torch.bfloat16), DEVICE)
    step.autocast, shape = True, Shape.create(config)
    table, notes, data = list[dict[str, object]](), list[str](), dict[str, object]()
    for case, lengths in cases.items():
        step.move(lengths, DEVICE)
        step.autocast = True
        off = train_step.differences(step, [FULL, RELEASED])
        runs = {variant: partial(step.run, variant) for variant in (OURS, FULL, RELEASED)}
        peaks = {variant: train_step.peak(run) for variant, run in runs.items()} if DEVICE == "cuda" else {}
        times = measuring.interleaved(runs, 1 if smoke else 10)
        table += [
            trained(case, variant, times[variant].median, times[OURS].median, peaks.get(variant), shape, lengths)
            for variant in runs
        ]
        notes.append(f"{case}: rows (prompt, completion) {lengths}; relative differences to ours: {_named(off)}.")
        data[case] = {variant: {**vars(times[variant]), "peak": peaks.get(variant)} for variant in runs}
        name = "bare_training" if len(data) == len(cases) else "bare_training_so_far"
        measuring.write(name, "A training step of Mistral-7B's shape", table, [*notes, _projection()], data)


def trained(
    case: str,
    variant: str,
    seconds: float,
    ours: float,
    peak: float | None,
    shape: Shape,
    lengths: Sequence[tuple[int, int]],
) -> dict[str, object]:
    rate = len(lengths) / seconds
    done = train_step.flop(shape, variant, lengths) / seconds
    return {
        "case": case,
        "variant": variant,
        "s a step": f"{seconds:.3g}",
        "times ours": f"{seconds / ours:.2f}",
        "samples/s": f"{rate:.3g}",
        "tokens/s": f"{sum(p + c for p, c in lengths) / seconds:.0f}",
        "share of peak": f"{done / _peak_flops():.1%}",
        "GPU peak, GiB": "-" if peak is None else f"{peak / GIB:.1f}",
        "PROJECTED hours of a stage": f"{PAPER_ROWS * PAPER_EPOCHS / rate / 3600:.3g}",
    }


def _peak_flops() -> float:
    """The maker's for dense bfloat16; an H200's are an H100's."""
    if DEVICE == "cpu":
        return DEVICES["cpu"].training
    name = torch.cuda.get_device_name().lower()
    known = next((key for key in DEVICES if key in name), "h100")
    return DEVICES[known].training / cost._TRAINING


def _projection() -> str:
    return (
        "Random weights, LoRA of rank 8 on all linear layers, bfloat16 by autocast, AdamW. Share of peak: FLOPs by "
        f"tract_core/plan/cost.py, padding and recompute counted, over {_peak_flops():.3g} a second. PROJECTED, "
        f"not measured: {PAPER_ROWS:,} rows x {PAPER_EPOCHS} epochs of such rows at this rate; both stages take twice "
        "that, without drawing CoTs, starts and checkpoints."
    )


def generation(*, smoke: bool) -> None:
    """CoTs with their scores, by batch size; random weights end hardly any CoT before its last token."""
    config = MistralConfig(**_TINY) if smoke else MistralConfig()
    prompt, cot = (30, 6) if smoke else (_PROMPT, _COT)
    params = preset.load("laptop-paper")
    encoder = Encoder.create(bpe_tokenizer(), params.prompt, params.scale)
    sampling = params.sampling.model_copy(update={"max_new_tokens": cot, "temperature": 1.0, "top_p": 0.9})
    decoding = Decoding(encoder=encoder, sampling=sampling, max_length=prompt + cot + 64)
    engine = TransformersEngine(random_model(config, torch.bfloat16), decoding)
    table, data = list[dict[str, object]](), dict[int, object]()
    batches, repeats = ((2, 4), 1) if smoke else (_BATCHES, 2)
    for batch in batches:
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        samples, times = drawn(engine, requests(batch, prompt), repeats)
        peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
        table.append(generated(batch, min(times.wall), samples, peak))
        data[batch] = {**vars(times), "peak": peak}
        name = "bare_generation" if len(data) == len(batches) else "bare_generation_so_far"
        notes = [
            f"Random weights; prompts of {prompt} tokens, CoTs of at most {cot}, at temperature 1, top_p .9, each "
            f"with its score; the fastest of {repeats} run(s) after one to warm up. PROJECTED, not measured: one such "
            f"CoT for each of {PAPER_ROWS:,} rows."
        ]
        measuring.write(name, "CoTs of Mistral-7B's shape, transformers engine", table, notes, data)


def requests(batch: int, prompt: int) -> list[Request]:
    """Of ids that the made tokenizer knows; control tokens are the first three."""
    rng = random.Random(0)
    ids = [[rng.randrange(10, 1000) for _ in range(prompt)] for _ in range(batch)]
    return [Request(key=str(n), prompt_ids=row, seed=n) for n, row in enumerate(ids)]


def drawn(engine: TransformersEngine, asked: Sequence[Request], repeats: int) -> tuple[list[Any], Times]:
    """The samples of one batch, and the times of drawing them; a request that fails ends the part."""
    samples = list[Any]()

    def run() -> None:
        samples[:] = [sample for some in engine.generate([asked], score=True) for sample in some]
        if failed := [sample.finish_reason for sample in samples if sample.failed]:
            raise SystemExit(f"{len(failed)} of {len(samples)} requests failed: {failed[0]}")

    times = measuring.interleaved({f"{len(asked)} CoTs": run}, repeats)
    return samples, next(iter(times.values()))


def generated(batch: int, seconds: float, samples: Sequence[Any], peak: float | None) -> dict[str, object]:
    tokens = sum(sample.num_tokens for sample in samples) / len(samples)
    return {
        "batch": batch,
        "s a batch": f"{seconds:.3g}",
        "CoTs/s": f"{batch / seconds:.3g}",
        "their tokens/s": f"{batch * tokens / seconds:.0f}",
        "tokens of a CoT": f"{tokens:.0f}",
        "GPU peak, GiB": "-" if peak is None else f"{peak / GIB:.1f}",
        "PROJECTED hours of own CoTs": f"{PAPER_ROWS * seconds / batch / 3600:.3g}",
    }


def _named(off: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1e}" for name, value in off.items())


def _device() -> str:
    return torch.cuda.get_device_name() if DEVICE == "cuda" else "the CPU (smoke run)"


if __name__ == "__main__":
    main()
