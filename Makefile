# One command from a bare machine: each target makes its own environment from Python 3.11 or newer, and nothing else.
#   make demo    fit, forecast, score and report on the embedded weather
#   make test    the tests              make lint   ruff and pyright        make format   ruff's formatter
#   make docs    the pages, in site/    make shots  pictures of the pages   make bench    against peers, in .venv-bench
#   make lock    pin the versions again (needs uv)
# PYTHON=/path/to/python picks the interpreter; it is only asked for when .venv does not exist yet.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := -m pip --disable-pip-version-check -qq install --no-compile
READY := .venv/.ready

# A program compiled once is loaded by every later process; see "Facts" in docs/decisions/0001-the-house.md.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

.PHONY: demo test lint format docs bench shots lock setup clean
.DELETE_ON_ERROR:

setup: $(READY)

demo: $(READY)
	$(BIN)/neuralsde demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --threads 2

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Not --clean, which empties all of .cache, compiled programs included; the pages' own cache are the files on its top.
docs: $(READY)
	rm -rf site && mkdir -p .cache && find .cache -maxdepth 1 -type f -delete
	$(BIN)/zensical build --strict

shots: runs/demo/report.html
	$(BIN)/python docs/shots.py runs/demo/report.html

runs/demo/report.html: | $(READY)
	$(BIN)/neuralsde demo --out runs/demo

bench: .venv-bench/.ready $(READY)
	$(BIN)/python benchmarks/startup.py
	.venv-bench/bin/python benchmarks/solve.py $(ARGS)
	.venv-bench/bin/python benchmarks/brownian.py $(ARGS)
	$(BIN)/python benchmarks/variants.py $(ARGS)
	$(BIN)/python benchmarks/orders.py $(ARGS)
	$(BIN)/python benchmarks/gradients.py $(ARGS)
	$(BIN)/python benchmarks/likelihood.py $(ARGS)
	.venv-bench/bin/python benchmarks/training.py $(ARGS)
	.venv-bench/bin/python benchmarks/samplers.py $(ARGS)
	.venv-bench/bin/python benchmarks/policies.py $(ARGS)

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf dist build site .pytest_cache .ruff_cache

# Half an installation is never taken for a whole one: the stamp is written last. uv, pinned like all else, installs five
# times as fast as pip; pip does the same where uv finds no way out (a mirror named in pip's own configuration).
$(READY): requirements.lock pyproject.toml | .venv/bin/python
	@echo "setting up .venv from requirements.lock; this is done once and takes half a minute or two"
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	$(BIN)/python $(PIP) --require-hashes --requirement .venv/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock || \
		$(BIN)/python $(PIP) --require-hashes --requirement requirements.lock
	$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer; PYTHON=/path/to/python says where it is" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv-bench/.ready: benchmarks/requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer; PYTHON=/path/to/python says where it is" >&2; exit 2; }
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(PIP) --requirement benchmarks/requirements.txt --editable .
	@touch $@
