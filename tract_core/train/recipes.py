"""How the adapters of all rows are trained: they differ in objective, lambda, data and start alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tract_core.base import places, tables
from tract_core.base.config import Params
from tract_core.base.rows import Row
from tract_core.model import loading
from tract_core.model.models import SeedModel
from tract_core.model.objectives import Kind, Objective, ScoreTerm
from tract_core.text import prompt_cache
from tract_core.text.encoding import Encoder
from tract_core.text.examples import Pair
from tract_core.train import training
from tract_core.train.training import Recipe

_TERMS: dict[str, tuple[Kind, ScoreTerm]] = {
    "ce": ("ce", "squared_error"),
    "raft": ("raft", "squared_error"),
    "cot_raft": ("cot_raft", "squared_error"),
    "cot_rps": ("cot_raft", "rps"),
    "cot_kl": ("cot_raft", "kl"),
}


def recipe(params: Params, row: Row, *, lam: float | None, seed: int) -> Recipe:
    """Everything but the data that determines an adapter; `lam`: the weight of the row's score term, if it has one."""
    kind, score_term = _TERMS[row.objective]
    objective = Objective.create(
        kind=kind,
        lam=lam or 0.0,
        normalization=params.loss.normalization,
        authors_batch=params.loss.authors_batch,
        ce_on_score=params.loss.ce_on_score,
        ce_on_eos=params.loss.ce_on_eos,
        score_term=score_term,
    )
    return Recipe(
        model=params.model,
        prompt=params.prompt,
        scale=params.scale,
        lora=params.lora,
        train=params.train,
        objective=objective,
        run_seed=seed,
    )


def fit(
    name: str,
    row: Row,
    pairs: Sequence[Pair],
    how: Recipe,
    *,
    seed_model: SeedModel,
    encoder: Encoder,
    inputs: Mapping[str, Path],
) -> str:
    """Train the adapter of the row of this name and put it where the later stages look for it."""
    left_out = loading.require_proof(seed_model)
    pairs = [(x, cot) for x, cot in pairs if x["id"] not in left_out]
    prompts = prompt_cache.prompt_ids(encoder, [x for x, _ in pairs])
    return training.train_adapter(
        [
            encoder.training_example(
                x["id"],
                prompts[x["source"], x["id"]],
                cot,
                x["gold"],
                x["group_id"],
                gold_scores=x.get("gold_scores", ()),
            )
            for x, cot in pairs
        ],
        how,
        seed_model=seed_model,
        encoder=encoder,
        data={name: tables.manifest_hash(folder) for name, folder in inputs.items()},
        out=places.adapter(name, how.run_seed),
        log=places.loss_file(name, how.run_seed),
        start=None if row.start == "p_0" else places.adapter(row.start, how.run_seed),
    )
