"""Row B.5: a judge that somebody else trained, by one of two protocols.

Run:    dvc repro infer_external
Reads:  artifacts/examples/benchmarks, the judge named under `external`
Writes: artifacts/results/predictions/b5_PROTOCOL/untrained
"""

from tract_core.base import config, places, process
from tract_core.generate import generators


def main() -> str:
    params, protocol = config.load(), process.arguments("protocol").protocol
    out = places.predictions(f"b5_{protocol}", None)
    return generators.external_judgements(params, protocol, params.infer.num_samples, out)


if __name__ == "__main__":
    process.run(main)
