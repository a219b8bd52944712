"""p_0 and its renderer from params.yaml, for every stage that encodes."""

from tract_core import models
from tract_core.config import Params
from tract_core.encoding import Encoder
from tract_core.models import SeedModel


def seed_model_and_encoder(params: Params, *, cot: bool = True) -> tuple[SeedModel, Encoder]:
    """p_0 as a folder, and the renderer for its tokenizer; `cot`: whether a CoT stands before the score."""
    seed_model = models.resolve(params.model)
    return seed_model, Encoder.create(models.load_tokenizer(seed_model), params.prompt, params.scale, cot=cot)
