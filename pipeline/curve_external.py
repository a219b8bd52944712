"""Figure 3: many CoTs of the external judge; those that `infer_external` drew are taken from the store.

Run:    dvc repro curve_external
Reads:  artifacts/examples/benchmarks, the judge named under `external`
Writes: artifacts/results/curve/b5_PROTOCOL/untrained
"""

from tract_core.base import config, places, process
from tract_core.generate import generators


def main() -> str:
    params, protocol = config.load(), process.arguments("protocol").protocol
    out = places.curve(f"b5_{protocol}", None)
    return generators.external_judgements(params, protocol, params.curve.num_samples, out)


if __name__ == "__main__":
    process.run(main)
