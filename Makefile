# `make` alone says what there is. Outside this folder only the Debian packages of `make deps` and pip's cache change.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

BIN := .venv/bin
BUILT := .venv/.built
C_SOURCES := pyproject.toml $(wildcard kernel_offload/mpo.* \
	kernel_offload/*.py kernel_offload/bpf/* kernel_offload/include/* kernel_offload/src/*)

# Debian's Python if it is new enough, else the first in PATH; PYTHON=... overrides. Looked for by the shell, not by
# make, because `make deps` may install it a moment before.
PYTHONS := $(PYTHON) /usr/bin/python3 python3

export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis

define need_root
@[ "$$(id -u)" = 0 ] || { echo "make $@: network namespaces need root: run it with sudo" >&2; exit 1; }
endef

.PHONY: help deps build run demo check test soak fuzz bench clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

deps: ## install all Debian packages that are missing (packaging/deps.sh has the list)
	@packaging/deps.sh test

build: $(BUILT) ## .venv with everything, so that .venv/bin/mediaproxy and .venv/bin/ng-control work
	@:

$(BUILT): $(C_SOURCES)
	@packaging/deps.sh build
	@echo "building .venv"
	@$(BIN)/python -c '' 2>/dev/null || { \
		for python in $(PYTHONS); do \
			! $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || break; python=; \
		done; \
		[ -n "$$python" ] || { echo "make build: needs Python 3.11 or newer" >&2; exit 1; }; \
		$$python -m venv .venv; }
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: build ## the daemon in the foreground with defaults (ARGS="--log-level=7" adds options)
	@$(BIN)/mediaproxy run --config-file=none --foreground $(ARGS)

demo: ## a real call through Kamailio and the relay, with its verdict (needs root; first run installs packages)
	$(need_root)
	@packaging/deps.sh demo
	@$(MAKE) --no-print-directory build
	@$(BIN)/python -m tests.interop.demo $(ARGS)

check: build ## format, lint, types, layers, and the C helper under sanitizers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import-linter
	$(MAKE) --no-print-directory -C kernel_offload check

test: ## everything: packages, build, check and all tests (needs root; at most 25 minutes)
	$(need_root)
	@packaging/deps.sh test
	@$(MAKE) --no-print-directory check
	$(BIN)/pytest $(ARGS)

soak: ## the long runs of the interop and kernel tests at their full figures (needs root)
	$(need_root)
	@packaging/deps.sh test
	@$(MAKE) --no-print-directory build
	SOAK_SCALE=1 $(BIN)/pytest --timeout=14400 tests/interop tests/kernel $(ARGS)

fuzz: build ## mutations and random sessions at their full figures (with root also against a running daemon)
	FUZZ_SCALE=1 $(BIN)/pytest --timeout=14400 tests/fuzz tests/property tests/interop/test_mutations.py $(ARGS)

bench: ## set-up rate, latency, relay throughput, memory, beside Debian's rtpengine (needs root)
	$(need_root)
	@packaging/deps.sh test
	@$(MAKE) --no-print-directory build
	@$(BIN)/python -m tests.perf.bench $(ARGS)

clean: ## remove everything that was built (packages stay)
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f kernel_offload/_mediaproxy_offload.c kernel_offload/_mpo_bpf_object.c _mediaproxy_offload*.so
	$(MAKE) --no-print-directory -C kernel_offload clean
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
