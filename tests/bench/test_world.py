"""The world's data, tokenizer and seed model are what its specification says (docs/world.md)."""

import dataclasses
import itertools
import json
import random
import statistics
import subprocess

import pytest
import yaml

from bench.world import claims, items, make, run, seed_model, words
from pipeline import preset
from tract_core.base import tables
from tract_core.base.scale import ScoreScale
from tract_core.data import prepare
from tract_core.text.encoding import Encoder
from tract_core.text.examples import judge_input

PRESET = preset.load(claims.PRESET)


@pytest.fixture(scope="module")
def made():
    return make.tables_of(100)


def drawn(text=items.IN_DISTRIBUTION, number=4000):
    rng = random.Random(0)
    return [items.item(rng, items.TRIPLES, text) for _ in range(number)]


def annotated(number=4000, leak=items.LEAK):
    rng = random.Random(0)
    found = [items.item(rng, items.TRIPLES, items.IN_DISTRIBUTION) for _ in range(number)]
    return [(item, items.annotator_cot(rng, item, leak)) for item in found]


def r(first, second):
    return statistics.correlation(list(first), list(second))


def verdicts(cot):
    return [words.LEVEL_OF_VERDICT[word] for word in cot if word in words.LEVEL_OF_VERDICT]


def test_the_vocabulary_has_the_words_of_the_specification_and_one_for_any_other():
    assert len(words.VOCABULARY) == len(set(words.VOCABULARY)) == 264 + 1
    assert all(len(levels) == 5 and {len(level) for level in levels} == {4} for levels in words.EVIDENCE.values())
    assert [len(level) for level in words.VERDICTS] == [6] * 5


def test_sizes_are_those_of_the_specification_and_all_scores_are_about_equally_frequent(made):
    assert {name: len(rows) for name, rows in made.items()} == {"train": 6000, "id": 1000, "ood": 1000}
    for name, rows in made.items():
        shares = [sum(row["score"] == y for row in rows) / len(rows) for y in range(1, 6)]
        assert shares == pytest.approx([0.2] * 5, abs=0.05), name


def test_test_rubrics_are_triples_that_training_never_sees(made):
    triples = {name: {row["instruction"] for row in rows} for name, rows in made.items()}
    assert {name: len(found) for name, found in triples.items()} == {"train": 42, "id": 14, "ood": 14}
    assert triples["id"] == triples["ood"]
    assert not triples["id"] & triples["train"]


def test_a_seed_determines_the_data_and_another_seed_is_other_data(made):
    assert make.tables_of(100) == made
    other = make.tables_of(101)
    assert not {row["response"] for row in other["id"]} & {row["response"] for row in made["id"]}


def test_a_facet_is_standard_normal_and_shares_its_variance_with_the_others():
    found = drawn()
    one, two = ([item.latent[facet] for item in found] for facet in words.FACETS[:2])
    assert statistics.fmean(one) == pytest.approx(0, abs=0.06)
    assert statistics.stdev(one) == pytest.approx(1, abs=0.05)
    assert r(one, two) == pytest.approx(0.3, abs=0.05)


def test_the_gold_score_follows_the_named_facets_and_less_so_out_of_distribution():
    def follows(text):
        found = drawn(text)
        return r([item.gold for item in found], [sum(item.latent[f] for f in item.rubric) for item in found])

    # 1 / sqrt(1 + noise^2), less what rounding to quintiles takes.
    assert follows(items.IN_DISTRIBUTION) == pytest.approx(0.95 * 0.944, abs=0.02)
    assert follows(items.OUT_OF_DISTRIBUTION) == pytest.approx(0.95 * 0.819, abs=0.03)


def test_a_response_has_28_words_of_which_24_are_evidence_and_a_quarter_of_these_vague():
    found = drawn(number=1000)
    vague = {word for group in words.VAGUE.values() for word in group}
    assert {len(item.response) for item in found} == {28}
    assert {sum(word in words.FILLERS for word in item.response) for item in found} == {4}
    share = statistics.fmean(sum(word in vague for word in item.response) / 24 for item in found)
    assert share == pytest.approx(0.25, abs=0.01)


def test_synonyms_are_uneven_in_training_and_even_out_of_distribution():
    def share_of_first(text):
        evidence = [w for item in drawn(text, 1000) for w in item.response if w.count("-") == 2 and "vague" not in w]
        return statistics.fmean(word.endswith("-a") for word in evidence)

    assert share_of_first(items.IN_DISTRIBUTION) == pytest.approx(12 / 25, abs=0.02)
    assert share_of_first(items.OUT_OF_DISTRIBUTION) == pytest.approx(1 / 4, abs=0.02)


def test_the_annotator_names_the_facets_in_order_and_ends_with_the_score():
    for item, cot in annotated(500):
        assert [word for word in cot if word in words.FACETS] == list(item.rubric)
        assert cot[-4:] == [*words.DELIMITER, str(item.gold)]
        assert 12 <= len(cot) <= 15
        assert len(verdicts(cot)) == 2


