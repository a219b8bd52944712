"""params.yaml -> frozen, validated sections. The only reader of params.yaml.

Every problem of a file (unknown key, missing key, wrong type, value out of range) is reported in one
message with its dotted path. Nothing has a default here: a preset is complete, and a reader of
params.yaml sees every value that determines a result.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tract_core.base.errors import UserError, list_some

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
"""A part of file names and of the names of stages."""


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

    source: Literal["template", "dataset", "verbatim"]
    """`template`: our rendering of the fields; `dataset`: the prompt that the file ships, ours without CoT;
    `verbatim`: the file's in both cases, with the delimiter at its end where no CoT follows."""
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
    """Examples per forward pass on one rank, in one row without padding; changes memory and speed, not the result.

    Must be 1 for architectures whose layers carry something from one sequence into the next (training says so).
    """
    scheduler: Literal["cosine", "linear", "constant_with_warmup"]
    warmup_ratio: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    gradient_checkpointing: bool | Literal["auto"]
    """Recompute activations in the backward pass: slower, less memory. `auto`: where the longest micro-batch would
    not fit the memory that is free when training starts. The result is the same."""


class Stage1(Section):
    """What stage 1 (row a1) does not share with stage 2."""

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


class Baseline(Section):
    """A model trained on the annotator's texts or scores alone."""

    cot: bool
    objective: Literal["ce", "raft"]
    """`ce`: cross-entropy, the score token included; `raft`: squared error of RAIL alone."""


class Stage2(Section):
    """A model trained with the CoT-RAFT objective on CoTs that row a1's model wrote."""

    cots: Literal["self", "both"]
    """`self`: its own CoTs; `both`: those and the annotator's, two sequences for each example."""
    start: Literal["p_0", "p_s"]
    """Which weights it starts from: the seed model, or row a1's adapter (row A.4)."""
    score_term: Literal["squared_error", "rps"]
    """What lambda weighs: the squared error of the expected score, or the ranked probability score."""


class Sweep(Section):
    """Row 6 with another lambda (Figure 2)."""

    lam: float = Field(alias="lambda", ge=0)


class Rows(Section):
    """What the rows of the paper's tables are, by the stage that trains them (docs/rows.md)."""

    baseline: dict[Name, Baseline]
    stage2: dict[Name, Stage2]
    sweep: dict[Name, Sweep]


class Matrix(Section):
    """Which rows run: the matrix variables of dvc.yaml, one list for each family of stages."""

    baseline: list[Name]
    stage2: list[Name]
    sweep: list[Name]
    self_ce: list[Literal["a1", "b2"]]
    """Rows whose own CoTs a model learns with plain cross-entropy: rows self_ce_a1, self_ce_b2."""
    sequential: list[Literal["sequential"]]
    untrained: list[Literal["b3"]]
    external: list[Literal["free", "forced"]]
    """Protocols of the external judge: rows b5_free, b5_forced."""
    writers: list[Literal["a1", "b2"]]
    """Rows whose models write a CoT for each training example."""
    gap: list[Literal["a1", "tract"]]
    """Table 3: rows whose error on the training examples is measured."""
    curve: list[Name]
    """Figure 3: trained rows that get `curve.num_samples` CoTs."""
    curve_external: list[Literal["free", "forced"]]
    """Figure 3: protocols of the external judge that get them too."""
    cool: list[Name]
    """Trained rows that judge once more, with CoTs at `cool.temperature`: rows cool_ROW."""
    perplexity: list[Literal["perplexity"]]
    robustness: list[Name]
    """Trained rows that are attacked (tract_core/studies/attacks.py)."""
    meta_judge: list[Literal["meta_judge"]]
    trained: list[Name]
    """Trained rows that judge the benchmarks."""
    scored: list[Name] = Field(min_length=1)
    """All rows of the tables."""

    def everything(self) -> list[str]:
        """Every row that the listed stages can make predictions of."""
        return [*self.trainable(), *self._judged_otherwise()]

    def trainable(self) -> list[str]:
        """Every row that the listed stages train."""
        own = [f"self_ce_{writer}" for writer in self.self_ce]
        return ["a1", *self.baseline, *self.stage2, *self.sweep, *own, *self.sequential]

    def _judged_otherwise(self) -> list[str]:
        """Rows whose predictions do not come from the stage `infer`."""
        external = [f"b5_{protocol}" for protocol in self.external]
        return [*self.untrained, *external, *(f"cool_{row}" for row in self.cool)]

    def problems(self, rows: Rows) -> list[str]:
        """What does not fit together, each as a message with the remedy."""
        found = [f"matrix.{name}: {sorted(twice)} twice" for name, items in self if (twice := _repeated(items))]
        if not found and (twice := _repeated(self.everything())):
            found.append(f"matrix: {sorted(twice)} in two lists, so two models would have one name")
        for family in ("baseline", "stage2", "sweep"):
            if unknown := set(getattr(self, family)) - set(getattr(rows, family)):
                found.append(f"matrix.{family}: {sorted(unknown)} not defined under rows.{family}")
        needs_a1 = self.stage2 or self.sweep or self.gap or self.meta_judge
        needed = {*self.self_ce, *(["a1"] if needs_a1 else [])}
        if missing := needed - set(self.writers):
            found.append(f"matrix.writers: must hold {sorted(missing)}, since listed rows learn from their CoTs")
        if ("b2" in self.writers or self.sequential) and "b2" not in self.baseline:
            found.append("matrix.baseline: must hold b2, since listed rows build on it")
        if ("b2" in self.writers or self.sequential) and "b2" in rows.baseline and not rows.baseline["b2"].cot:
            found.append("rows.baseline.b2: must have `cot: true`, since listed rows build on its CoTs")
        if unknown := set(self.trained) - set(self.trainable()):
            found.append(f"matrix.trained: {sorted(unknown)} are trained by no listed stage")
        if unknown := set(self.curve) - set(self.trained):
            found.append(f"matrix.curve: {sorted(unknown)} are not in matrix.trained")
        if unknown := set(self.robustness) - set(self.trainable()):
            found.append(f"matrix.robustness: {sorted(unknown)} are trained by no listed stage")
        if unknown := set(self.curve_external) - set(self.external):
            found.append(f"matrix.curve_external: {sorted(unknown)} are not in matrix.external")
        if unknown := set(self.cool) - set(self.trainable()):
            found.append(f"matrix.cool: {sorted(unknown)} are trained by no listed stage")
        if without := {row for row in self.cool if row in rows.baseline and not rows.baseline[row].cot}:
            found.append(f"matrix.cool: {sorted(without)} write no CoT")
        if self.perplexity and "tract" not in self.gap:
            found.append("matrix.gap: must hold tract, since matrix.perplexity reads its CoTs")
        if "tract" in self.gap and "tract" not in self.stage2:
            found.append("matrix.stage2: must hold tract, since matrix.gap does")
        everything = [*self.trained, *self._judged_otherwise()]
        if sorted(self.scored) != sorted(everything):
            found.append(f"matrix.scored: must be exactly [{', '.join(everything)}]")
        return found


