"""params.yaml -> frozen, validated sections. The only reader of params.yaml.

Every problem of a file (unknown key, missing key, wrong type, value out of range) is reported in one
message with its dotted path. Nothing that determines a result has a default here: a preset is complete, and a reader of
params.yaml sees every such value.
"""

import json
import os
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from tract_core.base.errors import UserError, list_some
from tract_core.base.rows import Matrix, Row
from tract_core.base.scale import ScoreScale
from tract_core.base.section import Name, Section, Seed


class Model(Section):
    """A causal language model."""

    source: str
    """A local folder, a hub id, or `pypi:PACKAGE` for a GGUF file carried by an installed package."""
    revision: str | None
    """Commit, tag or branch of a hub id; resolved to a commit and stored."""
    dtype: Literal["float32", "bfloat16"]
    max_length: int = Field(ge=16)
    """Longest sequence in tokens, prompt + CoT + delimiter + score + end; longer is an error, never a cut."""


class TrainedModel(Model):
    """The seed model p_0, which adapters are trained on."""

    load_in_4bit: bool = Field(exclude_if=lambda on: not on)
    """Round its linear layers to 4 bits, and train with them so (a GPU only). What judges reads the rounded weights in
    `dtype`. Manifests name it where it is true alone, so that adapters and draws of before stay what they are."""

    @classmethod
    def restored(cls, values: Any) -> Self:
        """From a manifest; raises ValidationError."""
        return cls.model_validate({"load_in_4bit": False, **values} if isinstance(values, dict) else values)


class Prompt(Section):
    """How an example becomes the user turn."""

    source: Literal["template", "brief", "dataset", "verbatim"]
    """`template`: our rendering of the fields; `brief`: the same fields in few words; `dataset`: the prompt that the
    file ships, ours without CoT; `verbatim`: the file's in both cases, with the delimiter at its end where no CoT
    follows."""
    format_text: Literal["authors", "aligned"]
    """Whether the template asks for `[RESULT]` (as the released prompts do) or for what the target is."""
    use_reference: bool
    system: str | None
    delimiter: str = Field(min_length=1)
    """What stands between the CoT and the score."""
    date: str | None
    """What a chat template that writes the date takes for today, as in 2025-01-31; null where the template has none."""
    template_arguments: dict[str, bool | int | float | str]
    """Variables of the chat template, as in `enable_thinking: false`."""

    @field_validator("date", mode="before")
    @classmethod
    def _is_a_day(cls, given: Any) -> Any:
        if given is not None and not _is_day(given):
            raise ValueError('must be a day in quotes, as in "2025-01-31", or null')
        return given


class Scale(Section):
    """The finite set Y of scores."""

    values: list[float | int] = Field(min_length=2)
    labels: list[str] | None
    """str(y) for each value; null: the number itself."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if any(a >= b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise ValueError("values must be strictly increasing")
        if self.labels is not None and len(set(self.labels)) != len(self.values):
            raise ValueError("labels must be distinct, one for each value")
        return self


_Text = Annotated[str, Field(min_length=1)]


class Rubric(Section):
    """One rubric for all rows of a file."""

    criteria: str = Field(min_length=1)
    descriptions: Annotated[
        Annotated[list[_Text], Tag("list")] | Annotated[dict[str | int | float, _Text], Tag("scores")],
        Discriminator(lambda given: "scores" if isinstance(given, dict) else "list"),
    ]
    """One for each score of the scale, lowest first; or score -> description, which need not name each score."""

    def complete(self, scale: ScoreScale) -> Self:
        """With a description for each score, "" where there is none; raises ValueError as `ScoreScale.described`."""
        return self.model_copy(update={"descriptions": list(scale.described(self.descriptions))})


class Source(Section):
    """One raw file or hub data set."""

    path: str
    """A file or folder inside `data.folder`, `hub:ID`, or (benchmarks only) `holdout`: the held-out training groups."""
    format: Literal["feedback_collection", "prometheus_eval", "plain"]
    split: str | None
    """Split of a hub data set; null for files."""
    revision: str | None
    """Commit of a hub data set; null for files."""
    columns: dict[str, str] | None
    """Field -> column, for columns that have other names than their fields; null: none has."""
    rubric: Rubric | None
    """What a row without criteria and descriptions of its own is judged by; null: each row has its own."""
    max_rows: int | None = Field(ge=1)
    """Keep at most this many rows, a seeded choice; null: all."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.path == "holdout" and (self.columns or self.rubric):
            raise ValueError("the holdout is read as data.train says; set its `columns` and `rubric` to null")
        if self.rubric and self.format != "plain":
            raise ValueError(f"a rubric for all rows needs `format: plain`; rows of {self.format} have their own")
        return self

    def resolved(self) -> dict[str, Any]:
        """Without `columns` and `rubric` where they are null, so that examples keep the manifest of before."""
        values = super().resolved()
        return {key: value for key, value in values.items() if value is not None or key not in ("columns", "rubric")}

    @field_validator("path")
    @classmethod
    def _tracked(cls, path: str) -> str:
        outside = Path(path).is_absolute() or os.path.normpath(path).startswith("..")
        if outside and not path.startswith("hub:"):
            raise ValueError(
                "must be a file inside data.folder; DVC tracks that folder, and would not see changes elsewhere"
            )
        return path


