"""Write the world's data and seed model, where presets/world.yaml looks for them.

    python -m bench.world.make [--data-seed 20] [--leak 0.95] [--rows 6000]

Writes data/world/{train,id,ood}.jsonl and, unless it is there, work/models/world (p_0, about three minutes).
"""

import argparse
import json
from pathlib import Path
from typing import Any

from bench.world import items, seed_model
from tract_core.base import tables

DATA, MODEL = Path("data/world"), Path("work/models/world")
TRAIN_ROWS, TEST_ROWS = 6000, 1000
SEED = 20
"""Of the reported data, and of p_0; no setting was chosen on them (development has its own data: seed 100)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    write(parser.parse_args())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the data depends on; the defaults are the reported world."""
    parser.add_argument("--data-seed", type=int, default=SEED)
    parser.add_argument(
        "--leak", type=float, default=items.LEAK, help="share of verdict words that tell the gold score"
    )
    parser.add_argument("--rows", type=int, default=TRAIN_ROWS, help="training items")


def write(given: argparse.Namespace) -> None:
    """The data, and p_0 if it is not there yet."""
    write_data(DATA, given.data_seed, leak=given.leak, number=given.rows)
    write_seed_model()


def write_data(folder: Path, seed: int = SEED, **how: Any) -> None:
    """`how`: see tables_of."""
    for name, rows in tables_of(seed, **how).items():
        tables.write_text(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def write_seed_model() -> None:
    """p_0, if it is not there yet."""
    if not MODEL.exists():
        with tables.atomic_folder(MODEL) as draft:
            found = seed_model.make(draft, seed=SEED)
        print(f"{MODEL}: {', '.join(f'{name} {value:.3f}' for name, value in found.items())}", flush=True)


def tables_of(
    seed: int, *, leak: float = items.LEAK, number: int = TRAIN_ROWS, blind: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """The training table and both test sets, whose rubrics are triples that training never sees."""
    seen, held_out = items.triples(seed)
    shared: dict[str, Any] = {"seed": seed, "leak": leak, "blind": blind}
    test = {**shared, "choice": held_out, "number": TEST_ROWS}
    return {
        "train": items.rows("train", choice=seen, text=items.IN_DISTRIBUTION, number=number, **shared),
        "id": items.rows("id", text=items.IN_DISTRIBUTION, **test),
        "ood": items.rows("ood", text=items.OUT_OF_DISTRIBUTION, **test),
    }


if __name__ == "__main__":
    main()
