"""The world: a synthetic judge task with the paper's mechanism, small enough for two CPU cores.

An annotator who knows the gold score writes CoTs whose last words give it away; the CoTs that the judge writes itself
are noisy. Here is data and a seed model only (`words`, `items`, `seed_model`, written out by `make`); everything after
that is the pipeline with presets/world.yaml. `run` is that in one command, `claims` compares the outcome with what
the paper says. docs/world.md has the task, the decisions and the results.
"""
