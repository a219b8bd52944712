"""The loop of a training: steps of the optimizer with their log and checkpoints, plain torch over `accelerate`.

`accelerate` knows the device and the ranks, sets autocast, and carries sums between ranks. All that scales a loss or a
gradient stands here.
"""

import logging
import math
import pickle
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import get_scheduler

from tract_core.base import terminal
from tract_core.base.config import Train
from tract_core.base.errors import SignalError, UserError
from tract_core.base.label_trie import LabelTrie
from tract_core.model.label_probs import TrieReader
from tract_core.model.objectives import CotRaftLoss, Objective, cot_raft, denominators
from tract_core.text.encoding import Encoded
from tract_core.train import packing, ranks
from tract_core.train.batching import Collate, StepOrder
from tract_core.train.checkpoints import Checkpoints
from tract_core.train.trackers import Trackers

logger = logging.getLogger(__name__)

_ADAPTER, _STATE = "adapter.safetensors", "state.pt"
_SURE = 0.98
"""Where the most probable score has more than this, the squared error has almost no gradient left."""
_WINDOW = 10
"""Records that a collapse is judged by."""
_SHARE = 0.01
"""Of the time, what checkpoints may take."""


class Saved(NamedTuple):
    """What a checkpoint holds; `read` makes it."""

    adapter: dict[str, Tensor]
    state: dict[str, Any]
    """All else that the next step depends on."""


def read(folder: Path) -> Saved:
    """What `Loop` wrote into the folder of a checkpoint; nothing but tensors and plain values is opened.

    Raises:
        UserError: training did not write it.
    """
    try:
        state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{folder / _STATE}: holds more than tensors and plain values, so training did not write it, and it is "
            f"not opened; find out who did, then remove {folder.parent}"
        ) from None
    return Saved(load_file(folder / _ADAPTER), state)


class LossModule(nn.Module):
    """Model and objective in one forward; no padding, and logits for target tokens only."""

    def __init__(
        self, model: nn.Module, objective: Objective, labels: Sequence[int] | LabelTrie, values: Sequence[float]
    ) -> None:
        """`labels`: the token of each score of `values`, or their trie where some are several tokens."""
        super().__init__()
        self.model, self.objective = model, objective
        self.label_ids_Y: Tensor
        self.values_Y: Tensor
        self._reader: TrieReader | None = None
        if isinstance(labels, LabelTrie):
            self._reader = TrieReader(labels)
            self.sees_KK: Tensor
            self.register_buffer("sees_KK", packing.sees(labels), persistent=False)
        ids = [] if isinstance(labels, LabelTrie) else labels
        self.register_buffer("label_ids_Y", torch.tensor(ids), persistent=False)
        self.register_buffer("values_Y", torch.tensor(values), persistent=False)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        lengths: tuple[int, ...],
        shared: int,
        positions_N: Tensor,
        targets_N: Tensor,
        ce_mask_N: Tensor,
        score_places_B: Tensor,
        gold_B: Tensor,
        counts_B: Tensor,
        step_counts: Tensor,
        gold_BY: Tensor | None = None,
        contexts: tuple[int, ...] | None = None,
        later_places: Tensor | None = None,
        advantage_N: Tensor | None = None,
        drawn_log_probs_N: Tensor | None = None,
    ) -> CotRaftLoss:
        """A collated micro-batch and the step's counts (CE tokens, examples) -> its part of the step's loss."""
        branches = {} if contexts is None else {"branches": packing.Branches(contexts, self.sees_KK)}
        output = self.model(
            input_ids=input_ids,
            position_ids=position_ids,
            lengths=lengths,
            shared=shared,
            logits_to_keep=positions_N,
            use_cache=False,
            **branches,
        )
        logits_NV, along = output.logits[0], None
        if self._reader is not None:
            logits_NV, behind = logits_NV.tensor_split([len(targets_N)])
            root_B1V = logits_NV[score_places_B][:, None]
            along = self._reader(torch.cat([root_B1V, behind.unflatten(0, (len(root_B1V), -1))], dim=1))
        divisors = denominators(
            self.objective.normalization,
            num_ce_tokens=step_counts[0],
            num_examples=step_counts[1],
            authors_batch=self.objective.authors_batch,
        )
        loss = cot_raft(
            logits_NV,
            targets_N,
            ce_mask_N,
            score_places_B,
            gold_B,
            label_ids_Y=self.label_ids_Y,
            values_Y=self.values_Y,
            lam=self.objective.lam,
            divisors=divisors,
            ce_weight=self.objective.ce_weight,
            score_term=self.objective.score_term,
            gold_BY=gold_BY,
            along=along,
            later_places=later_places,
            advantage_N=advantage_N,
            drawn_log_probs_N=drawn_log_probs_N,
            clip=self.objective.clip,
        )
        # A filler's cross-entropy is masked already; its squared error is in a batch of its own.
        return loss._replace(total=loss.total * counts_B.any())


