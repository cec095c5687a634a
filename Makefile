# Every target makes its own environment once: a virtual environment from requirements.lock (Linux, Python 3.11+).
# Tests run in WORKERS processes of one thread, a file of them in one; PYTEST_ARGS="-n 0" runs them in this one.
# `make test VENV=/path` uses or makes another one; `make env PYTHON3=python3.12` chooses the interpreter.
SHELL := /bin/bash
VENV ?= .venv
PYTHON3 ?= python3
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.latentpress-$(word 1,$(shell cksum < requirements.lock))
LAUNCHERS := $(abspath $(VENV))/launchers-$(word 1,$(shell cksum < .ci/launchers.lock))
PYTEST_ARGS ?=
WORKERS ?= 2
TEST = OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all bench lint clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

env: $(STAMP) ## make the environment (about 6 GB, once)

demo: $(STAMP) ## compress real photos with the packaged model, decode them, compare with JPEG and others
	$(PYTHON) run.py task=demo

test: lint ## lint, then every quick test
	$(TEST) -m "not slow" $(PYTEST_ARGS)

test-all: lint $(LAUNCHERS) ## lint, then every test, sweeps by joblib, submitit, Ray and Optuna among them
	PYTHONPATH=$(LAUNCHERS) $(TEST) $(PYTEST_ARGS)

bench: $(STAMP) ## print the ratio table, each ratio measured side by side
	$(PYTHON) -m benchmarks

lint: $(STAMP) ## ruff, formatting, types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy .

clean: ## remove caches and the default environment
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp's name holds the lock's checksum: a changed lock is installed again, an unchanged one costs nothing.
$(STAMP): requirements.lock
	@test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	@$(PYTHON) -c 'import sys; sys.exit("requirements.lock needs Python 3.11 or newer: make env PYTHON3=python3.11" \
		if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@rm -f $(VENV)/.latentpress-* && touch $@

# The extras for sweeps lie beside the environment's packages: Hydra takes longer over --help where it finds them.
$(LAUNCHERS): .ci/launchers.lock $(STAMP)
	rm -rf $(VENV)/launchers-*
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --target $@.part -r .ci/launchers.lock
	@mv $@.part $@ && touch $@
