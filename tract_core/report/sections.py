"""The page's sections in their order: about the user's judge, then, where its rows ran, the paper's tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tract_core.base.rows import UNTRAINED
from tract_core.report import comparison, judge, judge_figures, loss, meaning, paper, paper_figures, rounds, tables
from tract_core.report.cells import Numbers, Table, finite
from tract_core.report.figures import Panel
from tract_core.score.paper_lines import LINES, MEAN


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page. What is empty in it is not shown, and one that holds nothing disappears."""

    id: str
    title: str
    intro: str = ""
    says: str = ""
    """More sentences, which are shown even alone."""
    tables: Sequence[Table] = ()
    panels: Sequence[Panel] = ()
    folded: Sequence[Table] = ()
    """Tables behind a `details` element."""
    examples: Sequence[tuple[str, Mapping[str, Any]]] = field(default=())
    """(where, example) of broken CoTs."""

    @property
    def has_content(self) -> bool:
        """Whether there is anything to show in it."""
        return bool(self.tables or self.panels or self.folded or self.examples or self.says)


def of_numbers(numbers: Numbers, statistics: Mapping[str, Any]) -> list[Section]:
    """The judge beside the baselines and the other rows."""
    found = judge.tables(numbers, statistics)
    return _shown(
        Section(
            id="numbers",
            title="The judge in numbers",
            intro=judge.without_numbers(numbers, statistics),
            tables=found.beside,
            folded=found.others,
        )
    )


def of_judge(
    numbers: Numbers,
    statistics: Mapping[str, Any],
    points: judge_figures.Points,
    logs: loss.Logs,
    found: meaning.Meaning,
    values_Y: Sequence[float],
) -> list[Section]:
    """Figures, what a score means, further metrics, CoTs, the annotators' agreement and attacks."""
    cots = [tables.corruption(statistics), tables.perplexity(statistics), tables.meta_judge(statistics)]
    return _shown(
        Section(
            id="figures",
            title="The judge in figures",
            intro="Gold beside the expected score, the mean over all seeds and CoTs.",
            panels=judge_figures.panels(points, values_Y),
            folded=judge_figures.in_numbers(points, values_Y),
        ),
        Section(
            id="meaning",
            title="What a score means",
            intro=meaning.INTRO if meaning.panels(found, values_Y) else "",
            says=meaning.caution(found),
            tables=meaning.in_tables(found),
            panels=meaning.panels(found, values_Y),
            folded=meaning.in_numbers(found),
        ),
        Section(id="training", title="Training", says=loss.ending(logs, statistics), panels=loss.panels(logs)),
        Section(
            id="rounds",
            title="Rounds of reinforcement learning",
            intro=rounds.INTRO,
            tables=[rounds.table(statistics.get("rounds") or [])],
            panels=rounds.panels(statistics.get("rounds") or []),
        ),
        Section(id="cots", title="Quality of the CoTs", tables=cots, examples=_broken(statistics)),
        Section(id="ceiling", title="Ceiling", tables=[tables.ceiling(statistics)]),
        Section(
            id="errors",
            title="Other metrics and predictors",
            folded=[*tables.other_metrics(numbers), tables.cross(numbers)],
        ),
        Section(
            id="looking",
            title="Is the judge looking?",
            intro="A judge should move when what it judges changes (docs/reliability.md).",
            says=_said(statistics),
            tables=[tables.length(statistics), *tables.looking(statistics)],
        ),
        Section(
            id="attacks",
            title="Attacks",
            intro="What somebody may write into a response to get a better score (docs/reliability.md).",
            says=_no_praise(statistics),
            tables=tables.robustness(statistics),
        ),
    )


def of_paper(numbers: Numbers, statistics: Mapping[str, Any], params: Mapping[str, Any]) -> list[Section]:
    """The paper's tables and figures; none where no row but the judge and the untrained model has numbers."""
    own = (statistics["judge"] or {}).get("row")
    if not numbers.rows - {own, UNTRAINED}:
        return []
    model = seed_model(params)
    drawn = {panel.name: panel for panel in paper_figures.panels(statistics)}
    compared = [
        comparison.comparison(numbers, table, model, statistics["settings"]) for table in paper.comparison_tables(model)
    ]
    title = "Tables 7 and 8" if paper.family(model) == "llama" else "Tables 2 and 6"
    intro = " ".join([_COMPARED, *_external(numbers, params), *_absent(numbers)])
    differences = tables.differences(statistics)
    return _shown(
        Section(id="tables", title=title, intro=intro, tables=compared),
        Section(
            id="differences",
            title="Differences against line 6",
            intro=_told_apart(statistics),
            tables=differences[:1],
            folded=differences[1:] if len(numbers.benches) > 1 else (),
            panels=_chosen(drawn, "differences_pearson", "differences_rmse"),
        ),
        *_figures(statistics, drawn),
        Section(id="gap", title="Training CoTs and own CoTs (Table 3)", tables=[tables.table3(statistics)]),
    )