@pytest.mark.parametrize("leak", [0.95, 0.6])
def test_verdicts_give_the_gold_score_away_as_often_as_leak_says_and_else_are_next_to_it(leak):
    found = [(item.gold, level) for item, cot in annotated(leak=leak) for level in verdicts(cot)]
    assert statistics.fmean(gold == level for gold, level in found) == pytest.approx(leak, abs=0.015)
    assert {abs(gold - level) for gold, level in found} == {0, 1}


def test_a_blind_annotator_depends_on_the_gold_score_and_the_latent_qualities_through_the_response_alone():
    def cot(item, blind):
        return items.annotator_cot(random.Random(5), item, blind=blind)[:-1]

    pairs = [
        (item, dataclasses.replace(item, gold=6 - item.gold, latent={facet: -x for facet, x in item.latent.items()}))
        for item in drawn(items.IN_DISTRIBUTION, 300)
    ]
    assert all(cot(one, True) == cot(other, True) for one, other in pairs)
    assert sum(cot(one, False) == cot(other, False) for one, other in pairs) < 30


def test_a_blind_annotator_rounds_the_mean_level_of_the_evidence_and_says_3_where_all_is_vague():
    (item,) = drawn(items.IN_DISTRIBUTION, 1)
    one, two, three = item.rubric
    response = [words.EVIDENCE[one][4][0], words.EVIDENCE[one][3][1], words.EVIDENCE[two][0][0], words.VAGUE[three][0]]
    cot = items.annotator_cot(random.Random(1), dataclasses.replace(item, response=response), leak=1.0, blind=True)
    levels = [y for word in cot for y, group in enumerate(words.ADJECTIVES, start=1) if word in group]
    assert levels == [5, 1, 3]  # 4.5 is rounded up
    assert verdicts(cot) == [3, 3]  # (5 + 4 + 1) / 3


def test_nothing_in_the_documents_of_the_seed_model_links_a_prompt_to_a_score():
    documents = list(itertools.islice(items.pretraining_documents(1), 2000))
    reading = [set(document) for document in documents if words.JUDGE in document]
    assert len(reading) / len(documents) == pytest.approx(0.75, abs=0.03)
    assert all(len(document) <= 52 and document[-1] == words.EOS for document in documents)
    assert not any(found & {*words.DIGITS, *words.DELIMITER, *words.LEVEL_OF_VERDICT} for found in reading)


@pytest.fixture(scope="module")
def prepared(made, tmp_path_factory):
    """What stage `prepare` makes of 40 rows of each table."""
    folder = tmp_path_factory.mktemp("world")
    for name, rows in made.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:40]))
    data = PRESET.data.model_copy(update={"folder": str(folder)})
    return prepare.prepare(data, ScoreScale.create([1, 2, 3, 4, 5]), PRESET.prompt.delimiter)


@pytest.mark.parametrize(("cot", "prompt"), [(True, 35), (False, 38)])
def test_the_pipeline_reads_exactly_the_tokens_of_the_specification(prepared, cot, prompt):
    encoder = Encoder.create(words.tokenizer(), PRESET.prompt, PRESET.scale, cot=cot)
    ids = {word: index for index, word in enumerate(words.VOCABULARY)}
    assert encoder.score_tokens.label_ids == tuple(ids[digit] for digit in words.DIGITS)
    for row in prepared.train:
        text = f"{row['prompt']} " + (f"{row['annotator_cot']} so score is" if cot else "so score is")
        expected = [ids[word] for word in [words.BOS, *text.split(), f"{row['gold']:g}", words.EOS]]
        start = encoder.prompt_ids(judge_input(row))
        encoded = encoder.training_example(row["id"], start, row["annotator_cot"] if cot else None, row["gold"])
        assert encoded.input_ids == expected
        assert encoded.num_prompt == prompt
        assert encoded.score_position == len(expected) - 2


def test_every_row_is_accepted_and_the_tasks_are_the_triples(prepared):
    assert (len(prepared.train), prepared.problems) == (40, [])
    for row in prepared.train:
        assert row["instruction"].split() == sorted(row["criteria"].split())


