"""The stage `meta_judge` with several own CoTs for each example."""

import sys

from pipeline import meta_judge, preset
from tests.conftest import SCALE
from tract_core.base import config, places, tables
from tract_core.model import loading
from tract_core.studies import asking


def example(name):
    texts = dict.fromkeys(("group_id", "instruction", "response", "criteria"), name)
    rest = {"reference": None, "descriptions": ["x"] * 5, "prompt": None, "gold": 3.0, "gold_scores": [3.0]}
    return {"source": "train", "id": name, **texts, **rest, "annotator_cot": f"Annotator's of {name}."}


def own_cot(name, k):
    key = {"source": "train", "id": name, "k": k, "run_seed": 42, "request_seed": k, "attempt": 0}
    draw = {"cot": f"Own {k} of {name}.", "cot_ids": [1], "finish_reason": "delimiter", "num_tokens": 1}
    return {**key, **draw, "status": "ok"}


def test_the_first_own_cot_of_each_example_is_rated_and_no_other(tmp_path, monkeypatch, encoder):
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return "Rating: 4"

    params = preset.load("tiny-paper")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "load", lambda: params)
    monkeypatch.setattr(sys, "argv", ["meta_judge", "--seed", "42"])
    monkeypatch.setattr(loading, "seed_model_and_encoder", lambda params: (None, encoder))
    monkeypatch.setattr(asking, "meta_judge_model", lambda params: (ask, "a judge"))
    tables.write(
        places.TRAIN_EXAMPLES, "examples", [example("a"), example("b"), {**example("c"), "annotator_cot": None}], {}
    )
    tables.write(places.own_cots("a1", 42), "cots", [own_cot(name, k) for name in "abc" for k in range(3)], {})
    line = meta_judge.main()
    assert line.startswith("the annotator's and a1's CoTs of 2 examples rated, 4 questions asked -> artifacts/")
    found = tables.read_json(places.meta_judge_file(42))["annotator minus a1"]
    assert (found["mean"], found["n_pairs"]) == (0.0, 2)
    for text in ("Annotator's of a.", "Annotator's of b.", "Own 0 of a.", "Own 0 of b."):
        assert sum(text in prompt for prompt in asked) == 1


def test_an_example_of_several_annotators_ends_with_the_score_that_training_writes():
    assert meta_judge._written(SCALE, {"gold_scores": [4.0, 5.0]}) == "4"
    assert meta_judge._written(SCALE, {"gold_scores": [4.0, 5.0, 5.0]}) == "5"
