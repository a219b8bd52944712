"""The meta-judge as a function from question to reply: an endpoint, or a model that runs here."""

from tract_core.base.config import Params, Prompt
from tract_core.generate import generation
from tract_core.generate.generation import Generator
from tract_core.model import models
from tract_core.studies import meta_judge
from tract_core.studies.meta_judge import Ask
from tract_core.text.encoding import Encoder


def meta_judge_model(params: Params) -> tuple[Ask, str]:
    """What answers, and the name that its kept replies stand under."""
    judge = params.meta_judge
    assert judge is not None  # config demands it where the stage is listed
    if judge.endpoint is not None:
        return meta_judge.open_endpoint(judge.endpoint), judge.endpoint.name
    assert judge.model is not None
    model = models.resolve(judge.model)
    # The question is the whole prompt, as a data set's own prompt would be.
    style = Prompt(
        source="dataset",
        format_text="authors",
        use_reference=True,
        system=None,
        delimiter=" [RESULT] ",
        date=params.prompt.date,
        template_arguments=params.prompt.template_arguments,
    )
    source = Generator(
        Encoder.create(models.load_tokenizer(model), style, params.scale),
        model=judge.model,
        sampling=params.sampling,
        engine=params.engine,
        seed_model=model,
        adapter=None,
        stage="meta_judge",
        free=True,
    )
    return generation.ask_with(source), model.identity
