"""params.yaml -> frozen, validated sections. The only reader of params.yaml.

Every problem of a file (unknown key, missing key, wrong type, value out of range) is reported in one
message with its dotted path. Nothing has a default here: a preset is complete, and a reader of
params.yaml sees every value that determines a result.
"""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tract_core.errors import UserError, list_some

Name = str
_NAME = Field(pattern=r"^[A-Za-z0-9_]+$")


class Section(BaseModel):
    """Base of all sections: immutable, strict about types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True)

    def resolved(self) -> dict[str, Any]:
        """The section as plain values under the names of params.yaml (for manifests and fingerprints)."""
        return self.model_dump(mode="json", by_alias=True)


class Model(Section):
    """The seed model p_0."""

    source: str
    """A local folder, a hub id, or `pypi:PACKAGE` for a GGUF file carried by an installed package."""
    revision: str | None
    """Commit, tag or branch of a hub id; resolved to a commit and stored."""
    dtype: Literal["float32", "bfloat16"]
    max_length: int = Field(ge=16)
    """Longest sequence in tokens, prompt + CoT + delimiter + score + end; longer is an error, never a cut."""


class Prompt(Section):
    """How an example becomes the user turn."""

    source: Literal["template", "dataset"]
    """`template`: our rendering of the fields; `dataset`: the prompt that the file ships."""
    format_text: Literal["authors", "aligned"]
    """Whether the template asks for `[RESULT]` (as the released prompts do) or for what the target is."""
    use_reference: bool
    system: str | None
    delimiter: str = Field(min_length=1)
    """What stands between the CoT and the score."""


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


class Source(Section):
    """One raw file or hub data set."""

    path: str
    """A file inside `data.folder`, `hub:ID`, or (benchmarks only) `holdout`: the held-out training groups."""
    format: Literal["feedback_collection", "prometheus_eval", "plain"]
    split: str | None
    """Split of a hub data set; null for files."""
    revision: str | None
    """Commit of a hub data set; null for files."""
    max_rows: int | None = Field(ge=1)
    """Keep at most this many rows, a seeded choice; null: all."""


class Data(Section):
    """Raw data and how it is read."""

    folder: str
    """Folder of the local files; DVC tracks its content."""
    train: Source
    benchmarks: dict[Name, Source]
    holdout_fraction: float = Field(ge=0, lt=1)
    """Share of the training instructions (groups) that never enter training."""
    split_seed: int = Field(ge=0)
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
    """Examples per forward pass on one rank; changes memory and speed, not the result."""
    scheduler: Literal["cosine", "linear", "constant_with_warmup"]
    warmup_ratio: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    gradient_checkpointing: bool


class Stage1(Section):
    """What stage 1 does not share with stage 2."""

    lam: float = Field(alias="lambda", ge=0)


class Loss(Section):
    """The objective (Eqs. 2 and 4); see docs/differences.md for each switch."""

    lam: float = Field(alias="lambda", ge=0)
    """Weight of the squared error in stage 2."""
    normalization: Literal["authors", "equation4", "token_mean"]
    authors_batch: int = Field(ge=1)
    """The constant by which `authors` divides the mean squared error once more."""
    ce_on_score: bool | Literal["auto"]
    ce_on_eos: bool


class Sampling(Section):
    """How CoTs are drawn."""

    temperature: float = Field(gt=0)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(gt=0)
    max_new_tokens: int = Field(ge=1)


class Selfgen(Section):
    """Self-generated CoTs for stage 2."""

    on_bad_cot: Literal["resample", "keep", "drop"]
    max_resamples: int = Field(ge=0)
    max_bad_share: float = Field(ge=0, le=1)
    """The stage fails when more than this share of the final CoTs is not `ok`."""


class Infer(Section):
    """K CoTs for each benchmark row and inference seed."""

    num_samples: int = Field(ge=1)
    seeds: list[int] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        return self


class Engine(Section):
    """What samples and scores."""

    name: Literal["vllm", "transformers"]
    batch_size: int = Field(ge=1)
    """Sequences generated together."""
    memory: float = Field(gt=0)
    """vLLM's KV cache: GiB on a CPU; share of the device's memory on a GPU."""


class Score(Section):
    """From probabilities to numbers."""

    on_truncated: Literal["score_and_flag", "null"]


class Params(Section):
    """params.yaml as a whole."""

    seeds: list[int] = Field(min_length=1)
    """Training seeds, a matrix variable of dvc.yaml."""
    benches: list[Name] = Field(min_length=1)
    """Benchmarks to score, a matrix variable of dvc.yaml; each is a key of data.benchmarks."""
    model: Model
    prompt: Prompt
    scale: Scale
    data: Data
    lora: Lora
    train: Train
    stage1: Stage1
    loss: Loss
    sampling: Sampling
    selfgen: Selfgen
    infer: Infer
    engine: Engine
    score: Score

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := sorted(set(self.benches) ^ set(self.data.benchmarks)):
            raise ValueError(f"`benches` and `data.benchmarks` must name the same benchmarks; they differ in {unknown}")
        holdouts = [name for name, source in self.data.benchmarks.items() if source.path == "holdout"]
        if holdouts and self.data.holdout_fraction == 0:
            raise ValueError(f"data.benchmarks.{holdouts[0]} is the holdout, but data.holdout_fraction is 0")
        if self.sampling.max_new_tokens >= self.model.max_length:
            raise ValueError(
                f"sampling.max_new_tokens ({self.sampling.max_new_tokens}) must be "
                f"below model.max_length ({self.model.max_length})"
            )
        return self


def load(path: str | Path = "params.yaml") -> Params:
    """Read and validate a parameter file.

    Raises:
        UserError: the file is missing, is not YAML, or breaks a rule; all offenders are listed.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `make preset P=laptop` writes one from presets/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping of sections, got {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise UserError(
            f"{path}: {len(problems)} problem(s); compare with presets/laptop.yaml:\n{list_some(problems)}"
        ) from None


def _describe(problem: Any) -> str:
    """`data.train.format: Input should be ..., got 'x'`, with a hint for YAML's number pitfall."""
    where = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    kind, got = problem["type"], problem["input"]
    if kind == "missing":
        return f"{where}: missing"
    if kind == "extra_forbidden":
        return f"{where}: unknown parameter"
    if isinstance(got, str) and kind.startswith(("float", "int")) and _is_number(got):
        return f"{where}: {got!r} is a string to YAML; write the number with a decimal point, as in 1.0e-5"
    shown = "" if isinstance(got, dict) else f", got {got!r}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{shown}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
