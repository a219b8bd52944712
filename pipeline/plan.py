"""What `dvc repro` would do now, and what it costs on a named device: `python -m pipeline.plan --device h100`.

Runs no stage. The costs are projections from arithmetic (tract_core/plan/cost.py), not measurements.
"""

import argparse
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean

from transformers import AutoConfig

from tract_core.base import config, places, process, tables, terminal
from tract_core.base.config import Params
from tract_core.base.errors import UserError
from tract_core.base.tables import Record
from tract_core.model import loading
from tract_core.plan import states, workload
from tract_core.plan.cost import DEVICES, Cost, Device, Sizes
from tract_core.plan.states import State
from tract_core.text import examples
from tract_core.text.encoding import Encoder
from tract_core.train.memory import GIB, Shape

_LOOKED_AT = 200
_STATES: tuple[State, ...] = ("valid", "cached", "remote", "runs")


def main() -> str:
    parser = process.Parser()
    parser.add_argument("--device", choices=sorted(DEVICES), default="cpu")
    parser.add_argument("--replicas", type=at_least_one, default=1, help="devices of one machine")
    parser.add_argument("--nodes", type=at_least_one, default=1, help="machines")
    given = parser.parse_args()
    device, devices = DEVICES[given.device], given.replicas * given.nodes
    if not places.TRAIN_EXAMPLES.exists():
        raise UserError("the examples are not there yet; run `dvc repro check` first (no model is loaded)")
    found = states.stage_states()
    running = [stage for stage, state in found.items() if state == "runs"]
    costs = projected(config.load(), device, running, devices=devices)
    terminal.say(terminal.out(), "\n".join(table(found, costs, device)))
    whole, name = total(costs.values()), device.name if devices == 1 else f"{devices} x {device.name}"
    return f"projected for {name}: {hours(whole.seconds)}, {size(whole.disk)} of new artifacts"


def at_least_one(text: str) -> int:
    """A number from the command line."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def projected(params: Params, device: Device, stages: Iterable[str], *, devices: int = 1) -> dict[str, Cost]:
    """The cost of those of the stages that load the model; reads the training examples."""
    train = tables.read(places.TRAIN_EXAMPLES, "examples")
    judged = sum(tables.num_rows(folder, "examples") for folder in places.BENCHMARKS.iterdir())
    # Of the same config and tokenizer: a plan rounds no weights to 4 bits.
    published = params.model.model_copy(update={"load_in_4bit": False})
    seed_model, encoder = loading.seed_model_and_encoder(params.model_copy(update={"model": published}))
    shape = Shape.create(AutoConfig.from_pretrained(seed_model.folder, trust_remote_code=False))
    sizes = mean_lengths(train, encoder)
    done = {stage: workload.of_stage(stage, params, len(train), judged) for stage in stages}
    return {
        stage: workload.projected(one, shape, device, sizes, params, devices=devices)
        for stage, one in done.items()
        if one
    }


def mean_lengths(train: Sequence[Record], encoder: Encoder) -> Sizes:
    """Mean tokens of at most 200 training examples; generated CoTs are taken to be as long as the annotator's."""
    looked_at = examples.sample(train, _LOOKED_AT)
    lengths = [len(encoder.cot_ids(example["annotator_cot"])) for example in examples.with_feedback(looked_at)]
    tail = encoder.score_length + 1
    return Sizes(
        prompt=fmean(len(encoder.prompt_ids(examples.judge_input(example))) for example in looked_at),
        cot=fmean(lengths or [0]) + tail,
        nodes=len(encoder.score_tokens.trie.nodes),
    )


def table(found: Mapping[str, State], costs: Mapping[str, Cost], device: Device) -> list[str]:
    """One line for each family of stages: how many are in which state, and the cost of those that run."""
    lines = [f"{'stage':<18}" + "".join(f"{state:>8}" for state in _STATES) + f"{'time':>10}{'memory':>11}{'disk':>11}"]
    for family in dict.fromkeys(stage.partition("@")[0] for stage in found):
        members = [stage for stage in found if stage.partition("@")[0] == family]
        line = f"{family:<18}" + "".join(f"{sum(found[one] == state for one in members):>8}" for state in _STATES)
        if running := [costs[stage] for stage in members if stage in costs]:
            one = total(running)
            line += f"{hours(one.seconds):>10}{size(one.memory):>11}{size(one.disk):>11}"
            line += f"  more than the {size(device.memory)} of {device.name}" if one.memory >= device.memory else ""
        lines.append(line)
    return lines


def total(costs: Collection[Cost]) -> Cost:
    """One after the other: times and disk add up, the memory is the largest."""
    times, peaks, disks = zip(*costs, strict=True) if costs else ([], [0.0], [])
    return Cost(sum(times), max(peaks), sum(disks))


def hours(seconds: float) -> str:
    """Minutes below two hours."""
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(number: float) -> str:
    """Bytes as KiB, MiB or GiB."""
    power, unit = (3, "GiB") if number >= GIB else (2, "MiB") if number >= 2**20 else (1, "KiB")
    return f"{number / 1024**power:.1f} {unit}"


if __name__ == "__main__":
    process.run(main)
