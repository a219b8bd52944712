"""A training on several ranks that a test can kill: `torchrun ... -m tests.rank_training MODEL HOME [OPTION ...]`.

Each rank has a folder of its own in HOME, as if it had a disk of its own.
"""

import argparse
import dataclasses
import os
import signal
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.conftest import SCALE, STYLE
from tests.tract_core.train import test_checkpoints as t
from tests.tract_core.train.conftest import in_float64, make_examples
from tract_core.model import models
from tract_core.text.encoding import Encoder

RANK, START = (int(os.environ.get(name, "0")) for name in ("RANK", "TORCHELASTIC_RESTART_COUNT"))


def die():
    """The second rank, as an out-of-memory killer would do it."""
    if RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def exact():
    """Loops in float64, so that what is compared is the arithmetic and not float32's rounding, which Adam enlarges."""
    add = models.add_lora
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "add_lora", lambda *args: in_float64(add(*args)))
        yield


def without_dropout(recipe):
    return dataclasses.replace(recipe, lora=t.PRESET.lora)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("home", type=Path)
    each = {"type": int, "nargs": "+", "default": []}  # for the first start by the launcher, the second, and so on
    parser.add_argument("--kill-at", help="the step at whose end the second rank is killed", **each)
    parser.add_argument("--shard", help="whether the frozen weights are spread over the ranks, 1 or 0", **each)
    parser.add_argument("--exact", action="store_true", help="in float64, without dropout, which each rank draws anew")
    parser.add_argument("--other-data", action="store_true", help="the second rank has examples of its own")
    given = parser.parse_args()
    home = given.home / f"rank_{RANK}"
    home.mkdir(parents=True, exist_ok=True)
    seed_model = models.SeedModel(folder=given.model, identity="tiny")
    encoder = Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)
    what = t.how(micro_batch_size=1, shard=dict(enumerate(given.shard)).get(START) == 1)
    if given.exact:
        what = without_dropout(what)
    data = {"examples": "other" if given.other_data and RANK == 1 else "hash"}
    with (
        exact() if given.exact else nullcontext(),
        t.doing(t.Do(dict(enumerate(given.kill_at)).get(START), die)) as steps,
    ):
        t.train(make_examples(encoder), seed_model, encoder, home, what, data)
    (home / "taken").write_text(" ".join(map(str, steps.taken)))


if __name__ == "__main__":
    main()
