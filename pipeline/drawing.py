"""What draws CoTs, from params.yaml: the same for self-generation and inference but for the adapter."""

from pathlib import Path

from tract_core.config import Params
from tract_core.encoding import Encoder
from tract_core.generation import Generator
from tract_core.models import SeedModel


def generator(params: Params, seed_model: SeedModel, encoder: Encoder, adapter: Path, stage: str) -> Generator:
    """What draws CoTs from p_0 plus an adapter."""
    return Generator(
        encoder,
        model=params.model,
        sampling=params.sampling,
        engine=params.engine,
        seed_model=seed_model,
        adapter=adapter,
        stage=stage,
    )
