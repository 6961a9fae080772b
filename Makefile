# Everything a newcomer needs: `make demo` and `make test`. Both install what they miss, with a word on what and how large.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(HOME)/.local/bin:$(PATH)
# So that byte code is cached whatever the shell says: start-up is measured in imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-stack lint format types bench clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: ## Install uv, Python packages and the local model's runtime
	@./scripts/install

demo: setup ## Send English and Chinese requests through an embedded gateway and see where each one went
	@uv run --no-sync watershed demo

test: setup ## Run all tests
	@uv run --no-sync pytest

test-stack: setup ## Run the tests that start real Kafka, MariaDB, S3 and HAProxy
	@uv run --no-sync pytest -m stack

lint: setup ## Ruff, import rules, formatting and types
	@uv run --no-sync ruff check .
	@uv run --no-sync ruff format --check .
	@uv run --no-sync lint-imports --no-logo
	@uv run --no-sync mypy

format: setup ## Format and mend what ruff can
	@uv run --no-sync ruff format .
	@uv run --no-sync ruff check --fix .

bench: setup ## Measure the gateway against calling the upstream directly
	@uv run --no-sync python -m benchmarks.gateway

clean: ## Remove caches and the virtual environment
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
