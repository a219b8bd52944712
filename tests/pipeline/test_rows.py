"""Every row, table and figure of the paper on the tiny preset `tiny-paper`, by one real `dvc repro`."""

import json
import shutil

import pytest

from pipeline import preset
from tract_core.base import config, tables
from tract_core.base.rows import names_of
from tract_core.base.scale import ScoreScale
from tract_core.compare import results
from tract_core.score import paper_lines
from tract_core.score.draws import Draws
from tract_core.studies import looking
from tract_core.studies.attacks import ATTACKS

pytestmark = [pytest.mark.pipeline, pytest.mark.every, pytest.mark.timeout(1800), pytest.mark.xdist_group("paper")]

SEED = 42
TRAINED = names_of(dict(preset.load("tiny-paper").matrix))


IN_TINY = {"prepare", "check", "train_stage1", "selfgen_cots", "train_stage2", "infer", "score", "calibrate"}
IN_TINY |= {"compare", "report"}


@pytest.fixture(scope="module")
def statistics(paper):
    return json.loads((paper.folder / "artifacts/statistics.json").read_text())


def test_no_model_is_trained_twice(paper):
    trainings = [stage for stage in paper.first if stage.startswith("train_")]
    assert len(paper.first) == len(set(paper.first))
    assert len(trainings) == len(TRAINED) == 18
    adapters = sorted(path.parent.name for path in (paper.folder / "artifacts/adapters").glob("*/*"))
    assert adapters == sorted(TRAINED)


def test_one_stage_of_each_kind_gives_the_same_bytes_again(paper, tmp_path):
    """Without finished samples and checkpoints; the kinds that the tiny preset has are in test_repro.py."""
    copy = paper.copy(tmp_path / "clone")
    for folder in (copy.folder / "work").iterdir():
        if folder.name != "models":
            shutil.rmtree(folder)
    before = copy.lock()
    first = {stage.partition("@")[0]: stage for stage in reversed(copy.lock_stages())}
    again = [stage for kind, stage in first.items() if kind not in IN_TINY]
    assert len(again) == 16
    assert sorted(copy.stages("--force", "--single-item", *again)) == sorted(again)
    assert copy.lock() == before


def test_every_line_of_the_paper_has_its_numbers(paper, statistics):
    cells = {(cell["row"], cell["bench"], cell["predictor"], cell["metric"]): cell for cell in statistics["cells"]}
    ran = {file.stem for file in (paper.folder / "metrics").glob("*.json")}
    assert {line.row for line in paper_lines.LINES} - ran == {"b5_expected"}  # an endpoint's: test_chat_judge.py
    for line in (line for line in paper_lines.LINES if line.row in ran):
        assert paper.metrics(line.row)["demo"][line.predictor]["n"] == 6
        for metric in ("pearson", "rmse"):
            cell = cells[line.row, "mean", line.predictor, metric]
            assert cell["value"] is not None or cell["reason"]
        if line.label != "6":
            assert any(d["line"] == line.label and d["metric"] == "rmse" for d in statistics["differences"])
    own = {d["line"] for d in statistics["differences"] if d["metric"] == "rmse" and d["value"] is not None}
    assert {"lambda_0_5", "lambda_2_0"} <= own  # rows that are no line of the tables


def test_every_cell_is_what_its_metrics_file_says(paper, statistics):
    """Two ways to one number: `score` for each row, `compare` over all rows."""
    compared = 0
    for cell in statistics["cells"]:
        found = paper.metrics(cell["row"])[cell["bench"]][cell["predictor"]][cell["metric"]]
        assert found == (None if cell["value"] is None else pytest.approx(cell["value"], rel=1e-12)), cell
        compared += found is not None
    assert compared > 500


def test_every_cell_is_traced_to_an_adapter(paper, statistics):
    """Page -> manifest of the predictions -> manifest of the adapter, and the predictions give the cell again."""
    page = (paper.folder / "artifacts/report/index.html").read_text()
    for row in TRAINED:
        predictions = paper.folder / f"artifacts/results/predictions/{row}/seed_{SEED}"
        adapter = paper.folder / f"artifacts/adapters/{row}/seed_{SEED}"
        assert tables.manifest_hash(predictions)[:12] in page
        assert tables.origin(predictions)["adapter"] == tables.manifest_hash(adapter)
    params = config.load(paper.folder / "params.yaml")
    examples = {"demo": tables.read(paper.folder / "artifacts/examples/benchmarks/demo", "examples")}
    runs = {SEED: Draws.read(paper.folder / f"artifacts/results/predictions/tract/seed_{SEED}")}
    scale = ScoreScale.create(params.scale.values, params.scale.labels)
    training = tables.read(paper.folder / "artifacts/examples/train", "examples")
    again = results.tables({"tract": runs}, training, examples, [SEED], scale, params.score, level=0.95)
    stored = [cell for cell in statistics["cells"] if cell["row"] == "tract"]
    assert json.loads(json.dumps(again["cells"])) == stored


