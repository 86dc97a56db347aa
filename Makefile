# Each target sets itself up on a fresh machine that has Python 3.10+ with venv, make and the package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
# Four at a time on two cores: most of the time is waiting, for brokers, groups, processes.
JOBS ?= 4
PYTEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup --durations=10

.PHONY: all demo compare test bench lint format types real situations matrix mutants fuzz constraints docs clean

all: lint types test

$(SETUP): pyproject.toml scripts/constraints/newest.txt
	@echo "installing into $(VENV) ..." >&2
	@$(PYTHON) scripts/environment.py $(VENV)
	@touch $@

demo: $(SETUP)  ## one trace over three environments; WRAPPER=1 without the one line; CLIENT=confluent, aiokafka, mixed; FAULTS=1
	@$(BIN)/otel-pipeline demo $(if $(WRAPPER),--wrapper) $(if $(FAULTS),--faults) $(if $(CLIENT),--client $(CLIENT)) $(ARGS)

compare: $(SETUP)  ## the demo's services under the official Kafka instrumentation, beside ours
	@$(BIN)/python scripts/compare.py $(ARGS)

test: $(SETUP)  ## everything but what needs real parts that have not been fetched; ARGS=tests/engine
	@$(PYTEST) $(ARGS)

real: $(SETUP)  ## fetch and build the real broker and Collector once, then run the tests that need them
	@$(BIN)/python -m real fetch
	@OTEL_PIPELINE_REAL=required $(BIN)/python -m real run --broker -- $(PYTEST) -m real $(ARGS)

situations: $(SETUP)  ## sixteen situations on the real broker, 4 minutes; make real plays four of them
	@$(BIN)/python -m real fetch kafka
	@OTEL_PIPELINE_REAL=required $(BIN)/python -m real run --broker -- $(PYTEST) -m situation $(ARGS) tests/real

matrix: $(SETUP)  ## every Python on this machine, oldest and newest clients
	@$(BIN)/python scripts/matrix.py $(ARGS)

mutants: $(SETUP)  ## change one thing in engine, contracts, order and lights, 600 times: does a test fail?
	@$(PYTHON) scripts/environment.py $(VENV) demo test mutants
	@$(BIN)/python scripts/mutants.py $(ARGS)

fuzz:  ## feed whatever somebody else writes with any bytes, for an hour; ARGS="--seconds 60 baggage"
	@$(PYTHON) scripts/environment.py .venv-fuzz test fuzz
	@.venv-fuzz/bin/python -m tests.fuzz.run $(ARGS)

constraints: $(SETUP)  ## resolve the versions that tests run with anew
	@$(BIN)/python scripts/matrix.py --pin

bench: $(SETUP)
	@$(BIN)/python scripts/bench.py $(ARGS) && $(BIN)/python scripts/bench_health.py $(ARGS)
	@$(BIN)/python scripts/bench_export.py && $(BIN)/python scripts/bench_models.py $(filter --quick,$(ARGS))
	@$(BIN)/python scripts/bench_logs.py && $(BIN)/python scripts/bench_queue.py && $(BIN)/python scripts/bench_startup.py
	@$(BIN)/python scripts/bench_instructions.py $(filter --gate,$(ARGS))

lint: $(SETUP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(SETUP)
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

types: $(SETUP)
	@$(BIN)/mypy

docs: $(SETUP)  ## write the generated pages
	@$(BIN)/python scripts/generate_configuration.py && $(BIN)/python scripts/generate_telemetry.py
	@$(BIN)/python scripts/generate_clients.py && $(BIN)/python scripts/generate_reference.py
	@$(BIN)/python scripts/generate_models.py

clean:
	rm -rf $(VENV) .venv-* .mutants .fuzz build dist
