"""What our training loop adds to the bare model, for each optimizer step.

    OMP_NUM_THREADS=1 python -m bench.loop

The seed model's 30 layers made narrow (width 64), so that the modules and the LoRA weights are as many, and little of
a step is arithmetic. Bare: forward, loss, backward, clipping and AdamW over micro-batches that are there already.
Ours: tract_core/train/loop.py with its batches, packing, counts and log.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bench import measuring, train_step
from pipeline import preset
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.model.objectives import Objective
from tract_core.text.encoding import Encoded, Encoder
from tract_core.train import training

_EXAMPLES, _EPOCHS = 16, 16
_BARE, _OURS = "bare model, optimizer included", "our loop"


def narrow(folder: Path) -> SeedModel:
    """The seed model's depth, heads of one width, its vocabulary cut."""
    original = models.resolve(preset.load("laptop-paper").model).folder
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=49152, num_hidden_layers=30, **shape)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(original).save_pretrained(folder)
    return SeedModel(folder=folder, identity="narrow")


def recipe() -> training.Recipe:
    params = preset.load("laptop-paper")
    objective = Objective.create(lam=1.0, normalization="authors", authors_batch=8, ce_on_score="auto", ce_on_eos=True)
    settings = params.train.model_copy(update={"batch_size": 8, "micro_batch_size": 2, "epochs": _EPOCHS})
    sections = {name: getattr(params, name) for name in ("model", "prompt", "scale", "lora")}
    return training.Recipe(**sections, train=settings, objective=objective, run_seed=1)


class _Pairs:
    """After each of our steps one of the bare model: what else runs on the machine hits both alike.

    Processor seconds; ours from the end of the bare step before, so that logs and epoch turns count. The first pair is
    dropped.
    """

    def __init__(self, bare: Callable[[int], None]) -> None:
        self.bare, self.start, self.taken = bare, 0.0, 0
        self.times: dict[str, list[float]] = {_BARE: [], _OURS: []}

    def add(self, *hook: Any) -> None:
        end = time.process_time()
        self.taken += 1
        self.bare(self.taken)
        after = time.process_time()
        if self.taken > 1:
            self.times[_OURS].append(end - self.start)
            self.times[_BARE].append(after - end)
        self.start = after


def bare_step(model: torch.nn.Module, steps: list[list[Any]]) -> Callable[[int], None]:
    """One optimizer step without our loop, over micro-batches that are there already."""
    trained = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    counts = [
        torch.tensor([sum(float(b[name].sum()) for b in step) for name in ("ce_mask_N", "counts_B")]) for step in steps
    ]

    def run(number: int) -> None:
        place = number % len(steps)
        for batch in steps[place]:
            model(**batch, step_counts=counts[place]).total.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def measure(examples: list[Encoded], seed_model: SeedModel) -> dict[str, list[float]]:
    """A training that logs at each step and keeps no checkpoint, and the bare steps between its own."""
    encoder = Encoder.create(models.load_tokenizer(seed_model), recipe().prompt, recipe().scale)
    loop = training._build_loop(examples, recipe(), seed_model, encoder, None)
    steps = [
        [
            loop.collate([(examples[index], counts) for index, counts in items])
            for items in loop.order.micro_batches(step)
        ]
        for step in range(loop.order.steps_per_epoch)
    ]
    pairs = _Pairs(bare_step(copy.deepcopy(loop.module), steps))
    loop.optimizer.register_step_post_hook(pairs.add)
    loop.run()
    return pairs.times


def _row(what: str, seconds: list[float]) -> dict[str, str]:
    low, middle, high = (1000 * q for q in statistics.quantiles(seconds, n=4))
    return {"what": what, "ms a step": f"{middle:.1f} ({low:.1f} to {high:.1f})"}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        examples = train_step.rows([(90, 10 + i % 4) for i in range(_EXAMPLES)])
        times = measure(examples, narrow(Path(name) / "model"))
    added = [ours - bare for ours, bare in zip(times[_OURS], times[_BARE], strict=True)]
    share = statistics.median(added) / statistics.median(times[_BARE])
    table = [*(_row(what, seconds) for what, seconds in times.items()), _row(f"added, {share:.1%}", added)]
    notes = [
        f"Processor time of one thread, median (quartiles) of {len(added)} steps of 8 examples of 100 tokens in "
        "micro-batches of 2, each followed by a step of the bare model; with a log at each step and without "
        "checkpoints. Added is the median of the differences of the pairs."
    ]
    measuring.write("train_loop", "What the training loop adds", table, notes, times)


if __name__ == "__main__":
    main()
