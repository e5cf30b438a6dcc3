#!/usr/bin/env bash
# Install the locked CPU stack and atlas-ray; `cpu.lock` lies beside this file.
#   bash install.sh [VENV [WHEEL]]    # without a wheel the checkout that one is in, without a folder into .venv
set -euo pipefail

TORCH="torch==2.13.0+cpu"
LOCK="$(dirname "$0")/cpu.lock"
VENV="${1:-.venv}"
[ $# -ge 2 ] && ours=("$2") || ours=(-e .)
PYTHON="${PYTHON:-$(command -v python3.11 || command -v python3 || true)}"

fail() { echo "error: $*" >&2; exit 2; }

[ -n "$PYTHON" ] || fail "no python3 found; install CPython 3.11 or set PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || fail "$PYTHON is older than 3.11; set PYTHON=/path/to/python3.11"

echo "installing the CPU stack into $VENV (about 3 GB, a few minutes)"
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV" || fail "cannot make a virtual environment; on Debian: apt-get install python3-venv"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check -qq "$@"; }

if ! "$VENV/bin/python" -c 'import torch; assert torch.__version__ == "2.13.0+cpu"' 2>/dev/null; then
    log="$(mktemp)"
    pip install --no-deps --no-compile "$TORCH" 2>"$log" \
        || pip install --no-deps --no-compile --index-url https://download.pytorch.org/whl/cpu "$TORCH" 2>>"$log" \
        || { tail -n 3 "$log" >&2; fail "$TORCH is neither on pip's configured indexes nor on https://download.pytorch.org/whl/cpu; put its wheel in a folder and run: PIP_FIND_LINKS=/that/folder make install"; }
    rm -f "$log"
fi
pip install --no-deps --no-compile -r "$LOCK" || fail "a package of $LOCK could not be installed (see above); check the network and pip's index settings"
pip install --no-deps --no-build-isolation "${ours[@]}" || fail "atlas-ray itself could not be installed; see above"
