"""The page: all tables and figures in one HTML file that loads nothing and runs one script, its own."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from tract_core.report import browser, comparison, figures, paper, tables
from tract_core.report.browser import Shown
from tract_core.report.cells import METRICS, Key, Numbers, Table, finite, index, interval, show
from tract_core.report.figures import Panel
from tract_core.score.paper_lines import LINES, MEAN

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page is made from."""

    statistics: Mapping[str, Any]
    """Content of artifacts/statistics.json."""
    params: Mapping[str, Any]
    """All resolved settings, nested as in params.yaml."""
    traces: Mapping[str, Sequence[Mapping[str, Any]]]
    """Model -> one mapping for each training seed: `seed`, `predictions_sha` and `adapter_sha` (hashes of
    manifests; null where there is none, as for an untrained judge)."""
    shown: Sequence[Shown]
    differences: str
    """docs/differences.md."""
    title: str
    predictions_root: str = "artifacts/predictions"
    """Folder of the predictions, for the traces."""


@dataclass(frozen=True, kw_only=True)
class _Section:
    id: str
    title: str
    intro: str = ""
    tables: Sequence[Table] = ()
    panels: Sequence[Panel] = ()
    folded: Sequence[Table] = ()
    """Tables behind a `details` element."""
    examples: Sequence[tuple[str, Mapping[str, Any]]] = field(default=())
    """(where, example) of broken CoTs."""


