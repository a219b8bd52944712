"""What scales of several tokens cost: a training step, and the reading of a score, on 1..5, 1..10 and 0..100.

    OMP_NUM_THREADS=1 python -m bench.scales                            # about 5 minutes
    OMP_NUM_THREADS=1 python -m bench.scales --layers 3 --repeats 2     # the first 3 of 30 layers, for a busy machine

SmolLM2-135M, prompt 1,300, completion 250, batch 1. Its tokenizer splits numbers into digits, so these scales have 1, 2
and 11 nodes (tract_core/base/label_trie.py).
"""

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial

from transformers import PreTrainedModel

from bench import measuring, train_step
from pipeline import preset
from tract_core.base.scale import ScoreScale
from tract_core.generate.engine import Decoding, Request
from tract_core.generate.engine.hf import TransformersEngine
from tract_core.model import models
from tract_core.text.encoding import Encoder
from tract_core.text.prompts import PromptStyle
from tract_core.train.batching import Collate
from tract_core.train.loop import LossModule

LENGTH = (1300, 250)
SCALES = {
    "1 to 5": ScoreScale.create(range(1, 6)),
    "1 to 10": ScoreScale.create(range(1, 11)),
    "0 to 100": ScoreScale.create(range(101)),
}


def encoder(scale: ScoreScale) -> Encoder:
    """The default preset's, on another scale."""
    params = preset.load("laptop-paper")
    style = PromptStyle(
        source="template", format_text="aligned", use_reference=True, delimiter=params.prompt.delimiter,
        labels=scale.labels,
    )  # fmt: skip
    return Encoder(models.load_tokenizer(models.resolve(params.model)), style, scale)


def cut(layers: int) -> PreTrainedModel:
    """The model with its first layers alone; the head, to which branches add rows, then weighs more."""
    model = models.load_model(models.resolve(preset.load("laptop-paper").model), measuring.DTYPE)
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    return model


def training_step(step: train_step.Step, scale: ScoreScale) -> Callable[[], None]:
    """A whole step on one row whose score is the highest of the scale; sequences differ by its tokens alone."""
    tokens, (row,) = encoder(scale).score_tokens, train_step.rows([LENGTH])
    gold, trie = scale.values[-1], None if tokens.trie.is_flat else tokens.trie
    row = dataclasses.replace(
        row, input_ids=[*row.input_ids[:-2], *tokens.label_paths[-1], row.input_ids[-1]], gold=gold
    )
    module = LossModule(step.model, step.module.objective, trie or tokens.label_ids, scale.values).to(step.device)
    batch = Collate(ce_on_score=False, ce_on_eos=True, trie=trie)([(row, True)])

    def run() -> None:
        step.module, step.ours = module, train_step._moved(batch, step.device)
        step.run(train_step.OURS)

    return run


def reading(engine: TransformersEngine) -> None:
    """One score behind a CoT that is given: its whole context, then each node from the cache."""
    prompt, cot = (list(range(100, 100 + n)) for n in LENGTH)
    (found,) = engine.generate([[Request(key="a", prompt_ids=prompt, seed=1, cot_ids=cot)]], score=True)
    assert found[0].score is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=30)
    given = parser.parse_args()
    repeats, first = given.repeats, next(iter(SCALES))
    step = train_step.Step([LENGTH], cut(given.layers))
    trained = measuring.interleaved({name: training_step(step, scale) for name, scale in SCALES.items()}, repeats)
    params = preset.load("laptop-paper")
    model = cut(given.layers)
    decodings = {
        name: Decoding(encoder=encoder(s), sampling=params.sampling, max_length=2048) for name, s in SCALES.items()
    }
    engines = {name: partial(reading, TransformersEngine(model, decoding)) for name, decoding in decodings.items()}
    read = measuring.interleaved(engines, repeats)
    table = [
        {"scale": name, "nodes": len(decodings[name].trie.nodes), "what": what, **times[name].columns(times[first])}
        for what, times in (("training step", trained), ("reading a score, transformers", read))
        for name in SCALES
    ]
    notes = [
        f"{given.layers} layers, prompt {LENGTH[0]}, completion {LENGTH[1]}, batch 1; ratios are to 1 to 5. A score is "
        "read behind a given CoT, so the whole context is computed first. In a run the CoT was drawn just before, and "
        "vLLM has it in its cache.",
    ]
    data = {
        what: {name: vars(found) for name, found in times.items()}
        for what, times in (("train", trained), ("read", read))
    }
    measuring.write("scales", "Scales of several tokens", table, notes, data)


if __name__ == "__main__":
    main()
