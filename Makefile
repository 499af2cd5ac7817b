# make demo: see a real evaluation. make test: run the tests. Both need Python 3.11 with pip only.
PYTHON ?= python3.11
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
export UV_PYTHON_DOWNLOADS := never

POSTGRES ?= postgres://postgres@127.0.0.1:5432
SERVICES_DATABASE ?= evalplatform_tests
SERVICES_REDIS ?= redis://127.0.0.1:6379/5

.PHONY: setup demo test test-services clients lint lock clean

setup: $(VENV)/base.stamp

demo: setup
	$(BIN)/python manage.py demo --port $(PORT)

test: $(VENV)/dev.stamp clients
	$(BIN)/python -m pytest

test-services: $(VENV)/dev.stamp clients
	$(BIN)/python -m tests.services "$(POSTGRES)/$(SERVICES_DATABASE)"
	DATABASE_URL="$(POSTGRES)/$(SERVICES_DATABASE)" REDIS_URL="$(SERVICES_REDIS)" $(BIN)/python -m pytest

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

# The vendors' clients that need an interpreter of their own.
clients: $(VENV)/clients.stamp

$(BIN)/python:
ifdef UV
	uv venv --quiet --clear --python $(PYTHON) $(VENV)
else
	$(PYTHON) -m venv $(VENV)
endif

$(VENV)/base.stamp: requirements/base.txt | $(BIN)/python
ifdef UV
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --require-hashes -r requirements/base.txt
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.txt
endif
	touch $@

$(VENV)/dev.stamp: requirements/dev.txt | $(BIN)/python
ifdef UV
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --require-hashes -r requirements/dev.txt
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
endif
	touch $@ $(VENV)/base.stamp

$(VENV)/clients.stamp: requirements/openai-1x.txt | $(BIN)/python
	$(PYTHON) -m venv --clear $(VENV)/clients/openai-1x
	$(VENV)/clients/openai-1x/bin/python -m pip install --quiet --disable-pip-version-check \
	  --require-hashes -r requirements/openai-1x.txt
	if command -v npm >/dev/null; then npm install --silent --no-save --no-package-lock \
	  --prefix $(VENV)/clients/node openai@6.49.0; fi
	touch $@

# Needs uv. The files name no package index, so they work behind any.
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header
lock:
	$(LOCK) pyproject.toml -o requirements/base.txt
	$(LOCK) pyproject.toml --group dev --extra e2e -c requirements/base.txt -o requirements/dev.txt
	$(LOCK) requirements/openai-1x.in -o requirements/openai-1x.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
