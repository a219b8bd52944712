"""Part d of `bench/gpu.sh --bare`: rows B.4, A.1, 6 and B.2 on real judge prompts, without DVC and vLLM.

    python -m bench.bare_rows --data FOLDER --work FOLDER [--smoke]

SmolLM2-135M learns from GPT-4's feedback in prometheus-eval's files (those of FILES that are in the folder); 20 % of
the tasks are held out, and there are three training seeds. After each row r and RMSE of all rows so far are written,
with intervals over tasks. B.4 is first: where its r is below .2 the others are not trained. Adapters, CoTs and
predictions lie below `--work`, and a second call takes what is there. `--smoke`: few rows, one seed; no number counts.
"""

import argparse
import contextlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import measuring
from pipeline import preset
from tract_core.base import config, places, tables
from tract_core.base.config import Params
from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale
from tract_core.compare import results
from tract_core.data import checks, prepare
from tract_core.generate import generation, generators
from tract_core.model import loading
from tract_core.score import collecting
from tract_core.score.paper_lines import LINES
from tract_core.text import examples
from tract_core.train import recipes

FILES = ("vicuna_eval.json", "mt_bench_eval.json")
ROWS = {line.row: line for label in ("B.4", "A.1", "6", "B.2") for line in LINES if line.label == label}
BENCH, LEAST_R = "heldout", 0.2
NUM_ROWS = 480
"""To train on: four rows with three seeds shall fit two or three calls of ten minutes. A guess, no measurement."""
_HELDOUT = places.BENCHMARKS / BENCH


def parameters(*, smoke: bool) -> Params:
    """Preset `vicuna` with more rows; batch, rate (both untuned) and engine are for a GPU."""
    source = {"format": "prometheus_eval", **dict.fromkeys(("split", "revision", "columns", "rubric"))}
    train = {"path": "judged.json", **source, "max_rows": 2 if smoke else NUM_ROWS}
    benchmark = {"path": "holdout", **source, "max_rows": 2 if smoke else None}
    changes: dict[str, Any] = {
        "seeds": [42] if smoke else [42, 43, 44],
        "benches": [BENCH],
        "prompt": {"source": "brief"} if smoke else {},
        "model": {"dtype": measuring.DTYPE, "max_length": 4096},
        "data": {
            "folder": "raw",
            "train": train,
            "benchmarks": {BENCH: benchmark},
            "holdout_fraction": 0.2,
            "on_bad_row": "drop",
        },
        "train": {"learning_rate": 5.0e-4, "epochs": 1 if smoke else 2, "batch_size": 8, "micro_batch_size": 4},
        "engine": {"name": "transformers", "batch_size": 256},
        "sampling": {"max_new_tokens": 4 if smoke else 192},
        "selfgen": {"on_bad_cot": "keep", "max_bad_share": 1.0} if smoke else {},
    }
    values = preset.values("vicuna")
    merged = {name: {**values[name], **new} if isinstance(new, dict) else new for name, new in changes.items()}
    return config.validated({**values, **merged}, __file__)


def gather(folder: Path, out: Path) -> str:
    """One file out of all, where a task is a question of one of them; what is in it."""
    found = [folder / name for name in FILES if (folder / name).exists()]
    if not found:
        raise UserError(f"{folder}: none of {', '.join(FILES)} is here; data/raw/README.md says where they are from")
    rows = [
        {**row, "idx": f"{file.stem} {row['idx']}"} if "idx" in row else row
        for file in found
        for row in json.loads(file.read_text(encoding="utf-8"))
    ]
    tables.write_text(out, json.dumps(rows))
    return " and ".join(file.name for file in found)


def make_examples(params: Params) -> str:
    """What stages `prepare` and `check` make, without the rows that are too long for the model."""
    prepared = prepare.prepare(params.data, _scale(params), params.prompt.delimiter)
    seed_model, encoder = loading.seed_model_and_encoder(params)
    limits = {"max_length": params.model.max_length, "max_new_tokens": params.sampling.max_new_tokens}
    said = []
    for folder, rows in ((places.TRAIN_EXAMPLES, prepared.train), (_HELDOUT, prepared.benchmarks[BENCH])):
        fitting = [row for row in rows if checks.unfit(encoder, row, **limits) is None]
        tables.write(folder, "examples", fitting, {"source": params.data.resolved()})
        num_tasks, left_out = len({row["group_id"] for row in fitting}), len(rows) - len(fitting)
        said.append(f"{folder.name}: {len(fitting)} rows of {num_tasks} tasks, {left_out} too long")
    tables.write_json(places.PROOF, {**checks.proof(encoder), "base": seed_model.identity})
    return f"{'; '.join(said)}; {len(prepared.problems)} bad rows left out"


