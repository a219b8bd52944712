"""How a train step, and sampling with scores, grow with their sizes; bench/growth_plots.py draws what is measured.

    OMP_NUM_THREADS=1 python -m bench.growth [--only prompt completion vocabulary samples] [--repeats 3]
    python -m bench.growth --plot            # only draw docs/growth/*.svg again

Train step (bench/train_step.py, batch 1): ours beside the released loss semantics, against the tokens of the prompt,
of the completion, and the vocabulary. The model has 8 of SmolLM2-135M's 30 layers, with random weights: what grows is
the same, and it takes minutes instead of half an hour. Loss and gradients are compared at each point before anything
is timed. Sampling (bench/sampling.py): K CoTs of 64 tokens after one prompt of about 1,400 tokens, with their scores,
by the whole SmolLM2-135M; ours beside the same engine without sharing.
"""

import argparse
import ctypes
import dataclasses
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from bench import growth_plots, measuring, train_step
from bench.growth_plots import Entry, Line
from bench.train_step import FULL, OURS, Step
from pipeline import preset
from tract_core.generate.engine import Decoding, Request
from tract_core.model import models
from tract_core.plan import cost
from tract_core.plan.cost import DEVICES, Sizes, Work
from tract_core.text.encoding import Encoder
from tract_core.train.memory import GIB, Shape

_LAYERS, _VOCABULARY = 8, 49152
UNSHARED, COT = "without sharing", 64
SAMPLES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class Point:
    """Of a curve: one row of the step's batch, and the vocabulary of its model."""

    prompt: int = 600
    completion: int = 250
    vocabulary: int = _VOCABULARY


CURVES = {
    "prompt": [Point(prompt=n) for n in (150, 300, 600, 1200, 2400)],
    "completion": [Point(completion=n) for n in (30, 125, 250, 500, 1000)],
    "vocabulary": [Point(prompt=300, completion=125, vocabulary=n) for n in (8000, 32000, 64000, 128000, 256000)],
}


def layers(count: int, vocabulary: int) -> LlamaConfig:
    """SmolLM2-135M's layers, `count` of them (it has 30), behind a tied head over another vocabulary."""
    return LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=count,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
    )


def measure_step(name: str, point: Point, repeats: int) -> Entry:
    """One point of one curve: seconds, memory and FLOPs of both variants."""
    made, lengths = layers(_LAYERS, point.vocabulary), [(point.prompt, point.completion)]
    step = Step(lengths, AutoModelForCausalLM.from_config(made))
    train_step.check_equal(step, [FULL])
    added: dict[str, float] = {}
    runs = {variant: weighed(partial(step.run, variant), added, variant) for variant in (OURS, FULL)}
    times = measuring.interleaved(runs, repeats)
    shape = Shape.create(made)
    lines = {
        variant: Line(
            cpu=times[variant].cpu,
            wall=times[variant].wall,
            model=train_step.flop(shape, variant, lengths),
            added=added[variant],
        )
        for variant in runs
    }
    return Entry(x=getattr(point, name), lines=lines)


def weighed(run: Callable[[], object], added: dict[str, float], name: str) -> Callable[[], object]:
    """The first run, whose time is not counted, writes its memory into `added`."""

    def either() -> None:
        if name in added:
            run()
        else:
            added[name] = added_bytes(run)

    return either


def added_bytes(run: Callable[[], object]) -> float:
    """What a run adds to the resident memory of this process at its peak; Linux lets the peak be reset."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs left free would be taken again, and not be counted
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    run()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def step_table(name: str, entries: list[Entry]) -> list[dict[str, object]]:
    """Seconds, ratio and memory of each point, and the ratio that the FLOP model expects of deeper models."""
    table = []
    for point, entry in zip(CURVES[name], entries, strict=True):
        ours, full = entry.lines[OURS], entry.lines[FULL]
        deeper = [layers(30, point.vocabulary), MistralConfig(vocab_size=point.vocabulary)]
        row: dict[str, object] = {name: f"{entry.x:,}"}
        row |= {f"{variant}, s": line.spread for variant, line in entry.lines.items()}
        row["ms a token, ours"] = f"{1000 * ours.median / (point.prompt + point.completion):.2f}"
        row |= {"full / ours": f"{full.median / ours.median:.2f}", "FLOP model": f"{full.model / ours.model:.2f}"}
        for title, made in zip(("30 layers", "Mistral-7B's layers"), deeper, strict=True):
            row[f"FLOP model, {title}"] = f"{_ratio(Shape.create(made), point):.2f}"
        row["attention, share of ours' FLOPs"] = f"{attention_share(point):.0%}"
        row |= {f"{variant}, GiB": f"{line.added / GIB:.2f}" for variant, line in entry.lines.items()}
        table.append(row)
    return table


def _ratio(shape: Shape, point: Point) -> float:
    lengths = [(point.prompt, point.completion)]
    return train_step.flop(shape, FULL, lengths) / train_step.flop(shape, OURS, lengths)


def attention_share(point: Point) -> float:
    """The part of ours' FLOPs that grows with the square of the sequence, by the FLOP model."""
    shape, sizes = Shape.create(layers(_LAYERS, point.vocabulary)), Sizes(prompt=point.prompt, cot=point.completion)
    flat = dataclasses.replace(shape, query_width=0)
    return 1 - cost.training_flop(flat, sizes) / cost.training_flop(shape, sizes)


