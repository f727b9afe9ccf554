# make run: try it; make test: check it. Both build .venv first and need only Python 3.11-3.13.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

INSTALLING := installing esmgn into $(VENV), once: some minutes; 2 GB on disk, 8 GB where pip takes PyTorch with CUDA

.PHONY: run test test-fast lint types clean

run: $(VENV)/installed
	$(BIN)/esmgn run --recipe quickstart

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# Units of core and of the models, without whole programs and several processes.
test-fast: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow" \
		tests/core tests/io tests/metrics tests/host tests/model tests/published \
		plugins/esm2 plugins/fusion plugins/gearnet plugins/graphs plugins/pretext

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "$(INSTALLING)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "$(INSTALLING)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/installed
