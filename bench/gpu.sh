#!/usr/bin/env bash
# Training on one GPU, one command: parity with the released loss, seconds of a step, utilisation, peak memory.
# Written without a GPU at hand: on a CPU it runs the same benchmark and says that there was none.
#   bench/gpu.sh [--cases b1 b4 b8] [--repeats 5]
set -euo pipefail
cd "$(dirname "$0")/.."
out=bench/results/gpu_utilisation.csv
mkdir -p bench/results
if nvidia-smi -L 2>/dev/null; then
  nvidia-smi --query-gpu=timestamp,utilization.gpu,memory.used,power.draw --format=csv,noheader,nounits -lms 200 >"$out" &
  sampler=$!
  trap 'kill "$sampler"' EXIT
else
  echo "bench/gpu.sh: no GPU; the numbers below are the CPU's" >&2
fi
[ $# -gt 0 ] || set -- --cases b1 b4 b8
.venv/bin/python -m bench.train_step "$@"
if [ -s "$out" ]; then
  awk -F', ' '{ used += $2; if ($3 > peak) peak = $3 }
    END { printf "GPU busy %.0f %% of the samples, peak %d MiB\n", used / NR, peak }' "$out"
fi