class Data(Section):
    """Raw data and how it is read."""

    folder: str
    """Folder of the local files; DVC tracks its content."""
    train: Source
    benchmarks: dict[Name, Source]
    holdout_fraction: float = Field(ge=0, lt=1)
    """Share of the training instructions (groups) that never enter training."""
    split_seed: Seed
    missing_delimiter: Literal["append", "drop"]
    on_bad_row: Literal["error", "drop"]
    rubric_overlap: Literal["warn", "error"]


class Lora(Section):
    """The adapter (arXiv:2106.09685)."""

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    targets: str | list[str]
    """`all-linear` or module names."""


class Train(Section):
    """Optimisation, the same in both stages."""

    launcher: str
    """What runs `-m pipeline.train_stageN`: `python`, or `accelerate launch ...`, or `torchrun ...`."""
    learning_rate: float = Field(gt=0)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Examples per optimizer step over all ranks and accumulation steps."""
    micro_batch_size: int = Field(ge=1)
    """Examples per forward pass on one rank, in one row without padding; changes memory and speed, not the result.

    Must be 1 for architectures whose layers carry something from one sequence into the next (training says so).
    """
    order: Literal["rows", "tasks"]
    """What an epoch shuffles: rows, or tasks with their rows one after the other. The responses of one task then meet
    in a step, which computes the question that they share once."""
    scheduler: Literal["cosine", "linear", "constant_with_warmup"]
    warmup_ratio: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    gradient_checkpointing: bool | Literal["auto"]
    """Recompute activations in the backward pass: slower, less memory. `auto`: where the longest micro-batch would
    not fit the memory that is free when training starts. The result is the same."""
    shard: bool = Field(exclude=True)
    """Spread the frozen weights over the ranks (FSDP2): for models that one GPU does not hold. Numbers are the same up
    to rounding, so no result and no manifest depends on it, and a run that was out of memory goes on with it."""
    report_to: list[Literal["tensorboard", "wandb", "dvclive"]] = Field(exclude=True)
    """What shows the curves while it trains; no result and no manifest depends on it."""

    @field_validator("report_to")
    @classmethod
    def _named_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) != len(names):
            raise ValueError("names a tracker twice")
        return names


class Loss(Section):
    """The objective (Eqs. 2 and 4); see docs/differences.md for each switch."""

    lam: float = Field(alias="lambda", ge=0)
    """Weight of the squared error in stage 2."""
    normalization: Literal["authors", "equation4", "token_mean"]
    authors_batch: int = Field(ge=1)
    """The constant by which `authors` divides the mean squared error once more."""
    ce_on_score: bool | Literal["auto"]
    ce_on_eos: bool


class Curve(Section):
    """Figure 3."""

    num_samples: int = Field(ge=1)


class Cool(Section):
    """Judging with less noise in the CoTs than `sampling` gives them; not in the paper."""

    temperature: float = Field(gt=0)


class Real(Section):
    """Rounds of regression-aware reinforcement learning (arXiv:2603.17145): rows with `objective: real`."""

    num_samples: int = Field(ge=2)
    """G: CoTs that a round draws for each example."""
    max_rows: int | None = Field(ge=1)
    """Training examples of a round, a seeded choice, another one in each; null: all."""
    learning_rate: float = Field(gt=0)
    """In place of train.learning_rate: the model goes on from a trained judge."""
    kl: float = Field(ge=0)
    """Weight of the divergence from the judge that the first round started from, which is taken off the reward."""
    clip: float | None = Field(gt=0, lt=1)
    """How far a token's probability may go from the one that it was drawn with before it has no gradient any more
    (arXiv:1707.06347, eq. 7); null: as far as it goes."""


class Gap(Section):
    """Table 3 and perplexity: how many training examples are looked at."""

    max_rows: int | None = Field(ge=1)
    """A seeded choice; null: all."""


class Paraphrase(Rubric):
    """A rubric in other words."""

    of: str
    """The criteria that it stands for, as in the data."""


class Robustness(Section):
    """Attacks on the responses, and checks of what the judge reads."""

    max_rows: int | None = Field(ge=1)
    """Benchmark rows, a seeded choice; null: all."""
    paraphrases: list[Paraphrase]
    """Rubrics in other words, by which the same rows are judged once more."""


class Endpoint(Section):
    """An OpenAI-compatible server."""

    base_url: str = Field(pattern=r"^https?://[^@?#]+$")
    """Without user, password or query: the report and DVC's lock show it."""
    model: str
    key_variable: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the API key; the key itself is no setting."""
    temperature: float | None = Field(ge=0)
    """null: the server's default (some models accept no other)."""

    @property
    def name(self) -> str:
        """Model and temperature: what determines a reply besides the server and the prompt."""
        return self.model if self.temperature is None else f"{self.model}, temperature {self.temperature:g}"


