#!/usr/bin/env bash
# Environments of the peers, in $PEERS (default work/peers): about 4 minutes and 4 GB. CPU builds of torch.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=${PEERS:-work/peers}
torch=$(grep '^torch==' requirements-cpu.txt)
install() { # NAME REQUIREMENT...
  local python="$peers/$1/bin/python"
  [ -x "$python" ] || .venv/bin/python -m venv "$peers/$1"
  "$python" -m pip install -q --disable-pip-version-check --extra-index-url https://download.pytorch.org/whl/cpu "$torch" "${@:2}"
  # Their general builds do not import beside the CPU build of torch, and text models need neither.
  "$python" -m pip uninstall -q -y torchvision torchaudio
  "$python" -c "import torch, transformers, peft; print('$1: torch', torch.__version__, 'transformers', transformers.__version__)"
}
install trl trl==1.16.0 transformers==5.19.0 peft==0.21.2 datasets==5.2.0 accelerate==1.15.0
install llamafactory llamafactory==0.9.5