class Loop:
    """Steps up to `last`, from the first or after `restore`, of which a CPU computes the same bits.

    `step` counts the steps that are taken, `records` is the log; `log_every` steps make a record and, where one is due,
    a checkpoint.
    """

    def __init__(
        self,
        module: LossModule,
        examples: Sequence[Encoded],
        train: Train,
        *,
        accelerator: Accelerator,
        order: StepOrder,
        collate: Collate,
        store: Checkpoints | None,
        trackers: Trackers | None = None,
    ) -> None:
        """`module`: its weights that require a gradient are trained; `store`: None keeps no checkpoints."""
        self._trackers = trackers
        self.module, self.accelerator = module.to(accelerator.device), accelerator
        self.examples, self.order, self.collate, self.store = examples, order, collate, store
        self.step, self.last = 0, train.epochs * order.steps_per_epoch
        self.log_every = max(1, self.last // 200)
        self.records: list[dict[str, float]] = []
        self._trained = [weight for weight in module.parameters() if weight.requires_grad]
        self._max_norm = train.max_grad_norm
        # Plain LoRA trains matrices alone, no bias and no norm, so all of them decay.
        self.optimizer = torch.optim.AdamW(self._trained, lr=train.learning_rate, weight_decay=train.weight_decay)
        self._scheduler = get_scheduler(
            train.scheduler,
            self.optimizer,
            num_warmup_steps=math.ceil(self.last * train.warmup_ratio),
            num_training_steps=self.last,
        )
        self._sums = torch.zeros(7, device=accelerator.device)
        self._constant_error = statistics.pvariance([example.gold for example in examples])
        self._signal: int | None = None
        self._warned = False
        self._saved_at, self._save_took, self._saved_step = time.monotonic(), 0.0, 0

    def run(self) -> None:
        """All steps that are left.

        Raises:
            UserError: a loss or gradient that is not finite, a full disk.
            SignalError: SIGTERM or SIGINT; on one process after the step at hand, which is saved.
        """
        with self._listening():
            ranks.send(self._trained)
            self.module.train()
            self._take_steps()
            if self._signal is not None:
                if self.step > self._saved_step:
                    self._save()
                raise SignalError(
                    f"stopped at step {self.step} of {self.last}; it is saved, and `dvc repro` goes on from it",
                    self._signal,
                )

    def restore(self, saved: Saved) -> None:
        """Go on from a checkpoint, which each rank was given."""
        state = saved.state
        set_peft_model_state_dict(self.module.model, saved.adapter)
        self.step, self.records = state["step"], state["records"]
        self._saved_step = self.step
        self._sums.copy_(state["sums"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        _set_random_state(state["random"][self.accelerator.process_index])

    def _take_steps(self) -> None:
        """Up to the last one, or a signal."""
        quiet = not self.accelerator.is_main_process
        with terminal.bar(total=self.last, initial=self.step, desc="training", unit="step", disable=quiet) as bar:
            while self.step < self.last and self._signal is None:
                norm, rate = self._take_step()
                if self.step % self.log_every == 0:
                    self._record(norm, rate)
                    bar.set_postfix_str(f"loss {self.records[-1]['loss']:.3f}")
                    if self._is_due():
                        self._save()
                bar.update()

    def _take_step(self) -> tuple[Tensor, float]:
        """One step of the optimizer -> the norm of its gradient before it was clipped, and the learning rate."""
        batches = self._batches()
        step_counts = self._count(batches)
        for batch in batches:
            self._add_gradients(batch, step_counts)
        # Their sum and not their mean: the denominators cover all ranks already.
        ranks.sum_gradients(self._trained)
        norm = nn.utils.clip_grad_norm_(self._trained, self._max_norm)
        rate = self._scheduler.get_last_lr()[0]
        self.optimizer.step()
        self._scheduler.step()
        self.optimizer.zero_grad()
        self.step += 1
        return norm, rate

    def _batches(self) -> list[dict[str, Any]]:
        """The micro-batches of the next step, pinned where a GPU copies them."""
        if self.step % self.order.steps_per_epoch == 0:
            # As torch's DataLoader draws at the start of an epoch: dropout, which draws after it, is what it was when
            # one was used here.
            torch.empty((), dtype=torch.int64).random_()
        batches = [
            self.collate([(self.examples[index], counts) for index, counts in items])
            for items in self.order.micro_batches(self.step)
        ]
        if self.accelerator.device.type == "cuda":
            batches = [_with_tensors(batch, Tensor.pin_memory) for batch in batches]
        return batches

    def _count(self, batches: Sequence[Mapping[str, Any]]) -> Tensor:
        """Tokens with cross-entropy, and examples, of a step's micro-batches over all ranks."""
        counts = [torch.stack([batch["ce_mask_N"].sum(), batch["counts_B"].sum()]) for batch in batches]
        mine = torch.stack(counts).sum(0).to(self.accelerator.device, non_blocking=True)
        total: Tensor = self.accelerator.reduce(mine, reduction="sum")
        return total.float()

    def _add_gradients(self, batch: Mapping[str, Any], step_counts: Tensor) -> None:
        """Those of a micro-batch, and its parts of the next record; the host waits for nothing here."""
        batch = _with_tensors(batch, lambda tensor: tensor.to(self.accelerator.device, non_blocking=True))
        with self.accelerator.autocast():
            loss: CotRaftLoss = self.module(**batch, step_counts=step_counts)
        torch.autograd.backward(loss.total)
        counts = batch["counts_B"].float()
        self._sums += torch.stack(
            [
                loss.total.detach().float(),
                loss.cross_entropy_sum,
                batch["ce_mask_N"].sum().float(),
                (loss.squared_error_sum * counts.max()).float(),
                (loss.label_mass_B * counts).sum().float(),
                ((loss.top_probability_B > _SURE) * counts).sum().float(),
                counts.sum(),
            ]
        )

    def _record(self, norm: Tensor, rate: float) -> None:
        """The mean loss and its parts since the last record, over all ranks."""
        sums = self.accelerator.reduce(self._sums, reduction="sum").tolist()
        loss, ce, num_tokens, se, mass, num_sure, num_examples = sums
        self._sums.zero_()
        record = {
            "step": self.step,
            "loss": loss / (self.step - self._last_recorded()),
            "cross_entropy": ce / max(num_tokens, 1),
            "squared_error": se / num_examples,
            "label_mass": mass / num_examples,
            "share_sure": num_sure / num_examples,
            "grad_norm": norm.item(),
            "learning_rate": rate,
        }
        if not math.isfinite(record["loss"] + record["grad_norm"]):
            raise UserError(self._describe_break(record))
        self.records.append(record)
        if self.accelerator.is_main_process:
            self._warn_of_collapse()
            if self._trackers is not None:
                self._trackers.update(self.records)

    def _warn_of_collapse(self) -> None:
        """Once, where the scores have collapsed; training goes on."""
        if not self._warned and has_collapsed(self.records, self._constant_error):
            self._warned = True
            logger.warning(_COLLAPSED, self.step, _SURE, self._constant_error)

    def _last_recorded(self) -> int:
        return int(self.records[-1]["step"]) if self.records else 0

    def _describe_break(self, record: Mapping[str, float]) -> str:
        last, step = self._last_recorded(), self.step
        seen = [self.examples[index].id for index in self.order.examples_of(last, step)]
        named = f"{', '.join(seen[:20])}{' ...' if len(seen) > 20 else ''}"
        return (
            f"the loss is {record['loss']}, the norm of its gradient {record['grad_norm']}, at step {step}; the "
            f"checkpoint of step {last} is kept if there is one. Lower train.learning_rate, or look for a broken "
            f"example among those of steps {last + 1} to {step}: {named}"
        )

    def _is_due(self) -> bool:
        """After the last step, and where saving takes little of the time since the last checkpoint.

        Ranks have a clock each, so several save at every record.
        """
        if self.step == self.last or self.accelerator.num_processes > 1:
            return True
        return self._save_took <= _SHARE * (time.monotonic() - self._saved_at)

    def _save(self) -> None:
        """The adapter, and all that the next step depends on; all ranks call it."""
        begun = time.monotonic()
        self._write()
        self._saved_at, self._saved_step = time.monotonic(), self.step
        self._save_took = self._saved_at - begun

    def _write(self) -> None:
        if self.store is None:
            return
        state = {
            "step": self.step,
            "records": self.records,
            "sums": self._sums,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "random": gather_object([_random_state()]),
        }
        ranks.by_first(lambda: self._write_files(state))

    def _write_files(self, state: Mapping[str, Any]) -> None:
        assert self.store is not None
        with self.store.draft(self.step) as folder:
            save_file(get_peft_model_state_dict(self.module.model), folder / _ADAPTER)
            torch.save(state, folder / _STATE)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the run after the step at hand; a second one ends it at once.

        Ranks cannot know of each other's signals without asking at every step, so with several the first one ends it
        at once too, and the last record's checkpoint is what is kept.
        """
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def handle(number: int, frame: Any) -> None:
            if self._signal is not None or self.accelerator.num_processes > 1:
                raise SignalError("stopped; the last checkpoint is kept, and `dvc repro` goes on from it", number)
            self._signal = number
            logger.warning("signal %d: saving after this step", number)

        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_COLLAPSED = (
    "warning: at step %d the judge gives nearly all examples one score with a probability above %s, and its squared "
    "error is above %.2f, that of always giving the mean score. The squared error alone can hardly move it from there. "
    "Set loss.ce_on_score: true (of the rows without CoT, b4_ce has that term and b4 has not), or lower "
    "train.learning_rate; see docs/findings.md, section 5"
)


def has_collapsed(records: Sequence[Mapping[str, float]], constant_error: float) -> bool:
    """Whether the median top probability is above .98 while the judge is worse than a constant, in the last records.

    Args:
        records: the log so far.
        constant_error: squared error of the mean gold score, the variance of gold.
    """
    last = records[-_WINDOW:]
    if len(last) < _WINDOW:
        return False
    sure, error = (statistics.fmean(record[name] for record in last) for name in ("share_sure", "squared_error"))
    return sure > 0.5 and error > constant_error


def _with_tensors(batch: Mapping[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The batch with each of its tensors changed."""
    return {name: change(value) if isinstance(value, Tensor) else value for name, value in batch.items()}


def _random_state() -> dict[str, Any]:
    """What dropout draws from. The order of the data depends on the seed and the epoch alone."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
