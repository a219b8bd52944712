"""One optimizer step of ours beside the released loss semantics: same weights, rows, threads and optimizer.

    OMP_NUM_THREADS=1 python -m bench.train_step                # all cases: about 20 minutes
    OMP_NUM_THREADS=1 python -m bench.train_step --cases b1 --repeats 5
    OMP_NUM_THREADS=1 python -m bench.train_step --cases memory    # about 15 minutes, 17 GiB free

On a GPU, where there is one, in bfloat16 (bench/gpu.sh; `memory` is for CPUs).
Loss and gradients are checked to be equal before anything is timed. Cases: `b1` (prompt 1,300, completion 250), `b4`
and `b8` (lengths of real judge prompts, scaled), `memory` (batch 4 of 1,300 + 250; peaks of child processes).
"""

import argparse
import json
import resource
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import AutoConfig, MistralConfig, PreTrainedModel

from bench import measuring, released
from pipeline import preset
from tract_core.model import models
from tract_core.model.objectives import Objective
from tract_core.plan import cost
from tract_core.plan.cost import Sizes
from tract_core.text.encoding import Encoded
from tract_core.train import packing
from tract_core.train.batching import Collate
from tract_core.train.loop import LossModule
from tract_core.train.memory import GIB, Shape

OURS, FULL, RELEASED = "ours", "full logits, padded", "full logits, padded, recompute"
AGAIN, SINGLY = "ours, recompute", "ours, in micro-batches of 1"
LABELS, VALUES = [33, 34, 35, 36, 37], [1.0, 2.0, 3.0, 4.0, 5.0]  # ids of "1" to "5" in SmolLM2's vocabulary
_DEVICE, _DTYPE = measuring.DEVICE, measuring.DTYPE
_SCALE = 1.0 if _DEVICE == "cuda" else 0.15  # for the time that a CPU takes
# (prompt, completion) in tokens of SmolLM2: 8 of the 32 rows that preset `vicuna` trains on, as they come.
_REAL = [(1180, 164), (955, 166), (899, 150), (844, 146), (1309, 166), (882, 90), (897, 92), (1210, 100)]
_SCALED = [(round(_SCALE * p), round(_SCALE * c)) for p, c in _REAL]
_OF_PROCESSOR_TIME = "Ratios to ours are of processor time; the clock also counts what else ran on the machine"
_TOLERANCE = 3e-2 if _DEVICE == "cuda" else 1e-4
_HEAPS = {
    "compact heap": {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"},
    "glibc as it is": {"GLIBC_TUNABLES": ""},
}
CASES = {"b1": [(1300, 250)], "b4": _SCALED[:4], "b8": _SCALED, "memory": [(1300, 250)] * 4}


def _moved(batch: dict[str, Any], device: str) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def rows(lengths: Sequence[tuple[int, int]], vocabulary: int = 40000) -> list[Encoded]:
    """Random ids of the given lengths: time does not depend on what they say."""
    draw = torch.Generator().manual_seed(0)
    result = []
    for number, (prompt, completion) in enumerate(lengths):
        ids = torch.randint(100, min(vocabulary, 40000), (prompt + completion,), generator=draw).tolist()
        ids[-2] = LABELS[number % 5]
        example = {"num_prompt": prompt, "score_position": len(ids) - 2, "gold": float(1 + number * 2 % 5)}
        result.append(Encoded(id=str(number), input_ids=ids, **example))
    return result


class Step:
    """One model with LoRA that every variant trains a step of; on a GPU by autocast, as a training does."""

    def __init__(
        self, lengths: Sequence[tuple[int, int]], base: PreTrainedModel | None = None, device: str = _DEVICE
    ) -> None:
        """Rows of the given lengths, and a model of one's own instead of SmolLM2-135M."""
        params = preset.load("laptop-paper")
        self.base = base or models.load_model(models.resolve(params.model), _DTYPE)
        self.model = models.add_lora(self.base, params.lora, 1)
        for name, parameter in self.model.named_parameters():
            if "lora_B" in name:  # B starts at 0, and then A has no gradient to compare
                torch.nn.init.normal_(parameter, std=0.01)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.model.train()
        self.move(lengths, device)
        self.optimizer = torch.optim.AdamW(self.trained, lr=0.0)  # the weights stay equal for all variants

    def move(self, lengths: Sequence[tuple[int, int]], device: str) -> None:
        """From now on rows of these lengths, on this device."""
        self.device, self.autocast, batch = device, device == "cuda", len(lengths)
        self.examples = rows(lengths, self.base.config.vocab_size)
        objective = Objective.create(
            lam=1.0, normalization="authors", authors_batch=batch, ce_on_score="auto", ce_on_eos=True
        )
        self.module = LossModule(self.model, objective, LABELS, VALUES).to(device)
        collate = Collate(ce_on_score=False, ce_on_eos=True)
        self.ours = _moved(collate([(row, True) for row in self.examples]), device)
        self.singly = [_moved(collate([(row, True)]), device) for row in self.examples]
        self.counts = torch.tensor([float(self.ours["ce_mask_N"].sum()), float(batch)], device=device)
        self.padded = _moved(released.collate(self.examples), device)
        self.scores = (torch.tensor(LABELS, device=device), torch.tensor(VALUES, device=device))

    def loss(self, variant: str) -> torch.Tensor:
        """Forward of one variant."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            return self._loss(variant)

    def _loss(self, variant: str) -> torch.Tensor:
        if variant in (RELEASED, AGAIN):
            self.model.enable_input_require_grads()
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            self.model.gradient_checkpointing_disable()
        if variant in (OURS, AGAIN):
            packing.use(self.base)
            return self.module(**self.ours, step_counts=self.counts).total
        self.base.set_attn_implementation("sdpa")
        inputs = {name: self.padded[name] for name in ("input_ids", "attention_mask")}
        logits = self.model(**inputs, use_cache=False).logits
        labels, gold = self.padded["labels"], self.padded["gold"]
        return released.loss(logits, labels, gold, *self.scores)

    def run_singly(self) -> None:
        """The forward and backward passes of the same step, an example at a time."""
        packing.use(self.base)
        for batch in self.singly:
            self.module(**batch, step_counts=self.counts).total.backward()
        self.optimizer.step()

    def gradient(self, variant: str) -> tuple[float, torch.Tensor]:
        """Loss, and the gradient of all trained weights as one vector."""
        self.optimizer.zero_grad()
        loss = self.loss(variant)
        loss.backward()
        if variant in (RELEASED, AGAIN):
            self.model.disable_input_require_grads()
        return loss.item(), torch.cat([p.grad.flatten() for p in self.trained])

    def run(self, variant: str) -> None:
        """A whole optimizer step."""
        self.gradient(variant)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()


def differences(step: Step, variants: Sequence[str]) -> dict[str, float]:
    """Relative ones of loss and gradient to ours."""
    loss, gradient = step.gradient(OURS)
    found = {}
    for variant in variants:
        other, theirs = step.gradient(variant)
        found[f"{variant}: loss"] = abs(other - loss) / abs(loss)
        found[f"{variant}: gradient"] = ((theirs - gradient).norm() / gradient.norm()).item()
    return found


def check_equal(step: Step, variants: Sequence[str]) -> dict[str, float]:
    """The same; stops where they are more than float32's rounding."""
    found = differences(step, variants)
    if max(found.values()) > _TOLERANCE:
        raise SystemExit(f"not the same loss: {found}")
    return found


def flop(shape: Shape, variant: str, lengths: Sequence[tuple[int, int]]) -> float:
    """Of the model tract_core/plan/cost.py; recompute runs the layers once more, not the head."""
    if variant == OURS:
        return sum(cost.training_flop(shape, Sizes(prompt=p, cot=c)) for p, c in lengths)
    longest = max(p + c for p, c in lengths)
    one = cost.training_flop(shape, Sizes(prompt=0, cot=longest))
    again = cost.forward_flop(shape, longest, 0) if variant == RELEASED else 0.0
    return len(lengths) * (one + again)


def shapes() -> tuple[Shape, Shape]:
    """SmolLM2-135M and Mistral-7B."""
    folder = models.resolve(preset.load("laptop-paper").model).folder
    return Shape.create(AutoConfig.from_pretrained(folder)), Shape.create(MistralConfig())


def time_case(name: str, repeats: int) -> None:
    lengths, variants = CASES[name], [OURS, FULL, RELEASED]
    step = Step(lengths)
    equal = check_equal(step, variants[1:])
    runs: dict[str, Callable[[], object]] = {variant: partial(step.run, variant) for variant in variants}
    peaks = {variant: peak(run) for variant, run in runs.items()} if _DEVICE == "cuda" else {}
    times = measuring.interleaved(runs, repeats)
    small, large = shapes()
    tokens, padded = sum(p + c for p, c in lengths), len(lengths) * max(p + c for p, c in lengths)
    table = []
    for variant in variants:
        ratios = [flop(shape, variant, lengths) / flop(shape, OURS, lengths) for shape in (small, large)]
        row = {"variant": variant, **times[variant].columns(times[OURS])}
        row["tokens/s"] = f"{tokens / times[variant].median:.0f}"
        if variant in peaks:
            row["GPU peak, GiB"] = f"{peaks[variant] / GIB:.2f}"
        table.append(row | {"FLOP model": f"{ratios[0]:.2f}", "FLOP model, Mistral-7B": f"{ratios[1]:.2f}"})
    notes = [
        f"Rows (prompt, completion): {lengths}; {tokens} tokens (those of tokens/s), {padded} padded.",
        f"Equal before timing, relative differences: {', '.join(f'{k} {v:.1e}' for k, v in equal.items())}.",
        f"{'Ratios to ours are of time by the clock' if _DEVICE == 'cuda' else _OF_PROCESSOR_TIME}. The columns of the "
        "FLOP model are projections; the one for Mistral-7B says what the ratio would be there.",
    ]
    data = {variant: {**vars(times[variant]), "peak": peaks.get(variant)} for variant in variants}
    measuring.write(f"train_step_{name}", f"Train step, {name}", table, notes, data)


def peak(run: Callable[[], object]) -> float:
    """Bytes that torch holds on the GPU at most during one step; weights and batches included."""
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated()


def memory_case() -> None:
    """Peak resident size of a child that does one step, and of one that does the loss head alone."""
    lengths, table, data = CASES["memory"], [], {}
    for variant in (OURS, FULL, RELEASED, AGAIN, SINGLY):
        data[variant] = {
            heap: measuring.child_peak("bench.train_step", "--child", variant, environment=settings)[0]
            for heap, settings in _HEAPS.items()
        }
        print(variant, data[variant], file=sys.stderr, flush=True)
    for variant in (OURS, FULL):
        top, before = measuring.child_peak("bench.train_step", "--child", variant, "--head")
        data[variant]["head"] = top - before["before"]
    heads = {OURS: OURS, AGAIN: OURS, FULL: FULL, RELEASED: FULL}
    for variant, found in data.items():
        row: dict[str, object] = {"variant": variant}
        for heap in _HEAPS:
            row[f"{heap}, GiB"] = f"{found[heap] / GIB:.2f}"
            row[f"{heap}, times ours"] = f"{found[heap] / data[OURS][heap]:.2f}"
        head = data[heads[variant]]["head"] if variant in heads else None
        row["loss head, GiB"] = "-" if head is None else f"{head / GIB:.2f}"
        row["head, times ours"] = "-" if head is None else f"{head / data[OURS]['head']:.2f}"
        table.append(row)
    notes = [
        f"Rows (prompt, completion): {lengths}. Measured as ru_maxrss of a child process that does one step (imports "
        "and weights included). The loss head is a child of its own: hidden states in, their gradient out, less what "
        "the process held before.",
        f"`compact heap` is GLIBC_TUNABLES={_HEAPS['compact heap']['GLIBC_TUNABLES']}: without it glibc keeps holes "
        "between tensors that it cannot fill again.",
    ]
    measuring.write("train_memory", "Peak memory of a train step, batch 4", table, notes, data)


def child(variant: str, *, head: bool) -> None:
    """What `memory_case` measures."""
    if not head:
        step = Step(CASES["memory"])
        step.run_singly() if variant == SINGLY else step.run(variant)
        print(json.dumps({}))
        return
    step = Step(CASES["memory"])
    out = step.base.get_output_embeddings()
    keep = step.ours["positions_N"] if variant == OURS else torch.arange(step.padded["input_ids"].numel())
    hidden = torch.randn(1, len(keep), step.base.config.hidden_size, requires_grad=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    if variant == OURS:
        fake = _Head(out, hidden)
        LossModule(fake, step.module.objective, LABELS, VALUES)(**step.ours, step_counts=step.counts).total.backward()
    else:
        logits = out(hidden).view(len(step.examples), -1, out.out_features)
        labels, gold = step.padded["labels"], step.padded["gold"]
        released.loss(logits, labels, gold, *step.scores).backward()
    print(json.dumps({"before": before}))


class _Head(torch.nn.Module):
    """The output head alone, with the call of a model."""

    def __init__(self, out: torch.nn.Module, hidden: torch.Tensor) -> None:
        super().__init__()
        self.out, self.hidden = out, hidden

    def forward(self, **inputs: Any) -> Any:
        return argparse.Namespace(logits=self.out(self.hidden))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", choices=[OURS, FULL, RELEASED, AGAIN, SINGLY])
    parser.add_argument("--head", action="store_true")
    given = parser.parse_args()
    if given.child:
        child(given.child, head=given.head)
        return
    for name in given.cases:
        if name == "memory":
            memory_case()
        else:
            time_case(name, given.repeats)


if __name__ == "__main__":
    main()
