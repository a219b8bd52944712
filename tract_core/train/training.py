"""train_adapter(): one LoRA fine-tuning with the CoT-RAFT objective. Both stages are this function.

A `transformers.Trainer` does the loop. Ours are the loss (from inside the wrapped forward, so that DDP
sees it), the denominators (counted over the whole optimizer step and all ranks before its first forward)
and the order of the data, and the checkpoints: one at each record of the log and one at a signal, from which a
rerun goes on, on a CPU bit for bit.
"""

import dataclasses
import logging
import math
import os
import pickle
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from accelerate.utils import gather_object
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from tract_core.base import tables
from tract_core.base.config import Lora, Model, Prompt, Scale, Train
from tract_core.base.errors import SignalError, UserError, is_out_of_memory
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.model.objectives import CotRaftLoss, Objective, cot_raft, denominators
from tract_core.text.encoding import Encoded, Encoder
from tract_core.train import checkpoints, memory, packing
from tract_core.train.batching import Collate, EncodedDataset, EpochLoader, StepOrder
from tract_core.train.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

_LOG_COLUMNS = ["step", "loss", "cross_entropy", "squared_error", "label_mass", "grad_norm", "learning_rate"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything but the data that determines an adapter."""

    model: Model
    prompt: Prompt
    scale: Scale
    lora: Lora
    train: Train
    objective: Objective
    run_seed: int

    def resolved(self) -> dict[str, Any]:
        """All settings as plain values, for the adapter's manifest."""
        sections = {name: getattr(self, name).resolved() for name in ("model", "prompt", "scale", "lora", "train")}
        return {**sections, "objective": dataclasses.asdict(self.objective), "run_seed": self.run_seed}


class LossModule(nn.Module):
    """Model and objective in one forward: no padding, logits for target rows only, then `objectives.cot_raft`."""

    def __init__(
        self, model: nn.Module, objective: Objective, label_ids: Sequence[int], values: Sequence[float]
    ) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.label_ids_Y: Tensor
        self.values_Y: Tensor
        self.register_buffer("label_ids_Y", torch.tensor(label_ids), persistent=False)
        self.register_buffer("values_Y", torch.tensor(values), persistent=False)
        self._mode: bool | None = None

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules, thousands, where it changes: the Trainer asks before each micro-batch."""
        if mode != self._mode:
            super().train(mode)
            self._mode = mode
        return self

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        lengths: tuple[int, ...],
        positions_N: Tensor,
        targets_N: Tensor,
        ce_mask_N: Tensor,
        score_rows_B: Tensor,
        gold_B: Tensor,
        counts_B: Tensor,
        step_counts: Tensor,
    ) -> CotRaftLoss:
        """A collated micro-batch and the step's counts (CE tokens, examples) -> its part of the step's loss."""
        output = self.model(
            input_ids=input_ids,
            position_ids=position_ids,
            lengths=lengths,
            logits_to_keep=positions_N,
            use_cache=False,
        )
        divisors = denominators(
            self.objective.normalization,
            num_ce_tokens=step_counts[0],
            num_examples=step_counts[1],
            authors_batch=self.objective.authors_batch,
        )
        loss = cot_raft(
            output.logits[0],
            targets_N,
            ce_mask_N,
            score_rows_B,
            gold_B,
            label_ids_Y=self.label_ids_Y,
            values_Y=self.values_Y,
            lam=self.objective.lam,
            divisors=divisors,
            ce_weight=self.objective.ce_weight,
            score_term=self.objective.score_term,
        )
        # A filler's cross-entropy is masked already; its squared error is in a batch of its own.
        return loss._replace(total=loss.total * counts_B.any())


class _Progress(TrainerCallback):
    """One bar with the last loss; the Trainer's own callbacks print every record."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()


class _Saving(TrainerCallback):
    """Asks for a checkpoint at each record of the log, where the ranks agree without asking, and at a signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.signal is not None:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            control.should_save = True

    @contextmanager
    def listening(self, *, alone: bool) -> Iterator[None]:
        """SIGTERM and SIGINT end the run after the step at hand; a second one ends it at once.

        Ranks cannot know of each other's signals without asking at every step, so with several (not `alone`) the
        first one ends it at once too, and the last record's checkpoint is what is kept.
        """
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def handle(number: int, frame: Any) -> None:
            if self.signal is not None or not alone:
                raise SignalError("stopped; the last checkpoint is kept, and `dvc repro` goes on from it", number)
            self.signal = number
            logger.warning("signal %d: saving after this step", number)

        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_ADAPTER, _STATE = "adapter.safetensors", "state.pt"


class _TractTrainer(Trainer):
    """Trainer with two denominators per optimizer step, our data order, our log and our checkpoints.

    The Trainer decides when to save and how to skip data that was seen; the overridden methods are what it calls
    to write and read a checkpoint. Its own would hold the whole base model, and it takes whatever folder is newest.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, order: StepOrder, store: Checkpoints | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._order, self._store = order, store
        self._restored: dict[str, Any] = {}
        self._parts = torch.zeros(5, device=self.args.device)
        self.records: list[dict[str, float]] = []

    def get_train_dataloader(self) -> EpochLoader:
        # Not prepared by accelerate: it would deal the batches to ranks a second time.
        return EpochLoader(
            self.train_dataset,
            batch_sampler=self._order,
            collate_fn=self.data_collator,
            pin_memory=self.args.device.type == "cuda",
        )

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of one optimizer step, and its counts (CE tokens, examples) over all ranks."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        counts = [torch.stack([batch["ce_mask_N"].sum(), batch["counts_B"].sum()]) for batch in batches]
        mine = torch.stack(counts).sum(0).to(torch.float64 if device.type == "cpu" else torch.float32)
        mine = mine.to(device, non_blocking=True)
        total = self.accelerator.reduce(mine, reduction="sum")
        assert isinstance(total, Tensor)
        return batches, total

    def _prepare_input(self, data: Any) -> Any:
        # As the Trainer's own, but it waits for each copy; the loader pins what it makes.
        if isinstance(data, Mapping):
            return {name: self._prepare_input(value) for name, value in data.items()}
        return data.to(self.args.device, non_blocking=True) if isinstance(data, Tensor) else data

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss: CotRaftLoss = model(**inputs, step_counts=num_items_in_batch.float())
        counts = inputs["counts_B"].float()
        self._parts += torch.stack(
            [
                loss.cross_entropy_sum,
                inputs["ce_mask_N"].sum().float(),
                (loss.squared_error_sum * counts.max()).float(),
                (loss.label_mass_B * counts).sum().float(),
                counts.sum(),
            ]
        )
        # DDP averages gradients over ranks, while the denominators already cover all of them.
        return loss.total * self.accelerator.num_processes

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The adapter, and all that the next step depends on."""
        random = gather_object([_random_state()])
        if self._store is None or not self.is_world_process_zero():
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        state = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.lr_scheduler.state_dict(),
            "random": random,
            "records": self.records,
            "parts": self._parts,
            "loss": self._tr_loss,
            "logged": self._globalstep_last_logged,
        }
        with self._store.draft(self.state.global_step) as folder:
            save_file(get_peft_model_state_dict(_unwrapped(self)), folder / _ADAPTER)
            torch.save(state, folder / _STATE)
            self.state.log_history = []  # `records` has it; here it would be written longer each time
            self.state.save_to_json(str(folder / "trainer_state.json"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Called before the model is wrapped."""
        folder = Path(resume_from_checkpoint)
        set_peft_model_state_dict(_unwrapped(self), load_file(folder / _ADAPTER))
        try:
            self._restored = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise UserError(
                f"{folder / _STATE}: holds more than tensors and plain values, so training did not write it, and it is "
                f"not opened; find out who did, then remove {folder.parent}"
            ) from None
        self.records = self._restored["records"]
        self._parts.copy_(self._restored["parts"])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Called when the optimizer exists."""
        if self._restored:
            assert self.optimizer is not None
            assert self.lr_scheduler is not None
            self.optimizer.load_state_dict(self._restored["optimizer"])
            self.lr_scheduler.load_state_dict(self._restored["scheduler"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Called when everything else is in place, before the first step; the loop has reset its sums by then."""
        _set_random_state(self._restored["random"][self.args.process_index])
        self._tr_loss = self._restored["loss"].to(self.args.device)
        self._globalstep_last_logged = self._restored["logged"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            reduced = self.accelerator.reduce(self._parts, reduction="sum")
            assert isinstance(reduced, Tensor)
            ce, num_tokens, se, mass, num_examples = reduced.tolist()
            self._parts.zero_()
            logs["cross_entropy"] = ce / max(num_tokens, 1)
            logs["squared_error"], logs["label_mass"] = se / num_examples, mass / num_examples
            if not math.isfinite(logs["loss"] + logs["grad_norm"]):
                raise UserError(self._describe_break(logs))
            self.records.append({"step": self.state.global_step, **logs})
        super().log(logs, start_time)

    def _describe_break(self, logs: Mapping[str, float]) -> str:
        last, step = int(self.records[-1]["step"]) if self.records else 0, self.state.global_step
        seen = [self.train_dataset.examples[index].id for index in self._order.examples_of(last, step)]
        return (
            f"the loss is {logs['loss']}, the norm of its gradient {logs['grad_norm']}, at step {step}; the "
            f"checkpoint of step {last} is kept if there is one. Lower train.learning_rate, or look for a broken row "
            f"among those of steps {last + 1} to {step}: {', '.join(seen[:20])}{' ...' if len(seen) > 20 else ''}"
        )


def _random_state() -> dict[str, Any]:
    """What dropout draws from. The order of the data depends on the seed and the epoch alone."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


def train_adapter(
    examples: Sequence[Encoded],
    recipe: Recipe,
    *,
    seed_model: SeedModel,
    encoder: Encoder,
    data: Mapping[str, str],
    out: str | Path,
    log: str | Path,
    start: str | Path | None = None,
    work: str | Path = "work/training",
) -> str:
    """Fine-tune an adapter on p_0 and move it to `out` as the last action; go on from a checkpoint if there is one.

    Args:
        examples: encoded training sequences, in a reproducible order.
        recipe: everything else that determines the result.
        seed_model: p_0; both stages start from it.
        encoder: what made the examples.
        data: hashes of the input tables, for the manifest.
        out: adapter folder (weights, config, manifest.json); replaced atomically.
        log: CSV of the loss and its parts, for `dvc plots`.
        start: an adapter to go on from (rows A.4 and sequential); None: a fresh one.
        work: where checkpoints are kept until the adapter is in place.

    Returns:
        One line for the stage's output.

    Raises:
        UserError: no examples, a batch size that the ranks cannot divide, a `start` of another shape, a loss or
            gradient that is not finite, a full disk, too little memory, or another process that trains the same.
        SignalError: a signal; on one process the step at hand was saved.
    """
    if not examples:
        raise UserError("no training examples are left; see the counts of `prepare` and `selfgen_cots`")
    origin = {
        **recipe.resolved(),
        "base": seed_model.identity,
        "encoder": encoder.fingerprint(),
        "cot": encoder.style.cot,
        "data": data,
        "start": None if start is None else tables.manifest_hash(start),
    }
    first = int(os.environ.get("RANK", "0")) == 0
    fingerprint = {**origin, "examples": len(examples), "ranks": int(os.environ.get("WORLD_SIZE", "1"))}
    with checkpoints.opened(Path(work), fingerprint, lock=first) as store:
        trainer = _build_trainer(examples, recipe, seed_model, encoder, start, store)
        _run(trainer, store)
        if first:
            records = [{name: record.get(name) for name in _LOG_COLUMNS} for record in trainer.records]
            tables.write_csv(log, records)
            with tables.atomic_folder(out) as draft:
                models.save_adapter(_unwrapped(trainer), draft)
                tables.write_manifest(draft, {"adapter": True, "origin": origin})
        trainer.accelerator.wait_for_everyone()
        if first:
            store.discard()
    return _describe(examples, recipe, trainer.records)


def _run(trainer: _TractTrainer, store: Checkpoints) -> None:
    """The loop, from the newest checkpoint to the last step."""
    saving = _Saving()
    trainer.add_callback(saving)
    newest = store.newest()
    if newest is not None:
        logger.info("going on from %s", newest.name)
    try:
        with saving.listening(alone=trainer.args.world_size == 1):
            trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory at step {trainer.state.global_step}: {error}. Lower train.micro_batch_size (the result "
            "stays the same) or set train.gradient_checkpointing: true; earlier steps are kept"
        ) from None
    step, last = trainer.state.global_step, trainer.state.max_steps
    if saving.signal is not None:
        raise SignalError(
            f"stopped at step {step} of {last}; it is saved, and `dvc repro` goes on from it", saving.signal
        )
    if step != last:
        raise UserError(f"training stopped at step {step} of {last}; nothing was saved")


def _build_trainer(
    examples: Sequence[Encoded],
    recipe: Recipe,
    seed_model: SeedModel,
    encoder: Encoder,
    start: str | Path | None,
    store: Checkpoints | None = None,
) -> _TractTrainer:
    settings = recipe.train
    arguments = _arguments(recipe, len(examples))
    per_rank = settings.micro_batch_size * arguments.world_size
    if settings.batch_size % per_rank:
        raise UserError(
            f"train.batch_size ({settings.batch_size}) must be a multiple of train.micro_batch_size x ranks "
            f"({settings.micro_batch_size} x {arguments.world_size})"
        )
    arguments.gradient_accumulation_steps = settings.batch_size // per_rank
    recompute = memory.recomputes(
        examples, settings, folder=seed_model.folder, dtype=recipe.model.dtype, rank=recipe.lora.rank
    )
    base = models.load_model(seed_model, recipe.model.dtype)
    if start is None:
        model = models.add_lora(base, recipe.lora, recipe.run_seed)
    else:
        model = models.continue_lora(base, start, seed_model, recipe.lora, recipe.run_seed)
    packing.use(base)
    if recompute:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    objective = recipe.objective
    order = StepOrder(
        [len(example.input_ids) for example in examples],
        batch_size=settings.batch_size,
        micro=settings.micro_batch_size,
        rank=arguments.process_index,
        world=arguments.world_size,
        seed=recipe.run_seed,
    )
    trainer = _TractTrainer(
        model=LossModule(model, objective, encoder.score_tokens.label_ids, encoder.scale.values),
        args=arguments,
        train_dataset=EncodedDataset(examples),
        data_collator=Collate(ce_on_score=objective.ce_on_score, ce_on_eos=objective.ce_on_eos),
        order=order,
        store=store,
        callbacks=[_Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    if settings.micro_batch_size > 1:
        packing.prove(model)
    return trainer


def _arguments(recipe: Recipe, num_examples: int) -> TrainingArguments:
    settings = recipe.train
    steps = settings.epochs * math.ceil(num_examples / settings.batch_size)
    on_cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir="work/trainer",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=on_cpu,
        bf16=recipe.model.dtype == "bfloat16" and not on_cpu,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.micro_batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=settings.warmup_ratio if settings.warmup_ratio < 1 else steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch",
        seed=recipe.run_seed,
        logging_steps=max(1, steps // 200),
        logging_nan_inf_filter=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
    )


def _unwrapped(trainer: _TractTrainer) -> Any:
    module = trainer.accelerator.unwrap_model(trainer.model)
    assert isinstance(module, LossModule)
    return module.model


def _describe(examples: Sequence[Encoded], recipe: Recipe, records: Sequence[Mapping[str, float]]) -> str:
    """What was trained on, lambda in all three units, and where the loss went."""
    return (
        f"{len(examples)} examples, {recipe.train.epochs} epochs; {_describe_weights(examples, recipe.objective)}; "
        f"loss {records[0]['loss']:.3f} -> {records[-1]['loss']:.3f}, "
        f"squared error {records[0]['squared_error']:.3f} -> {records[-1]['squared_error']:.3f}"
    )


def _describe_weights(examples: Sequence[Encoded], objective: Objective) -> str:
    if objective.ce_weight == 0:
        return "squared error alone"
    mean_cot = sum(example.num_cot for example in examples) / len(examples)
    units = objective.lambda_in_units(mean_cot + objective.ce_on_score + objective.ce_on_eos)
    return "lambda in units of " + ", ".join(f"{name} {value:.3g}" for name, value in units.items())