def render(findings: Report) -> str:
    """The whole page as HTML, without any reference to another file or host.

    The same findings give the same text. Every text from data is escaped; a content security policy allows
    no script but the page's own.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = index(findings.statistics, findings.traces, findings.predictions_root)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    scale = findings.params.get("scale") or {}
    values = scale.get("values") or []
    text = environment.get_template("page.html.j2").render(
        title=findings.title,
        summary=_summary(findings, numbers),
        sections=_sections(findings, numbers),
        samples=browser.embed(findings.shown, values, scale.get("labels") or [f"{value:g}" for value in values]),
        has_samples=bool(findings.shown),
        traces=findings.traces,
        predictions_root=findings.predictions_root,
        settings=tables.settings(findings.params),
        differences=_markdown(findings.differences),
        # Both are ours; the page's policy names the script by its hash.
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        inline_svg=lambda panel: Markup(figures.inline_svg(panel)),
    )
    # A lone surrogate in some text would make the page unwritable.
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _sections(findings: Report, numbers: Numbers) -> list[_Section]:
    statistics = findings.statistics
    drawn = {panel.name: panel for panel in figures.panels(statistics)}
    seed_model = _seed_model(findings)
    compared = [
        comparison.comparison(numbers, table, seed_model, statistics["settings"])
        for table in paper.comparison_tables(seed_model)
    ]
    mean, *by_bench = tables.differences(statistics)
    errors, *errors_by_bench = tables.other_metrics(numbers)
    sweep = sorted(statistics.get("figure2") or [], key=lambda e: (e["lambda"], e["bench"], e["metric"]))
    return [
        _Section(id="tables", title=_title_of(seed_model), intro=_COMPARED, tables=compared),
        _Section(
            id="differences",
            title="Differences against line 6",
            intro="Which lines can be told from TRACT, and by how much.",
            tables=[mean],
            folded=by_bench,
            panels=[drawn["differences_pearson"], drawn["differences_rmse"]],
        ),
        _Section(id="errors", title="Other metrics", tables=[errors], folded=errors_by_bench),
        _Section(id="predictors", title="Models and predictors", tables=[tables.cross(numbers)]),
        _Section(
            id="lambda",
            title="Lambda (Figure 2)",
            intro="The weight of the squared error in stage 2.",
            panels=[drawn["figure2_pearson"], drawn["figure2_rmse"]],
            folded=[tables.figure_numbers(sweep, _FIGURE_2, id="figure-2-numbers", caption="Figure 2 in numbers")],
        ),
        _Section(
            id="samples-k",
            title="Number of CoTs (Figure 3)",
            intro="The score is averaged over K CoTs; the shade is one standard deviation over inference seeds.",
            panels=[drawn["figure3_k"], drawn["figure3_tokens"]],
            folded=[
                tables.figure_numbers(
                    statistics.get("figure3") or [], _FIGURE_3, id="figure-3-numbers", caption="Figure 3 in numbers"
                )
            ],
        ),
        _Section(id="gap", title="Training CoTs and own CoTs (Table 3)", tables=[tables.table3(statistics)]),
        _Section(
            id="cots",
            title="Quality of the CoTs",
            tables=[tables.perplexity(statistics), tables.meta_judge(statistics), tables.corruption(statistics)],
            examples=_broken(statistics),
        ),
        _Section(
            id="attacks",
            title="Attacks",
            intro="What somebody may write into a response to get a better score (docs/reliability.md).",
            tables=tables.robustness(statistics),
        ),
        _Section(id="ceiling", title="Ceiling", tables=[tables.ceiling(statistics)]),
    ]


_COMPARED = (
    "Each column of a benchmark has our number, the paper's, and that of the run which the paper's authors published. "
    "Click or tap a number of ours to see where it is from."
)
_FIGURE_2 = ("lambda", "row", "bench", "metric", "value", "low", "high", "sd_training")
_FIGURE_3 = ("line", "k", "value", "sd", "tokens", "n_seeds")


def _title_of(seed_model: str) -> str:
    return "Tables 7 and 8" if paper.family(seed_model) == "llama" else "Tables 2 and 6"


def _seed_model(findings: Report) -> str:
    return str((findings.params.get("model") or {}).get("source", "not recorded"))


def _summary(findings: Report, numbers: Numbers) -> list[str]:
    """What a reader should know first, one sentence each."""
    settings = findings.statistics["settings"]
    absent = [line.label for line in LINES if line.row not in numbers.rows]
    sentences = [
        f"Seed model {_seed_model(findings)}; benchmarks {', '.join(settings['benches'])}; "
        f"training seeds {_list(settings['seeds'])}; inference seeds {_list(settings['infer_seeds'])}; "
        f"K = {settings['num_samples']}.",
        *(_headline(numbers, metric) for metric in ("pearson", "rmse")),
        *_how_sure(numbers),
        _told_apart(findings.statistics),
        *_external(findings, numbers),
    ]
    return [*sentences, f"Lines without a model in this run: {'; '.join(absent)}."] if absent else sentences


def _headline(numbers: Numbers, metric: str) -> str:
    entry = numbers.entries.get(Key("tract", MEAN, "rail", metric), {})
    if finite(entry.get("value")) is None:
        return f"TRACT (line 6) has no mean {METRICS[metric]}: {entry.get('reason') or 'it is not in this run'}."
    limits = f" ({interval(entry)})" if interval(entry) else ""
    return f"TRACT (line 6): mean {METRICS[metric]} {show(entry['value'])}{limits}, n = {entry.get('n')}."


def _how_sure(numbers: Numbers) -> list[str]:
    """What a correlation on the smallest benchmark can be worth at most: its standard error near 0."""
    entries = [numbers.entries.get(Key("tract", bench, "rail", "pearson"), {}) for bench in numbers.benches]
    sizes = [int(entry["n"]) for entry in entries if finite(entry.get("n")) is not None and entry["n"] > 1]
    if not sizes:
        return []
    error = 1 / math.sqrt(min(sizes) - 1)
    return [
        f"On the smallest benchmark, {min(sizes)} rows, a correlation near 0 has a standard error of {error:.2f}, "
        "and a larger one where rows share a task."
    ]


def _told_apart(statistics: Mapping[str, Any]) -> str:
    entries = [e for e in statistics.get("differences") or [] if e["bench"] == MEAN and e["metric"] == "pearson"]
    tested = [e for e in entries if finite(e.get("p_corrected")) is not None]
    if not tested:
        return "No other line was compared with it."
    threshold = 1 - statistics["settings"]["level"]
    found = [e["line"] for e in tested if e["p_corrected"] < threshold]
    named = f": {'; '.join(found)}" if found else ""
    return (
        f"In mean Pearson r, {len(found)} of {len(tested)} other lines differ from it at a corrected p "
        f"below {threshold:.2g}{named}."
    )


def _external(findings: Report, numbers: Numbers) -> list[str]:
    """Who judged in the lines B.5: any model can stand there."""
    model = (findings.params.get("external") or {}).get("model") or {}
    if not any(row.startswith("b5_") for row in numbers.rows):
        return []
    source = model.get("source", "not recorded")
    return [f"The external judge of the lines B.5 is {source}; the paper's is Prometheus-2-7B."]


def _broken(statistics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    entries = statistics.get("corruption") or []
    return [(entry["where"], example) for entry in entries for example in entry.get("examples") or []]


def _list(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _markdown(text: str) -> Markup:
    """A Markdown file of ours as HTML; raw HTML in it is shown as text, and its headings fit into the page."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type.startswith("heading_"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
    html = parser.renderer.render(tokens, parser.options, {})
    box = '<div class="scroll" role="region" tabindex="0" aria-label="differences"><table class="prose">'
    return Markup(html.replace("<table>", box).replace("</table>", "</table></div>"))
