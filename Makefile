# make demo: see a real evaluation. make test: run the tests. Both need only Python, 3.11 to 3.14,
# with pip. The newest that works is taken; PYTHON=python3.12 takes that one.
WORKS = import sys, ssl, sqlite3, venv, importlib.util as found; \
	has_pip = found.find_spec("ensurepip") or found.find_spec("pip"); \
	sys.exit(not (has_pip and (3, 11) <= sys.version_info[:2] <= (3, 14)))
ifndef PYTHON
PYTHON := $(shell for python in python3.14 python3.13 python3.12 python3.11 python3; do \
	if $$python -c '$(WORKS)' >/dev/null 2>&1; then echo $$python; break; fi; done)
endif
# Each of the many processes that tests start would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
export UV_PYTHON_DOWNLOADS := never

POSTGRES ?= postgres://postgres@127.0.0.1:5432
SERVICES_DATABASE ?= evalplatform_tests
SERVICES_REDIS ?= redis://127.0.0.1:6379/5

.PHONY: setup demo python test test-services test-database sandbox clients neighbours peers bench lint lock check-lock clean

python:
	@$(if $(PYTHON),$(PYTHON) --version,$(NO_PYTHON))

NO_PYTHON = echo "No Python from 3.11 to 3.14 with pip was found; PYTHON=/path/to/python names one." \
	>&2; exit 1

setup: $(VENV)/base.stamp $(VENV)/parquet.stamp

# Parquet is a large package that the demo does not need.
demo: $(VENV)/base.stamp
	$(BIN)/python manage.py demo --port $(PORT)

# Two at a time: much of a test is waiting. JOBS=1 is less work in all, since each process collects
# all tests. What stands in one file stays together, for what its tests share.
JOBS ?= 2
SHARED_OUT = $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile --no-loadscope-reorder)
PYTEST = $(BIN)/python -m pytest --durations=20 $(SHARED_OUT)
ON_SERVICES = DATABASE_URL="$(POSTGRES)/$(SERVICES_DATABASE)" REDIS_URL="$(SERVICES_REDIS)"

test: $(VENV)/dev.stamp clients
	$(PYTEST)

# The whole suite on PostgreSQL and Redis, with many more examples.
test-services: $(VENV)/dev.stamp clients
	$(BIN)/python -m tests.services "$(POSTGRES)/$(SERVICES_DATABASE)"
	$(ON_SERVICES) EXAMPLES=thorough $(PYTEST)

# After `make test`: what may go otherwise there.
test-database: $(VENV)/dev.stamp clients
	$(BIN)/python -m tests.services "$(POSTGRES)/$(SERVICES_DATABASE)"
	$(ON_SERVICES) $(PYTEST) --on-another-database

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	DATA_DIR=$(VENV)/lint $(BIN)/python manage.py makemigrations --check --dry-run
	PRODUCTION=1 DATA_DIR=$(VENV)/lint ALLOWED_HOSTS=example.com \
	  SECRET_KEY=only-checked-never-used-and-long-enough-to-pass-the-check-0123456789 \
	  ENCRYPTION_KEY=bm90IGEgc2VjcmV0LCBvbmx5IGNoZWNrZWQhISEhISE= \
	  $(BIN)/python manage.py check --deploy --fail-level WARNING

# The runner of Python graders for machines without bubblewrap. Compiles for a minute or two.
sandbox: $(VENV)/sandbox.stamp
	$(BIN)/python -m apps.sandbox.webassembly.warm

# The vendors' clients that need an interpreter of their own.
clients: $(VENV)/clients.stamp

# $(call venv,FOLDER) makes an empty environment, $(call install,FOLDER,FILE) fills it
# with what the file names and no more: the file is complete, and pip knows no extras in one.
# $(call install,FOLDER,FILE,--no-compile) leaves it to the first import to compile a module, as uv
# does: of what tests and linters install most is never imported.
ifdef UV
venv = uv venv --quiet --clear --python $(PYTHON) $(1)
install = uv pip install --quiet --python $(1)/bin/python --no-deps --require-hashes -r $(2)
else
# Some systems split off what brings pip along; then the system's own pip does it from outside.
venv = $(PYTHON) -m venv $(1) 2>/dev/null || $(PYTHON) -m venv --clear --without-pip $(1)
install = if $(1)/bin/python -m pip --version >/dev/null 2>&1; \
	then pip="$(1)/bin/python -m pip"; else pip="$(PYTHON) -m pip --python $(1)/bin/python"; fi; \
	$$pip install --quiet --disable-pip-version-check --no-deps --require-hashes $(3) -r $(2)
