"""Choose and start an engine."""

from pathlib import Path

from tract_core.base.config import Engine as EngineSettings
from tract_core.base.config import Model
from tract_core.base.errors import UserError
from tract_core.generate.engine.base import Decoding, Engine
from tract_core.model import models
from tract_core.model.models import Adapter, SeedModel


def open_engine(
    settings: EngineSettings,
    model: Model,
    decoding: Decoding,
    seed_model: SeedModel,
    adapter: Adapter | None,
    work: str | Path,
    served: str,
) -> Engine:
    """Start the engine that `settings.name` says on p_0 plus an adapter (None: p_0 itself).

    `http` starts nothing: servers have the judge already, under the name `served`. For the others adapters are merged
    first, for vLLM into a draft below `work`: on a CPU an adapter served as such more
    than doubles the time of vLLM's prefill.

    Raises:
        UserError: vLLM is asked for but not installed, or does not start, or the disk is full; a server does not
            have the model.
    """
    if settings.name == "http":
        from tract_core.generate.engine.http import HttpEngine

        return HttpEngine(decoding, model=served, batch_size=settings.batch_size)
    # Imported here: vLLM costs many seconds, and the transformers engine must work without it.
    if settings.name == "transformers":
        from tract_core.generate.engine.hf import TransformersEngine

        merged = models.load_merged(seed_model, adapter, model.dtype)
        return TransformersEngine(merged, decoding)
    try:
        from tract_core.generate.engine.vllm import VllmEngine
    except ImportError as error:
        raise UserError(
            f"engine.name is `vllm`, but vLLM does not import ({error}); run `make env`, "
            "or set engine.name: transformers"
        ) from None
    with models.merged_folder(seed_model, adapter, model.dtype, work) as folder:
        return VllmEngine(folder, decoding, dtype=model.dtype, batch_size=settings.batch_size, memory=settings.memory)
