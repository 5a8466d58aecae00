# Each target does its own set-up: a machine needs Python 3.11+ and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
PYTEST_FLAGS ?= -n auto
BENCH_FLAGS ?=

.PHONY: demo test lint format check bench bench-quick bench-micro profile man lock clean

$(STAMP): .ci/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is not Python 3.11 or later: choose another, as in make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r .ci/requirements.lock
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint
	$(BIN)/coverage erase
	COVERAGE_PROCESS_START=pyproject.toml $(BIN)/coverage run -m pytest $(PYTEST_FLAGS) -n 0
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

# The peers and matplotlib: nothing else needs them, and the lock keeps what both have in common.
$(BENCH_STAMP): .ci/bench.lock $(STAMP)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r .ci/bench.lock
	@touch $@

bench: $(BENCH_STAMP)
	$(BIN)/python -m bench.run $(BENCH_FLAGS)

bench-quick: $(BENCH_STAMP)
	$(BIN)/python -m bench.run --quick $(BENCH_FLAGS)

bench-micro: $(BENCH_STAMP)
	$(BIN)/python -m pytest bench/micro --benchmark-columns=min,median,ops $(BENCH_FLAGS)

profile: $(STAMP)
	$(BIN)/python -m bench.profile $(BENCH_FLAGS)

# Flags and their words are in the manual pages too; a test holds that they are current.
man: $(STAMP)
	$(BIN)/python docs/make_man.py

# The lock is made for every Python and platform that pyproject.toml admits. uv goes into the venv:
# many systems refuse packages of pip's beside their own.
lock:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-header \
		--no-emit-index-url --group dev pyproject.toml --output-file .ci/requirements.lock
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-header \
		--no-emit-index-url --group bench --constraint .ci/requirements.lock pyproject.toml \
		--output-file .ci/bench.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
