#!/usr/bin/env bash
# Compile the engines of requirements/engines.lock into .venv; run by `make engines`. Without a compiler the environments
# that need them stay out, and their tests are skipped with this reason.
set -euo pipefail

compiler="$(command -v c++ || command -v g++ || command -v clang++ || true)"
if [ -z "$compiler" ] || ! command -v make >/dev/null; then
    echo "no C++ compiler and make: environment jericho and backend=\"textworld\" stay out; on Debian: apt-get install g++ make, then run this again" >&2
    exit 0
fi
echo "compiling the engines of Jericho and TextWorld into .venv (two or three minutes)"
.venv/bin/python -m pip --disable-pip-version-check install -qq --no-deps --no-compile -r requirements/engines.lock \
    || { echo "error: an engine of requirements/engines.lock could not be built; see above" >&2; exit 2; }
