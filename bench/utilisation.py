"""What nvidia-smi saw while bench/gpu.sh ran each of its parts, as a table.

    python -m bench.utilisation     # after bench/gpu.sh, which calls it

Reads RESULTS/PART.csv: utilisation in percent, memory in MiB, power in W, a line for each 200 ms. All of a part is in
it, imports and the loading of models too.
"""

from pathlib import Path
from statistics import fmean

from bench import measuring


def samples(file: Path) -> tuple[list[tuple[float, float, float]], int]:
    """Utilisation, MiB and W; and how many lines were no such numbers (cut when nvidia-smi was stopped, or [N/A])."""
    found, unreadable = [], 0
    for line in file.read_text().splitlines(keepends=True):
        try:
            utilisation, memory, power = map(float, line.split(","))
        except ValueError:
            unreadable += 1
            continue
        if line.endswith("\n"):
            found.append((utilisation, memory, power))
        else:
            unreadable += 1
    return found, unreadable


def row(file: Path) -> dict[str, object]:
    found, unreadable = samples(file)
    if not found:
        return dict.fromkeys(_COLUMNS, "-") | {"part": file.stem, "samples": 0, "unreadable": unreadable}
    utilisations, memories, powers = zip(*found, strict=True)
    busy = [one for one in utilisations if one > 0]
    values = (
        file.stem,
        f"{fmean(utilisations):.0f}",
        f"{fmean(busy):.0f}" if busy else "-",
        f"{len(busy) / len(found):.0%}",
        f"{max(memories):.0f}",
        f"{fmean(powers):.0f}",
        len(found),
        unreadable,
    )
    return dict(zip(_COLUMNS, values, strict=True))


_COLUMNS = (
    "part",
    "utilisation, %",
    "utilisation where not 0, %",
    "time not 0",
    "peak memory, MiB",
    "power, W",
    "samples",
    "unreadable",
)


def main() -> None:
    rows = [row(file) for file in sorted(measuring.RESULTS.glob("*.csv"))]
    notes = [
        "Sampled by nvidia-smi every 200 ms over the whole of each part, imports and the loading of models included; "
        "utilisation is the share of a sample's time in which any kernel ran. Memory is all that processes hold of the "
        "GPU: vLLM takes its share at once. Peaks of a training step are in the tables train_step_*."
    ]
    measuring.write("utilisation", "Utilisation of the GPU", rows, notes, rows)


if __name__ == "__main__":
    main()
