# Every target does its own set-up; a fresh machine needs python3-venv, git and make only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECORDINGS ?= ../shared/recordings
.DEFAULT_GOAL := help

.PHONY: help demo test cluster-test check judge docs bench lock clean

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/run.stamp: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/run.stamp ## The main job on a simulated cluster; ends by itself (ARGS="--scenario drift")
	@$(BIN)/dsgitops demo $(ARGS)

test: $(VENV)/dev.stamp ## Every test that needs no cluster
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

cluster-test: $(VENV)/dev.stamp ## Contract and agent on a real control plane (builds it: needs Go)
	@$(BIN)/python tests/cluster/binaries.py
	@DSGITOPS_CLUSTER=real $(BIN)/python -m pytest tests/cluster tests/contract $(ARGS)

check: $(VENV)/dev.stamp ## Format, lint, types, layers, docs
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/pyright --level error
	@out=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$out"; exit 1; }
	@$(BIN)/python -m pytest tests/docs

judge: $(VENV)/dev.stamp ## Judge recordings of real rollouts (RECORDINGS=DIR)
	@$(BIN)/python -m dsgitops.cli.judge $(RECORDINGS)

docs: $(VENV)/dev.stamp ## Write the generated parts of the documentation
	@$(BIN)/python docs/generate.py

bench: $(VENV)/dev.stamp ## Print speed and memory as ratios to a bare floor
	@$(BIN)/python -m bench

lock: $(VENV)/dev.stamp ## Resolve the lock files anew (needs the uv tool in .venv)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock

clean: ## Remove what the targets made
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
