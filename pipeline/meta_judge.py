"""Appendix B.1: a meta-judge rates the annotator's and p_s's CoTs, each with the original gold score appended.

Of several own CoTs of an example the first (k = 0) is rated; where it is bad, the example is left out.

Run:    dvc repro meta_judge
Reads:  artifacts/examples/train, artifacts/results/cots/a1/seed_N, the model named under `meta_judge`
Writes: artifacts/results/meta_judge/seed_N.json; replies are kept in work/meta_judge
"""

from tract_core.base import config, places, process, tables
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.model import loading
from tract_core.studies import asking, meta_judge
from tract_core.text import examples


def main() -> str:
    params, seed = config.load(), process.arguments("seed").seed
    judge = params.meta_judge
    assert judge is not None  # config demands it where the stage is listed
    _, encoder = loading.seed_model_and_encoder(params)
    annotated = examples.with_feedback(tables.read(places.TRAIN_EXAMPLES, "examples"))
    looked_at = examples.sample(annotated, judge.max_rows)
    cots = examples.first_cots(tables.read(places.own_cots("a1", seed), "cots"))
    own = examples.pair_with_own_cots(looked_at, cots, keep_bad=params.selfgen.on_bad_cot == "keep")
    ask, name = asking.meta_judge_model(params)
    question = meta_judge.load_prompt(judge.prompt_file)
    ratings = {}
    for source, pairs in {"annotator": [(example, example["annotator_cot"]) for example, _ in own], "a1": own}.items():
        prompts = [
            meta_judge.render(
                question, examples.judge_input(example), cot, _written(encoder.scale, example), encoder.style
            )
            for example, cot in pairs
        ]
        ratings[source] = meta_judge.rate(prompts, ask, name=name, folder="work/meta_judge")
    compared = meta_judge.compare(ratings["annotator"].values, ratings["a1"].values, level=params.statistics.level)
    found = {"annotator": compared["a"], "a1": compared["b"], "annotator minus a1": compared["difference"]}
    out, asked = places.meta_judge_file(seed), sum(rated.num_calls for rated in ratings.values())
    tables.write_json(out, {"judge": name, **found})
    return f"the annotator's and a1's CoTs of {len(own)} examples rated, {asked} questions asked -> {out}"


def _written(scale: ScoreScale, example: Record) -> str:
    """The label of the score that the example's text ends with in training."""
    return scale.label(scale.written(example["gold_scores"]))


if __name__ == "__main__":
    process.run(main)
