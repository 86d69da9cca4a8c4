# Development targets. They work on a fresh machine: missing tools are installed or built first.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
RUN := PYTHONPATH=operator:hack $(VENV)/bin/python
MEASURE := PYTHONPATH=operator:hack:tests $(VENV)/bin/python -m performance
READY := $(VENV)/.ready

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Demo

.PHONY: demo
demo: $(READY) ## Create a local kind cluster and run 100 tasks on it
	@$(RUN) -m project demo

.PHONY: demo-down
demo-down: $(READY) ## Remove the cluster of the demo and everything it started
	@$(RUN) -m project demo-down

##@ Test

.PHONY: test
test: lint verify test-unit mutants-short test-integration test-e2e ## Run lint, verify and the tests of every level

.PHONY: test-unit
test-unit: $(READY) ## Run the unit tests and the crash model; needs no cluster
	@$(RUN) -m pytest tests/unit tests/model

.PHONY: test-integration
test-integration: $(READY) ## Run the integration tests against a control plane on loopback
	@$(RUN) -m pytest tests/integration

.PHONY: test-e2e
test-e2e: $(READY) ## Run the end-to-end tests on a kind cluster with a real kubelet
	@$(RUN) -m pytest tests/e2e

.PHONY: mutants
mutants: $(READY) ## Apply each mutant and check that its test fails
	@$(RUN) tests/mutants/run.py

.PHONY: mutants-short
mutants-short: $(READY) ## Same, only the mutants that unit tests detect
	@$(RUN) tests/mutants/run.py --short

.PHONY: scale
scale: $(READY) ## Run 27,000 tasks twice on a dedicated control plane; writes build/scale.json (one hour)
	@$(MEASURE) scale $(ARGS)

.PHONY: bench
bench: $(READY) ## Benchmark against plain Jobs on one control plane; writes build/bench.json (one hour)
	@$(MEASURE) bench $(ARGS)

.PHONY: bench-report
bench-report: $(READY) ## Render docs/benchmarks.md from build/bench.json
	@$(MEASURE) report build/bench.json docs/benchmarks.md

.PHONY: bench-compare
bench-compare: $(READY) ## Benchmark against the operator of another commit: make bench-compare BASE=HEAD~1
	@$(MEASURE) compare $(BASE) $(ARGS)

.PHONY: faults
faults: $(READY) ## Search for new histories that violate a guarantee, with a new seed each time (minutes)
	@ASYNCFLOW_MODEL_RUNS=2000 $(RUN) -m pytest tests/unit tests/model --hypothesis-profile=search --timeout=1800

##@ Development

.PHONY: lint
lint: $(READY) ## Check style, types and import layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy operator/asyncflow hack/clusters hack/offline hack/project tests
	@PYTHONPATH=operator:hack $(VENV)/bin/lint-imports --no-cache

.PHONY: format
format: $(READY) ## Format the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

.PHONY: manifests
manifests: $(READY) ## Generate the CRDs, the admission policy and the reference pages
	@$(RUN) -m asyncflow crds crds
	@$(RUN) -m asyncflow reference docs/reference

.PHONY: verify
verify: $(READY) ## Fail if a generated file is out of date
	@$(RUN) -m asyncflow crds crds --check
	@$(RUN) -m asyncflow reference docs/reference --check

.PHONY: image
image: $(READY) ## Build the image of the operator
	@$(RUN) -m project image

.PHONY: lock
lock: $(READY) ## Update the lock files to the newest allowed versions of the Python packages
	@hack/lock

.PHONY: clean
clean: $(READY) ## Remove all local clusters and build/; keep the caches
	@$(RUN) -m clusters down
	@rm -rf build

##@ Setup, run by the targets above

$(READY): requirements-dev.lock
	@hack/make-venv $(PYTHON) $(VENV) requirements-dev.lock
	@touch $@
