"""A made run for the report's tests: all kinds of numbers, with gaps of every kind. No number means anything."""

import hashlib
import random

from tract_core.compare import verdict
from tract_core.report import Cot, Report, Selection, Shown

PAPER_BENCHES = ["feedback_bench", "flask", "vicuna_bench", "mt_bench"]
METRICS = ["pearson", "spearman", "kendall", "rmse", "mae", "bias", "exact", "qwk", "predicted_sd"]
PREDICTORS = ["rail", "rail_renormalized", "mode", "median", "sampled"]
# Not b4, b5_free, sequential, mixed, rps and the cool ones: those rows were not run.
ROWS = ["b1", "b2", "b3", "b5_forced", "tract", "a1", "self_ce_b2", "self_ce_a1", "a4", "lambda_0_2", "lambda_5_0"]
HOSTILE = "</script><img src=x onerror=\"document.title='broken out'\"><!-- & ]]> \u2028 \U0001f600"
DIFFERENCES = "# Where they differ\n\nSome `text`.\n\n| point | here |\n|---|---|\n| (1) loss | `a` <b>raw</b> |\n"


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def cell(row, bench, predictor, metric, rng, **other):
    value = rng.uniform(0.3, 0.9)
    entry = {
        "row": row,
        "bench": bench,
        "predictor": predictor,
        "metric": metric,
        "value": value,
        "low": value - 0.08,
        "high": value + 0.07,
        "sd_training": None,
        "sd_inference": 0.0123,
        "n": 160 if bench == "mean" else 40,
        "n_ok": 158.5 if bench == "mean" else 39.5,
        "reason": None,
    }
    return {**entry, **other}


def attack(name, rng, **other):
    numbers = {"value": rng.uniform(-1, 1), "clean": 2.5, "attacked": 3.0, "raised": 0.25, "largest": 1.5}
    counts = {"n": 6, "n_left_out": 0, "n_unscored": 1}
    return {"attack": name, "about": "x", "reason": None, "low": -1.5, "high": 1.5, **numbers, **counts, **other}


NULL = {"value": None, "low": None, "high": None, "sd_training": None, "sd_inference": None}


def judge(benches, rows, cells, rng):
    """Beats the constant on each benchmark and in the mean; the first benchmark has 8 tasks, the others 12."""
    names = ["words", "length", "constant", "chance"]
    baselines = [
        cell(row, bench, "rail", metric, rng)
        for row in names
        for bench in [*benches, "mean"]
        for metric in ("pearson", "rmse")
    ]
    for entry in baselines:
        if entry["row"] == "chance":
            entry.update(low=None, high=None, value=0.0 if entry["metric"] == "pearson" else 1.9)
        if (entry["row"], entry["metric"]) == ("constant", "pearson"):
            entry.update(NULL, reason="all predictions are equal")
    against = [
        {"baseline": name, "bench": bench, "metric": metric, **_minus(name, metric)}
        for name in (["b3"] if "b3" in rows and rows[0] != "b3" else []) + names[:3]
        for bench in [*benches, "mean"]
        for metric in ("pearson", "rmse")
    ]
    sizes = [
        {"bench": bench, "n": 40, "num_tasks": 12 if number else 8, "num_cots": 80, "num_bad_cots": 3, "gold_sd": 1.25}
        for number, bench in enumerate(benches)
    ]
    row = "tract" if "tract" in rows else rows[0]
    found = {"row": row, "predictor": "rail", "constant": 2.875, "benches": sizes}
    found["length"] = [{"bench": bench, **_minus("words", "pearson"), "n": 40} for bench in benches]
    return {**found, "baselines": baselines, "against": against}


def _minus(name, metric):
    if (name, metric) == ("constant", "pearson"):
        return {**dict.fromkeys(("value", "low", "high", "p")), "reason": "all predictions are equal"}
    return {"value": -0.31, "low": -0.52, "high": -0.11, "p": 0.004, "reason": None}


