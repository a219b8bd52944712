"""What our training loop adds to the bare model, for each optimizer step, and what a checkpoint costs.

    python -m bench.loop

The seed model's 30 layers made narrow (width 64), so that the modules and the LoRA weights are as many, and little of
a step is arithmetic. Bare: forward, loss, backward, clipping and AdamW over micro-batches that are there already.
Ours: the Trainer with its loader, packing, counts, callbacks and log.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback

from bench import measuring, train_step
from tract_core import checkpoints, config, models, training
from tract_core.checkpoints import Checkpoints
from tract_core.encoding import Encoded, Encoder
from tract_core.models import SeedModel
from tract_core.objectives import Objective

_EXAMPLES, _EPOCHS = 16, 2
_STEPS = _EXAMPLES // 8 * _EPOCHS


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


def bare(trainer: Any) -> None:
    """The steps of one training, without Trainer."""
    model = trainer.model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    for step in _BATCHES:
        counts = torch.tensor([sum(float(b[name].sum()) for b in step) for name in ("ce_mask_N", "counts_B")])
        for batch in step:
            model(**batch, step_counts=counts).total.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()


_BATCHES: list[list[Any]] = []


class _NoCheckpoints(TrainerCallback):
    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = False


def build(examples: list[Encoded], seed_model: SeedModel, store: Checkpoints | None) -> Any:
    encoder = Encoder.create(models.load_tokenizer(seed_model), recipe().prompt, recipe().scale)
    trainer = training._build_trainer(examples, recipe(), seed_model, encoder, None, store)
    trainer.add_callback(training._Saving() if store is not None else _NoCheckpoints())
    return trainer


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seed_model = narrow(folder / "model")
        examples = train_step.rows([(90, 10 + i % 4) for i in range(_EXAMPLES)])
        trainer = build(examples, seed_model, None)
        batches = list(trainer.get_train_dataloader()) * _EPOCHS
        _BATCHES.extend(batches[i : i + 4] for i in range(0, len(batches), 4))

        def saving() -> None:
            with checkpoints.opened(folder / "work", {}) as store:
                build(examples, seed_model, store).train()

        def building() -> None:
            with checkpoints.opened(folder / "work", {}) as store:
                build(examples, seed_model, store)

        runs = {
            "bare": lambda: bare(trainer),
            "ours": lambda: trainer.train(),
            "building it": building,
            "building it, and a checkpoint at each step": saving,
        }
        times = measuring.interleaved(runs, 5)
    each = {name: found.median / _STEPS for name, found in times.items()}
    loop = each["ours"] - each["bare"]
    save = each["building it, and a checkpoint at each step"] - each["building it"] - each["ours"]
    table = [
        {"what": "bare model, optimizer included", "ms a step": f"{1000 * each['bare']:.1f}"},
        {"what": "added by our loop, 4 micro-batches", "ms a step": f"{1000 * loop:.1f}"},
        {"what": "added by a checkpoint at a step", "ms a step": f"{1000 * save:.1f}"},
    ]
    notes = [
        f"{_STEPS} steps of 8 examples of 100 tokens in micro-batches of 2; 5 runs each, in turn; start and end of the "
        "training are in it. A checkpoint is made at each record of the log: at most 200 in a run."
    ]
    measuring.write("train_loop", "What the training loop adds", table, notes, {k: vars(v) for k, v in times.items()})


if __name__ == "__main__":
    main()
