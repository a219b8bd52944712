"""Figure 3: many CoTs of the external judge; those that `infer_external` drew are taken from the store.

Run:    dvc repro curve_external
Reads:  artifacts/examples/benchmarks, the judge named under `external`
Writes: artifacts/results/curve/b5_PROTOCOL/untrained
"""

from pipeline import common, drawing
from tract_core import config


def main() -> str:
    params, protocol = config.load(), common.arguments("protocol").protocol
    out = common.curve(f"b5_{protocol}", None)
    return drawing.external_judgements(params, protocol, params.curve.num_samples, out)


if __name__ == "__main__":
    common.run(main)
