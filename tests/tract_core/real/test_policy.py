"""What a round reads and learns from of the CoTs that were drawn."""

import pytest

from tests.conftest import X
from tract_core.real import policy
from tract_core.train import recipes

CASES = [("ok", "delimiter", "Fine.", True), ("empty", "delimiter", "", True), ("no_delimiter", "end", "Fine.", False)]


@pytest.mark.parametrize(("status", "reason", "text", "ended"), CASES)
def test_a_delimiter_that_was_drawn_counts_also_behind_an_empty_cot(encoder, monkeypatch, status, reason, text, ended):
    """Else the draw of a CoT without a word would have no gradient at all, however bad its reward."""
    cot_ids = encoder.cot_ids(text) if text else []
    drawn = [*cot_ids, *(encoder.score_tokens.delimiter_ids if ended else [])]
    example = {"source": "s", "id": "x", "gold": 4.0, "gold_scores": [4.0]}
    cot = {"source": "s", "id": "x", "k": 0, "cot_ids": cot_ids, "status": status, "finish_reason": reason}
    prompts = {("s", "x"): encoder.prompt_ids(X)}
    assert policy.drawn_pairs([cot], prompts, encoder) == [(prompts["s", "x"], drawn)]
    found = []
    monkeypatch.setattr(recipes.loading, "require_proof", lambda _: set())
    monkeypatch.setattr(recipes.prompt_cache, "prompt_ids", lambda *_: prompts)
    monkeypatch.setattr(recipes, "_train", lambda name, row, sequences, *_, **how: found.extend(sequences))
    kept = {**cot, "advantage": 1.0, "log_probs": None}
    recipes.fit_drawn("real_1", None, [example], [kept], None, seed_model=None, encoder=encoder, inputs={})
    assert found[0].num_drawn == len(drawn)