def seed_model(params: Mapping[str, Any]) -> str:
    """Where the seed model is from."""
    return str((params.get("model") or {}).get("source", "not recorded"))


_COMPARED = (
    "Each column of a benchmark has our number, the paper's, and that of the run which the paper's authors published. "
    "Click or tap a number of ours to see where it is from."
)
_FIGURE_2 = ("lambda", "row", "bench", "metric", "value", "low", "high", "sd_training")
_FIGURE_3 = ("line", "k", "value", "sd", "tokens", "n_seeds")


def _figures(statistics: Mapping[str, Any], drawn: Mapping[str, Panel]) -> list[Section]:
    """Figures 2 and 3 with their numbers; the numbers of a figure that is not drawn are left out, too."""
    two, three = _chosen(drawn, "figure2_pearson", "figure2_rmse"), _chosen(drawn, "figure3_k", "figure3_tokens")
    sweep = sorted(statistics.get("figure2") or [], key=lambda e: (e["lambda"], e["bench"], e["metric"]))
    curve = statistics.get("figure3") or []
    in_numbers = [
        tables.figure_numbers(points, fields, id=f"figure-{number}-numbers", caption=f"Figure {number} in numbers")
        for number, points, fields in ((2, sweep if two else [], _FIGURE_2), (3, curve if three else [], _FIGURE_3))
    ]
    return [
        Section(
            id="lambda",
            title="Lambda (Figure 2)",
            intro="The weight of the squared error in stage 2.",
            panels=two,
            folded=in_numbers[:1],
        ),
        Section(
            id="samples-k",
            title="Number of CoTs (Figure 3)",
            intro="The score is averaged over K CoTs; the shade is one standard deviation over inference seeds.",
            panels=three,
            folded=in_numbers[1:],
        ),
    ]


def _shown(*sections: Section) -> list[Section]:
    """Without tables that have no rows, and without sections that then hold nothing."""
    filled = [
        replace(
            section,
            tables=[table for table in section.tables if table.rows],
            folded=[table for table in section.folded if table.rows],
        )
        for section in sections
    ]
    return [section for section in filled if section.has_content]


def _chosen(drawn: Mapping[str, Panel], *names: str) -> list[Panel]:
    return [drawn[name] for name in names if name in drawn]


def _absent(numbers: Numbers) -> list[str]:
    absent = [line.label for line in LINES if line.row not in numbers.rows]
    return [f"Lines that did not run: {'; '.join(absent)}."] if absent else []


def _told_apart(statistics: Mapping[str, Any]) -> str:
    entries = [e for e in statistics.get("differences") or [] if e["bench"] == MEAN and e["metric"] == "pearson"]
    tested = [e for e in entries if finite(e.get("p_corrected")) is not None]
    if not tested:
        return "No other line was compared with line 6."
    threshold = 1 - statistics["settings"]["level"]
    found = [e["line"] for e in tested if e["p_corrected"] < threshold]
    named = f": {'; '.join(found)}" if found else ""
    return (
        f"In mean Pearson r, {len(found)} of {len(tested)} other lines differ from line 6 at a corrected p "
        f"below {threshold:.2g}{named}."
    )


def _external(numbers: Numbers, params: Mapping[str, Any]) -> list[str]:
    """Who judged in the lines B.5: any model can stand there."""
    external = params.get("external") or {}
    endpoint, model = external.get("endpoint"), external.get("model") or {}
    if not any(row.startswith("b5_") for row in numbers.rows):
        return []
    at = f"{endpoint['model']} at {endpoint['base_url']}" if endpoint else None
    source = at or model.get("source", "not recorded")
    return [f"The external judge of the lines B.5 is {source}; the paper's is Prometheus-2-7B."]


def _said(statistics: Mapping[str, Any]) -> str:
    """Of each attacked row whether it reads the response and the rubric."""
    found = statistics.get("looking") or {}
    return " ".join(f"{row}: {' '.join(one['sentences'])}" for row, one in found.items())


def _no_praise(statistics: Mapping[str, Any]) -> str:
    blind = [row for row, one in (statistics.get("looking") or {}).items() if one["ignores_response"]]
    return f"{', '.join(blind)}: no attack can move a judge that ignores the response." if blind else ""


def _broken(statistics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    entries = statistics.get("corruption") or []
    return [(entry["where"], example) for entry in entries for example in entry.get("examples") or []]
