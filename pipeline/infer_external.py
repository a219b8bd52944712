"""Row B.5: a judge that somebody else trained, by one of two protocols.

Run:    dvc repro infer_external
Reads:  artifacts/examples/benchmarks, the judge named under `external`
Writes: artifacts/results/predictions/b5_PROTOCOL/untrained
"""

from pipeline import common, drawing
from tract_core import config


def main() -> str:
    params, protocol = config.load(), common.arguments("protocol").protocol
    out = common.predictions(f"b5_{protocol}", None)
    return drawing.external_judgements(params, protocol, params.infer.num_samples, out)


if __name__ == "__main__":
    common.run(main)
