"""The rows of the paper's tables: what each judge variant is, and which lists of stages make it.

A row is one judge variant: how its adapter is trained, or how it is read. Rows are trained by a family of stages in
dvc.yaml, and there is one family for each shape of dependencies, so that a change reruns only what it can affect.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from tract_core.base.errors import UserError
from tract_core.base.section import Name, Section

Family = Literal["stage1", "sequential", "stage2", "on_a1", "on_b2", "on_tract", "real"]
FAMILIES: tuple[Family, ...] = ("stage1", "sequential", "stage2", "on_a1", "on_b2", "on_tract", "real")
"""The stages train_FAMILY of dvc.yaml."""
Protocol = Literal["free", "forced", "expected"]
"""How an external judge is asked (docs/rows.md)."""
SEED_MODEL = "p_0"
"""What a row starts from that goes on from no other."""
UNTRAINED, COOL, EXTERNAL = "b3", "cool_", "b5_"
"""The seed model itself; a trained row that judges once more with cooler CoTs; a judge that somebody else trained."""


class Row(Section):
    """How one judge variant is trained."""

    cots: Literal["none", "annotator", "a1", "b2", "tract", "annotator+a1", "drawn"]
    """Whose CoTs it learns from: nobody's (scores alone), the annotator's, or those that the model of that row wrote.
    `annotator+a1`: both, two sequences for each example. `drawn`: several for each example by the judge that it starts
    from, good and bad ones, each with its reward."""
    start: Name
    """The weights it starts from: the seed model p_0, or the adapter of another row."""
    objective: Literal["ce", "raft", "cot_raft", "cot_rps", "cot_kl", "real"]
    """`ce`: cross-entropy, the score token included; `raft`: squared error of the expected score alone (Eq. 2);
    `cot_raft`: Eq. 4, whose cross-entropy is without a CoT that of the score and the end alone; `cot_rps`: Eq. 4 with
    the ranked probability score in place of the squared error, `cot_kl` with the Kullback-Leibler divergence; `real`:
    one round of regression-aware reinforcement learning (arXiv:2603.17145)."""
    lam: float | None = Field(alias="lambda", ge=0)
    """Weight of the score term; null for `ce` and `raft`, which have none, and for the rows that take loss.lambda. Of
    `real` 1 is the gradient of the expected reward."""

    @property
    def writes_cot(self) -> bool:
        """Whether the judge writes a CoT before its score."""
        return self.cots != "none"

    @property
    def family(self) -> Family:
        """The stages that train it: one family for each shape of dependencies."""
        if self.objective == "real":
            return "real"
        if self.writer is None:
            return "stage1" if self.start == "p_0" else "sequential"
        if self.writer == "b2":
            return "on_b2"
        if self.writer == "tract":
            return "on_tract"
        return "stage2" if self.start == "a1" or self._takes_loss_lambda else "on_a1"

    @property
    def writer(self) -> str | None:
        """The row whose model wrote the CoTs that it learns from; None: nobody's or the annotator's."""
        return {"a1": "a1", "annotator+a1": "a1", "b2": "b2", "tract": "tract"}.get(self.cots)

    @property
    def sources(self) -> set[str]:
        """The rows that must be trained before it."""
        return {name for name in (self.writer, self.start) if name not in (None, SEED_MODEL)}

    @property
    def _takes_loss_lambda(self) -> bool:
        return self.lam is None and self._has_score_term

    @property
    def _has_score_term(self) -> bool:
        return self.objective in ("cot_raft", "cot_rps", "cot_kl")

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        if problem := next(self._problems(), None):
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        if self.objective == "real":
            if self.cots != "drawn" or self.start == SEED_MODEL or self.lam is None:
                yield "real learns from `cots: drawn`, starts from another row, and has a lambda of its own"
            return
        if (self.cots, self.start) not in _SHAPES:
            yield f"no stage of dvc.yaml trains on `cots: {self.cots}` from `start: {self.start}`"
        if self.lam is not None and not self._has_score_term:
            yield f"{self.objective} has no lambda; set `lambda: null`"
        if self._takes_loss_lambda and self.family != "stage2":
            yield "lambda needs a number here; null is loss.lambda, for rows that learn from a1's CoTs"
        if self.family == "stage2" and not self._takes_loss_lambda:
            yield "a row that starts from a1 takes loss.lambda: use cot_raft, cot_rps or cot_kl and `lambda: null`"


_SHAPES = {
    ("none", "p_0"),
    ("annotator", "p_0"),
    ("annotator", "b2"),
    ("a1", "p_0"),
    ("a1", "a1"),
    ("annotator+a1", "p_0"),
    ("annotator+a1", "a1"),
    ("b2", "p_0"),
    ("tract", "p_0"),
    ("tract", "tract"),
}
"""(cots, start) for which dvc.yaml has stages."""


_WRITERS = {"a1": ("stage1", "the annotator"), "b2": ("stage1", "the annotator"), "tract": ("stage2", "a1")}
"""Rows whose CoTs others learn from -> the stage that must train them, and whose CoTs they learn from."""


class Round(Section):
    """One round of reinforcement learning: a matrix variable of the stages rollout and train_real."""

    row: Name
    """The row that it makes."""
    start: Name
    """The row that draws the CoTs, and that the training goes on from."""
    anchor: Name
    """The row that its first round started from: what `real.kl` holds it to."""


class Matrix(Section):
    """Which rows run: the matrix variables of dvc.yaml. `scored` and the studies are chosen, the rest follows."""

    scored: list[Name] = Field(min_length=1)
    """The rows of the report."""
    gap: list[Literal["a1", "tract"]]
    """Table 3: rows whose error on the training examples is measured."""
    curve: list[Name]
    """Figure 3: trained rows that get `curve.num_samples` CoTs."""
    curve_external: list[Protocol]
    """Figure 3: protocols of the external judge that get them too."""
    perplexity: list[Literal["perplexity"]]
    meta_judge: list[Literal["meta_judge"]]
    robustness: list[Name]
    """Trained rows that are attacked (tract_core/studies/attacks.py)."""
    stage1: list[Name]
    sequential: list[Name]
    stage2: list[Name]
    on_a1: list[Name]
    on_b2: list[Name]
    on_tract: list[Name]
    real: list[Round]
    writers: list[Literal["a1", "b2", "tract"]]
    """Rows whose models write a CoT for each training example."""
    trained: list[Name]
    """Trained rows that judge the benchmarks."""
    cool: list[Name]
    """Trained rows that judge once more, with CoTs at `cool.temperature`: rows cool_ROW."""
    untrained: list[Literal["b3"]]
    external: list[Protocol]
    """Protocols of the external judge: rows b5_free, b5_forced, b5_expected."""

    def problems(self, rows: Mapping[str, Row]) -> list[str]:
        """What does not fit together, each as a message with the remedy."""
        found = [f"matrix.{name}: {listed(twice)} twice" for name, items in self if (twice := _repeated(items))]
        found += _problems_of_names(rows, [*self.scored, *self.robustness])
        if found := found + self._problems_of_studies(rows):
            return found
        expected = stage_lists(rows, self.scored, self.studies())
        found = _problems_of_sources(rows, expected)
        wrong = {name for name, items in expected.items() if not _same(getattr(self, name), items)}
        found += [f"matrix.{name}: must be {listed(expected[name])}; `make rows` writes it" for name in sorted(wrong)]
        return found

    def studies(self) -> dict[str, list[str]]:
        """The lists beside `scored` that are chosen."""
        return {name: list(getattr(self, name)) for name in STUDIES}

    def _problems_of_studies(self, rows: Mapping[str, Row]) -> list[str]:
        found = []
        if absent := set(self.curve) - (set(self.scored) & set(rows)):
            found.append(f"matrix.curve: {sorted(absent)} are no trained rows of matrix.scored")
        if absent := set(self.robustness) - set(rows):
            found.append(f"matrix.robustness: {sorted(absent)} are no trained rows")
        if absent := {f"{EXTERNAL}{name}" for name in self.curve_external} - set(self.scored):
            found.append(f"matrix.curve_external: needs {sorted(absent)} in matrix.scored")
        if self.perplexity and "tract" not in self.gap:
            found.append("matrix.gap: must hold tract, since matrix.perplexity reads its CoTs")
        return found


STUDIES = ("gap", "curve", "curve_external", "perplexity", "meta_judge", "robustness")


def stage_lists(
    rows: Mapping[str, Row], scored: Sequence[str], studies: Mapping[str, Sequence[str]]
) -> dict[str, list[Any]]:
    """The lists of stages that make the scored rows and the studies, and nothing else; they fit together.

    Args:
        rows: what each trained row is.
        scored: names of trained rows, `b3`, `b5_PROTOCOL` and `cool_ROW`.
        studies: the lists named in STUDIES.
    """
    trained = [name for name in scored if name in rows]
    cool = [name.removeprefix(COOL) for name in scored if name.startswith(COOL)]
    looks_at_own_cots = ["a1"] if studies["gap"] or studies["meta_judge"] else []
    needed = _with_sources(rows, [*trained, *cool, *studies["robustness"], *studies["gap"], *looks_at_own_cots])
    writers = {rows[name].writer for name in needed} | set(looks_at_own_cots)
    families: dict[str, list[str]] = {
        family: [name for name in rows if name in needed and rows[name].family == family] for family in FAMILIES
    }
    return {
        **families,
        "real": [Round(row=name, start=rows[name].start, anchor=_anchor(rows, name)) for name in families["real"]],
        "writers": [name for name in _WRITERS if name in writers],
        "trained": trained,
        "cool": cool,
        "untrained": [name for name in scored if name == UNTRAINED],
        "external": [name.removeprefix(EXTERNAL) for name in scored if name.startswith(EXTERNAL)],
    }


def matrix_of(rows: Mapping[str, Row], scored: Sequence[str], studies: Mapping[str, Sequence[str]]) -> Matrix:
    """The matrix of these rows and studies, with all that they need.

    Raises:
        UserError: a name is no row, or a study does not know it.
    """
    if problems := _problems_of_names(rows, [*scored, *studies["robustness"]]):
        raise UserError("; ".join(problems))
    lists = {study: list(names) for study, names in studies.items()}
    try:
        return Matrix.model_validate({"scored": list(scored), **lists, **stage_lists(rows, scored, studies)})
    except ValidationError as error:
        wrong = [
            f"matrix.{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r}" for one in error.errors()
        ]
        raise UserError("; ".join(wrong)) from None


def possible_studies(
    rows: Mapping[str, Row], scored: Sequence[str], studies: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """What of the studies can run beside the scored rows without another training."""
    lists = stage_lists(rows, scored, dict.fromkeys(STUDIES, ()))
    adapters = set(names_of(lists))
    own_cots = "a1" in lists["writers"]
    possible: dict[str, set[str]] = {
        "gap": adapters if own_cots else set(),
        "curve": set(lists["trained"]),
        "curve_external": set(lists["external"]),
        "perplexity": {"perplexity"} if "tract" in studies["gap"] and "tract" in adapters else set(),
        "meta_judge": {"meta_judge"} if own_cots else set(),
        "robustness": adapters,
    }
    return {study: [name for name in names if name in possible[study]] for study, names in studies.items()}


def swept(rows: Mapping[str, Row], names: Iterable[str]) -> dict[str, float]:
    """Row -> lambda of those that are row 6 with another lambda (Figure 2)."""
    return {name: lam for name in names if (lam := rows[name].lam) is not None and rows[name].objective == "cot_raft"}


def names_of(lists: Mapping[str, Sequence[Any]]) -> list[str]:
    """The rows that are trained, from the lists of stages."""
    rows = [item for family in FAMILIES for item in lists[family]]
    return [item.row if isinstance(item, Round) else item for item in rows]


def listed(items: Iterable[Any]) -> str:
    """A list of `matrix` as it stands in params.yaml."""
    return f"[{', '.join(map(_written, items))}]"


def _written(item: Any) -> str:
    if not isinstance(item, Round):
        return str(item)
    return f"{{{', '.join(f'{name}: {value}' for name, value in item)}}}"


def _same(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Whatever the order."""
    return sorted(map(_written, found)) == sorted(map(_written, expected))


