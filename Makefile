# Everything a developer runs. Needs Python 3.11 or newer, git and make; the rest is installed into
# .venv. `make check` also needs luacheck, which is no Python package (Debian: lua-check).

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# Tests of whole fleets of processes need the machine for themselves; all others run side by side.
FLEETS := tests/acceptance tests/chaos
SOURCES := $(wildcard quiv_dist workers tests benchmarks)

.DEFAULT_GOAL := help
.PHONY: help venv demo test check fmt chaos soak bench clean luacheck system
.DELETE_ON_ERROR:

# Commands for a Debian package that is missing: install it where nobody need be asked (root in a
# container or on CI), else say what to install. $(1) the package, $(2) what for.
define system_package
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  export DEBIAN_FRONTEND=noninteractive; \
  echo "installing the Debian package $(1) for $(2)"; \
  apt-get install -y -qq $(1) </dev/null >/dev/null 2>&1 || \
    { apt-get update -qq && apt-get install -y -qq $(1); } </dev/null >/dev/null || \
    { echo "error: cannot install $(1), which $(2) needs" >&2; exit 1; }; \
else \
  echo "error: $(2) needs the Debian package $(1): sudo apt-get install $(1)" >&2; exit 1; \
fi
endef

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/installed ## create .venv and install the package with its development extras

# Debian splits ensurepip from Python. Where it is missing, an installed pip can set up the
# environment as well; only then is a system package needed.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; name one with PYTHON=…" >&2; exit 1; }
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then :; \
	elif $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  $(PYTHON) -m venv --clear .venv; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --clear --without-pip .venv && \
	  $(PYTHON) -m pip -q --disable-pip-version-check --python $(BIN)/python install pip; \
	else \
	  $(call system_package,python3-venv,$(PYTHON) -m venv); \
	  $(PYTHON) -m venv --clear .venv; \
	fi
	@echo "installing into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: .venv/installed ## run a whole fleet on this machine and show what it does
	@$(BIN)/python -m workers.demo $(ARGS)

test: .venv/installed system ## run the tests, all but the long ones (ARGS= goes to pytest: a path, -k …)
ifeq ($(ARGS),)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(addprefix --ignore=,$(FLEETS)) tests
	$(BIN)/python -m pytest $(FLEETS)
else
	$(BIN)/python -m pytest $(ARGS)
endif

check: .venv/installed luacheck ## format, lint, types, direction of imports, Lua
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	luacheck quiv_dist/store/lua

# What the tests of deploy/ check with, and the servers of the matrix that are no wheels.
system:
	@command -v redis-server >/dev/null || { $(call system_package,redis-server,make test); }
	@command -v systemd-analyze >/dev/null || { $(call system_package,systemd,make test); }
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || \
	  { $(call system_package,faketime,make test); }

luacheck:
	@command -v luacheck >/dev/null || { $(call system_package,lua-check,make check); }

fmt: .venv/installed ## format and fix what can be fixed
	$(BIN)/ruff check --fix-only -q $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

chaos: .venv/installed ## random kills, pauses and splits for minutes
	$(BIN)/python -m pytest -m 'chaos or chaos_long' --timeout=0 $(ARGS)

soak: .venv/installed ## flatness of memory, keys and connections over a long run
	$(BIN)/python -m pytest -m soak --timeout=0 $(ARGS)

.venv/bench: .venv/installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	@touch $@

bench: .venv/bench ## the benchmarks, beside the peers they compare with
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove what was built; stored tasks in .quiv stay
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