class External(Section):
    """Row B.5: a judge that somebody else trained; either an endpoint or a local model."""

    endpoint: Endpoint | None
    model: Model | None
    system: str | None
    """Its own system text; before the user's text where its chat template has no place for one. null: none of ours."""
    delimiter: str = Field(min_length=1)
    """What stands between its feedback and its score."""
    max_retries: int = Field(ge=0)
    """How often a reply without a readable score is asked for again (free decoding)."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        _require_one_of_two(self.endpoint, self.model)
        return self


class MetaJudge(Section):
    """Appendix B.1: a model that rates CoTs; either an endpoint or a local model."""

    endpoint: Endpoint | None
    model: Model | None
    prompt_file: str | None
    """null: our own wording of the question."""
    max_rows: int | None = Field(ge=1)
    """Training examples whose CoTs are rated, a seeded choice; null: all."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        _require_one_of_two(self.endpoint, self.model)
        return self


def _require_one_of_two(endpoint: Endpoint | None, model: Model | None) -> None:
    if (endpoint is None) == (model is None):
        raise ValueError("give either `endpoint` or `model`, and null for the other")


class Statistics(Section):
    """Intervals and tests of the tables."""

    level: float = Field(gt=0, lt=1)
    """Probability inside an interval."""


class Sampling(Section):
    """How CoTs are sampled."""

    temperature: float = Field(gt=0)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(gt=0)
    max_new_tokens: int = Field(ge=1)


class Selfgen(Section):
    """Self-generated CoTs for stage 2."""

    num_samples: int = Field(ge=1)
    """CoTs for each training example; stage 2 learns from all of them, so an epoch is as many times as long."""
    on_bad_cot: Literal["resample", "keep", "drop"]
    max_resamples: int = Field(ge=0)
    max_bad_share: float = Field(ge=0, le=1)
    """The stage fails when more than this share of the final CoTs is not `ok`."""


class Infer(Section):
    """K CoTs for each benchmark row and inference seed."""

    num_samples: int = Field(ge=1)
    seeds: list[Seed] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        return self


