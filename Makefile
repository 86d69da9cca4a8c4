# asyncflow for developers. Everything below works on a fresh machine: what is missing is installed or built first.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
RUN := PYTHONPATH=operator:hack $(VENV)/bin/python
MEASURE := PYTHONPATH=operator:hack:tests $(VENV)/bin/python -m performance
READY := $(VENV)/.ready

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Try it

.PHONY: demo
demo: $(READY) ## Run 100 tasks on a local kind cluster, from nothing
	@$(RUN) -m project demo

.PHONY: demo-down
demo-down: $(READY) ## Remove the demo's cluster and all that it started
	@$(RUN) -m project demo-down

##@ Test

.PHONY: test
test: lint verify test-unit mutants-short test-integration test-e2e ## Run every level of test

.PHONY: test-unit
test-unit: $(READY) ## Test the rules by themselves (seconds)
	@$(RUN) -m pytest tests/unit tests/model

.PHONY: test-integration
test-integration: $(READY) ## Test against a real control plane on loopback
	@$(RUN) -m pytest tests/integration

.PHONY: test-e2e
test-e2e: $(READY) ## Test on a kind cluster with a real kubelet
	@$(RUN) -m pytest tests/e2e

.PHONY: mutants
mutants: $(READY) ## Break the code on purpose, and see that a test fails for each break
	@$(RUN) tests/mutants/run.py

.PHONY: mutants-short
mutants-short: $(READY) ## The same, only the breaks that unit tests notice
	@$(RUN) tests/mutants/run.py --short

.PHONY: scale
scale: $(READY) ## Run 27,000 tasks, twice, on a control plane of their own: build/scale.json (an hour)
	@$(MEASURE) scale $(ARGS)

.PHONY: bench
bench: $(READY) ## Measure beside bare Jobs, on one control plane: build/bench.json (an hour)
	@$(MEASURE) bench $(ARGS)

.PHONY: bench-report
bench-report: $(READY) ## Render docs/benchmarks.md from build/bench.json
	@$(MEASURE) report build/bench.json docs/benchmarks.md

.PHONY: bench-compare
bench-compare: $(READY) ## Measure this operator beside that of another commit: make bench-compare BASE=HEAD~1
	@$(MEASURE) compare $(BASE) $(ARGS)

.PHONY: faults
faults: $(READY) ## Look for histories that break a promise: new ones each time, for some minutes
	@ASYNCFLOW_MODEL_RUNS=2000 $(RUN) -m pytest tests/unit tests/model --hypothesis-profile=search --timeout=1800

##@ Change it

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
verify: $(READY) ## Fail if a generated file differs from its source
	@$(RUN) -m asyncflow crds crds --check
	@$(RUN) -m asyncflow reference docs/reference --check

.PHONY: image
image: $(READY) ## Build the operator's image
	@$(RUN) -m project image

.PHONY: lock
lock: $(READY) ## Lock the newest allowed versions of the Python packages
	@hack/lock

.PHONY: clean
clean: $(READY) ## Stop and remove every local cluster; keep what was built
	@$(RUN) -m clusters down
	@rm -rf build

##@ Set-up, done by the targets above

$(READY): requirements-dev.lock
	@hack/make-venv $(PYTHON) $(VENV) requirements-dev.lock
	@touch $@
