# Two commands for a new machine: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONFORMANCE := $(VENV)/.conformance
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check lint clean

# torch is asked for by its exact version and first, so that no other package can pull a larger build
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("coinfer needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -c constraints.txt -e '.[all,dev]'
	touch $(READY)

# KServe's client library asks for older versions than everything else is tested with; its clients
# need none of that. Where it cannot be had, its tests skip.
$(CONFORMANCE): $(READY) tests/daemon/kserve.txt
	$(PIP) --no-deps -r tests/daemon/kserve.txt && touch $@ || echo "KServe's clients could not be installed: their tests skip"

demo: $(READY)
	$(BIN)/coinfer demo $(DEMO)

# a file of tests at a time on each of two processes, in the order of the folders: the slowest are
# not the last
test: $(READY) $(CONFORMANCE)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
