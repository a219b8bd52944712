"""How much each stage trains, samples and reads, in examples, and what that costs: for `plan`."""

from functools import partial

from tract_core.base.config import Params
from tract_core.base.rows import Row
from tract_core.plan import cost
from tract_core.plan.cost import Cost, Device, Sizes, Work
from tract_core.studies import looking
from tract_core.studies.attacks import ATTACKS
from tract_core.train import memory
from tract_core.train.memory import Shape


def of_stage(address: str, params: Params, num_train: int, num_judged: int) -> Work | None:
    """The work of one stage, named as DVC names it (`infer@tract-42`); None where no model is loaded.

    CoTs that are sampled again are not counted; samples that the store already holds are.
    """
    name, _, item = address.partition("@")
    row = item.rpartition("-")[0] or item
    if row.startswith(_ROUND):
        return _of_round(name, params, num_train, later=int(row.removeprefix(_ROUND)) > 0)
    if name.endswith("_external") and params.external is not None and params.external.endpoint is not None:
        return None
    cot = row not in params.rows or params.rows[row].writes_cot
    if name.startswith("train_"):
        return Work(trained=num_train * params.train.epochs * _targets(params.rows[row], params), cot=cot)
    looked_at = min(num_train, params.gap.max_rows or num_train)
    changes = len(ATTACKS) + len(looking.checks(params.robustness.paraphrases))
    attacked = min(num_judged, params.robustness.max_rows or num_judged) * (1 + changes)
    judged = attacked if name == "attack" else num_judged
    if name == "infer_untrained" or (name in ("infer", "attack") and not cot):
        return Work(read=judged, scored=judged, cot=False)
    seeds, samples = len(params.infer.seeds), params.infer.num_samples
    if name.startswith("infer") or name == "attack":
        drawn = judged * seeds * samples
        return Work(drawn=drawn, prompts=judged, scored=drawn)
    if name.startswith("curve"):  # the first K of these CoTs are those of the tables
        more = max(0, params.curve.num_samples - samples)
        return Work(drawn=judged * seeds * more, prompts=judged if more else 0, scored=judged * seeds * more)
    return {
        "selfgen_cots": Work(drawn=num_train * params.selfgen.num_samples, prompts=num_train),
        "gap": Work(read=2 * looked_at) if row == "a1" else Work(read=looked_at, drawn=looked_at, prompts=looked_at),
        "perplexity": Work(alone=3 * looked_at),
    }.get(name)


_ROUND = "round"
"""What the stages of reinforcement learning are called behind the @, with a number."""


def _of_round(name: str, params: Params, num_train: int, *, later: bool) -> Work:
    """One round: G CoTs for each example, which are read again for their probabilities, by the anchor's judge too."""
    examples = min(num_train, params.real.max_rows or num_train)
    drawn = examples * params.real.num_samples
    if name == "train_real":
        return Work(trained=drawn)
    anchored = bool(params.real.kl) and later
    reads = (params.real.clip is not None or anchored) + anchored
    return Work(drawn=drawn, prompts=examples, scored=drawn, alone=reads * drawn)


def _targets(row: Row, params: Params) -> int:
    """CoTs that a training learns from, for each example: the annotator's, own ones, or both."""
    if row.writer is None:
        return 1
    return params.selfgen.num_samples + (row.cots == "annotator+a1")


def projected(work: Work, shape: Shape, device: Device, sizes: Sizes, params: Params, *, devices: int = 1) -> Cost:
    """The cost of one stage that loads the model; memory is for `model.max_length`, with the mean's share of CoT.

    `devices` share the work: an engine on each (on each engine.tensor_parallel of them), or a rank of a training, of
    which a batch feeds train.batch_size / train.micro_batch_size.
    """
    batch, rank, longest = params.engine.batch_size, params.lora.rank, params.model.max_length
    tokens = params.train.micro_batch_size * longest
    rows = tokens * sizes.cot / (sizes.prompt + sizes.cot)
    number, choice = device.bytes_per_number, params.train.gradient_checkpointing
    training = partial(
        memory.training_bytes, shape, tokens, rows, rank=rank, number=number, in_4bit=params.model.load_in_4bit
    )
    if choice == "auto":
        choice = memory.exceeds(training(recompute=False), device.memory, on_cpu=device.name == "cpu")
    drawing = cost.drawing_bytes(shape, number, batch * longest)
    mine = work.shared(devices, min(devices, params.train.batch_size // params.train.micro_batch_size))
    return Cost(
        seconds=device.start_seconds + cost.seconds(mine, shape, device, sizes, batch, recompute=choice),
        memory=training(recompute=choice) if work.trained else drawing,
        disk=cost.disk_bytes(work, shape, sizes.cot, rank),
    )
