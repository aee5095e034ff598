#!/usr/bin/env bash
# Resolve the dependencies again and write locks/. Needs uv.
#   base.txt  counterclaim alone      dev.txt  with what the tests need      all.txt  with every extra
# pyproject.toml says what works, the locks what is tested: pip constraints (pip install -c). all.txt names none of CUDA's packages: torch pins those itself, and
# whoever installs a CPU build must not be made to have them.
set -euo pipefail
cd "$(dirname "$0")/.."

resolve() { # NAME [uv's options for extras]
  local name=$1
  shift
  UV_NO_CONFIG=1 uv pip compile pyproject.toml "$@" --universal --python-version 3.11 --quiet --upgrade \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links |
    grep -vE '^(nvidia-|cuda-|triton==)' >"locks/$name.txt"
}

mkdir -p locks
resolve base
resolve dev --extra dev
resolve all --all-extras
