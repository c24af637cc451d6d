# Two commands, each doing its own set-up in .venv on a machine with Python 3.11 or later:
#   make quickstart    trains on the bundled digits with most labels missing, scores, draws, explains
#   make test          everything that is checked before a change lands

PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart
# One thread a process: several small processes share the cores, and threads that spin on a busy core are slow.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help quickstart test campaign bench lint docs clean

help:
	@sed -n 's/^#   \(make\)/\1/p' Makefile

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mvae needs Python 3.11 or later; this is $$($(PYTHON) --version). Set PYTHON=..."; exit 1; }
	@echo "Installing mvae and what it needs into .venv (once; a minute or two) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Each command is shown as a user would type it, with mvae from .venv.
quickstart: .venv/installed
	@rm -rf $(RUN)
	@for command in "fit digits --paired-fraction 0.1 --out $(RUN)" "evaluate $(RUN)"; do \
	  printf '\n$$ mvae %s\n' "$$command"; $(ONE_THREAD) $(BIN)/mvae $$command || exit; \
	done
	@$(ONE_THREAD) $(BIN)/python examples/quickstart.py $(RUN)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# A document is run by one process, block after block: hence loadfile; and in the order of pyproject.toml.
test: lint
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q

# Kills, full disks, damaged files, bombs: what was tried, and what was lost. A part of it is in `make test`.
campaign: .venv/installed
	$(ONE_THREAD) $(BIN)/python -m campaign

# multivae asks for torchvision, whose builds break lightning beside a CPU build of torch: hence without what it asks for.
.venv/bench-installed: .venv/installed
	@echo "Installing what the benchmarks compare with into .venv (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps multivae==1.0.3 pythae==0.1.2
	@touch $@

# The long form: .venv/bin/python -m benchmarks
bench: .venv/bench-installed
	$(ONE_THREAD) $(BIN)/python -m benchmarks --short

docs: .venv/installed
	$(ONE_THREAD) $(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean:
	rm -rf .venv build docs/_build docs/gallery .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
