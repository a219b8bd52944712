"""Our training: `python -m bench.peers.ours_sft cot_raft|ce MODEL ROWS STEPS OUT`."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from bench import train_step
from bench.peers.shared import SETTINGS, Recorder
from pipeline import preset
from tract_core.base.scale import ScoreTokens
from tract_core.model.models import SeedModel
from tract_core.model.objectives import Objective
from tract_core.text.encoding import Encoded
from tract_core.train import training

PARAMS = preset.load("laptop-paper")


def read_rows(path: str | Path) -> list[Encoded]:
    """As bench/peers/run.py wrote them: labels are the targets; the last one ends the turn, the one before scores."""
    examples = []
    for number, row in enumerate(json.loads(Path(path).read_text())):
        ids, num_prompt = row["input_ids"], row["labels"].count(-100)
        place = {"num_prompt": num_prompt, "score_position": len(ids) - 2}
        examples.append(Encoded(id=str(number), input_ids=ids, gold=row["gold"], **place))
    return examples


def recipe(kind: str, batch: int, steps: int) -> training.Recipe:
    """All rows in one batch, so that an epoch is a step."""
    objective = Objective.create(
        kind=kind, lam=1.0, normalization="authors", authors_batch=batch, ce_on_score="auto", ce_on_eos=True
    )
    sizes = {"batch_size": batch, "micro_batch_size": batch, "epochs": steps}
    settings = PARAMS.train.model_copy(
        update=sizes | {name: SETTINGS[name] for name in ("learning_rate", "max_grad_norm")}
    )
    sections = {name: getattr(PARAMS, name) for name in ("model", "prompt", "scale", "lora")}
    return training.Recipe(**sections, train=settings, objective=objective, run_seed=SETTINGS["seed"])


def main(kind: str, model: str, rows: str, steps: str, out: str) -> None:
    examples = read_rows(rows)
    # What is asked of an encoder; the rows are ids already.
    encoder = SimpleNamespace(
        score_tokens=ScoreTokens(delimiter_ids=(), label_paths=tuple((label,) for label in train_step.LABELS)),
        scale=SimpleNamespace(values=train_step.VALUES),
    )
    seed_model = SeedModel(folder=Path(model), identity="given")
    loop = training._build_loop(examples, recipe(kind, len(examples), int(steps)), seed_model, encoder, None)
    recorder = Recorder(out)
    recorder.on_train_begin(None, None, None, model=loop.module)
    loop.optimizer.register_step_pre_hook(
        lambda *_: recorder.on_pre_optimizer_step(None, SimpleNamespace(global_step=loop.step), None, model=loop.module)
    )
    loop.optimizer.register_step_post_hook(lambda *_: recorder.on_step_end(None, None, None))
    loop.run()
    recorder.losses = [record["loss"] for record in loop.records]
    recorder.report({})


if __name__ == "__main__":
    main(*sys.argv[1:])
