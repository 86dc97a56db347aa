# Each target sets itself up on a fresh machine that has Python 3.10+ with venv, make and the package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up

.PHONY: all demo compare test bench lint format types real docs clean

all: lint types test

$(SETUP): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then uv venv -q --allow-existing --python $(PYTHON) $(VENV); else $(PYTHON) -m venv --upgrade-deps $(VENV); fi
	@echo "installing into $(VENV) ..." >&2
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -e '.[demo,test]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo,test]'; fi
	@touch $@

demo: $(SETUP)  ## one trace over three environments; WRAPPER=1 without even the one line; FAULTS=1 finds what goes wrong
	@$(BIN)/otel-pipeline demo $(if $(WRAPPER),--wrapper) $(if $(FAULTS),--faults) $(ARGS)

compare: $(SETUP)  ## the demo's services under the official Kafka instrumentation, beside ours
	@$(BIN)/python scripts/compare.py $(ARGS)

test: $(SETUP)
	@$(BIN)/python -m pytest -q $(ARGS)

real: $(SETUP)  ## fetch and build the real broker and Collector once, then run the tests that need them
	@$(BIN)/python -m real fetch
	@OTEL_PIPELINE_REAL=required $(BIN)/python -m pytest -q -m real $(ARGS)

bench: $(SETUP)
	@$(BIN)/python scripts/bench.py $(ARGS) && $(BIN)/python scripts/bench_health.py $(ARGS)

lint: $(SETUP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(SETUP)
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

types: $(SETUP)
	@$(BIN)/mypy

docs: $(SETUP)  ## write the generated pages
	@$(BIN)/python scripts/generate_configuration.py && $(BIN)/python scripts/generate_telemetry.py
	@$(BIN)/python scripts/generate_clients.py

clean:
	rm -rf $(VENV) build dist