class Engine(Section):
    """What samples and scores."""

    name: Literal["vllm", "transformers", "http"]
    """`http`: vLLM servers that somebody runs; TRACT_SERVERS names them (docs/judge.md)."""
    batch_size: int = Field(ge=1)
    """Sequences generated together; with `http` on each server."""
    memory: Annotated[float, Field(gt=0)] | Literal["auto"]
    """vLLM's: GiB of KV cache on a CPU; share of the device's memory, weights included, on a GPU. `auto`: on a CPU room
    for `batch_size` sequences of `model.max_length`, at most half of what is free; on a GPU 0.9."""
    replicas: int = Field(default=1, ge=1, exclude=True)
    """Engines that work at the same time, started by Ray on this machine or on the cluster of RAY_ADDRESS
    (docs/experiments.md); no result depends on it."""
    tensor_parallel: int = Field(default=1, ge=1, exclude=True)
    """GPUs over which vLLM spreads each engine's weights; no result is kept apart by it."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.name == "http" and self.replicas > 1:
            raise ValueError("replicas must be 1 with `name: http`; TRACT_SERVERS names several servers instead")
        if self.name != "vllm" and self.tensor_parallel > 1:
            raise ValueError(f"tensor_parallel must be 1 with `name: {self.name}`; only vLLM spreads a model over GPUs")
        return self


class Score(Section):
    """From probabilities to numbers."""

    on_truncated: Literal["score_and_flag", "null"]


class Params(Section):
    """params.yaml as a whole."""

    name: str = Field(min_length=1, max_length=120)
    """Title of the report."""
    seeds: list[Seed] = Field(min_length=1)
    """Training seeds, a matrix variable of dvc.yaml."""
    benches: list[Name] = Field(min_length=1)
    """Benchmarks to score; each is a key of data.benchmarks."""
    model: TrainedModel
    prompt: Prompt
    scale: Scale
    data: Data
    lora: Lora
    train: Train
    loss: Loss
    sampling: Sampling
    selfgen: Selfgen
    infer: Infer
    engine: Engine
    score: Score
    rows: dict[Name, Row]
    """Judge variants: the rows of the paper's tables and others."""
    matrix: Matrix
    curve: Curve
    cool: Cool
    gap: Gap
    real: Real
    robustness: Robustness
    external: External | None
    meta_judge: MetaJudge | None
    statistics: Statistics

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := sorted(set(self.benches) ^ set(self.data.benchmarks)):
            raise ValueError(
                f"`benches` and `data.benchmarks` must name the same benchmarks; they differ in {unknown}: rename the "
                "block in `data.benchmarks`, or remove it"
            )
        for name, items in (("seeds", self.seeds), ("benches", self.benches)):
            if len(set(items)) != len(items):
                raise ValueError(f"{name}: {items} names one twice")
        if "mean" in self.benches:
            raise ValueError("benches: `mean` is the name of the mean over the benchmarks; choose another one")
        holdouts = [name for name, source in self.data.benchmarks.items() if source.path == "holdout"]
        if holdouts and self.data.holdout_fraction == 0:
            raise ValueError(f"data.benchmarks.{holdouts[0]} is the holdout, but data.holdout_fraction is 0")
        if problem := self._problem_of_rubrics():
            raise ValueError(problem)
        if self.sampling.max_new_tokens >= self.model.max_length:
            raise ValueError(
                f"sampling.max_new_tokens ({self.sampling.max_new_tokens}) must be "
                f"below model.max_length ({self.model.max_length})"
            )
        if self.matrix.cool and self.cool.temperature >= self.sampling.temperature:
            raise ValueError(
                f"cool.temperature ({self.cool.temperature}) must be "
                f"below sampling.temperature ({self.sampling.temperature})"
            )
        if self.model.load_in_4bit and self.train.shard:
            raise ValueError(
                "model.load_in_4bit and train.shard cannot both be true: weights in 4 bits are not spread over ranks"
            )
        if problems := self.matrix.problems(self.rows):
            raise ValueError("; ".join(problems))
        if self.matrix.external and self.external is None:
            raise ValueError(
                "matrix.external lists protocols, but `external` names no judge: give `external.endpoint` or "
                "`external.model` (docs/rows.md)"
            )
        if self.external is not None:
            absent, needed = ("model", "forced") if self.external.model is None else ("endpoint", "expected")
            if needed in self.matrix.external:
                other = "free or expected" if needed == "forced" else "free or forced"
                raise ValueError(f"matrix.external: {needed} needs `external.{absent}`; use {other} with the other one")
        if self.matrix.meta_judge and self.meta_judge is None:
            raise ValueError("matrix.meta_judge is listed, but `meta_judge` names no model")
        return self

    def _problem_of_rubrics(self) -> str | None:
        scale = ScoreScale.create(self.scale.values, self.scale.labels)
        rubrics: dict[str, Rubric | None] = {"data.train.rubric": self.data.train.rubric}
        rubrics |= {f"data.benchmarks.{name}.rubric": source.rubric for name, source in self.data.benchmarks.items()}
        rubrics |= {f"robustness.paraphrases.{n}": one for n, one in enumerate(self.robustness.paraphrases)}
        for name, rubric in rubrics.items():
            try:
                _ = rubric and rubric.complete(scale)
            except ValueError as error:
                return f"{name}.descriptions: {error}"
        return None


