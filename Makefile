# Two commands matter: `make repro` and `make test`. `make help` explains all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
# Neither asks the network for news nor prints a first-run notice.
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev repro summary test check format lock cache-gc samples sweep search clean

help:  ## Explain the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed  ## Make .venv with the exact versions of requirements.lock

setup-dev: $(VENV)/installed-dev  ## The same, and what tests and checks need

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "make: $$($(PYTHON) --version) found; Python 3.11, 3.12 or 3.13 expected (TensorFlow has no wheels for others)."; \
	    echo "      Name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r requirements.lock
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r requirements-dev.lock
	@touch $@

repro: setup  ## Run what has changed, then tell where the model lies and how good it is
	@$(BIN)/python -m pipeline.check
	$(BIN)/dvc repro
	@$(BIN)/python -m pipeline

sweep: setup  ## Compare architectures, resolutions and schemes (conf/sweep.yaml) and choose one
	@$(BIN)/python -m pipeline.choosing.sweep

search: setup  ## Search architectures and settings of the head (conf/search.yaml); TRIALS=40 goes on to that many
	@$(BIN)/python -m pipeline.choosing.search $(if $(TRIALS),--trials $(TRIALS))

summary: setup  ## Tell again where the model lies and how good it is
	@$(BIN)/python -m pipeline

test: setup-dev check  ## Run linter, formatter check, type checker and all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup-dev  ## Run linter, formatter check and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup-dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup-dev  ## Choose the newest versions again, for all supported Pythons
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra dev -c requirements.lock \
	  pyproject.toml -o requirements-dev.lock

cache-gc: setup  ## Make room in the take cache, least recently used first (conf/cache.yaml)
	@$(BIN)/python -m pipeline.takes.cache

samples: setup  ## Render the sample videos again (data/make_samples.py)
	$(BIN)/python data/make_samples.py

clean:  ## Remove the environment and all that can be made again (not data/videos, not the DVC cache)
	rm -rf $(VENV) .cache .tensorboard data/frames data/augmented data/bottlenecks models plots
