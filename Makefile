# `make demo` and `make test` set up everything in this folder: uv, a virtual environment and the pinned packages.
# They need Python 3.11 or newer, make, a C library, and a package index that pip can reach.

PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
BIN := .venv/bin
export LANCEDB_LOG ?= error
export HF_HUB_OFFLINE ?= 1
# Switch off the usage reports of libraries in all commands below (configs/privacy.py does so for Folioscope itself).
export ORT_DISABLE_TELEMETRY ?= 1
export GRADIO_ANALYTICS_ENABLED ?= False
export HF_HUB_DISABLE_TELEMETRY ?= 1
export DO_NOT_TRACK ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: demo serve test check format lock clean gpu

demo: .venv/base
	$(BIN)/folioscope demo

serve: .venv/base
	$(BIN)/folioscope serve $(if $(wildcard demo/samples.lance),--index demo/samples.lance)

test: .venv/test check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Install the packages for the models of a GPU workstation: torch, transformers, colpali-engine and sentence-transformers.
gpu: .venv/base requirements/gpu.txt
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/gpu.txt

.venv/base: requirements/base.txt pyproject.toml | $(UV) .venv/bin/python
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/base.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

.venv/test: requirements/test.txt .venv/base
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/test.txt
	touch $@

.venv/bin/python: | $(UV)
	$(UV) venv --quiet --python $(PYTHON) .venv

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check uv

# Pin versions with hashes, without the addresses of package indexes.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-annotate --no-header -c requirements/constraints.txt pyproject.toml

lock: | $(UV)
	$(COMPILE) -o requirements/base.txt
	$(COMPILE) -c requirements/base.txt --extra dev --extra train --extra samples --extra gpu -o requirements/test.txt
	$(COMPILE) -c requirements/base.txt --extra gpu -o requirements/gpu.txt

clean:
	rm -rf .venv .tools demo build *.egg-info
