# The commands of this project; each does all of its set-up. `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
CONFIG ?= configs/quickstart.yaml
ARGS ?=
# pip does not compile (it would take minutes): the first import of a module does, once for all of Ray's workers,
# unless the machine's environment forbids it, which would double the start of every one of them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install engines browser prometheus faketime sshd pipeline serve test test-loaded lint docs bench release audit stranger clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/.installed  ## install the locked CPU stack into .venv

.venv/.installed: requirements/cpu.lock requirements/install.sh pyproject.toml
	@bash requirements/install.sh
	@touch $@

engines: .venv/.engines  ## compile the engines of Jericho and TextWorld (two are under the GPL) into .venv; needs a C compiler

.venv/.engines: .venv/.installed requirements/engines.lock requirements/install_engines.sh
	@bash requirements/install_engines.sh
	@touch $@

browser:  ## Debian's Chromium, for the tests of the pages (they are skipped where it cannot be had)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "no Chromium: tests of the pages will be skipped; on Debian: apt-get install chromium"

prometheus: install  ## Debian's Prometheus in .venv, for a test of the dashboard (skipped where it cannot be had)
	@[ -x .venv/bin/prometheus ] || { cd .venv && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } 2>/dev/null \
		&& dpkg -x prometheus_*.deb prometheus && rm prometheus_*.deb && ln -s ../prometheus/usr/bin/prometheus bin/prometheus; } \
		|| echo "no Prometheus: the dashboard's queries will not be tried; put its binary into .venv/bin"

faketime: install  ## Debian's libfaketime in .venv, for runs whose clock moves (skipped where it cannot be had)
	@[ -e .venv/lib/libfaketime.so.1 ] || { cd .venv && { apt-get download -qq libfaketime || { apt-get update -qq && apt-get download -qq libfaketime; }; } 2>/dev/null \
		&& dpkg -x libfaketime_*.deb faketime && rm libfaketime_*.deb && cd lib && ln -s ../faketime/usr/lib/*/faketime/libfaketime.so.1 .; } \
		|| echo "no libfaketime: no clock will be moved; put it into .venv/lib"

sshd: install  ## Debian's sshd and rsync in .venv, for a test of Ray's launcher (skipped where they cannot be had)
	@[ -d .venv/sshd ] || { mkdir -p .venv/sshd-debs && cd .venv/sshd-debs && packages="openssh-server rsync libpopt0 libwrap0" \
		&& { apt-get download -qq $$packages || { apt-get update -qq && apt-get download -qq $$packages; }; } 2>/dev/null \
		&& printf '%s\n' *.deb | xargs -I{} dpkg -x {} unpacked && mv unpacked ../sshd && cd .. && rm -r sshd-debs; } \
		|| echo "no sshd: Ray's launcher will not be tried; on Debian: apt-get install openssh-server rsync"

pipeline: install  ## run CONFIG (the quickstart) on Ray; more options in ARGS="--train.epochs 2"
	@$(PY) -m atlas_ray.cli.launch -- python jobs/pipeline.py --config $(CONFIG) $(ARGS)

serve: install  ## serve the agent that CONFIG's run tuned, with a page to play on, until Ctrl-C
	@$(PY) -m atlas_ray.cli.launch -- python jobs/serve.py --config $(CONFIG) $(ARGS)

docs: install  ## the docs site, into build/site
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet && echo "build/site/index.html"

lint: install  ## ruff, mypy and import-linter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

# Half of the suite waits for Ray's processes most of the time; the other half computes beside it, and tells at the end.
HALVES = trap 'kill $$(jobs -p) 2>/dev/null' EXIT; rest=$$(mktemp); $(PY) -m pytest --half rest $(1) >$$rest 2>&1 & other=$$!; \
	$(PY) -m pytest --half cluster $(1); code=$$?; wait $$other || code=1; cat $$rest; rm $$rest; exit $$code

test: lint engines browser prometheus faketime sshd  ## the whole test suite
	@$(call HALVES,$(ARGS))

test-loaded: lint engines browser prometheus faketime sshd  ## the whole test suite in an order drawn by lot, beside two busy loops
	@for loop in 1 2; do while :; do :; done & done; $(call HALVES,--shuffle random $(ARGS))

.venv-peers/.installed: .venv/.installed benchmarks/requirements.txt requirements/install_peers.sh
	@bash requirements/install_peers.sh
	@touch $@

bench: engines .venv-peers/.installed  ## every benchmark: each ratio beside its goal
	@for file in $$(ls benchmarks/[a-z]*.py | grep -vE '(result|chaos|soak).py'); do \
		python=$(PY); [ $$file != benchmarks/training.py ] || python=.venv-peers/bin/python; \
		$$python -m benchmarks.$$(basename $$file .py) || exit $$?; done

release: test  ## wheel, source distribution and list of packages in dist/, checked; nothing is uploaded
	@$(PY) deploy/release.py

audit: install  ## known weaknesses of the locked packages, by pip-audit, which asks pypi.org
	@[ -x .venv-audit/bin/pip-audit ] || { $(PY) -m venv .venv-audit && .venv-audit/bin/python -m pip install -qq pip-audit; }
	@.venv-audit/bin/pip-audit --strict --disable-pip --no-deps -r requirements/cpu.lock

stranger: install  ## from a wheel to a pushed agent in a fresh environment, as a newcomer goes; in minutes: ARGS=--small
	@$(PY) -m deploy.stranger $(ARGS)

clean:  ## remove what was installed and built, not the runs
	rm -rf .venv .venv-peers .venv-audit build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
