# Two commands: `make demo` shows Tradetape at work, `make test` proves it. Neither needs Docker, Java or root.

PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
PARALLEL := -n 2
export TRADETAPE_HOME ?= $(CURDIR)/.tradetape

.PHONY: demo up down test unit seeds check coverage bench requirements lock clean

demo: $(READY)  ## a simulated fleet, from its native stores to an audit report
	$(BIN)/tradetape demo

up down: $(READY)  ## start or stop the embedded stack
	$(BIN)/tradetape $@

test: $(READY)  ## everything, on the real embedded stack
	$(BIN)/pytest $(PARALLEL)

unit: $(READY)  ## what needs no server
	$(BIN)/pytest $(PARALLEL) -m "not integration and not crash"

seeds: $(READY)  ## many more kills of worker, sink and connectors: TRADETAPE_SEEDS=100 make seeds
	TRADETAPE_SEEDS=$${TRADETAPE_SEEDS:-100} $(BIN)/pytest tests/crash

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(READY)  ## lines that the unit tests reach
	$(BIN)/pytest $(PARALLEL) -m "not integration and not crash" --cov --cov-report=term:skip-covered

bench: $(READY)  ## worker and sink: ratios against peers and their budgets, measured in one run
	$(BIN)/python -m benchmarks

requirements: $(READY)  ## every promise with the tests that prove it
	$(BIN)/python -m tests.requirements

lock: $(READY)  ## pin every dependency with its hashes
	$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --quiet -o requirements.lock

clean: ## stop the stack and remove its data (asks first)
	-$(BIN)/tradetape down
	rm -ri $(TRADETAPE_HOME)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "tradetape: no Python 3.11 or newer on the PATH; install one and run make again"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@
