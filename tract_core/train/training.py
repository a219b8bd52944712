"""train_adapter(): one LoRA fine-tuning with the CoT-RAFT objective. Both stages are this function.

What goes into the loop (tract_core/train/loop.py) is made here, and the adapter that comes out of it is put in its
place.
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator

from tract_core.base import tables
from tract_core.base.config import Lora, Prompt, Scale, Train, TrainedModel
from tract_core.base.errors import UserError, is_out_of_memory
from tract_core.model import four_bit, models
from tract_core.model.models import SeedModel
from tract_core.model.objectives import Objective
from tract_core.text.encoding import Encoded, Encoder
from tract_core.train import checkpoints, memory, packing, ranks, sharding, trackers
from tract_core.train.batching import Collate, StepOrder
from tract_core.train.checkpoints import Checkpoints
from tract_core.train.loop import Loop, LossModule, Saved, read
from tract_core.train.trackers import Trackers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything but the data that determines an adapter."""

    model: TrainedModel
    prompt: Prompt
    scale: Scale
    lora: Lora
    train: Train
    objective: Objective
    run_seed: int

    def resolved(self) -> dict[str, Any]:
        """All settings as plain values, for the adapter's manifest."""
        sections = {name: getattr(self, name).resolved() for name in ("model", "prompt", "scale", "lora", "train")}
        objective = dataclasses.asdict(self.objective)
        if self.objective.clip is None:
            del objective["clip"]  # which no adapter of before has
        return {**sections, "objective": objective, "run_seed": self.run_seed}


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
        UserError: no examples, a tracker that is not installed, weights in 4 bits without a GPU or bitsandbytes, a
            batch size that the ranks cannot divide, a `start` of another shape, a loss or gradient that is not finite,
            a full disk, too little memory, another process that trains the same, or ranks that would train different
            things.
        SignalError: a signal; on one process the step at hand was saved.
    """
    trackers.require(recipe.train.report_to)
    four_bit.require(recipe.model)
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
    accelerator = _accelerator(recipe)  # from here on the ranks can agree
    if accelerator.is_main_process and recipe.objective.ce_weight and recipe.objective.lam:
        logger.info(_describe_weights(examples, recipe.objective))
    fingerprint = {**origin, "examples": len(examples), "ranks": accelerator.num_processes}
    ranks.require_same(tables.content_hash({**fingerprint, "shard": recipe.train.shard}))
    with checkpoints.opened(Path(work), fingerprint) as store:
        shown = Trackers(recipe.train.report_to, _tracked(Path(work), Path(out)), store.folder.name)
        with _saying_what_memory_needs(lambda: "before the first step"):
            loop = _build_loop(examples, recipe, seed_model, encoder, start, store, shown)
        with _saying_what_memory_needs(lambda: f"at step {loop.step}"):
            _resume(loop, store)
            loop.run()
        ranks.by_first(lambda: _finish(loop, store, out, log, origin))
        shown.close()
    return _describe(loop, out)


def _newest(store: Checkpoints) -> Saved | None:
    """What the newest checkpoint holds; None where there is none."""
    newest = store.newest()
    if newest is None:
        return None
    logger.info("going on from %s", newest.name)
    return read(newest)


def _resume(loop: Loop, store: Checkpoints) -> None:
    """Ranks go on from the same step, whatever lies on the disks of the others."""
    saved = ranks.by_first(lambda: _newest(store))
    if saved is not None:
        loop.restore(saved)


@contextmanager
def _saying_what_memory_needs(when: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory {when()}: {error}. Lower train.micro_batch_size (the result stays the same), set "
            "train.gradient_checkpointing: true, or with several GPUs train.shard: true; earlier steps are kept"
        ) from None


def _finish(loop: Loop, store: Checkpoints, out: str | Path, log: str | Path, origin: Mapping[str, Any]) -> None:
    """The log and the adapter in their places; checkpoints are not needed any more."""
    tables.write_csv(log, loop.records)
    with tables.atomic_folder(out) as draft:
        models.save_adapter(loop.module.model, draft)
        tables.write_manifest(draft, {"adapter": True, "origin": origin})
    store.discard()


def _build_loop(
    examples: Sequence[Encoded],
    recipe: Recipe,
    seed_model: SeedModel,
    encoder: Encoder,
    start: str | Path | None,
    store: Checkpoints | None = None,
    shown: Trackers | None = None,
) -> Loop:
    accelerator, objective = _accelerator(recipe), recipe.objective
    order = StepOrder(
        [len(example.input_ids) for example in examples],
        batch_size=recipe.train.batch_size,
        micro=recipe.train.micro_batch_size,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        seed=recipe.run_seed,
        tasks=[example.task for example in examples] if recipe.train.order == "tasks" else None,
    )
    trie = None if encoder.score_tokens.trie.is_flat else encoder.score_tokens.trie
    behind = len(trie.nodes) - 1 if trie else 0
    model = _model_to_train(examples, recipe, seed_model, start, behind=behind, accelerator=accelerator)
    loop = Loop(
        LossModule(model, objective, trie or encoder.score_tokens.label_ids, encoder.scale.values),
        examples,
        recipe.train,
        accelerator=accelerator,
        order=order,
        collate=Collate(ce_on_score=objective.ce_on_score, ce_on_eos=objective.ce_on_eos, trie=trie),
        store=store,
        trackers=shown,
    )
    torch.manual_seed(recipe.run_seed)  # of dropout; LoRA's first weights were drawn from it as well
    packing.prove(model, recipe.model.max_length, together=recipe.train.micro_batch_size > 1, trie=trie)
    return loop


def _tracked(work: Path, out: Path) -> Path:
    """Where trackers keep the curves of the stage, or outside of DVC of the adapter, beside the checkpoints."""
    stage = os.environ.get("DVC_STAGE") or "-".join(out.parts[-2:])
    return work.with_name("trackers") / stage.replace("/", "_")


def _accelerator(recipe: Recipe) -> Accelerator:
    """The ranks, each with its device.

    Raises:
        UserError: they cannot share a batch evenly, there is one and weights were to be spread over several, or
            torchrun could not restart them.
    """
    ranks.refuse_stale_addresses()
    # `launcher: python` is one rank with one device, the first that is visible: accelerate makes no nn.DataParallel.
    on_cpu = not torch.cuda.is_available()
    autocast = recipe.model.dtype == "bfloat16" and not on_cpu
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="bf16" if autocast else "no")
    settings, world = recipe.train, accelerator.num_processes
    if settings.batch_size % (settings.micro_batch_size * world):
        raise UserError(
            f"train.batch_size ({settings.batch_size}) must be a multiple of train.micro_batch_size x ranks "
            f"({settings.micro_batch_size} x {world})"
        )
    if settings.shard and world == 1:
        raise UserError(
            "train.shard: true spreads the weights over several ranks, but there is one; set train.launcher to "
            "`torchrun --standalone --nproc_per_node N`, or train.shard: false"
        )
    return accelerator


def _model_to_train(
    examples: Sequence[Encoded],
    recipe: Recipe,
    seed_model: SeedModel,
    start: str | Path | None,
    *,
    behind: int,
    accelerator: Accelerator,
) -> Any:
    """p_0 with a fresh adapter or with `start`; it attends inside each sequence alone.

    `behind`: branch tokens of each sequence.
    """
    shards = accelerator.num_processes if recipe.train.shard else 1
    recompute = memory.recomputes(
        examples,
        recipe.train,
        folder=seed_model.folder,
        dtype=recipe.model.dtype,
        rank=recipe.lora.rank,
        behind=behind,
        shards=shards,
        in_4bit=recipe.model.load_in_4bit,
    )
    base = _frozen(recipe, seed_model, accelerator.device)
    if start is None:
        model = models.add_lora(base, recipe.lora, recipe.run_seed)
    else:
        model = models.continue_lora(base, start, seed_model, recipe.lora, recipe.run_seed)
    ranks.by_first(lambda: models.prove_adapter(model))
    packing.use(base)
    if ranks.any_says(recompute):  # their memory may differ, while sharded ranks must compute the same blocks
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if recipe.train.shard:
        sharding.shard(model, accelerator.device)
    return model


def _frozen(recipe: Recipe, seed_model: SeedModel, device: torch.device) -> Any:
    """p_0 as it is trained on."""
    if recipe.model.load_in_4bit:
        return models.load_in_4bit(seed_model, recipe.model.dtype, device)
    return (sharding.load if recipe.train.shard else models.load_model)(seed_model, recipe.model.dtype)


def _describe(loop: Loop, out: str | Path) -> str:
    """What was done, where the loss went, and where the adapter is."""
    tenth = max(1, len(loop.records) // 10)
    first, last = (fmean(record["loss"] for record in part) for part in (loop.records[:tenth], loop.records[-tenth:]))
    steps = tenth * loop.log_every
    which = f"means of the first and last {steps} steps" if steps > 1 else "the first and the last step"
    course = f"loss {first:.3g} -> {last:.3g} ({which})" if len(loop.records) > 1 else f"loss {first:.3g}"
    return f"{loop.step} steps on {len(loop.examples)} examples, {course} -> {out}"


def _describe_weights(examples: Sequence[Encoded], objective: Objective) -> str:
    mean_cot = sum(example.num_cot for example in examples) / len(examples)
    units = objective.lambda_in_units(mean_cot + objective.ce_on_score + objective.ce_on_eos)
    return "lambda in the unit of each loss.normalization: " + ", ".join(f"{k} {v:.3g}" for k, v in units.items())
