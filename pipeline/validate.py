"""Check params.yaml as a whole, also what no stage would read now: `python -m pipeline.validate`."""

from pipeline import common
from tract_core import config


def main() -> str:
    config.load()
    return "params.yaml is complete and in range"


if __name__ == "__main__":
    common.run(main)
