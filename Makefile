# Mixcoder's own commands. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.core ## set up, train a Mixer auto-encoder on real digits, show its table, write its report
	$(BIN)/mixcoder run experiments/digits/demo.yml
	$(BIN)/mixcoder reconstruct runs/digits-demo -o demo.png
	$(BIN)/mixcoder report experiments/digits/demo.yml -o demo.html
	@echo "Look at demo.html in a browser, and at demo.png: original above, reconstruction below."

.PHONY: test
test: $(VENV)/.test ## run the tests but the slow ones: every kind of behaviour, in a minute or two
	$(BIN)/pytest -n auto -m "not slow"

.PHONY: test-all
test-all: $(VENV)/.test ## run all tests: also long trainings, kills, compilers and every further case
	$(BIN)/pytest -n auto

.PHONY: test-machines
test-machines: $(VENV)/.test ## run some tests as on other machines: older, without a compiler or a home, ...
	$(BIN)/python -m tests.machines

.PHONY: ray
ray: $(VENV)/.ray ## add Ray to the environment: tests of clusters then run too

.PHONY: check
check: $(VENV)/.check ## lint, format and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: schema
schema: $(VENV)/.core ## write docs/experiment.schema.json and the tables of docs/experiment-file.md and docs/reports.md anew
	$(BIN)/python -m tests.generated

.PHONY: pictures
pictures: $(VENV)/.core ## draw the pictures of docs/mixing-layers.md anew
	$(BIN)/python -m tests.mixing_pictures

.PHONY: figures
figures: $(VENV)/.core ## fill docs/small-and-powerful.md from the run directories in runs/: its tables and its pictures
	$(BIN)/python -m benchmarks.page_figures docs/small-and-powerful.md --runs runs

.PHONY: docs
docs: $(VENV)/.docs ## the documents as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: bench
bench: $(VENV)/.bench ## images/s of training against plain PyTorch and JAX: the article's models, and a user's own
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.own_networks

.PHONY: bench-gpu
bench-gpu: $(VENV)/.test ## images/s on a GPU, a sweep there, and the tests that use one: at most four minutes
	$(BIN)/python -m benchmarks.gpu

.PHONY: faults
faults: $(VENV)/.test ## kill runs, open broken files, run out of memory, draw networks: nothing may be lost, let in or wrong
	$(BIN)/python -m tests.faults.kills
	$(BIN)/python -m tests.faults.outputs
	$(BIN)/python -m tests.faults.caches
	$(BIN)/python -m tests.faults.fuzz
	$(BIN)/python -m tests.faults.networks
	$(BIN)/python -m tests.faults.storm
	$(BIN)/python -m tests.faults.memory

.PHONY: sanitize
sanitize: $(VENV)/.test ## run random networks on kernels with address, undefined-behaviour and thread sanitizers
	$(BIN)/python -m tests.faults.sanitizers

.PHONY: wheel
wheel: $(VENV)/.test ## build the wheel, install it in an empty environment, follow the README with it alone
	$(BIN)/python -m tests.new_user

.PHONY: bench-data
bench-data: $(VENV)/.core ## crops a second and memory of packing, on the images in FOLDER
	$(BIN)/python -m benchmarks.crops $(FOLDER)
	$(BIN)/python -m benchmarks.packing $(FOLDER)

.PHONY: format
format: $(VENV)/.check ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## remove the virtual environment, the runs, the site and all caches
	rm -rf $(VENV) runs site faults demo.png demo.html .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

$(VENV)/.ray: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,ray]"
	touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

$(VENV)/.check: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,check]"
	touch $@
