"""p_0 and its renderer from params.yaml, for every stage that encodes."""

from pipeline import common
from tract_core import models, tables
from tract_core.config import Params
from tract_core.encoding import Encoder
from tract_core.errors import UserError
from tract_core.models import SeedModel


def seed_model_and_encoder(params: Params, *, cot: bool = True) -> tuple[SeedModel, Encoder]:
    """p_0 as a folder, and the renderer for its tokenizer; `cot`: whether a CoT stands before the score."""
    seed_model = models.resolve(params.model)
    return seed_model, Encoder.create(models.load_tokenizer(seed_model), params.prompt, params.scale, cot=cot)


def require_proof(seed_model: SeedModel) -> None:
    """What `check` proved must hold for the model at hand: DVC does not look at the model's files.

    Raises:
        UserError: the proof is missing, altered, or of another model.
    """
    proved = tables.read_json(common.PROOF)["base"]
    if proved != seed_model.identity:
        raise UserError(
            f"{common.PROOF}: proves the model {proved}, but `model` now resolves to {seed_model.identity} (weights, "
            "tokenizer and chat template count); restore its files, or run `dvc repro --force check` to take them"
        )