endif

$(BIN)/python:
	@$(if $(PYTHON),,$(NO_PYTHON))
	@$(call venv,$(VENV))

$(VENV)/base.stamp: requirements/base.txt | $(BIN)/python
	@echo "Installing requirements/base.txt into $(VENV)"
	@$(call install,$(VENV),requirements/base.txt)
	@touch $@

$(VENV)/parquet.stamp: requirements/parquet.txt $(VENV)/base.stamp
	@echo "Installing requirements/parquet.txt into $(VENV)"
	@$(call install,$(VENV),requirements/parquet.txt)
	@touch $@

$(VENV)/sandbox.stamp: requirements/sandbox.txt $(VENV)/base.stamp
	@echo "Installing requirements/sandbox.txt into $(VENV)"
	@$(call install,$(VENV),requirements/sandbox.txt)
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt | $(BIN)/python
	@echo "Installing requirements/dev.txt into $(VENV)"
	@$(call install,$(VENV),requirements/dev.txt,--no-compile)
	@touch $(VENV)/base.stamp $(VENV)/parquet.stamp $@

# Without npm, or where it reaches nothing, the test of the Node client is skipped.
$(VENV)/clients.stamp: requirements/openai-1x.txt | $(BIN)/python
	@echo "Installing the vendors' clients into $(VENV)/clients"
	@$(call venv,$(VENV)/clients/openai-1x)
	@$(call install,$(VENV)/clients/openai-1x,requirements/openai-1x.txt,--no-compile)
	@if command -v npm >/dev/null; then npm install --silent --no-save --no-package-lock \
	  --prefix $(VENV)/clients/node openai@6.49.0 || echo "no client for Node"; fi
	@touch $@

# Tools of the field as clients of ours, in an environment of their own, which the gate never needs.
neighbours: $(VENV)/dev.stamp $(VENV)/neighbours.stamp
	$(BIN)/python -m tests.neighbours

$(VENV)/neighbours.stamp: requirements/neighbours.txt | $(BIN)/python
	@echo "Installing the field's tools into $(VENV)/neighbours"
	@$(call venv,$(VENV)/neighbours/python)
	@$(call install,$(VENV)/neighbours/python,requirements/neighbours.txt)
	@PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --silent --no-save --no-package-lock \
	  --omit=optional --prefix $(VENV)/neighbours/node promptfoo@0.118.0
	@touch $@

# What the benchmarks compare us with, in environments of its own; about 1.3 GB, and never needed.
peers: $(VENV)/peers.stamp

$(VENV)/peers.stamp: requirements/peers.txt | $(BIN)/python
	@echo "Installing the benchmarks' peers into $(VENV)/peers"
	@$(call venv,$(VENV)/peers/python)
	@$(call install,$(VENV)/peers/python,requirements/peers.txt)
	@if command -v npm >/dev/null; then PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --silent \
	  --no-save --no-package-lock --omit=optional --prefix $(VENV)/peers/node promptfoo@0.118.0 \
	  || echo "no promptfoo"; fi
	@touch $@

# Half an hour. SERVICES= leaves PostgreSQL out; `make peers` before adds them.
SERVICES ?= --postgres "$(POSTGRES)/$(SERVICES_DATABASE)" --redis "$(SERVICES_REDIS)"
bench: $(VENV)/dev.stamp
	$(if $(SERVICES),$(BIN)/python -m tests.services "$(POSTGRES)/$(SERVICES_DATABASE)")
	$(BIN)/python -m benchmarks $(SERVICES) --write

# Needs uv. The files name no package index, so they work behind any.
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header
lock:
	$(LOCK) pyproject.toml -o requirements/base.txt
	$(LOCK) pyproject.toml --group dev --extra e2e --extra parquet -c requirements/base.txt -o requirements/dev.txt
	$(LOCK) requirements/parquet.in -c requirements/base.txt -o requirements/parquet.txt
	$(LOCK) requirements/sandbox.in -c requirements/base.txt -o requirements/sandbox.txt
	$(LOCK) requirements/openai-1x.in -o requirements/openai-1x.txt
	$(LOCK) requirements/neighbours.in -o requirements/neighbours.txt
	$(LOCK) requirements/peers.in -o requirements/peers.txt

# That all pins have wheels where we say that it runs. Asks the package index, for some minutes.
check-lock:
	$(PYTHON) requirements/check_wheels.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
