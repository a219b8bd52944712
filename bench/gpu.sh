#!/usr/bin/env bash
# One command for a machine with a GPU: parity, seconds of a step, tokens/s, CoTs/s, peak memory, utilisation.
#   bench/gpu.sh           the tables go to bench/results/gpu
#   bench/gpu.sh --bare    on a lent machine without our environment (bench/bare.sh); --pack: what is carried there
#   bench/gpu.sh --smoke   every line of this script without a GPU: small, on the CPU, with a made-up nvidia-smi; the
#                          tables go to work/gpu-smoke and are no results
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
cases=(b1 b4 b8) repeats=5 cot=250
export BENCH_RESULTS=bench/results/gpu
fail() { echo "bench/gpu.sh: $1" >&2; exit 2; }
case "${1-}" in
  "")
    nvidia-smi -L || fail "no GPU (nvidia-smi -L fails); --smoke tries this script without one"
    "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" ||
      fail "torch sees no GPU; \`make env\` on this machine installs the build that does"
    ;;
  --smoke)
    echo "bench/gpu.sh: SMOKE RUN WITHOUT A GPU: what follows is the CPU's, its utilisation is made up, no number counts"
    cases=(b4) repeats=1 cot=8
    export BENCH_RESULTS=work/gpu-smoke PATH="$PWD/tests/bench/made_up:$PATH"
    ;;
  --bare) exec bash bench/bare.sh "${@:2}" ;;
  --pack) exec bash bench/bare.sh --pack ;;
  *) fail "usage: bench/gpu.sh [--smoke | --bare ... | --pack]" ;;
esac
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES%%,*}
mkdir -p "$BENCH_RESULTS"

sampler=
stop() { # a sampler that ended by itself shows as a part with few samples
  [ -z "$sampler" ] || { kill "$sampler" 2>/dev/null || true; wait "$sampler" || true; }
  sampler=
}
trap stop EXIT
part() { # NAME MODULE ARGUMENTS...: run a benchmark while nvidia-smi looks at the GPU every 200 ms
  nvidia-smi -i "$CUDA_VISIBLE_DEVICES" --query-gpu=utilization.gpu,memory.used,power.draw \
    --format=csv,noheader,nounits -lms 200 >"$BENCH_RESULTS/$1.csv" &
  sampler=$!
  "$python" -m "${@:2}"
  stop
}

for case in "${cases[@]}"; do part "train_step_$case" bench.train_step --cases "$case" --repeats "$repeats"; done
part sampling bench.sampling --repeats "$repeats" --cot "$cot"
"$python" -m bench.utilisation
