# make run: the main job.  make test: the proof.  PYTHON names a Python >= 3.11 if python3 is older.
PYTHON ?= python3
GATEWAYS ?= 2
MINUTES ?= 10

# Hundreds of processes start here, and each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
# Two stamps, so that `make run` does not wait for test tools.  Editable: only pyproject.toml can outdate an install.
RUNNABLE := $(VENV)/.runnable
TESTABLE := $(VENV)/.testable

.PHONY: run test lint bench soak soak-memory soak-slow soak-demand soak-recording bench-market pictures clean

# honcho would let .env override the environment and reads its quotes otherwise than we do, so it gets an empty one.
run: $(RUNNABLE)
	@exec $(VENV)/bin/honcho start --env /dev/null -c bus=1,ingest=1,gateway=$(GATEWAYS)

# As collected, acceptance first: by default files with few tests come last, and the longest tests are alone in theirs.
test: lint
	$(VENV)/bin/pytest -n 4 --dist loadfile --no-loadscope-reorder

lint: $(TESTABLE)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

soak-demand: $(TESTABLE)
	POLYGON_PROXY_SOAK=1 $(VENV)/bin/pytest -s tests/acceptance/test_churn.py tests/acceptance/test_demand_over_time.py \
		tests/property tests/integration/test_catchup_histories.py tests/unit/gateway/test_hub_histories.py tests/unit/shared/test_split_property.py

soak: $(TESTABLE)
	$(VENV)/bin/python -m tests.soak --minutes $(MINUTES)

soak-memory: $(TESTABLE)
	$(VENV)/bin/python -m tests.soak --minutes 30 --kill-nothing

soak-slow: $(TESTABLE)
	POLYGON_PROXY_SOAK=1 $(VENV)/bin/pytest -s tests/acceptance/test_slow_clients.py

soak-recording: $(TESTABLE)
	POLYGON_PROXY_SOAK=1 $(VENV)/bin/pytest -s tests/unit/ingest/test_replay.py tests/unit/ingest/test_long_replay.py
	$(VENV)/bin/python -m tests.bench.recording

bench: $(TESTABLE)
	$(VENV)/bin/python -m tests.bench

bench-market: $(TESTABLE)
	$(VENV)/bin/python -m tests.bench.simulator
	$(VENV)/bin/python -m tests.bench.market

pictures: $(TESTABLE)
	$(VENV)/bin/python -m tests.pictures

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find ingest gateway shared tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNNABLE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("needed: Python >= 3.11 (make PYTHON=python3.12 ...)")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(TESTABLE): $(RUNNABLE)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@
