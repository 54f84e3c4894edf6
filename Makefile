# The verbs of this repository: demo, test, check, bench, clean.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check install bench clean

demo: install  ## distil real data and print what it is worth
	$(BIN)/dallme demo --output dallme-demo --overwrite

test: check  ## everything that must hold before a commit lands
	$(BIN)/python -m pytest

check: install  ## style, types, docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

bench: install  ## measure what the documentation claims; see benchmarks/README.md
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[bench]'
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist dallme-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
