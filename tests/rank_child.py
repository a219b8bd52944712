"""Gradients of a training run on one rank: `torchrun --nproc_per_node 2 -m tests.rank_child MODEL OUT [drawn]`."""

import sys

import torch

from tests.conftest import SCALE, STYLE
from tests.tract_core.train import test_training
from tests.tract_core.train.conftest import make_drawn, make_examples
from tests.tract_core.train.test_drawn import ROUND
from tests.tract_core.train.test_training import gradients
from tract_core.model import models
from tract_core.text.encoding import Encoder


def main(folder: str, out: str, *drawn: str) -> None:
    seed_model = models.SeedModel(folder=folder, identity="tiny")
    encoder = Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)
    examples = make_drawn(encoder) if drawn else make_examples(encoder)
    if drawn:
        test_training.Objective.create = lambda **_: ROUND
    steps = gradients(examples, seed_model, encoder, micro_batch_size=1)
    if torch.distributed.get_rank() == 0:
        torch.save(steps, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
