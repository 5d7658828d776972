# GNU make and bash. Each target works as the first command on a machine that has Python 3.11+, git and make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
# Not :=, because some targets set their own VENV.
BIN = $(VENV)/bin
# Each test worker uses about one core, mostly for compilation.
TEST_WORKERS ?= 2
# Stamp files, written at the end of a set-up. An interrupted set-up, or one older than INPUTS, is repeated.
DEMO_READY := $(VENV)/.ready-demo
TEST_READY := $(VENV)/.ready-test
INPUTS := pyproject.toml constraints.txt
# Test workers and the processes that they start read each other's bytecode instead of compiling every file again.
unexport PYTHONDONTWRITEBYTECODE
# Makes pip refuse to install outside a virtual environment.
export PIP_REQUIRE_VIRTUALENV := true

# Files with slow tests come first (tests/conftest.py), so the order of collection is kept.
PYTEST = python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo page web check test fuzz test-newest test-tpu-compile test-gpu-compile docs lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

setup: $(TEST_READY)  ## create .venv with everything that the tests need

demo: $(DEMO_READY)  ## separate examples/mixture.wav into demo/ and score it
	$(BIN)/mossformer-jax separate examples/mixture.wav -o demo --overwrite
	$(BIN)/mossformer-jax score --mixture examples/mixture.wav \
	  --reference examples/source1.wav examples/source2.wav --estimate demo/mixture_s1.wav demo/mixture_s2.wav

web: web/page/runtime/VERSION  ## what the page in web/ needs from npm: the ONNX runtime for browsers, and its test driver

page: $(TEST_READY) web  ## write the page that separates in the browser into build/page, and serve it
	$(BIN)/mossformer-jax page build/page --overwrite --serve 8000

check: lint  ## lint, then the tests that take less than about a second each
	$(BIN)/$(PYTEST) --fast-compiler -m 'not slow and not medium'

test: lint  ## lint, then run every test
	$(BIN)/$(PYTEST) --fast-compiler
	$(BIN)/$(PYTEST) -m default_compiler

# Each family has its own share; a failure prints the seed of its input.
fuzz: export MUTATIONS ?= 2500
fuzz: export ARCHIVE_FILES ?= 2000
fuzz: export ARCHIVE_PROCESSES ?= 4
fuzz: $(TEST_READY)  ## feed 17,000 mutated files, fields and command lines to the package, and kill processes at random (minutes)
	$(BIN)/python -m pytest tests/mutations tests/weights/test_torch_mutations.py tests/cli/test_claims.py

test-newest: .venv-newest/.ready  ## run every test with the newest releases of all dependencies
	.venv-newest/bin/$(PYTEST)

# In separate environments: the compilers take gigabytes, and with them installed, JAX would look for the hardware.
test-tpu-compile: .venv-tpu/.ready  ## compile for TPUs, without hardware (minutes; docs/accelerators.md)
	JAX_PLATFORMS=cpu .venv-tpu/bin/python -m pytest tests/accelerators

test-gpu-compile: .venv-gpu/.ready  ## compile for an H100, without hardware
	JAX_PLATFORMS=cpu .venv-gpu/bin/python -m pytest tests/accelerators

# Pages are copied with the layout of the repository, so that the same relative links work on the site.
PAGES := README.md MODEL_CARD.md CONTRIBUTING.md CHANGELOG.md LICENSE docs examples benchmarks/README.md
docs: .venv-docs/.ready  ## build the documentation with an API reference in site/, and check its links
	rm -rf build/docs site
	mkdir -p build/docs
	tar cf - $(PAGES) | tar xf - -C build/docs
	.venv-docs/bin/zensical build --strict --clean
	.venv-docs/bin/python tools/check_site.py site

lint: $(TEST_READY)  ## ruff (lint and format), mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TEST_READY)  ## format, and apply ruff's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

web/page/runtime/VERSION: web/package-lock.json web/build.mjs
	cd web && npm ci --no-audit --no-fund --silent && npm run --silent build

clean:  ## remove .venv and all generated files
	rm -rf $(VENV) .venv-newest .venv-tpu .venv-gpu .venv-docs demo build site dist web/node_modules web/page/runtime .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is created again if it is incomplete, its Python no longer exists, or it is not a virtual environment.
IS_ENVIRONMENT := import sys, pip; sys.exit(sys.prefix == sys.base_prefix)
define make_venv
@echo "Setting up $(VENV) (once; a few minutes, mostly downloads)"
@[ -n "$(PYTHON)" ] || { echo "no Python found: install Python 3.11 or newer, or give its path: make PYTHON=/path/to/python3" >&2; exit 1; }
@"$(PYTHON)" -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("%s is Python %d.%d; mossformer-jax needs 3.11 or newer: install it, or give its path: make PYTHON=/path/to/python3" % (sys.executable, v[0], v[1]))'
$(BIN)/python -c '$(IS_ENVIRONMENT)' >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
endef

$(DEMO_READY): $(INPUTS)
	rm -f $@
	$(make_venv)
	$(BIN)/python -m pip install --quiet -e '.[train,convert,eval]' -c constraints.txt
	touch $@

# clearvoice contains the official model for the parity tests. Its many dependencies are not needed.
$(TEST_READY): $(INPUTS)
	rm -f $@
	$(make_venv)
	$(BIN)/python -m pip install --quiet -e '.[train,convert,eval,demo,dev]' -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps clearvoice==0.1.2
	touch $@ $(DEMO_READY)

.venv-newest/.ready: VENV := .venv-newest
.venv-newest/.ready: $(INPUTS)
	rm -f $@
	$(make_venv)
	$(BIN)/python -m pip install --quiet --upgrade -e '.[train,convert,eval,demo,dev]'
	$(BIN)/python -m pip install --quiet --no-deps clearvoice==0.1.2
	touch $@

.venv-tpu/.ready: VENV := .venv-tpu
.venv-tpu/.ready: $(INPUTS)
	rm -f $@
	$(make_venv)
	$(BIN)/python -m pip install --quiet -e '.[train,eval,tpu]' pytest beartype -c constraints.txt
	touch $@

# Compiling needs only CUDA's assembler, not the run-time libraries of the extra cuda12.
.venv-gpu/.ready: VENV := .venv-gpu
.venv-gpu/.ready: $(INPUTS)
	rm -f $@
	$(make_venv)
	$(BIN)/python -m pip install --quiet -e '.[train,eval]' pytest beartype jax-cuda12-plugin==0.10.2 jax-cuda12-pjrt==0.10.2 \
	  nvidia-cuda-nvcc-cu12 -c constraints.txt
	touch $@

# The docs are built from the source, without importing the package, so its dependencies are not needed.
.venv-docs/.ready: VENV := .venv-docs
.venv-docs/.ready: $(INPUTS)
	rm -f $@
	$(make_venv)
	$(BIN)/python -m pip install --quiet 'zensical==0.0.73' 'mkdocstrings[python]==1.0.8' -c constraints.txt
	touch $@
