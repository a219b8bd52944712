"""How the adapters of all rows are trained: they differ in objective, lambda, data and start alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tract_core.base import places, tables
from tract_core.base.config import Params
from tract_core.base.rows import SEED_MODEL, Row
from tract_core.base.tables import Record
from tract_core.model import loading
from tract_core.model.models import SeedModel
from tract_core.model.objectives import Kind, Objective, ScoreTerm
from tract_core.text import prompt_cache
from tract_core.text.encoding import Encoded, Encoder
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


def recipe_of_round(params: Params, row: Row, *, seed: int) -> Recipe:
    """Of one round of REAL: one pass, the loss summed over a CoT's tokens, no cross-entropy on the score."""
    objective = Objective(
        lam=row.lam or 0.0,
        normalization="equation4",
        authors_batch=params.loss.authors_batch,
        ce_on_score=False,
        ce_on_eos=False,
        clip=params.real.clip,
    )
    # The CoTs of one example stay together: a step then reads their prompt once.
    train = params.train
    changes = {"epochs": 1, "learning_rate": params.real.learning_rate, "order": "tasks"}
    return Recipe(
        model=params.model,
        prompt=params.prompt,
        scale=params.scale,
        lora=params.lora,
        train=train.model_copy(update=changes),
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
    sequences = [
        encoder.training_example(
            x["id"],
            prompts[x["source"], x["id"]],
            cot,
            x["gold"],
            x["group_id"],
            gold_scores=x.get("gold_scores", ()),
        )
        for x, cot in pairs
    ]
    return _train(name, row, sequences, how, seed_model=seed_model, encoder=encoder, inputs=inputs)


def fit_drawn(
    name: str,
    row: Row,
    examples: Sequence[Record],
    drawn: Sequence[Record],
    how: Recipe,
    *,
    seed_model: SeedModel,
    encoder: Encoder,
    inputs: Mapping[str, Path],
) -> str:
    """The same from the table `rollouts` of these examples; CoTs without a score are left out."""
    loading.require_proof(seed_model)
    by_key = {(x["source"], x["id"]): x for x in examples}
    kept = [cot for cot in drawn if cot["advantage"] is not None]
    named = {(cot["source"], cot["id"]) for cot in kept}
    prompts = prompt_cache.prompt_ids(encoder, [x for key, x in by_key.items() if key in named])
    sequences = [
        encoder.drawn_example(
            f"{cot['id']}, k {cot['k']}",
            prompts[key],
            cot["cot_ids"],
            by_key[key]["gold"],
            "/".join(key),
            gold_scores=by_key[key]["gold_scores"],
            ended=cot["finish_reason"] == "delimiter",
            advantage=cot["advantage"],
            log_probs=cot["log_probs"] or (),
        )
        for cot in kept
        for key in [(cot["source"], cot["id"])]
    ]
    return _train(name, row, sequences, how, seed_model=seed_model, encoder=encoder, inputs=inputs)


def _train(
    name: str,
    row: Row,
    sequences: Sequence[Encoded],
    how: Recipe,
    *,
    seed_model: SeedModel,
    encoder: Encoder,
    inputs: Mapping[str, Path],
) -> str:
    return training.train_adapter(
        sequences,
        how,
        seed_model=seed_model,
        encoder=encoder,
        data={name: tables.manifest_hash(folder) for name, folder in inputs.items()},
        out=places.adapter(name, how.run_seed),
        log=places.loss_file(name, how.run_seed),
        start=None if row.start == SEED_MODEL else places.adapter(row.start, how.run_seed),
    )