def _repeated(items: list[str]) -> set[str]:
    return {item for item in items if items.count(item) > 1}


class Curve(Section):
    """Figure 3."""

    num_samples: int = Field(ge=1)


class Cool(Section):
    """Judging with less noise in the CoTs than `sampling` draws them with; not in the paper."""

    temperature: float = Field(gt=0)


class Gap(Section):
    """Table 3 and perplexity: how many training examples are looked at."""

    max_rows: int | None = Field(ge=1)
    """A seeded choice; null: all."""


class Robustness(Section):
    """Attacks on the responses: how many benchmark rows are attacked."""

    max_rows: int | None = Field(ge=1)
    """A seeded choice; null: all."""


class External(Section):
    """Row B.5: a judge that somebody else trained."""

    model: Model
    delimiter: str = Field(min_length=1)
    """What stands between its feedback and its score."""
    max_retries: int = Field(ge=0)
    """How often a reply without a readable score is drawn again (free decoding)."""


class Endpoint(Section):
    """An OpenAI-compatible server."""

    base_url: str = Field(pattern=r"^https?://[^@?#]+$")
    """Without user, password or query: the report and DVC's lock show it."""
    model: str
    key_variable: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the API key."""
    temperature: float | None = Field(ge=0)
    """null: the server's default."""


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
        if (self.endpoint is None) == (self.model is None):
            raise ValueError("give either `endpoint` or `model`, and null for the other")
        return self


class Statistics(Section):
    """Intervals and tests of the tables."""

    level: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=100)


class Sampling(Section):
    """How CoTs are drawn."""

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
    memory: Annotated[float, Field(gt=0)] | Literal["auto"]
    """vLLM's: GiB of KV cache on a CPU; share of the device's memory, weights included, on a GPU. `auto`: on a CPU room
    for `batch_size` sequences of `model.max_length`, at most half of what is free; on a GPU 0.9."""


class Score(Section):
    """From probabilities to numbers."""

    on_truncated: Literal["score_and_flag", "null"]


class Params(Section):
    """params.yaml as a whole."""

    seeds: list[int] = Field(min_length=1)
    """Training seeds, a matrix variable of dvc.yaml."""
    benches: list[Name] = Field(min_length=1)
    """Benchmarks to score; each is a key of data.benchmarks."""
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
    rows: Rows
    matrix: Matrix
    curve: Curve
    cool: Cool
    gap: Gap
    robustness: Robustness
    external: External | None
    meta_judge: MetaJudge | None
    statistics: Statistics

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := sorted(set(self.benches) ^ set(self.data.benchmarks)):
            raise ValueError(f"`benches` and `data.benchmarks` must name the same benchmarks; they differ in {unknown}")
        for name, items in (("seeds", self.seeds), ("benches", self.benches)):
            if len(set(items)) != len(items):
                raise ValueError(f"{name}: {items} names one twice")
        if "mean" in self.benches:
            raise ValueError("benches: `mean` is the name of the mean over the benchmarks; choose another one")
        holdouts = [name for name, source in self.data.benchmarks.items() if source.path == "holdout"]
        if holdouts and self.data.holdout_fraction == 0:
            raise ValueError(f"data.benchmarks.{holdouts[0]} is the holdout, but data.holdout_fraction is 0")
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
        if problems := self.matrix.problems(self.rows):
            raise ValueError("; ".join(problems))
        if self.matrix.external and self.external is None:
            raise ValueError("matrix.external lists protocols, but `external` names no judge")
        if self.matrix.meta_judge and self.meta_judge is None:
            raise ValueError("matrix.meta_judge is listed, but `meta_judge` names no model")
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
    if where.endswith((".base_url", ".key_variable")):  # what stands there by mistake can be a secret
        rule = "a URL without user, password and query" if where.endswith("url") else "the variable's name, not the key"
        return f"{where}: must be {rule}; secrets belong into the environment variable alone"
    shown = "" if isinstance(got, dict) else f", got {got!r}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{shown}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