def _anchor(rows: Mapping[str, Row], name: str) -> str:
    """Where the rounds up to this one began; its own name where they go in a circle."""
    seen = {name}
    while name in rows and rows[name].family == "real" and rows[name].start not in seen:
        name = rows[name].start
        seen.add(name)
    return name


def _with_sources(rows: Mapping[str, Row], names: Iterable[str]) -> set[str]:
    """These rows and all that must be trained before them, as far as they are defined."""
    found = {name for name in names if name in rows}
    while more := {source for name in found for source in rows[name].sources if source in rows} - found:
        found |= more
    return found


def _problems_of_names(rows: Mapping[str, Row], names: Iterable[str]) -> list[str]:
    others = [UNTRAINED, *(f"{EXTERNAL}{protocol}" for protocol in get_args(Protocol))]
    cool = [f"{COOL}{name}" for name, row in rows.items() if row.writes_cot]
    taken = [name for name in rows if name in others or name.startswith((COOL, EXTERNAL))]
    found = [f"rows.{name}: the name of a row that no stage trains; choose another one" for name in taken]
    if unknown := sorted(set(names) - {*rows, *others, *cool}):
        found.append(f"matrix: {unknown} are no rows; there are {', '.join([*rows, *others])} and cool_ROW with CoTs")
    return found


