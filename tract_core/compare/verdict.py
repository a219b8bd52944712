"""What the numbers say of a judge, in a few plain sentences: for the terminal and the top of the report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tract_core.base.tables import Record
from tract_core.score.paper_lines import MEAN

FEW_TASKS = 10
"""With fewer, an interval over tasks is a rough one (docs/rows.md)."""
LITTLE = 0.1
"""Below this part of gold's standard deviation scores hardly vary: of all judges whose r is 0.1, the one with the least
squared error varies so much, so a judge that varies less does not itself claim to know more.
"""
_ADVICE = (
    "What to try: loss.ce_on_score: true if the log of training warns of a collapse; a higher or lower "
    "train.learning_rate; more rated examples, above all of the levels that it confuses; one rubric instead of many; "
    "prompt.source: brief for a small model, or a larger model. The report shows the worst errors first."
)
_NAMES = {
    "constant": "always answering {constant:.2g}",
    "length": "the length of the response alone",
    "words": "a bag of the response's words",
    "b3": "the untrained model",
}


class _Seen(NamedTuple):
    """One statistic of one predictor."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None

    @classmethod
    def of(cls, entry: Mapping[str, Any] | None) -> "_Seen":
        return cls(*((entry or {}).get(name) for name in cls._fields))

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined ({self.reason})"
        limits = "" if self.low is None or self.high is None else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.value:.2f}{limits}"


def of(judge: Mapping[str, Any] | None, cells: Sequence[Record]) -> dict[str, Any]:
    """`beats_constant` (null: cannot be said) and `sentences`, the most important one first.

    Args:
        judge: `judge` of statistics.json; None where no row is complete.
        cells: `cells` of statistics.json.
    """
    if judge is None:
        return {"beats_constant": None, "sentences": ["No row has all its predictions yet: run `dvc repro`."]}
    found = _Numbers(judge, cells)
    beats = found.is_better_than("constant")
    sentences = [found.against_constant(), found.how_good(), *found.others(), *found.warnings()]
    return {"beats_constant": beats, "sentences": [*sentences, *([] if beats else [_ADVICE])]}


class _Numbers:
    """r and RMSE of the judge and of what it is compared with: on its only benchmark, or in the mean over several."""

    def __init__(self, judge: Mapping[str, Any], cells: Sequence[Record]) -> None:
        self._judge, self._sizes = judge, judge["benches"]
        bench = MEAN if len(self._sizes) > 1 else self._sizes[0]["bench"]
        rows = [*judge["baselines"], *(c for c in cells if c["predictor"] in ("rail", judge["predictor"]))]
        self._cells = {(c["row"], c["metric"]): c for c in rows if c["bench"] == bench}
        own = [c for c in cells if (c["row"], c["predictor"]) == (judge["row"], judge["predictor"])]
        self._cells |= {(c["row"], c["metric"]): c for c in own if c["bench"] == bench}
        self._sds = {c["bench"]: c["value"] for c in own if c["metric"] == "predicted_sd"}
        self._against = {(d["baseline"], d["metric"]): d for d in judge["against"] if d["bench"] == bench}

    def is_better_than(self, name: str) -> bool | None:
        """Whether the interval of the difference in RMSE lies below 0; None where it holds 0 or there is none."""
        difference = _Seen.of(self._against.get((name, "rmse")))
        if difference.low is None or difference.high is None:
            return None
        return True if difference.high < 0 else False if difference.low > 0 or (difference.value or 0) >= 0 else None

    def against_constant(self) -> str:
        row, better = self._judge["row"], self.is_better_than("constant")
        verdict = {True: "beats", False: "does not beat", None: "cannot be told from"}[better]
        name = self._name("constant")
        return f"The judge ({row}) {verdict} {name}: RMSE {self._rmse(row)} against {self._rmse('constant')}."

    def how_good(self) -> str:
        n, tasks = (sum(size[name] for size in self._sizes) for name in ("n", "num_tasks"))
        cots, bad = (sum(size[name] for size in self._sizes) for name in ("num_cots", "num_bad_cots"))
        mean = "" if len(self._sizes) == 1 else f", mean over {len(self._sizes)} benchmarks"
        r = _Seen.of(self._cells.get((self._judge["row"], "pearson")))
        return f"Its Pearson r is {r} on {n} examples of {tasks} tasks{mean}; {bad} of {cots} CoTs are bad."

    def others(self) -> Iterator[str]:
        for name in ("b3", "words", "length"):
            if (name, "rmse") in self._against:
                verdict = {True: "better", False: "not better", None: "not clearly better"}[self.is_better_than(name)]
                r = _Seen.of(self._cells.get((name, "pearson")))._replace(low=None, high=None)
                yield f"It is {verdict} than {self._name(name)}: RMSE {self._rmse(name)}, r {r}."

    def warnings(self) -> Iterator[str]:
        for size in self._sizes:
            sd, place = self._sds.get(size["bench"]), f" on {size['bench']}" if len(self._sizes) > 1 else ""
            if sd is not None and sd < LITTLE * size["gold_sd"]:
                spread = f"standard deviation {sd:.2g}, that of gold {size['gold_sd']:.2g}"
                yield f"Its scores hardly vary{place} ({spread}), so r says little."
        few = [size["bench"] for size in self._sizes if size["num_tasks"] < FEW_TASKS]
        if few:
            yield f"Fewer than {FEW_TASKS} tasks ({', '.join(few)}): the intervals are rough ones."

    def _name(self, name: str) -> str:
        return _NAMES[name].format(constant=self._judge["constant"])

    def _rmse(self, row: str) -> str:
        return str(_Seen.of(self._cells.get((row, "rmse")))._replace(low=None, high=None))
