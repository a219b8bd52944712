"""How an adapter is trained, from params.yaml: the same for both stages but for lambda and the data."""

from tract_core.config import Params
from tract_core.objectives import Objective
from tract_core.training import Recipe


def recipe(params: Params, *, lam: float, seed: int) -> Recipe:
    """How an adapter is trained; the stages differ in lambda and in the data alone."""
    objective = Objective.create(
        lam=lam,
        normalization=params.loss.normalization,
        authors_batch=params.loss.authors_batch,
        ce_on_score=params.loss.ce_on_score,
        ce_on_eos=params.loss.ce_on_eos,
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
