# `make demo` and `make test` do all their set-up themselves; nothing else is needed beforehand but Python 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export HOUNSFIELD_CACHE ?= $(CURDIR)/.cache

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: .venv/.runtime  ## train, evaluate, explain and report on phantoms (needs no data)
	$(BIN)/hounsfield demo --out runs/demo --overwrite

test: .venv/.dev  ## all tests
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: .venv/.dev  ## ruff and mypy
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

bench: .venv/.bench  ## speed and memory beside nnU-Net, MONAI, TorchIO and torchvision, into docs/benchmarks.md
	$(BIN)/python benchmarks/bench.py

clean:  ## remove the environment, caches and runs
	rm -rf .venv .cache runs .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hounsfield needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/.runtime: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing Hounsfield into .venv (a few minutes, once)"
	$(INSTALL) -e .
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing Hounsfield and its test tools into .venv (a few minutes, once)"
	$(INSTALL) -e '.[dev]'
	@touch $@ .venv/.runtime

.venv/.bench: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing Hounsfield, its test tools and its peers into .venv (a few minutes, once)"
	$(INSTALL) -e '.[dev,bench]'
	@touch $@ .venv/.dev .venv/.runtime

.PHONY: help demo test lint bench clean
.DEFAULT_GOAL := help