_BASE = Path("presets/base.yaml")
_MOST_ALIASES = 20
_MOVED = {
    "statistics.resamples": "not needed (intervals are not drawn any more): remove the line",
    "stage1.lambda": "rows.a1.lambda",
    "rows.baseline": "one line for each row under rows, as in presets/",
    "rows.stage2": "one line for each row under rows, as in presets/",
    "rows.sweep": "one line for each row under rows, as in presets/",
}
"""Parameters of older versions, and where their values belong."""


def _has(raw: Any, name: str) -> bool:
    for part in name.split("."):
        if not isinstance(raw, dict) or part not in raw:
            return False
        raw = raw[part]
    return True


def load(path: str | Path = "params.yaml") -> Params:
    """Read and validate a parameter file.

    Raises:
        UserError: the file is missing, is not YAML, or breaks a rule; all offenders are listed.
    """
    return validated(read(path), path)


def read(path: str | Path) -> dict[str, Any]:
    """The plain values of a parameter file.

    Raises:
        UserError: the file is missing, is not YAML, or has parameters that moved since it was written.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)) > _MOST_ALIASES:
            raise UserError(
                f"{path}: over {_MOST_ALIASES} aliases (*name), which can grow without end; write values out"
            )
        raw = yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `make preset P=laptop` writes one from presets/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping of sections, got {type(raw).__name__}")
    if moved := [f"{old} is now {new}" for old, new in _MOVED.items() if _has(raw, old)]:
        raise UserError(f"{path}: written for an older version: {'; '.join(moved)} (see CHANGELOG.md)")
    return raw


def validated(raw: dict[str, Any], path: str | Path) -> Params:
    """The sections of plain values; `path` is where they are from, for the message.

    Raises:
        UserError: they break a rule; all offenders are listed.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise UserError(
            f"{path}: {len(problems)} problem(s); `make preset P=laptop` writes a complete file, and keeps a copy of "
            f"this one:\n{list_some(problems)}"
        ) from None


def _describe(problem: Any) -> str:
    """`data.train.format: Input should be ..., got 'x'`, with a hint for YAML's number pitfall."""
    where = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    kind, got = problem["type"], problem["input"]
    if kind == "missing":
        return f"{where}: missing{_default(where)}"
    if kind == "extra_forbidden":
        return f"{where}: unknown parameter"
    if isinstance(got, str) and kind.startswith(("float", "int")) and _is_number(got):
        return f"{where}: {got!r} is a string to YAML; write the number with a decimal point, as in 1.0e-5"
    if where.endswith((".base_url", ".key_variable")):  # what stands there by mistake can be a secret
        rule = "a URL without user, password and query" if where.endswith("url") else "the variable's name, not the key"
        return f"{where}: must be {rule}; secrets belong into the environment variable alone"
    shown = "" if isinstance(got, dict) else f", got {got!r}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{shown}"


def _default(where: str) -> str:
    """What the presets start from, where that file is at hand: the line to add."""
    value: Any = yaml.safe_load(_BASE.read_text(encoding="utf-8")) if _BASE.exists() else None
    for part in where.split("."):
        if not isinstance(value, dict) or part not in value:
            return ""
        value = value[part]
    return "" if isinstance(value, dict) and value else f"; {_BASE} has {json.dumps(value)}"


def _is_day(given: Any) -> bool:
    try:
        return isinstance(given, str) and date.fromisoformat(given).isoformat() == given
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
