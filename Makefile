# Everything a user or CI calls. `make repro` and `make test` work on a fresh clone with nothing installed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
REQUIREMENTS := $(wildcard requirements*.txt) tools/make_env.sh
READY := .venv/.ready
# Stages call `python` and `dvc`: those of the environment.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help env rows plots repro repro-tiny world world-claims world-vary quick test test-all check preset format plan rehearse lock audit
help:  ## this list
	@awk -F':[^#]*## +' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' Makefile

env: $(READY)  ## the environment in .venv; every target below that needs it makes it

$(READY): $(REQUIREMENTS)
	tools/make_env.sh
	touch $@

repro: env  ## the default parameters, end to end, then a table of the metrics
	python -m pipeline.validate
	dvc repro
	python -m pipeline.show

repro-tiny: env  ## every stage in about a minute on a random model
	python -m pipeline.preset tiny
	test -d work/models/tiny || python -m tests.tiny work/models/tiny
	dvc repro
	python -m pipeline.show

world: env  ## the synthetic task of docs/world.md, from nothing to its report; SEEDS="21" runs one training seed
	python -m bench.world.run $(if $(SEEDS),--seeds $(SEEDS))
	python -m bench.world.claims --report

world-vary: env  ## the world with one thing changed at a time (docs/world.md): leak, size, loss, CoTs, data; 40 minutes
	python -m bench.world.vary

world-claims: env  ## after `make world`: fails where a claim of docs/world.md does not hold
	python -m bench.world.claims

preset: env  ## make preset P=NAME: writes params.yaml from presets/base.yaml and NAME.yaml; a copy of an edited one is kept
	python -m pipeline.preset $(P)

rows: env  ## make rows R="tract b3 b4": which rows run, with all that they need; without R after an edit of matrix.scored
	python -m pipeline.rows $(R)

plots: env  ## dvc_plots/index.html: what `dvc plots show` draws, with its scripts inside; needs no network
	python tools/plots.py

plan: env  ## what dvc repro would run now, and its projected cost; D=h100 R=8 N=2: 8 such devices in each of 2 machines
	python -m pipeline.plan --device $(or $(D),cpu) --replicas $(or $(R),1) --nodes $(or $(N),1)

rehearse: env  ## make rehearse P=paper-mistral-7b: every stage of a preset in small on the CPU, before its GPU hours (docs/plan.md)
	python -m bench.rehearse.run $(P) $(if $(TOKENIZER),--tokenizer $(TOKENIZER))

check: env  ## lint, format, types
	ruff check .
	ruff format --check .
	mypy

format: env  ## what ruff can mend by itself
	ruff check --fix .
	ruff format .

PYTEST := OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

quick: env  ## unit tests: no pipeline, no real model; T=path narrows, here and below
	$(PYTEST) -m "not pipeline and not real and not faults" $(T)

test: env  ## those, `dvc repro` of a tiny model, and the small real model: what to run after a change
	$(PYTEST) -m "not faults and not every" $(T)

test-all: env  ## everything: also every row of the paper, DVC's experiments, kills, full disks and mutated inputs
	$(PYTEST) $(T)

lock:  ## after a change of a direct pin: a fresh CPU environment from the direct pins alone, all its versions written down
	@! nvidia-smi -L >/dev/null 2>&1 || { echo "make lock: writes the lock of the CPU environment; run it without a GPU" >&2; exit 2; }
	rm -rf work/lock-env
	VENV=work/lock-env LOCK= tools/make_env.sh
	work/lock-env/bin/python -m pip install -q --disable-pip-version-check -r requirements-4bit.txt -r requirements-ray.txt -r requirements-remotes.txt -r requirements-servers.txt
	{ grep '^#' requirements-lock-cpu.txt; work/lock-env/bin/python -m pip freeze --all --exclude pip | LC_ALL=C sort -f; } >work/lock.txt
	mv work/lock.txt requirements-lock-cpu.txt
	rm -rf work/lock-env

audit:  ## known vulnerabilities in the packages of the lock; needs an advisory database on the network
	tools/audit.sh
