"""The page: about the user's judge first, in one HTML file that loads nothing and runs one script, its own."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from tract_core.report import browser, figures, judge_figures, loss, meaning, sections, tables
from tract_core.report.browser import Selection
from tract_core.report.cells import index
from tract_core.report.figures import Panel
from tract_core.report.sections import Section

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
    selection: Selection
    """The examples of the browser."""
    points: judge_figures.Points
    """Gold and expected score of each example, as the judge judged it."""
    logs: loss.Logs
    """Of the trainings behind the judge."""
    meaning: meaning.Meaning
    """Benchmark -> what stage `calibrate` says of the judge there; empty where it is no judge of ours."""
    differences: str
    """docs/differences.md."""
    title: str
    predictions_root: str = "artifacts/predictions"
    """Folder of the predictions, for the traces."""


class _Verdict(NamedTuple):
    """The headline: a sign and words, so that it does not hang on the colour."""

    kind: str
    sign: str
    answer: str
    sentences: Sequence[str]


_ANSWERS = {
    True: ("yes", "✓", "Yes: the judge beats a constant answer."),
    False: ("no", "✗", "No: the judge does not beat a constant answer."),
    None: ("open", "?", "Open: this run does not show whether the judge beats a constant answer."),
}


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
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    text = environment.get_template("page.html.j2").render(
        title=findings.title,
        verdict=_verdict(findings.statistics),
        settings_line=_settings_line(findings),
        parts=_Parts.of(findings),
        samples=_samples(findings),
        selection=findings.selection,
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


def panels(findings: Report) -> list[Panel]:
    """The figures of the page, in its order."""
    parts = _Parts.of(findings)
    return [panel for section in (*parts.judge, *parts.paper) for panel in section.panels]


class _Parts(NamedTuple):
    """The sections before the browser, behind it, and behind the settings."""

    numbers: list[Section]
    judge: list[Section]
    paper: list[Section]

    @classmethod
    def of(cls, findings: Report) -> "_Parts":
        statistics = findings.statistics
        numbers = index(statistics, findings.traces, findings.predictions_root)
        return cls(
            numbers=sections.of_numbers(numbers, statistics),
            judge=sections.of_judge(
                numbers, statistics, findings.points, findings.logs, findings.meaning, _values(findings)
            ),
            paper=sections.of_paper(numbers, statistics, findings.params),
        )


def _verdict(statistics: Mapping[str, Any]) -> _Verdict:
    found = statistics["verdict"]
    return _Verdict(*_ANSWERS[found["beats_constant"]], found["sentences"])


def _values(findings: Report) -> Sequence[float]:
    return (findings.params.get("scale") or {}).get("values") or []


def _samples(findings: Report) -> Markup:
    values = _values(findings)
    labels = (findings.params.get("scale") or {}).get("labels") or [f"{value:g}" for value in values]
    return browser.embed(findings.selection, values, labels)


def _settings_line(findings: Report) -> str:
    """What was run, in one sentence."""
    settings = findings.statistics["settings"]
    return (
        f"Seed model {sections.seed_model(findings.params)}; benchmarks {', '.join(settings['benches'])}; "
        f"training seeds {_list(settings['seeds'])}; inference seeds {_list(settings['infer_seeds'])}; "
        f"K = {settings['num_samples']}."
    )


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