def train_and_judge(name: str, seed: int, params: Params) -> None:
    """The adapter of a row, the CoTs that row 6 learns from, and predictions; what is there is taken."""
    row, adapter, judged = params.rows[name], places.adapter(name, seed), places.predictions(name, seed)
    own, training = places.own_cots("a1", seed), tables.read(places.TRAIN_EXAMPLES, "examples")
    seed_model, encoder = loading.seed_model_and_encoder(params, cot=row.writes_cot)
    if not adapter.exists():
        pairs = examples.pair_with_annotator(training, cot=row.writes_cot)
        if row.writer is not None:
            keep_bad = params.selfgen.on_bad_cot == "keep"
            pairs = examples.pair_with_own_cots(training, tables.read(own, "cots"), keep_bad=keep_bad)
        how = recipes.recipe(params, row, lam=params.loss.lam if row.family == "stage2" else row.lam, seed=seed)
        inputs = {"examples": places.TRAIN_EXAMPLES} | ({} if row.writer is None else {"cots": own})
        logging.info(recipes.fit(name, row, pairs, how, seed_model=seed_model, encoder=encoder, inputs=inputs))
    if name == "a1" and not own.exists():
        generator = generators.generator(params, seed_model, encoder, adapter, "selfgen")
        cots = list(generation.self_generate(generator, training, seed, params.selfgen))
        tables.write(own, "cots", cots, generator.origin)
        logging.info("own CoTs, seed %d: %s", seed, generation.describe(cots))
    if not judged.exists():
        generator = generators.generator(params, seed_model, encoder, adapter, "infer")
        heldout, how_many = tables.read(_HELDOUT, "examples"), params.infer.num_samples
        found = list(generation.infer(generator, heldout, seeds=params.infer.seeds, num_samples=how_many))
        tables.write(judged, "predictions", found, generator.origin)
        logging.info("%s, seed %d: %s", name, seed, generation.describe(found))


def compare(done: Sequence[str], params: Params) -> dict[tuple[str, str], dict[str, Any]]:
    """(row, metric) -> the cell of statistics.json, by the predictor that the paper reads the row with."""
    runs = {name: collecting.all_runs(name, params.seeds) for name in done}
    training, heldout = tables.read(places.TRAIN_EXAMPLES, "examples"), {BENCH: tables.read(_HELDOUT, "examples")}
    level = params.statistics.level
    found = results.tables(runs, training, heldout, params.seeds, _scale(params), params.score, level)
    return {
        (cell["row"], cell["metric"]): cell
        for cell in found["cells"]
        if cell["predictor"] == ROWS[cell["row"]].predictor and cell["bench"] == BENCH
    }


def write(done: Sequence[str], cells: dict[tuple[str, str], dict[str, Any]], about: str) -> None:
    """The table so far; the last one has the final name."""
    shown = {"r": ("pearson", ""), "r, another training": ("pearson", "retrained_")}
    shown |= {"RMSE": ("rmse", ""), "RMSE, another training": ("rmse", "retrained_")}
    table = [
        {"row": ROWS[name].label, "read by": ROWS[name].predictor}
        | {title: _number(cells[name, metric], which) for title, (metric, which) in shown.items()}
        for name in done
    ]
    name = "bare_rows" if len(done) == len(ROWS) else "bare_rows_so_far"
    notes = [about, "SmolLM2-135M, one CoT; means over the training seeds, in brackets 95 % intervals over tasks."]
    measuring.write(name, "Rows of the paper on real judge prompts", table, notes, list(cells.values()))


def _number(cell: dict[str, Any], which: str) -> str:
    low, high = cell[f"{which}low"], cell[f"{which}high"]
    value = "undefined" if cell["value"] is None else f"{cell['value']:.3f}"
    return value if low is None else f"{value} ({low:.3f} to {high:.3f})"


def _scale(params: Params) -> ScoreScale:
    return ScoreScale.create(params.scale.values, params.scale.labels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    params, names = parameters(smoke=given.smoke), list(ROWS)
    files = gather(given.data, given.work / "raw" / "judged.json")
    with contextlib.chdir(given.work):
        about = f"{files}: {make_examples(params)}. Training seeds {params.seeds}."
        logging.info(about)
        for count, name in enumerate(names, start=1):
            for seed in params.seeds:
                train_and_judge(name, seed, params)
            cells = compare(names[:count], params)
            write(names[:count], cells, about)
            r = cells["b4", "pearson"]["value"]
            if count == 1 and not given.smoke and (r is None or r < LEAST_R):
                raise SystemExit(
                    f"row B.4 has r {r} on the held-out tasks, below {LEAST_R}: nothing can be ranked, and the other "
                    f"rows are not trained; change `train` in bench/bare_rows.py, remove {given.work}, call again"
                )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