def measure_samples(repeats: int) -> tuple[list[Entry], str]:
    """One prompt, K CoTs and their scores; and a sentence on the prompt."""
    from bench import sampling  # only here: it imports vllm, which takes seconds

    params = preset.load("vicuna")
    seed_model = models.resolve(params.model)
    encoder = Encoder.create(models.load_tokenizer(seed_model), params.prompt, params.scale)
    drawing = params.sampling.model_copy(update={"max_new_tokens": COT})
    decoding = Decoding(encoder=encoder, sampling=drawing, max_length=params.model.max_length)
    prompt = encoder.prompt_ids(sampling.made(random.Random(0)))
    engine = sampling.FixedEngine(seed_model.folder, decoding, dtype="float32", batch_size=32, memory=1.0)
    entries = []
    for samples in SAMPLES:
        requests = [Request(key=str(k), prompt_ids=prompt, seed=k) for k in range(samples)]
        runs = {OURS: warmed(engine.shared, requests), UNSHARED: warmed(engine.unshared, requests)}
        times = measuring.interleaved(runs, repeats)
        seconds = projected(samples, len(prompt))
        lines = {name: Line(cpu=one.cpu, wall=one.wall, model=seconds[name]) for name, one in times.items()}
        entries.append(Entry(x=samples, lines=lines))
    return entries, f"One prompt of {len(prompt)} tokens (made text), CoTs of {COT} tokens, SmolLM2-135M, float32."


def warmed(run: Callable[[list[Request], int], object], requests: list[Request]) -> Callable[[], object]:
    """The first run, which is not counted, samples eight tokens of one CoT only."""
    calls = itertools.chain([(requests[:1], 8)], itertools.repeat((requests, COT)))
    return lambda: run(*next(calls))


def projected(samples: int, prompt: int) -> dict[str, float]:
    """Seconds on DEVICES["cpu"] by the model of `make plan`, without the start."""
    shape, sizes = Shape.create(layers(30, _VOCABULARY)), Sizes(prompt=prompt, cot=COT)
    shared, alone = Work(drawn=samples, prompts=1), Work(drawn=samples, prompts=samples, read=samples)
    return {
        name: cost.seconds(work, shape, DEVICES["cpu"], sizes, batch=32)
        for name, work in ((OURS, shared), (UNSHARED, alone))
    }


def samples_table(entries: list[Entry]) -> list[dict[str, object]]:
    """Seconds and ratio for each K."""
    table = []
    for entry in entries:
        ours, alone = entry.lines[OURS], entry.lines[UNSHARED]
        row: dict[str, object] = {"K": f"{entry.x}"}
        row |= {f"{name}, s": line.spread for name, line in entry.lines.items()}
        row |= {"s a CoT, ours": f"{ours.median / entry.x:.2f}", "ratio": f"{alone.median / ours.median:.2f}"}
        table.append(row | {"ratio, model": f"{alone.model / ours.model:.2f}"})
    return table


def fit_note(entries: list[Entry], unit: str, scale: float) -> str:
    """How well one constant carries the model to the measurements."""
    factor = growth_plots.fitted(entries)
    off = [line.median / (factor * line.model) - 1 for entry in entries for line in entry.lines.values()]
    return (
        f"Model fitted by one constant, {scale / factor:.3g} {unit}; measured medians lie {min(off):+.0%} to "
        f"{max(off):+.0%} from it."
    )


def write_step(name: str, repeats: int) -> None:
    entries = [measure_step(name, point, repeats) for point in CURVES[name]]
    held = ", ".join(f"{field} {value:,}" for field, value in vars(CURVES[name][0]).items() if field != name)
    notes = [
        f"Processor seconds of a whole step, batch 1, {repeats} interleaved repeats; fixed: {held}. {_LAYERS} of "
        "SmolLM2-135M's 30 layers, random weights, LoRA as in the laptop preset, float32: with fewer layers the head "
        "weighs more, so the columns of the FLOP model say what the ratio becomes with more of them.",
        "GiB: what a step adds to the resident memory of the process. Loss and gradients are equal at each point.",
        fit_note(entries, "GFLOP/s", 1e-9),
    ]
    data: list[dict[str, Any]] = [dataclasses.asdict(entry) for entry in entries]
    measuring.write(f"growth_{name}", f"Train step by {name}", step_table(name, entries), notes, data)


def write_samples(repeats: int) -> None:
    entries, prompt = measure_samples(repeats)
    notes = [
        f"Processor seconds of all K CoTs with their scores, {repeats} interleaved repeats. {prompt}",
        fit_note(entries, "times as fast as `make plan` expects of a CPU, in processor seconds", 1.0),
    ]
    data = [dataclasses.asdict(entry) for entry in entries]
    measuring.write("growth_samples", "Sampling and scoring by K", samples_table(entries), notes, data)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=[*CURVES, "samples"], default=[*CURVES, "samples"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", action="store_true")
    given = parser.parse_args()
    asked = [] if given.plot else [name for name in (*CURVES, "samples") if name in given.only]
    for name in asked:  # sampling last: vLLM binds the threads of the process to cores
        write_samples(given.repeats) if name == "samples" else write_step(name, given.repeats)
    for file in growth_plots.write(measuring.RESULTS, growth_plots.FOLDER):
        print(file)


if __name__ == "__main__":
    main()
