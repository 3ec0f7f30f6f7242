# Everything a person or CI runs. Each target does its own set-up; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first interpreter on the PATH that is new enough; override with `make PYTHON=/path/to/python setup`.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
# Relative, so that a checkout path with spaces never meets make's or the shell's word splitting.
BIN := .venv/bin
STAMP := .venv/.set-up
# Two workers suit the smallest machine that CI runs on; `make test JOBS=8` on a larger one.
JOBS ?= 2
TESTS ?=

.PHONY: help setup demo serve test bench lint format check clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Make .venv with everything; does nothing when it is up to date

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "Expunge needs Python 3.11 or newer; name one with PYTHON=…" >&2; exit 1; fi
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,s3]'
	@touch $(STAMP)

demo: $(STAMP) ## Run the main job on real data: register, forget, audit, download
	$(BIN)/expunge demo

serve: $(STAMP) ## Start the service (API and one worker) on SQLite and a local directory
	$(BIN)/expunge serve

# One thread per numeric library: the test processes share the cores already.
test: $(STAMP) ## Run the whole test suite (TESTS=path for a part of it)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(TESTS)

bench: $(STAMP) ## Run one benchmark: make bench NAME=acu ARGS=--json
	@if [ -z "$(NAME)" ]; then echo "Name a benchmark: make bench NAME=acu" >&2; exit 2; fi
	$(BIN)/python -m benchmarks.$(NAME) $(ARGS)

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP) ## Repair what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

check: lint test ## What CI runs

clean: ## Delete .venv and every cache
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist expunge.egg-info
