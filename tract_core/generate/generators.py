"""What samples CoTs and reads scores, from params.yaml: the same everywhere but for the adapter."""

from pathlib import Path

from tract_core.base import places, tables
from tract_core.base.config import Engine, External, Params, Prompt, Sampling, Scale
from tract_core.base.errors import UserError
from tract_core.generate import generation
from tract_core.generate.chat_judge import ChatJudge
from tract_core.generate.generation import Generator
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.text.encoding import Encoder


def generator(
    params: Params,
    seed_model: SeedModel,
    encoder: Encoder,
    adapter: Path | None,
    stage: str,
    *,
    temperature: float | None = None,
) -> Generator:
    """What samples CoTs from p_0 plus an adapter (None: from p_0 itself); `temperature` in place of the sampling's."""
    sampling = params.sampling
    if temperature is not None:
        sampling = sampling.model_copy(update={"temperature": temperature})
    return Generator(
        encoder,
        model=params.model,
        sampling=sampling,
        engine=params.engine,
        seed_model=seed_model,
        adapter=adapter,
        stage=stage,
    )


def external_judgements(params: Params, protocol: str, num_samples: int, out: Path) -> str:
    """Row B.5: an external judge on all benchmarks, by free decoding or after a forced delimiter.

    Protocol `expected` is free decoding with the probabilities that an endpoint gives of the score's token.
    """
    external, examples, seeds = params.external, places.benchmark_examples(), params.infer.seeds
    assert external is not None  # config demands it where a protocol is listed
    source: ChatJudge | Generator
    if external.endpoint is not None:
        at_once, expected = params.engine.batch_size, protocol == "expected"
        source = ChatJudge(external, params.prompt, params.scale, expected=expected, at_once=at_once)
    else:
        free = protocol == "free"
        source = _local_judge(external, params.prompt, params.scale, params.sampling, params.engine, free=free)
    if isinstance(source, Generator) and protocol == "forced":
        predictions = list(generation.infer(source, examples, seeds=seeds, num_samples=num_samples))
    else:
        retries = external.max_retries
        predictions = generation.infer_freely(
            source, examples, seeds=seeds, num_samples=num_samples, max_retries=retries
        )
    tables.write(out, "predictions", predictions, source.origin)
    return f"{generation.describe(predictions)} -> {out}"


def _local_judge(
    external: External, prompt: Prompt, scale: Scale, sampling: Sampling, engine: Engine, *, free: bool
) -> Generator:
    """The external judge as a model that runs here."""
    assert external.model is not None
    judge = models.resolve(external.model)
    return Generator(
        _external_encoder(external, judge, prompt, scale),
        model=external.model,
        sampling=sampling,
        engine=engine,
        seed_model=judge,
        adapter=None,
        stage="infer",
        free=free,
    )


def _external_encoder(external: External, judge: SeedModel, prompt: Prompt, scale: Scale) -> Encoder:
    """Its prompts.

    Mistral's templates, so that of Prometheus-2 as well, refuse a system turn. Prometheus-2's own script puts the
    system text before the user's there, with nothing in between.
    """
    # The judge was trained to the released format, so it is asked in that format, by either protocol.
    own = {"format_text": "authors", "delimiter": external.delimiter, "system": external.system}
    prompt, tokenizer = prompt.model_copy(update=own), models.load_tokenizer(judge)
    try:
        return Encoder.create(tokenizer, prompt, scale)
    except UserError:
        if external.system is None:
            raise
    without = prompt.model_copy(update={"system": None})
    return Encoder.create(tokenizer, without, scale, head=external.system)
