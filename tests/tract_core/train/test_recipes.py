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
