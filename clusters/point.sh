#!/usr/bin/env bash
# One point of a sweep, in a clone of its own, on any cluster (docs/clusters.md):
#   clusters/point.sh REPOSITORY COMMIT CLONE CONFIG [KEY=VALUE ...]
#   REPOSITORY  folder or address to clone from
#   COMMIT      what to check out of it, so that points that start at different hours run the same code
#   CLONE       where to; on a disk that outlives the job, since its `work` folder holds what an ended job had done
#   CONFIG      becomes the clone's .dvc/config.local: the shared cache, and this user's access to the remote
#   KEY=VALUE   what differs from that commit's params.yaml, as in loss.lambda=2.0
# Called again with the same CLONE it goes on. Exit 0: done; 143: stopped by SIGTERM or SIGINT, and what was done is
# kept (under SLURM the job is queued again); any other: that of the command that failed.
set -euo pipefail
repository=$1 commit=$2 clone=$(realpath -m "$3") config=$(realpath "$4")
shift 4
export SHELL=/bin/bash # DVC runs a stage through it; dash would stay in between, and a signal would end at it

stopped='' child=''
stop() {
  stopped=yes
  # A stage that gets the signal saves; `dvc` then ends by itself. Where no stage runs, `dvc` gets it.
  # shellcheck disable=SC2046 # one word for each child
  kill -TERM $(cat "/proc/$child/task/"*/children) 2>/dev/null || kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM INT

run() { # in the background, since bash answers a signal only while it waits
  local code=0
  "$@" &
  child=$!
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do # a signal ended the wait, not the command
    code=0
    wait "$child" || code=$?
  done
  [ -z "$stopped" ] || leave
  return "$code"
}

leave() { # under SLURM back into the queue
  local job=${SLURM_JOB_ID:-}
  # SLURM_JOB_ID of an array's last job is that of the whole array.
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  # A job that somebody cancels gets the signal as well, but SLURM no longer calls it running.
  if [ -n "$job" ] && [ "$(squeue --noheader --jobs "$job" --format %T)" = RUNNING ]; then
    scontrol requeue "$job"
  fi
  exit 143
}

[ -f "$config" ] || { echo "$config is missing: it says where the shared cache is (docs/clusters.md)" >&2; exit 2; }
mkdir -p "$(dirname "$clone")"
exec 9>"$clone.lock"
flock --nonblock 9 || { echo "$clone: another job works in this clone" >&2; exit 2; }
if [ ! -d "$clone" ]; then
  rm -rf "$clone.draft"
  run git clone --quiet "$repository" "$clone.draft"
  git -C "$clone.draft" checkout --quiet --detach "$commit"
  mv "$clone.draft" "$clone"
fi
cd "$clone"
cp "$config" .dvc/config.local
rm -f .dvc/tmp/rwlock # of a job that was killed, perhaps on another machine

remote=$(dvc config core.remote || true)
[ -z "$remote" ] || run dvc fetch --run-cache
run dvc exp run ${remote:+--pull} "${@/#/--set-param=}"
[ -z "$remote" ] || run dvc push --run-cache
echo "$clone: done"
