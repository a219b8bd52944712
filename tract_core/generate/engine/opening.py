"""Choose and start an engine."""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tract_core.base.config import Engine as EngineSettings
from tract_core.base.config import Model
from tract_core.base.errors import UserError
from tract_core.generate.engine.base import Decoding, Engine
from tract_core.model import loading, models
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
        UserError: vLLM or Ray is asked for but not installed, or does not start, or the disk is full; a server does
            not have the model.
    """
    loading.require_engines(settings.replicas, settings.tensor_parallel)
    if settings.name == "http":
        from tract_core.generate.engine.http import HttpEngine

        return HttpEngine(decoding, model=served, batch_size=settings.batch_size)
    if settings.replicas > 1:
        from tract_core.generate.engine.replicas import ReplicatedEngine

        parts = functools.partial(_parts, settings, model, seed_model, adapter, work)
        return ReplicatedEngine(settings, model, decoding, parts)
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
        return VllmEngine(
            folder,
            decoding,
            dtype=model.dtype,
            batch_size=settings.batch_size,
            memory=settings.memory,
            tensor_parallel=settings.tensor_parallel,
        )


def engines_of(settings: EngineSettings) -> int:
    """How many engines, or servers, draw at the same time; 1 where no server is named yet."""
    named = os.environ.get("TRACT_SERVERS", "") if settings.name == "http" else ""
    return max(settings.replicas, len(re.findall(r"https?://", named)))


@contextmanager
def _parts(
    settings: EngineSettings, model: Model, seed_model: SeedModel, adapter: Adapter | None, work: str | Path
) -> Iterator[tuple[SeedModel, Adapter | None]]:
    """What several engines open: for vLLM merged once for all of them.

    Each transformers engine merges for itself, as a single one does: with merged weights that were saved and read
    again, last bits of probabilities differed.
    """
    seed_model = dataclasses.replace(seed_model, folder=seed_model.folder.absolute())
    if settings.name == "transformers":
        yield seed_model, adapter and dataclasses.replace(adapter, folder=adapter.folder.absolute())
        return
    with models.merged_folder(seed_model, adapter, model.dtype, work) as folder:
        yield dataclasses.replace(seed_model, folder=folder.absolute()), None
