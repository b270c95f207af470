# Two commands matter: `make repro` and `make test`. `make help` explains all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
# Neither asks the network for news nor prints a first-run notice.
export DVC_NO_ANALYTICS := 1
# Text is UTF-8 whatever the locale says.
export PYTHONUTF8 := 1
# The docs' theme tells of its successor at every build.
export NO_MKDOCS_2_WARNING := 1

PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev repro summary compare report try sweep search test test-fast check format docs lock cache-gc samples \
  clean clean-all

help:  ## Explain the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A virtual environment knows where it lies, and its programs fail with "No such file" elsewhere.
made_for = $(shell sed -n 's|^command = .* \(/.*\)$$|\1|p' $(VENV)/pyvenv.cfg 2>/dev/null)
ifneq ($(made_for),)
ifeq ($(shell test -d '$(made_for)' || echo moved),moved)
$(error This project was moved: $(VENV) was made for $(made_for), which is not there. Remove it, and it is made again: rm -rf $(VENV))
endif
endif

setup: $(BIN)/viewfinder  ## Make .venv with the exact versions of requirements.lock, and the command viewfinder in it

setup-dev: $(BIN)/viewfinder $(VENV)/installed-dev  ## The same, and what tests and checks need

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "make: $$($(PYTHON) --version) found; Python 3.11, 3.12 or 3.13 expected (TensorFlow has no wheels for others)."; \
	    echo "      Name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock | $(VENV)/bin/python
	@echo "make: installing into $(VENV), 3.1 GB; this takes a few minutes"
	$(PIP_INSTALL) --progress-bar on --no-deps --require-hashes -r requirements.lock
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(PIP_INSTALL) --progress-bar on --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

# The project itself, as it lies here, with what is installed already: no network.
$(BIN)/viewfinder: pyproject.toml $(VENV)/installed
	$(PIP_INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

repro: setup  ## Run what has changed, then tell where the model lies and how good it is
	@$(BIN)/python -m pipeline.check
	$(BIN)/dvc repro
	@$(BIN)/viewfinder summary

summary: setup  ## Tell again where the model lies and how good it is
	@$(BIN)/viewfinder summary

compare: setup  ## Compare each scheme with float32; REV=HEAD~1 compares with another Git revision
	@$(BIN)/viewfinder compare $(REV)

report: setup  ## Write plots/report.html, a page with everything, and open it
	@$(BIN)/viewfinder report --open

try: setup  ## Write models/try.html, a page in which the model looks through a camera, and open it
	@$(BIN)/viewfinder try

sweep: setup  ## Compare architectures, resolutions and schemes (conf/sweep.yaml) and choose one; HEAD=name by that head
	@$(BIN)/viewfinder sweep $(if $(HEAD),--head $(HEAD))

search: setup  ## Search architectures and settings of the head (conf/search.yaml); TRIALS=40 goes on to that many
	@$(BIN)/viewfinder search $(if $(TRIALS),--trials $(TRIALS)) $(if $(HEAD),--head $(HEAD))

test: setup-dev check  ## Run linter, formatter check, type checker and all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: setup-dev  ## Run the tests that are not marked as slow
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

check: setup-dev  ## Run linter, formatter check, type checker and layers; build the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/mkdocs build --quiet --strict --config-file docs/mkdocs.yml

format: setup-dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup-dev  ## Show the docs in the browser, at http://127.0.0.1:8000, and follow edits
	$(BIN)/mkdocs serve --strict --config-file docs/mkdocs.yml

lock: setup-dev  ## Choose the newest versions again, for all supported Pythons
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra dev -c requirements.lock \
	  pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements-federate.in \
	  -o requirements-federate.lock

cache-gc: setup  ## Make room in the take cache, least recently used first (conf/cache.yaml)
	@$(BIN)/viewfinder cache make-room

samples: setup  ## Render the sample videos again (data/make_samples.py)
	$(BIN)/python data/make_samples.py

clean: setup  ## Remove what `dvc repro` brings back, and nothing else
	@$(BIN)/viewfinder clean

clean-all: setup  ## Remove also models/deployed, trials, caches and .venv; lists them and asks first
	@echo "$(VENV) goes, too."
	@$(BIN)/viewfinder clean --all
	rm -rf $(VENV)
