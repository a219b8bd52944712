"""p_0 and its renderer from params.yaml, for every stage that encodes."""

from tract_core.base import places, tables
from tract_core.base.config import Params
from tract_core.base.errors import UserError
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.text.encoding import Encoder


def seed_model_and_encoder(params: Params, *, cot: bool = True) -> tuple[SeedModel, Encoder]:
    """p_0 as a folder, and the renderer for its tokenizer; `cot`: whether a CoT stands before the score."""
    seed_model = models.resolve(params.model)
    return seed_model, Encoder.create(models.load_tokenizer(seed_model), params.prompt, params.scale, cot=cot)


def leaves_out_unannotated() -> bool:
    """Whether a training that needs feedback leaves out the examples without it (`data.on_bad_row: drop`)."""
    return tables.read_json(places.PROOF).get("without_feedback") == "left out"


def require_proof(seed_model: SeedModel) -> frozenset[str]:
    """What `check` proved must hold for the model at hand: DVC does not look at the model's files.

    Returns:
        Ids of the training examples that are too long and left out.

    Raises:
        UserError: the proof is missing, altered, or of another model.
    """
    proof = tables.read_json(places.PROOF)
    proved = proof["base"]
    if proved != seed_model.identity:
        raise UserError(
            f"{places.PROOF}: proves the model {proved}, but `model` now resolves to {seed_model.identity} (weights, "
            "tokenizer and chat template count); restore its files, or run `dvc repro --force check` to take them"
        )
    return frozenset(proof.get("left_out", ()))
