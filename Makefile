# Every target does its own set-up; a fresh machine needs python3-venv, git and make only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECORDINGS ?= ../shared/recordings
KUBERNETES ?= 1.36
SUITE ?= tests/cluster tests/contract
# Side by side on two cores, as most of it waits; the longest files first.
WORKERS ?= 4
SHARED = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help

.PHONY: help demo test cluster-test alert-test cluster cluster-parts proof check judge docs bench image lock clean

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

test: WORKERS = 6
test: $(VENV)/dev.stamp ## Every test that needs no cluster
	@$(BIN)/python -m pytest $(SHARED) $(ARGS)

cluster cluster-parts cluster-test: export DSGITOPS_KUBERNETES = $(KUBERNETES)

cluster-test: cluster-parts ## Contract and agent on a real Kubernetes with real nodes (builds it: needs Go)
	@$(BIN)/python deploy/image/build.py --changed || echo "tests of the image are skipped" >&2
	@DSGITOPS_CLUSTER=real $(BIN)/python -m pytest $(SHARED) $(SUITE) $(ARGS)

cluster: cluster-parts ## A Kubernetes to play with, until Ctrl-C (KUBERNETES=1.34 for the older one)
	@$(BIN)/python tests/cluster/playground.py

proof: export DSGITOPS_PROOF = docs/proof.md
proof: cluster-test ## The same as cluster-test; writes what it saw into docs/proof.md

cluster-parts: $(VENV)/dev.stamp
	@$(BIN)/python tests/cluster/packages.py
	@$(BIN)/python tests/cluster/binaries.py

alert-test: $(VENV)/dev.stamp ## Alerts read back from a real Sentry server (installs Bugsink)
	@$(BIN)/python tests/adapters/bugsink.py
	@DSGITOPS_ALERTS=real $(BIN)/python -m pytest tests/adapters/test_sentry_server.py $(ARGS)

check: $(VENV)/dev.stamp ## Format, lint, types, layers, docs
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/pyright --level error
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/shellcheck .ci/run deploy/image/*.sh
	@out=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$out"; exit 1; }
	@$(BIN)/python -m pytest tests/docs

judge: $(VENV)/dev.stamp ## Judge recordings of real rollouts (RECORDINGS=DIR)
	@$(BIN)/python -m dsgitops.cli.judge $(RECORDINGS)

docs: $(VENV)/dev.stamp ## Write the generated parts of the documentation
	@$(BIN)/python docs/generate.py

bench: $(VENV)/dev.stamp ## Print speed and memory as ratios to a bare floor
	@$(BIN)/python -m bench

image: ## Build the image with buildah, on Debian 12 as root (BASE=debian:12.12-slim for a registry's base)
	@BASE="$(BASE)" $(PYTHON) deploy/image/build.py

lock: $(VENV)/dev.stamp ## Resolve the lock files anew (needs the uv tool in .venv)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra build --extra notify pyproject.toml -c requirements.lock -o deploy/image/requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml -c deploy/image/requirements.lock -o requirements-dev.lock

clean: ## Remove what the targets made
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
