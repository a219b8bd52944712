"""How much each stage trains, samples and reads, in examples: what `plan` turns into hours."""

from tract_core.base.config import Params
from tract_core.base.rows import Row
from tract_core.plan.cost import Settings, Sizes, Work
from tract_core.studies.attacks import ATTACKS


def of_stage(address: str, params: Params, num_train: int, num_judged: int) -> Work | None:
    """The work of one stage, named as DVC names it (`infer@tract-42`); None where no model is loaded.

    CoTs that are sampled again are not counted; samples that the store already holds are.
    """
    name, _, item = address.partition("@")
    row = item.rpartition("-")[0] or item
    if name.startswith("train_"):
        return _training(params.rows[row], params, num_train)
    looked_at = min(num_train, params.gap.max_rows or num_train)
    seeds, samples = len(params.infer.seeds), params.infer.num_samples
    # Of the CoTs of Figure 3 the first K are those of the tables.
    more = max(0, params.curve.num_samples - samples)
    further = Work(drawn=num_judged * seeds * more, prompts=num_judged if more else 0)
    attacked = min(num_judged, params.robustness.max_rows or num_judged) * len(ATTACKS)
    if name == "attack" and not _writes_cot(row, params):
        return Work(read=attacked, cot=False)
    if name == "infer" and not _writes_cot(row, params):
        return Work(read=num_judged, cot=False)
    return {
        "selfgen_cots": Work(drawn=num_train * params.selfgen.num_samples, prompts=num_train),
        "infer": Work(drawn=num_judged * seeds * samples, prompts=num_judged),
        "infer_cool": Work(drawn=num_judged * seeds * samples, prompts=num_judged),
        "attack": Work(drawn=attacked * seeds * samples, prompts=attacked),
        "infer_untrained": Work(read=num_judged, cot=False),
        "infer_external": Work(drawn=num_judged * seeds * samples, prompts=num_judged),
        "curve": further,
        "curve_external": further,
        "gap": Work(read=2 * looked_at) if row == "a1" else Work(read=looked_at, drawn=looked_at, prompts=looked_at),
        "perplexity": Work(read=3 * looked_at),
    }.get(name)


def settings(params: Params, mean: Sizes) -> Settings:
    """The longest sequence has the mean's share of CoT."""
    longest = mean.cot * params.model.max_length / (mean.prompt + mean.cot)
    return Settings(
        batch=params.engine.batch_size,
        micro_batch=params.train.micro_batch_size,
        recompute=params.train.gradient_checkpointing,
        rank=params.lora.rank,
        longest=Sizes(prompt=params.model.max_length - longest, cot=longest),
    )


def _training(row: Row, params: Params, num_train: int) -> Work:
    own = params.selfgen.num_samples if row.writer else 0
    annotators = own == 0 or row.cots == "annotator+a1"
    return Work(trained=num_train * params.train.epochs * (own + annotators), cot=row.writes_cot)


def _writes_cot(row: str, params: Params) -> bool:
    return row not in params.rows or params.rows[row].writes_cot
