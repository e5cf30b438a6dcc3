#!/usr/bin/env bash
# Install the locked CPU stack into .venv; run by `make install`, from the root of the checkout.
set -euo pipefail

TORCH="torch==2.13.0+cpu"
LOCK=requirements/cpu.lock
PYTHON="${PYTHON:-$(command -v python3.11 || command -v python3 || true)}"

fail() { echo "error: $*" >&2; exit 2; }

[ -n "$PYTHON" ] || fail "no python3 found; install CPython 3.11 or set PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || fail "$PYTHON is older than 3.11; set PYTHON=/path/to/python3.11"

echo "installing the CPU stack into .venv (about 3 GB, a few minutes)"
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || fail "cannot make a virtual environment; on Debian: apt-get install python3-venv"
pip() { .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }

if ! .venv/bin/python -c 'import torch; assert torch.__version__ == "2.13.0+cpu"' 2>/dev/null; then
    log="$(mktemp)"
    pip install --no-deps --no-compile "$TORCH" 2>"$log" \
        || pip install --no-deps --no-compile --index-url https://download.pytorch.org/whl/cpu "$TORCH" 2>>"$log" \
        || { tail -n 3 "$log" >&2; fail "$TORCH is neither on pip's configured indexes nor on https://download.pytorch.org/whl/cpu; put its wheel in a folder and run: PIP_FIND_LINKS=/that/folder make install"; }
    rm -f "$log"
fi
pip install --no-deps --no-compile -r "$LOCK" || fail "a package of $LOCK could not be installed (see above); check the network and pip's index settings"
pip install --no-deps --no-build-isolation -e . || fail "atlas-ray itself could not be installed; see above"