def statistics(benches=("demo",), rows=tuple(ROWS), seed=0):
    """Content of statistics.json; row b3 has no tau-b on the first benchmark, so none in the mean either."""
    rng = random.Random(seed)
    cells = [
        cell(row, bench, predictor, metric, rng)
        for row in rows
        for bench in [*benches, "mean"]
        for predictor in PREDICTORS
        for metric in METRICS
    ]
    for entry in cells:
        if entry["row"] == "b3" and entry["metric"] == "kendall" and entry["bench"] in (benches[0], "mean"):
            entry.update(NULL, reason="all predictions are equal")
        if entry["row"] == "tract":
            entry.update(sd_training=0.0456)
    found = judge(benches, rows, cells, random.Random(1)) if rows else None
    lines = ["B.1", "B.2", "B.3", "B.4", "B.5 forced delimiter", "A.1", "A.2", "A.2, CoTs of A.1", "A.3", "A.4"]
    return {
        "settings": {
            "level": 0.95,
            "benches": list(benches),
            "seeds": [42, 43],
            "infer_seeds": [1, 2, 3, 4],
            "num_samples": 1,
        },
        "cells": cells,
        "judge": found,
        "verdict": verdict.of(found, cells),
        "differences": [
            difference(line, bench, metric, number, rng)
            for bench in [*benches, "mean"]
            for metric in METRICS
            for number, line in enumerate(lines)
        ],
        "robustness": {"tract": [attack("planted_score", rng), attack(HOSTILE, rng, value=None, reason="too long")]},
        "looking": {"tract": looking()},
        "ceiling": [
            {
                "bench": benches[0],
                "of": "one annotator",
                "metric": "pearson",
                "value": 0.81,
                "num_annotators": 3,
                "reason": None,
            },
            {
                "bench": benches[-1],
                "metric": "spearman",
                "value": None,
                "of": "one annotator",
                "num_annotators": 1,
                "reason": "one gold score per row",
            },
        ],
        "table3": {
            "cells": [
                table3_cell("a1", "training", 0.21),
                table3_cell("a1", "own", 0.74),
                table3_cell("tract", "training", 0.52),
                {**table3_cell("tract", "own", None), "reason": "no row has both predictions"},
            ],
            "gaps": [
                {"row": "a1", "value": 0.53, "low": 0.4, "high": 0.6, "p": 0.0004, "reason": None},
                {
                    "row": "tract",
                    "value": None,
                    "low": None,
                    "high": None,
                    "p": None,
                    "reason": "own CoTs: no row has both predictions",
                },
            ],
        },
        "figure2": [
            {
                "lambda": lam,
                "row": row,
                "bench": "mean",
                "metric": metric,
                "value": None if lam == 2.0 else base + lam / 100,
                # The interval of lambda 0.2 lies above its value, as a percentile interval can.
                "low": base + 0.01 if lam == 0.2 else base - 0.05,
                "high": base + 0.09,
                "sd_training": None,
                "reason": "row lambda_2_0 was not run" if lam == 2.0 else None,
            }
            for metric, base in (("pearson", 0.5), ("rmse", 1.0))
            for lam, row in ((0.2, "lambda_0_2"), (1.0, "tract"), (2.0, "lambda_2_0"), (5.0, "lambda_5_0"))
        ],
        "figure3": [
            {
                "row": row,
                "line": line,
                "k": k,
                "value": None if (line, k) == ("B.2", 5) else base + 0.01 * k,
                "sd": 0.02 / k,
                "tokens": 61.5 * k,
                "n_seeds": 4,
                "reason": "no CoT could be read" if (line, k) == ("B.2", 5) else None,
            }
            for line, row, base in (
                ("6", "tract", 0.6),
                ("B.2", "b2", 0.5),
                ("B.5 forced delimiter", "b5_forced", 0.55),
            )
            for k in (1, 2, 3, 5)
        ],
        "perplexity": [
            {
                "source": source,
                "token_weighted": 7.1,
                "per_sample": 7.4,
                "n": 48,
                "num_tokens": 3000,
                "seed": None if source == "annotator" else 42,
            }
            for source in ("annotator", "a1", "tract")
        ],
        "corruption": [
            {
                "where": where,
                "n": 80,
                "no_delimiter": 0.125,
                "truncated": 0.05,
                "empty": 0.0,
                "stray_score": 0.0,
                "stray_bracket": 0.0,
                "loop": 0.025,
                "examples": [{"id": "x1", "kind": "loop", "cot": f"again and again {HOSTILE}"}],
            }
            for where in ("cots/a1", "predictions/tract")
        ],
        "meta_judge": {
            "annotator": {"mean": 4.4, "n": 200, "n_ok": 198, "reason": None},
            "a1": {"mean": None, "n": 200, "n_ok": 0, "reason": "no reply held a rating"},
        },
    }


