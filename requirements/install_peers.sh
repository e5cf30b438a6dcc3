#!/usr/bin/env bash
# Install the benchmarks' peers beside the locked stack, into .venv-peers; run by `make bench`. Without them their rows
# are left out.
set -euo pipefail

[ -x .venv-peers/bin/python ] || .venv/bin/python -m venv .venv-peers
site() { "$1" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }
site .venv/bin/python > "$(site .venv-peers/bin/python)/locked.pth" # what the lock has is not installed again
log="$(mktemp)" # pip complains of what the lock leaves out on purpose
.venv-peers/bin/python -m pip --disable-pip-version-check install -qq -r benchmarks/requirements.txt 2>"$log" \
    || { tail -n 3 "$log" >&2; echo "the peers of benchmarks/requirements.txt cannot be installed: TRL's row is left out" >&2; }
rm -f "$log"