def _problems_of_sources(rows: Mapping[str, Row], expected: Mapping[str, Sequence[Any]]) -> list[str]:
    """a1 and b2 must write CoTs and be trained in stage 1 where other rows learn from them; rounds need a start."""
    trained = [name for name in names_of(expected) if rows[name].family != "real"]
    needed = {source for name in trained for source in rows[name].sources}
    return [*_problems_of_rounds(rows, expected["real"])] + [
        f"rows.{name}: must be there, learn from {_WRITERS[name][1]}'s CoTs and start from p_0, since listed rows "
        "build on it"
        for name in sorted(needed | set(expected["writers"]))
        if name not in rows or rows[name].family != _WRITERS[name][0] or not rows[name].writes_cot
    ]


def _problems_of_rounds(rows: Mapping[str, Row], rounds: Sequence[Round]) -> Iterator[str]:
    for one in rounds:
        if one.start not in rows or not rows[one.start].writes_cot:
            yield f"rows.{one.row}.start: {one.start} is no trained row that writes CoTs"
        elif one.anchor in rows and rows[one.anchor].family == "real":
            yield f"rows.{one.row}.start: {one.start} goes back to itself, and no round is the first"


def _repeated(items: Sequence[Any]) -> list[Any]:
    return [item for place, item in enumerate(items) if item in items[:place]]
