"""Row B.5: a judge that somebody else trained, by one of its protocols, on all benchmarks.

Run:    dvc repro infer_external
        dvc repro curve_external  Figure 3: more CoTs (--curve), the first ones those that `infer_external` drew
Reads:  artifacts/examples/benchmarks, the judge named under `external`, a model or an endpoint
Writes: artifacts/results/predictions/b5_PROTOCOL/untrained (--curve: artifacts/results/curve/b5_PROTOCOL/untrained)
"""

from tract_core.base import config, places, process
from tract_core.generate import generators


def main() -> str:
    params, given = config.load(), process.arguments("protocol", flags=["curve"])
    num_samples = params.curve.num_samples if given.curve else params.infer.num_samples
    out = places.curve if given.curve else places.predictions
    return generators.external_judgements(params, given.protocol, num_samples, out(f"b5_{given.protocol}", None))


if __name__ == "__main__":
    process.run(main)
