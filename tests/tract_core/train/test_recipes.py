import pytest

from pipeline import preset
from tests.conftest import X
from tract_core.train import recipes


def test_no_row_learns_from_an_example_that_is_too_long(encoder, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(recipes.loading, "require_proof", lambda _: frozenset({"long"}))
    monkeypatch.setattr(recipes.training, "train_adapter", lambda examples, *_, **__: seen.extend(examples))
    params = preset.load("tiny")
    row = params.rows["a1"]
    pairs = [
        (
            {**vars(X), "descriptions": list(X.descriptions), "source": "t", "id": name, "gold": 3, "group_id": "g"},
            "It is good.",
        )
        for name in ("long", "short")
    ]
    how = recipes.recipe(params, row, lam=1.0, seed=1)
    monkeypatch.chdir(tmp_path)
    recipes.fit("a1", row, pairs, how, seed_model=None, encoder=encoder, inputs={})
    assert [example.id for example in seen] == ["short"]


@pytest.mark.parametrize(
    ("objective", "score_term"), [("cot_raft", "squared_error"), ("cot_rps", "rps"), ("cot_kl", "kl")]
)
def test_the_objective_of_a_row_says_what_lambda_weighs(objective, score_term):
    params = preset.load("tiny")
    row = params.rows["tract"].model_copy(update={"objective": objective})
    found = recipes.recipe(params, row, lam=0.5, seed=1).objective
    assert (found.score_term, found.lam, found.ce_weight) == (score_term, 0.5, 1.0)


def test_several_annotators_of_a_row_reach_its_example(encoder, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(recipes.loading, "require_proof", lambda _: frozenset())
    monkeypatch.setattr(recipes.training, "train_adapter", lambda examples, *_, **__: seen.extend(examples))
    params = preset.load("tiny")
    gold = {"gold": 4.5, "gold_scores": [4.0, 5.0]}
    x = {**vars(X), "descriptions": list(X.descriptions), "source": "t", "id": "a", "group_id": "g", **gold}
    monkeypatch.chdir(tmp_path)
    how = recipes.recipe(params, params.rows["a1"], lam=1.0, seed=1)
    recipes.fit("a1", params.rows["a1"], [(x, "It is good.")], how, seed_model=None, encoder=encoder, inputs={})
    assert (seen[0].gold, seen[0].gold_shares) == (4.5, (0, 0, 0, 0.5, 0.5))