def looking(ignores=False):
    """A judge that reads the response; no example has a reference."""
    numbers = {"low": -2.1, "high": -1.5, "moved": 1.9, "clean": 3.5, "attacked": 1.7, "n": 40, "reason": None}
    counts = {"n_left_out": 0, "n_unscored": 1}
    other = {"check": "other_response", "about": "the response to another task", "value": -1.8, **numbers, **counts}
    none = {**other, "check": "no_reference", **dict.fromkeys(("value", "low", "high", "moved", "clean", "attacked"))}
    says = "IT IGNORES THE RESPONSE: 2.25 for none." if ignores else "It reads the response: 1.00 for none."
    return {"ignores_response": ignores, "sentences": [says], "checks": [other, none]}


def two_rows(benches=("demo",)):
    """What a default run leaves: rows tract and b3, no study, one gold score for each example."""
    found = statistics(benches, rows=("tract", "b3"))
    nothing = dict.fromkeys(("value", "low", "high", "p", "p_corrected"))
    return {
        **found,
        "differences": [
            entry if entry["line"] == "B.3" else {**entry, **nothing, "reason": "did not run"}
            for entry in found["differences"]
        ],
        "robustness": {},
        "looking": {},
        "ceiling": [{**found["ceiling"][1], "bench": bench} for bench in benches],
        "table3": {"cells": [], "gaps": []},
        "figure2": [entry for entry in found["figure2"] if entry["row"] == "tract"],
        "figure3": [],
        "perplexity": [],
        "meta_judge": None,
    }


def nothing():
    """Rows were asked for and none has run."""
    reason = {**NULL, "reason": "no predictions of row tract"}
    cells = [{**entry, **reason} for entry in statistics(rows=("tract",))["cells"]]
    settings = statistics()["settings"]
    return {"settings": settings, "cells": cells, "judge": None, "verdict": verdict.of(None, cells), "meta_judge": None}


def difference(line, bench, metric, number, rng):
    if line == "B.4":
        reason = "B.4: no predictions of row b4"
        nothing = dict.fromkeys(("value", "low", "high", "p", "p_corrected"))
        return {"line": line, "bench": bench, "metric": metric, **nothing, "reason": reason}
    value = rng.uniform(-0.3, 0.05)
    return {
        "line": line,
        "bench": bench,
        "metric": metric,
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "p": 0.002 * (number + 1),
        "p_corrected": min(1.0, 0.02 * (number + 1)),
        "reason": None,
    }


def table3_cell(row, cots, value):
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    return {"row": row, "cots": cots, "value": value, "low": low, "high": high, "n": 48, "reason": None}


def traces(rows=tuple(ROWS)):
    """Row b3 has no adapter and no training seed."""
    return {
        row: [{"seed": None, "predictions_sha": sha("p b3"), "adapter_sha": None}]
        if row == "b3"
        else [
            {"seed": seed, "predictions_sha": sha(f"p {row} {seed}"), "adapter_sha": sha(f"a {row} {seed}")}
            for seed in (42, 43)
        ]
        for row in rows
    }


def cot(k, **other):
    fields = {
        "k": k,
        "cot": f"The response is right in part, and says so in few words ({k}).",
        "status": "ok",
        "finish_reason": "delimiter",
        "probs": [0.05, 0.1, 0.2, 0.4, 0.2],
        "label_mass": 0.95,
        "sampled_score": 4.0,
    }
    return Cot(**{**fields, **other})


