"""A training on two ranks that a test can kill: `torchrun --nproc_per_node 2 -m tests.rank_training MODEL HOME STEP`.

At the end of step STEP (0: never) the second rank is killed, as an out-of-memory killer would do it.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from tests.conftest import SCALE, STYLE
from tests.tract_core.train import test_checkpoints as t
from tract_core.model import models
from tract_core.text.encoding import Encoder


def main(folder: str, home: str, step: int) -> None:
    seed_model = models.SeedModel(folder=Path(folder), identity="tiny")
    encoder = Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)

    def die():
        if torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with t.doing(t.Do(step, die)) as steps:
        t.train(t.make_examples(encoder), seed_model, encoder, Path(home), t.how(micro_batch_size=1))
    if torch.distributed.get_rank() == 0:
        (Path(home) / "taken").write_text(" ".join(map(str, steps.taken)))


if __name__ == "__main__":
    main(*sys.argv[1:3], int(sys.argv[3]))
