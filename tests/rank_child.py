"""Gradients of a training run on one rank: `torchrun --nproc_per_node 2 -m tests.rank_child MODEL OUT`."""

import sys

import torch

from tests.conftest import SCALE, STYLE
from tests.tract_core.train.conftest import make_examples
from tests.tract_core.train.test_training import gradients
from tract_core.model import models
from tract_core.text.encoding import Encoder


def main(folder: str, out: str) -> None:
    seed_model = models.SeedModel(folder=folder, identity="tiny")
    encoder = Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)
    steps = gradients(make_examples(encoder), seed_model, encoder, micro_batch_size=1)
    if torch.distributed.get_rank() == 0:
        torch.save(steps, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
