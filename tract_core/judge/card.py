"""The model card of an exported judge: what it is, how to read its scores, what it is worth, and what it is not for."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from tract_core.base import places, tables
from tract_core.base.errors import UserError
from tract_core.base.tables import Record
from tract_core.calibrate.calibration import Calibration, describe
from tract_core.judge.folder import Settings

_SHOWN = {"pearson": "Pearson's r", "spearman": "Spearman's rho", "kendall": "Kendall's tau-b", "rmse": "RMSE"}
_TEXT = """# {title}

A judge that reads an instruction, a response and a rubric, and gives the response a score {scale}. It is row `{row}` of
a run of TRACT (regression-aware fine-tuning, [arXiv:2503.04381](https://arxiv.org/abs/2503.04381)): {kind}.

## How to read its scores

The score is not the digit that it writes but the expectation under the probabilities of all digits. `judge.json` has
what that needs: draw a chain of thought (`sampling`; it ends at `{delimiter}` or at a token of `tokens.stop_ids`),
append `tokens.delimiter_ids`, and take from the softmax over the whole vocabulary at the next place the probabilities
of `tokens.label_ids`. `example` holds one such context and its probabilities: what you build should give the same.
{several}{ways}
## What it is worth

{metrics}

{meaning}
## Where it comes from

| | |
|---|---|
| base | `{base}` |
| name, which stands for base and adapter | `{name}` |
| examples it learnt from, sha256 | `{examples}` |
| chains of thought it learnt from, sha256 | `{cots}` |
| training | {training} |
| merged against adapter | {fidelity} |
| versions | {versions} |

## What it is for

To rate responses of the kind that it was trained on, many at a time: to compare systems, to find the worst replies
first, as a reward in training. Each score comes with a distribution; a wide one, or a label mass below .95, asks for a
person.

## Limits

- It was trained and measured on the rows named above. On other questions, rubrics, languages or lengths its scores may
  be worth less, or nothing: compare it with people on some rows of yours before you rely on it.
- It judges text that somebody else wrote, and such text can try to talk it into a score.
- Do not let it decide alone about people.
- Licence: {licence}
"""
_MEANING = "## What its scores mean"
_NO_LICENCE = """that of the base model, and what the training data allow. This card cannot know them; put them in
  before you publish the judge."""
_SEVERAL = """
A score of several tokens has the product of its tokens' probabilities, each behind the tokens before it, times the
probability that no token behind the last one continues it to another score.
"""
_MERGED = """
    from vllm import LLM                                  # or: vllm serve FOLDER --served-model-name {name} \\
                                                          #       --hf-overrides '{{"head_dtype": "float32"}}'
    from transformers import AutoModelForCausalLM         # .from_pretrained("FOLDER")
"""
_ADAPTER = """
    from peft import AutoPeftModelForCausalLM             # .from_pretrained("FOLDER") opens base and adapter
"""


def text(
    settings: Settings, adapter: Path, origin: Mapping[str, Any], *, level: float, licence: str | None = None
) -> str:
    """README.md: the card's data as YAML, then its text.

    Args:
        settings: judge.json.
        adapter: artifacts/adapters/ROW/seed_N; metrics of its row are shown where `dvc repro` made them.
        origin: what the adapter's manifest says.
        level: probability inside of those metrics' intervals.
        licence: as in apache-2.0; None: the card says that somebody must put it in.
    """
    cells = _cells(adapter)
    fidelity = settings.merged_against_adapter
    values, data, train = settings.scale.values, origin.get("data", {}), origin.get("train", {})
    body = _TEXT.format(
        title=settings.title,
        scale=f"from {values[0]} to {values[-1]}",
        row=settings.row,
        kind="the whole model" if settings.merged else f"a LoRA adapter of `{settings.model.source}`",
        delimiter=settings.prompt.delimiter.strip(),
        several="" if all(isinstance(one, int) for one in settings.tokens.label_ids) else _SEVERAL,
        ways=(_MERGED if settings.merged else _ADAPTER).format(name=settings.name),
        metrics="\n".join(_metrics(cells, level)),
        meaning=_meaning(settings.calibration),
        base=settings.base,
        name=settings.name,
        examples=data.get("examples", "unknown"),
        cots=data.get("cots", "none"),
        training=", ".join(f"{key} {train[key]}" for key in ("epochs", "batch_size", "learning_rate") if key in train)
        or "unknown",
        fidelity="not merged"
        if fidelity is None
        else f"expected scores differ by {fidelity.mean:.2g} on average, at most {fidelity.largest:.2g}, "
        f"over {fidelity.contexts} contexts",
        licence=f"`{licence}`." if licence else _NO_LICENCE,
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "torch", "peft")),
    )
    return f"---\n{_data(settings, cells, licence).to_yaml()}\n---\n\n{body}"


def with_calibration(card: str, calibration: Calibration) -> str:
    """A card, as people may have edited it, with what `tract calibrate` found in place of what stood there."""
    before, heading, rest = card.partition(_MEANING)
    if not heading:  # of an older version, or somebody took the section out
        return f"{card.rstrip()}\n\n{_meaning(calibration)}"
    _, following, after = rest.partition("\n## ")
    return f"{before}{_meaning(calibration)}{following}{after}"


def _meaning(calibration: Calibration | None) -> str:
    if calibration is None:
        return f"{_MEANING}\n\nThey are not calibrated: `tract calibrate` compares them with rows that people rated.\n"
    before, after = calibration.before, calibration.after
    return (
        f"{_MEANING}\n\n`calibrated_score` stands for the score that people give on average:\n"
        f"{describe(calibration.map)}, from {calibration.rows} rated rows of {calibration.tasks} tasks, K = "
        f"{calibration.num_samples}. On tasks that this was not fitted to:\nRMSE {before.rmse:.3f} before, "
        f"{after.rmse:.3f} after; expected calibration error {before.ece:.3f} before, {after.ece:.3f} after.\n"
    )


def _data(settings: Settings, cells: list[Record], licence: str | None) -> ModelCardData:
    hub = settings.base.startswith("hub:")
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=cell["bench"],
            dataset_name=cell["bench"],
            metric_type=cell["metric"],
            metric_value=cell["value"],
        )
        for cell in cells
        if cell["value"] is not None
    ]
    return ModelCardData(
        license=licence,
        library_name="transformers" if settings.merged else "peft",
        base_model=settings.model.source if hub else None,
        base_model_relation=("merge" if settings.merged else "adapter") if hub else None,
        tags=["llm-as-a-judge", "regression", "arxiv:2503.04381"],
        pipeline_tag="text-generation",
        model_name=settings.name,
        eval_results=results or None,
    )


def _cells(adapter: Path) -> list[Record]:
    """The row's agreement with gold by the expected score, from statistics.json; none where that is missing."""
    try:
        found = tables.read_json(places.STATISTICS)["cells"]
    except UserError:
        return []
    row = adapter.parent.name
    return [
        cell
        for cell in found
        if cell["row"] == row and cell["predictor"] == "rail" and cell["metric"] in _SHOWN and cell["bench"] != "mean"
    ]


def _metrics(cells: list[Record], level: float) -> Iterator[str]:
    if not cells:
        yield "Not measured: no benchmark of this row was judged before the export."
        return
    yield "By the expected score; intervals over tasks, for these trainings (all seeds of the row)."
    yield ""
    yield f"| benchmark | measure | value | {100 * level:g} % interval | rows |"
    yield "|---|---|---|---|---|"
    for cell in cells:
        value = "undefined" if cell["value"] is None else f"{cell['value']:.3f}"
        limits = "" if cell["low"] is None else f"{cell['low']:.3f} to {cell['high']:.3f}"
        yield f"| {cell['bench']} | {_SHOWN[cell['metric']]} | {value} | {limits} | {cell['n']} |"