def test_the_seed_model_is_determined_by_its_seed_and_small(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        seed_model.make(tmp_path / name, seed=seed, steps=2)
    weights = {name: tables.file_sha256(tmp_path / name / "model.safetensors") for name in ("one", "same", "other")}
    assert weights["one"] == weights["same"] != weights["other"]
    assert (tmp_path / "one" / "model.safetensors").stat().st_size / 4 == pytest.approx(0.27e6, rel=0.02)


def test_the_check_of_the_seed_model_sees_that_an_untrained_one_knows_nothing(tmp_path):
    found = seed_model.make(tmp_path, seed=1, steps=1)
    assert abs(found["adjective_r"]) < 0.15
    assert abs(found["digit_r"]) < 0.15


def test_only_the_training_seeds_differ_from_the_preset():
    text = preset.text(claims.PRESET)
    changed = yaml.safe_load(run.with_seeds(text, [7]))
    assert changed == {**yaml.safe_load(text), "seeds": [7]}


def test_the_targets_are_every_judge_of_every_training_seed_and_those_that_others_learn_from_come_first():
    found = run.targets(PRESET)
    assert [target for target in found if target.startswith("infer@")][:2] == ["infer@a1-21", "infer@b2-21"]
    wanted = {f"infer@{row}-{seed}" for row in PRESET.matrix.trained for seed in PRESET.seeds}
    wanted |= {f"gap@{row}-{seed}" for row in ("a1", "tract") for seed in PRESET.seeds}
    wanted |= {f"infer_cool@{row}-{seed}" for row in PRESET.matrix.cool for seed in PRESET.seeds}
    wanted |= {f"curve@{row}-{seed}" for row in ("b2", "tract") for seed in PRESET.seeds}
    wanted |= {f"perplexity@perplexity-{seed}" for seed in PRESET.seeds}
    assert sorted(found) == sorted(wanted)


# What the prototype measured with LoRA.
HOLDING = {
    ("tract", "rail", 1): 0.817,
    ("tract", "rail", 4): 0.827,
    ("b2", "mode", 1): 0.715,
    ("b2", "mode", 4): 0.793,
    ("b2", "sampled", 1): 0.715,
    ("b4", "rail", 1): 0.717,
    ("a1", "rail", 1): 0.727,
    ("a4", "rail", 1): 0.831,
    ("self_ce_b2", "rail", 1): 0.814,
    ("self_ce_a1", "rail", 1): 0.814,
    ("self_ce_a1", "mode", 1): 0.793,
    ("self_ce_a1", "sampled", 1): 0.693,
    # Not of the prototype, and only reported.
    ("cool_tract", "rail", 1): 0.821,
    ("cool_a1", "rail", 1): 0.803,
    ("cool_b2", "mode", 1): 0.807,
    ("rps", "rail", 1): 0.824,
    ("lambda_0_5", "rail", 1): 0.808,
    ("cool_rps", "rail", 1): 0.839,
}
GAP = {("a1", "training"): 0.133, ("a1", "own"): 1.068, ("tract", "training"): 0.776, ("tract", "own"): 0.799}


def judged(r=(), gap=(), verdict_r=(0.72,) * 4):
    """Claim -> whether it holds, after some numbers have changed; a number stands for all four seeds."""
    numbers = {
        place: [value] * 4 if isinstance(value, float) else value for place, value in {**HOLDING, **dict(r)}.items()
    }
    gaps = {place: [value] * 4 for place, value in {**GAP, **dict(gap)}.items()}
    results = claims.Results(r=lambda *place: numbers[place], gap=gaps, verdict_r=list(verdict_r))
    return {claim.text: claim.holds for claim in claims.claims(results)}


def test_the_numbers_of_the_prototype_hold_and_the_other_claims_are_only_reported():
    found = judged()
    assert sum(holds is True for holds in found.values()) == 7
    assert [text for text, holds in found.items() if holds is None][1:] == [text for text, _, _ in claims._REPORTED]


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"r": {("b2", "mode", 1): 0.768}}, "6 - B.2"),
        ({"r": {("b2", "mode", 1): [0.5, 0.5, 0.5, 0.82]}}, "6 - B.2"),
        ({"r": {("a1", "rail", 1): 0.768}}, "6 - A.1"),
        ({"r": {("b2", "mode", 4): 0.818}}, "6 (K=1) - B.2 (K=4)"),
        ({"r": {("tract", "rail", 4): 0.786}}, "6 (K=4) - 6 (K=1), absolute"),
        ({"gap": {("a1", "own"): 0.398}}, "p_s: RMSE own CoTs / annotator's"),
        ({"gap": {("tract", "own"): 0.877}}, "p_tract: RMSE own CoTs - training CoTs"),
        ({"r": {("b4", "rail", 1): 0.788}}, "6 - B.4"),
    ],
)
def test_each_claim_fails_just_beyond_its_threshold_and_alone(change, claim):
    found = judged(**change)
    assert [text for text, holds in found.items() if holds is False] == [claim]


def test_six_against_b4_is_not_asserted_where_the_stage_1_model_has_not_learnt_to_write_cots():
    assert judged(r={("b4", "rail", 1): 0.9}, verdict_r=(0.72, 0.72, 0.72, 0.67))["6 - B.4"] is None


def test_the_copies_lock_files_are_joined(tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    subprocess.run(["dvc", "init", "--no-scm", "--quiet", "--force"], check=True)
    for folder, stages in ((".", {"old": 1, "a": 1}), ("one", {"a": 2}), ("two", {"b": 3})):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    run.gather([tmp_path / "one", tmp_path / "two"])
    assert yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"] == {"old": 1, "a": 2, "b": 3}
