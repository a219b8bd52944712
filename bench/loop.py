"""What our training loop adds to the bare model, for each optimizer step.

    OMP_NUM_THREADS=1 python -m bench.loop

The seed model's 30 layers made narrow (width 64), so that the modules and the LoRA weights are as many, and little of
a step is arithmetic. Bare: forward, loss, backward, clipping and AdamW over micro-batches that are there already.
Ours: the Trainer with its loader, packing, counts, callbacks and log.
"""

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback

from bench import measuring, train_step
from tract_core import config, models, training
from tract_core.encoding import Encoded, Encoder
from tract_core.models import SeedModel
from tract_core.objectives import Objective

_EXAMPLES, _EPOCHS = 16, 4


def narrow(folder: Path) -> SeedModel:
    """The seed model's depth, heads of one width, its vocabulary cut."""
    original = models.resolve(config.load("presets/laptop.yaml").model).folder
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=49152, num_hidden_layers=30, **shape)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(original).save_pretrained(folder)
    return SeedModel(folder=folder, identity="narrow")


def recipe() -> training.Recipe:
    params = config.load("presets/laptop.yaml")
    objective = Objective.create(lam=1.0, normalization="authors", authors_batch=8, ce_on_score="auto", ce_on_eos=True)
    settings = params.train.model_copy(update={"batch_size": 8, "micro_batch_size": 2, "epochs": _EPOCHS})
    sections = {name: getattr(params, name) for name in ("model", "prompt", "scale", "lora")}
    return training.Recipe(**sections, train=settings, objective=objective, run_seed=1)


def bare(trainer: Any, steps: list[list[Any]]) -> list[float]:
    """Processor seconds of each step without Trainer."""
    model = trainer.model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    ends = []
    for step in steps:
        counts = torch.tensor([sum(float(b[name].sum()) for b in step) for name in ("ce_mask_N", "counts_B")])
        for batch in step:
            model(**batch, step_counts=counts).total.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ends.append(time.process_time())
    return [b - a for a, b in itertools.pairwise(ends)]


class _Ends(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.process_time())


def ours(examples: list[Encoded], seed_model: SeedModel) -> tuple[Any, list[float]]:
    """Processor seconds from step to step of a training that logs at each step and keeps no checkpoint."""
    encoder = Encoder.create(models.load_tokenizer(seed_model), recipe().prompt, recipe().scale)
    trainer = training._build_trainer(examples, recipe(), seed_model, encoder, None)
    ends = _Ends()
    trainer.add_callback(ends)
    trainer.train()
    return trainer, [b - a for a, b in itertools.pairwise(ends.ends)]


def main() -> None:
    found: dict[str, list[float]] = {"bare model, optimizer included": [], "our loop": []}
    with tempfile.TemporaryDirectory() as name:
        seed_model = narrow(Path(name) / "model")
        examples = train_step.rows([(90, 10 + i % 4) for i in range(_EXAMPLES)])
        for _ in range(5):
            trainer, steps = ours(examples, seed_model)
            batches = list(trainer.get_train_dataloader()) * _EPOCHS
            found["our loop"] += steps
            found["bare model, optimizer included"] += bare(
                trainer, [batches[i : i + 4] for i in range(0, len(batches), 4)]
            )
    medians = {name: 1000 * statistics.median(seconds) for name, seconds in found.items()}
    table = [
        {"what": name, "ms a step": f"{medians[name]:.1f} ({1000 * min(s):.1f} to {1000 * max(s):.1f})"}
        for name, s in found.items()
    ]
    low, high = medians.values()
    table.append({"what": "added", "ms a step": f"{high - low:.1f} ({(high - low) / low:.1%})"})
    notes = [
        f"Processor time of one thread, {len(found['our loop'])} steps of 8 examples of 100 tokens in micro-batches of "
        "2, with a log at each step and without checkpoints."
    ]
    measuring.write("train_loop", "What the training loop adds", table, notes, found)


if __name__ == "__main__":
    main()
