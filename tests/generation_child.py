"""One generation for tests that kill it: `python -m tests.generation_child ENGINE MODEL HOME NUM_SAMPLES [REPLICAS]`.

HOME gets the store (work), a table of predictions, and `asked`: a line with the names of the requests of each batch.
"""

import sys
from pathlib import Path

from tests.conftest import SCALE, STYLE
from tests.tract_core.generate.test_generation import examples
from tract_core.base import config, process, tables
from tract_core.generate import generation
from tract_core.generate.engine import open_engine
from tract_core.generate.generation import Generator
from tract_core.model import models
from tract_core.text.encoding import Encoder

SAMPLING = config.Sampling(temperature=1.0, top_p=0.9, repetition_penalty=1.03, max_new_tokens=12)
ROWS = [{**row, "response": row["response"] * (1 + 7 * number)} for number, row in enumerate(examples(10))]
"""Of very different lengths, so that padding depends on the batch."""


class Noting:
    """An engine that writes down what it is asked, batch by batch, before it answers."""

    def __init__(self, engine, file):
        self.engine, self.file = engine, file

    def generate(self, batches, *, score):
        def noted():
            for batch in batches:
                with self.file.open("a") as file:
                    file.write(" ".join(request.key for request in batch) + "\n")
                yield batch

        yield from self.engine.generate(noted(), score=score)


def main(name: str, model: str, home: str, num_samples: int, replicas: int = 1) -> str:
    seed_model = models.SeedModel(folder=Path(model), identity="tiny")
    out = Path(home)
    generation.open_engine = lambda *arguments: Noting(open_engine(*arguments), out / "asked")
    generator = Generator(
        Encoder(models.load_tokenizer(seed_model), STYLE, SCALE),
        model=config.Model(source="x", revision=None, dtype="float32", max_length=2048),
        sampling=SAMPLING,
        engine=config.Engine(name=name, batch_size=4, memory=1.0, replicas=replicas),
        seed_model=seed_model,
        adapter=None,
        stage="infer",
        work=out / "work",
    )
    rows = list(generation.infer(generator, ROWS, seeds=[1, 2], num_samples=num_samples))
    tables.write(out / "table", "predictions", rows, generator.origin)
    return generation.describe(rows)


if __name__ == "__main__":
    process.run(lambda: main(*sys.argv[1:4], *map(int, sys.argv[4:])))