def test_tables_and_figures_have_content(paper, statistics):
    assert {(cell["row"], cell["cots"]) for cell in statistics["table3"]["cells"] if cell["value"] is not None} == {
        (row, cots) for row in ("a1", "tract") for cots in ("training", "own")
    }
    assert {gap["row"] for gap in statistics["table3"]["gaps"] if gap["value"] is not None} == {"a1", "tract"}
    assert sorted({point["lambda"] for point in statistics["figure2"]}) == [0.5, 1.0, 2.0]
    assert {(point["line"], point["k"]) for point in statistics["figure3"]} == {
        (line, k) for line in ("6", "B.2", "B.5 free decoding", "B.5 forced delimiter") for k in (1, 2, 3)
    }
    assert {entry["source"] for entry in statistics["perplexity"]} == {"annotator", "a1", "tract"}
    places = {entry["where"]: entry["n"] for entry in statistics["corruption"]}
    assert places["cots/a1"] == 12
    assert places["predictions/tract"] == 12
    assert "predictions/b3" not in places  # it writes no CoT
    assert statistics["meta_judge"]["a1"]["n"] == 4
    of_judge, of_paper = ("predicted_demo", "loss_a1"), ("figure2_pearson", "figure3_k", "figure3_tokens")
    for name in (*of_judge, *of_paper, "differences_rmse"):
        for suffix in ("svg", "png"):
            assert (paper.folder / f"artifacts/report/figures/{name}.{suffix}").stat().st_size > 1000


def test_each_attacked_judge_has_a_table_over_rows_with_and_without_each_attack(paper, statistics):
    assert set(statistics["robustness"]) == {"tract", "b1"}
    for row, records in statistics["robustness"].items():
        assert [record["attack"] for record in records] == [attack.name for attack in ATTACKS]
        assert all(record["n"] == 3 and record["low"] <= record["value"] <= record["high"] for record in records)
        attacked = tables.read(paper.folder / f"artifacts/results/attacked/{row}/seed_{SEED}", "predictions")
        changes = [*(attack.name for attack in ATTACKS), *(check.name for check in looking.checks())]
        sources = {"demo", *(f"demo/{name}" for name in changes)}
        assert {found["source"] for found in attacked} == sources
        assert len({found["id"] for found in attacked}) == 3
        found = statistics["looking"][row]
        assert [check["check"] for check in found["checks"]] == [check.name for check in looking.checks()]
        assert found["sentences"][0].startswith("Whether it reads the response cannot be said")  # of three examples
    assert "master_key_colon" in (paper.folder / "artifacts/report/index.html").read_text()


def test_the_curve_repeats_no_draw_of_the_tables(paper):
    """The first two CoTs of Figure 3 are those of Table 2."""
    for row, seed in (("tract", "seed_42"), ("b2", "seed_42"), ("b5_forced", "untrained")):
        folder = paper.folder / "artifacts/results"
        wide = tables.read(folder / "curve" / row / seed, "predictions")
        narrow = tables.read(folder / "predictions" / row / seed, "predictions")
        assert [found for found in wide if found["k"] < 2] == narrow


@pytest.mark.parametrize("row", ["tract", "a1", "b2"])
def test_a_cool_row_is_the_same_judge_asked_the_same_with_another_temperature(paper, row):
    warm, cool = (paper.folder / f"artifacts/results/predictions/{name}/seed_{SEED}" for name in (row, f"cool_{row}"))
    origins = tables.origin(warm), tables.origin(cool)
    assert [origin["sampling"].pop("temperature") for origin in origins] == [1.0, 0.1]
    assert origins[0] == origins[1]
    drawn, cooler = tables.read(warm, "predictions"), tables.read(cool, "predictions")
    assert [found["request_seed"] for found in cooler] == [found["request_seed"] for found in drawn]
    assert [found["cot"] for found in cooler] != [found["cot"] for found in drawn]


def test_figures_are_plots_of_dvc(paper):
    paper.run("dvc", "plots", "show", "-o", "plots_html")
    assert "figure2_pearson" in (paper.folder / "plots_html" / "index.html").read_text()


def test_a_row_that_did_not_run_is_named_with_its_reason(paper, tmp_path):
    clone = paper.copy(tmp_path / "clone")
    clone.run("rm", "-r", "artifacts/results/predictions/b1/seed_42")
    clone.run("python", "-m", "pipeline.compare")
    found = json.loads((clone.folder / "artifacts/statistics.json").read_text())
    cells = [cell for cell in found["cells"] if cell["row"] == "b1"]
    assert cells
    assert all(cell["value"] is None for cell in cells)
    assert all("no predictions of row b1" in cell["reason"] for cell in cells)
    clone.run("python", "-m", "pipeline.report")
    page = (clone.folder / "artifacts/report/index.html").read_text()
    assert "Rows without a number: b1 (no predictions of row b1)" in page
    refused = clone.run("python", "-m", "pipeline.score", "--row", "b1", check=False)
    assert refused.returncode == 2
    assert "row b1: no predictions for training seed 42" in refused.stderr