def shown(row, number, **other):
    fields = {
        "row": row,
        "seed": 42,
        "run_seed": 1,
        "bench": "demo",
        "id": f"example-{number}",
        "instruction": f"Explain why the sky is blue, in {number} sentences.",
        "response": "Because of Rayleigh scattering.",
        "reference": None if number == 2 else "Short waves scatter more.",
        "criteria": "Is the physics right?",
        "descriptions": ["Wrong.", "Mostly wrong.", "Half right.", "Mostly right.", "Right."],
        "gold": 4.0,
        "expected_score": 3.45,
        "spread": 1.08,
        "cots": [
            cot(0),
            cot(1, cot="", status="empty", finish_reason="end", probs=None, label_mass=None, sampled_score=None),
        ],
    }
    return Shown(**{**fields, **other})


def selection(found=None):
    found = [shown(row, number) for row in ("tract", "a1") for number in range(3)] if found is None else found
    chosen = {one.key: "all" for one in found}
    return Selection(found, chosen, [f"demo: all {len(chosen)} examples."] if found else [])


def points(benches=("demo",), count=40):
    """Gold 1 to 5 in turn, scores near it; the last example has none."""
    rng = random.Random(2)
    found = [
        {"bench": bench, "id": f"{number:03d}", "gold": 1.0 + number % 5, "rail": 1.0 + number % 5 + rng.uniform(-1, 1)}
        for bench in benches
        for number in range(count)
    ]
    return [*found[:-1], {**found[-1], "rail": None}]


def logs(steps=20, **parts):
    """Of a1 and tract, two training seeds each."""
    parts = {"loss": 5.0, "cross_entropy": 3.0, "squared_error": 2.0} | parts
    log = [
        {"step": float(step), **{name: value / step for name, value in parts.items()}} for step in range(1, steps + 1)
    ]
    return {row: {42: log, 43: log[: steps // 2]} for row in ("a1", "tract")}


def meaning(benches=("demo",)):
    """Of the judge: calibration takes a third of the calibration error away; 40 tasks are too few for level .95."""
    bins = [{"score": 1.0 + n, "gold": 1.0 + 0.8 * n, "n": 10} for n in range(4)]
    one = {
        "tasks": 40,
        "rows": 80,
        "without_score": 0,
        "few_tasks": False,
        "refused": None,
        "map": {"kind": "affine", "slope": 1.2, "intercept": -0.5, "temperature": None, "scores": None, "golds": None},
        "before": {"rmse": 0.9, "ece": 0.3, "r": 0.7},
        "after": {"rmse": 0.8, "ece": 0.1, "r": 0.7},
        "bins": bins,
        "bins_after": [{**part, "gold": part["score"]} for part in bins],
        "intervals": [
            {"level": 0.5, "share": 0.55, "width": 1.0},
            {"level": 0.9, "share": 0.92, "width": 2.5},
            {"level": 0.95, "share": None, "width": None},
        ],
    }
    return dict.fromkeys(benches, one)


def params(source="mistralai/Mistral-7B-Instruct-v0.2"):
    return {
        "seeds": [42, 43],
        "model": {"source": source, "revision": None},
        "scale": {"values": [1, 2, 3, 4, 5], "labels": None},
        "loss": {"lambda": 1.0, "normalization": "authors"},
        "rows": {},
    }


def report(**other):
    fields = {
        "statistics": statistics(),
        "params": params(),
        "traces": traces(),
        "selection": selection(),
        "points": points(),
        "logs": logs(),
        "meaning": meaning(),
        "differences": DIFFERENCES,
        "title": "A made run",
    }
    return Report(**{**fields, **other})


def plain(statistics=None, **other):
    """A report without figures, which take most of the time."""
    found = two_rows() if statistics is None else {**statistics, "differences": [], "figure2": [], "figure3": []}
    return report(**{"statistics": found, "points": [], "logs": {}, "meaning": {}, **other})
